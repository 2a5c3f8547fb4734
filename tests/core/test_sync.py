"""Ticks by header stamps: decimation, interpolation, actions and states, whatever the streams' order and delay."""

from __future__ import annotations

import random

import numpy as np
import pytest

from egowm_core.data.sync import Drop, Tick, TickSynchronizer
from egowm_core.errors import ConfigError
from egowm_core.geometry import se2_delta
from tests.core.sync_streams import BASE, SECOND, actions, at, circle, events, frame, line, run


def test_images_are_decimated_and_actions_are_the_motion_between_ticks():
    sync = TickSynchronizer(4.0)
    ticks = run(sync, events(5.0))
    assert [t.stamp_ns for t in ticks] == [at(i / 4) for i in range(21)]
    assert [int(t.frame[0, 0, 0]) for t in ticks] == list(range(0, 101, 5))
    assert ticks[0].action_from_previous is None
    np.testing.assert_allclose(actions(ticks), np.tile([0.1, 0, 0], (20, 1)), atol=1e-6)
    assert actions(ticks).dtype == np.float32
    assert not sync.drops
    assert (sync.images_in, sync.poses_in) == (101, 252)


def test_pose_is_interpolated_with_yaw_the_short_way_round():
    sync = TickSynchronizer(4.0)
    stream = [("pose", at(0), [0, 0, 3.1]), ("image", at(0), 0), ("image", at(0.25), 1)]
    ticks = run(sync, [*stream, ("pose", at(0.5), [2, 0, -3.1])])
    turned = (2 * np.pi - 6.2) / 2  # half of the way from 3.1 to -3.1
    expected = se2_delta([0, 0, 3.1], [1, 0, 3.1 + turned])
    np.testing.assert_allclose(ticks[1].action_from_previous, expected, atol=1e-6)
    assert ticks[1].action_from_previous[2] == pytest.approx(turned, abs=1e-6)


def test_a_circle_gives_the_same_action_everywhere():
    ticks = run(TickSynchronizer(4.0), events(40.0, odom_hz=20.0, pose=circle))
    rows = actions(ticks)
    np.testing.assert_allclose(rows, np.tile(rows[0], (len(rows), 1)), atol=1e-6)
    np.testing.assert_allclose(rows[0], [np.sin(0.075), 1 - np.cos(0.075), 0.075], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_interleaving_of_the_streams_does_not_matter(seed):
    rng = random.Random(seed)
    stream = events(20.0, image_hz=13.0, odom_hz=31.0, pose=circle)
    del stream[200:260]  # a gap in both
    queues = {kind: [e for e in stream if e[0] == kind] for kind in ("image", "pose")}
    mixed, ahead_s = [], 1.5
    while any(queues.values()):
        kind = rng.choice([k for k, q in queues.items() if q])
        other = queues["pose" if kind == "image" else "image"]
        if other and queues[kind][0][1] - other[0][1] > ahead_s * SECOND:
            continue  # transport delays are bounded
        mixed.append(queues[kind].pop(0))
    assert mixed != stream
    expected, got = run(TickSynchronizer(4.0), stream), run(TickSynchronizer(4.0), mixed)
    assert [t.stamp_ns for t in got] == [t.stamp_ns for t in expected]
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a.frame, b.frame)
        assert (a.action_from_previous is None) == (b.action_from_previous is None)
        if a.action_from_previous is not None:
            np.testing.assert_array_equal(a.action_from_previous, b.action_from_previous)


def test_jittered_images_keep_the_rate():
    rng = np.random.default_rng(0)
    stream = [("image", at(i / 4 + rng.uniform(-0.01, 0.01)), i) for i in range(40)]
    stream += [("pose", at(i / 50), line(i / 50)) for i in range(501)]
    sync = TickSynchronizer(4.0)
    ticks = run(sync, sorted(stream, key=lambda e: e[1]))
    assert len(ticks) >= 39  # the first one may come before odometry
    steps = np.diff([t.stamp_ns for t in ticks]) / SECOND
    np.testing.assert_allclose(actions(ticks)[:, 0], 0.4 * steps, atol=1e-6)


def test_a_tick_waits_for_odometry_past_its_stamp():
    sync = TickSynchronizer(4.0)
    assert sync.add_pose(at(0.0), line(0)) == []
    assert sync.add_image(at(0.01), frame(0)) == []
    (tick,) = sync.add_pose(at(0.02), line(0.02))
    assert tick.stamp_ns == at(0.01)
    sync.add_pose(at(0.3), line(0.3))
    (tick,) = sync.add_image(at(0.29), frame(1))  # odometry is there already
    np.testing.assert_allclose(tick.action_from_previous, [0.4 * 0.28, 0, 0], atol=1e-6)


def test_several_waiting_ticks_come_out_in_order():
    sync = TickSynchronizer(4.0, max_odom_gap_s=5.0)
    sync.add_pose(at(0), line(0))
    for i in range(4):
        sync.add_image(at(0.1 + i / 4), frame(i))
    ticks = sync.add_pose(at(2), line(2))
    assert [int(t.frame[0, 0, 0]) for t in ticks] == [0, 1, 2, 3]
    np.testing.assert_allclose(actions(ticks)[:, 0], 0.1, atol=1e-6)


def test_frames_are_decoded_only_for_ticks():
    decoded = []
    sync = TickSynchronizer(4.0)
    for _, stamp, i in [e for e in events(2.0) if e[0] == "image"]:
        sync.add_image(stamp, lambda i=i: decoded.append(i) or frame(i))
    assert decoded == list(range(0, 41, 5))


def test_a_clock_that_starts_at_zero_works():
    stream = [(k, s - BASE, v) for k, s, v in events(2.0)]
    assert len(run(TickSynchronizer(4.0), stream)) == 9


def test_a_late_camera_is_paired_with_earlier_poses():
    still_then_moving = lambda s: [max(0.0, s - 1.0) * 0.4, 0, 0]  # noqa: E731
    ticks = run(TickSynchronizer(4.0, image_lag_s=0.5), events(3.0, pose=still_then_moving))
    moved = {t.stamp_ns: t.action_from_previous[0] for t in ticks if t.action_from_previous is not None}
    assert moved[at(1.5)] == pytest.approx(0.0, abs=1e-6)
    assert moved[at(1.75)] == pytest.approx(0.1, abs=1e-6)


def test_twists_are_integrated():
    sync = TickSynchronizer(4.0)
    ticks = []
    for i in range(201):
        ticks += sync.add_twist(at(i / 50), [0.4, 0.0, 0.3])
        if i % 5 == 0:
            ticks += sync.add_image(at(i / 50), frame(i))
    sync.add_twist(at(4.02), [np.nan, 0, 0])
    assert sync.drops == {Drop.POSE_NOT_FINITE: 1}
    steps = np.diff([t.stamp_ns for t in ticks]) / SECOND
    np.testing.assert_allclose(actions(ticks)[:, 2], 0.3 * steps, atol=1e-6)
    np.testing.assert_allclose(actions(ticks)[:, 0], 0.4 * np.sin(0.3 * steps) / 0.3, atol=1e-5)


def test_sums_are_plain_differences():
    sync = TickSynchronizer(4.0, integrate="sum")
    ticks = run(sync, events(2.0, pose=lambda s: [s, -2 * s, 3.0, 7 * s]))
    np.testing.assert_allclose(actions(ticks), np.tile([0.25, -0.5, 0, 1.75], (8, 1)), atol=1e-6)


def test_buffers_are_bounded():
    sync = TickSynchronizer(4.0, max_pending=5, max_poses=300)
    for i in range(100):
        sync.add_image(at(i), frame(i))
    assert len(sync._pending) == 5
    assert sync.drops[Drop.NO_ODOM] == 95
    for i in range(5000):
        sync.add_pose(at(200 + i / 1000), line(0))
    assert len(sync._poses) == len(sync._pose_stamps) <= 300 + 256


def test_the_caller_can_break_a_segment():
    sync = TickSynchronizer(4.0)
    first = run(sync, events(1.0))
    sync.start_segment()
    second = [e for e in events(2.0) if e[1] > at(1.02)]
    assert first[-1].action_from_previous is not None
    assert run(sync, second)[0].action_from_previous is None


@pytest.mark.parametrize(
    "options",
    [
        {"rate_hz": 0},
        {"rate_hz": float("nan")},
        {"tolerance": 1},
        {"integrate": "x"},
        {"image_lag_s": np.inf},
        {"max_gap_s": 0},
    ],
)
def test_nonsense_options_are_refused(options):
    with pytest.raises(ConfigError):
        TickSynchronizer(**{"rate_hz": 4.0, **options})


def test_a_tick_carries_the_state_that_was_measured():
    sync = TickSynchronizer(4.0)
    for tick in run(sync, events(40.0, image_hz=13.0, odom_hz=31.0, pose=circle)):
        np.testing.assert_allclose(tick.state, circle((tick.stamp_ns - BASE) / SECOND), atol=1e-3)
        assert tick.state.dtype == np.float32
    assert sync.largest_state[2] == pytest.approx(np.pi, abs=0.1)
    late = run(TickSynchronizer(4.0, image_lag_s=0.5), events(4.0))
    assert [float(tick.state[0]) for tick in late] == pytest.approx(
        [0.4 * ((tick.stamp_ns - BASE) / SECOND - 0.5) for tick in late], abs=1e-6
    )
    assert Tick(0, frame(0), None).state.shape == (0,)


def test_typical_actions_leave_outliers_out():
    sync = TickSynchronizer(4.0)
    assert sync.typical_action() is None
    run(sync, events(30.0, pose=lambda s: [0.4 * s + (100.0 if s > 20 else 0.0), 0.0, 0.0]))
    np.testing.assert_allclose(sync.typical_action(), [0.1, 0.0, 0.0], rtol=0.03, atol=1e-6)
    assert sync.largest_action[0] > 90

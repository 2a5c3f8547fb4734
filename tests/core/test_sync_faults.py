"""Every way a stream can misbehave: gaps, stamps that repeat or jump, absurd values; each is counted and survived."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.data.sync import Drop, TickSynchronizer
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import DataError
from tests.core.sync_streams import SECOND, actions, at, events, frame, line, run


def test_an_undecodable_image_is_counted_and_the_next_takes_its_place():
    def broken() -> np.ndarray:
        raise DataError("corrupt")

    sync = TickSynchronizer(4.0)
    sync.add_pose(at(0), line(0))
    sync.add_pose(at(0.4), line(0.4))
    sync.add_image(at(0), frame(0))
    sync.add_image(at(0.25), broken)
    (tick,) = sync.add_image(at(0.3), frame(2))
    np.testing.assert_allclose(tick.action_from_previous, [0.12, 0, 0], atol=1e-6)
    assert sync.drops == {Drop.IMAGE_UNDECODABLE: 1}


def test_a_gap_in_the_images_starts_a_new_segment():
    stream = [e for e in events(6.0) if e[0] == "pose" or not at(2) < e[1] < at(3)]
    sync = TickSynchronizer(4.0)
    ticks = run(sync, stream)
    assert [t.stamp_ns for t in ticks if t.action_from_previous is None] == [at(0), at(3)]
    assert sync.drops == {Drop.IMAGE_GAP: 1}


def test_a_gap_of_two_periods_is_still_a_segment():
    stream = [e for e in events(3.0) if e[0] == "pose" or not at(1) < e[1] < at(1.5)]
    ticks = run(TickSynchronizer(4.0), stream)
    (step,) = [t for t in ticks if t.stamp_ns == at(1.5)]
    np.testing.assert_allclose(step.action_from_previous, [0.2, 0, 0], atol=1e-6)


def test_images_without_odometry_around_them_are_dropped():
    sync = TickSynchronizer(4.0)
    poses = [e for e in events(6.0) if e[0] == "pose" and at(1.1) < e[1] < at(4.1)]
    images = [e for e in events(6.0) if e[0] == "image"]
    ticks = run(sync, sorted(poses + images, key=lambda e: e[1]))
    sync.finish()
    assert [t.stamp_ns for t in ticks] == [at(1.25 + i / 4) for i in range(12)]
    assert sync.drops == {Drop.NO_ODOM: 5 + 8}


def test_an_odometry_gap_drops_its_images_and_breaks():
    sync = TickSynchronizer(4.0)
    ticks = run(sync, [e for e in events(6.0) if e[0] == "image" or not at(2.1) < e[1] < at(3.1)])
    assert sync.drops == {Drop.ODOM_GAP: 4}
    assert [t.stamp_ns for t in ticks if t.action_from_previous is None] == [at(0), at(3.25)]


def test_stamps_that_repeat_or_step_back_are_dropped():
    sync = TickSynchronizer(4.0)
    stream = events(3.0)
    for i in (60, 90):
        kind, stamp, value = stream[i]
        stream.insert(i + 2, (kind, stamp, value))
    ticks = run(sync, stream)
    assert len(ticks) == 13
    assert sum(sync.drops.values()) == 2
    sync.add_image(at(2.5), frame(0))
    sync.add_pose(at(2.5), line(2.5))
    assert sync.drops[Drop.IMAGE_BACKWARDS] >= 1
    assert sync.drops[Drop.POSE_BACKWARDS] >= 1
    sync.add_image(at(3.0), frame(0))
    sync.add_pose(at(3.02), line(3))
    assert sync.drops[Drop.IMAGE_DUPLICATE] >= 1
    assert sync.drops[Drop.POSE_DUPLICATE] >= 1


def test_poses_that_are_not_finite_are_dropped():
    sync = TickSynchronizer(4.0)
    stream = events(3.0)
    noisy = [(k, s, [np.nan, 0, 0] if k == "pose" and i % 5 == 0 else v) for i, (k, s, v) in enumerate(stream)]
    ticks = run(sync, noisy)
    np.testing.assert_allclose(actions(ticks), np.tile([0.1, 0, 0], (len(ticks) - 1, 1)), atol=1e-6)
    assert sync.drops[Drop.POSE_NOT_FINITE] > 5


@pytest.mark.parametrize("first", ["image", "pose"])
def test_a_looping_clock_resets_and_goes_on(first):
    sync = TickSynchronizer(4.0)
    again = sorted(events(5.0), key=lambda e: (e[1], e[0] != first))
    ticks = run(sync, events(5.0) + again)
    starts = [i for i, t in enumerate(ticks) if t.action_from_previous is None]
    assert starts == [0, 21]
    assert len(ticks) == 42
    assert sync.drops[Drop.CLOCK_RESET] >= 1


def test_one_wild_stamp_costs_a_break_and_no_more():
    for kind in ("image", "pose"):
        sync = TickSynchronizer(4.0)
        stream = events(10.0)
        stream.insert(250, (kind, at(4000), 0 if kind == "image" else line(0)))
        ticks = run(sync, stream)
        assert len(ticks) >= 37
        assert sum(t.action_from_previous is None for t in ticks) <= 3


def test_an_unstamped_image_is_dropped():
    sync = TickSynchronizer(4.0)
    stream = events(3.0)
    stream.insert(100, ("image", 0, 0))
    assert len(run(sync, stream)) == 13
    assert sync.drops == {Drop.IMAGE_UNSTAMPED: 1}


def test_motion_outside_the_limits_breaks_the_segment():
    sync = TickSynchronizer.for_embodiment(load_embodiment("base_3dof"))
    stream = [(k, s, [v[0] + (5.0 if s > at(2.1) else 0.0), 0, 0] if k == "pose" else v) for k, s, v in events(4.0)]
    ticks = run(sync, stream)
    assert [t.stamp_ns for t in ticks if t.action_from_previous is None] == [at(0), at(2.25)]
    assert sync.drops == {Drop.OUTSIDE_LIMITS: 1}
    assert sync.largest_action[0] == pytest.approx(5.1)


def test_gap_limits_are_options_and_the_images_are_watched():
    stream = [e for e in events(6.0) if e[0] == "pose" or not at(2) < e[1] < at(3)]
    sync = TickSynchronizer(4.0, max_gap_s=1.1)
    ticks = run(sync, stream)
    assert [t.stamp_ns for t in ticks if t.action_from_previous is None] == [at(0)]
    assert sync.image_stats.num_gaps == 0
    sync = TickSynchronizer(4.0)
    run(sync, stream)
    assert sync.image_stats.gaps == [(at(2), at(3))]
    assert sync.image_stats.summary()["median_ms"] == pytest.approx(50)
    sync = TickSynchronizer(4.0, max_odom_gap_s=0.01)
    assert run(sync, events(2.0, odom_hz=30.0)) != []  # images at the very stamp of a pose need no neighbour
    assert sync.drops[Drop.ODOM_GAP] > 0


def test_a_twist_that_pauses_between_two_ticks_breaks_the_segment():
    sync = TickSynchronizer(4.0, max_odom_gap_s=0.1)
    ticks = []
    for i in range(201):
        if not 98 <= i <= 106:
            ticks += sync.add_twist(at(i / 50), [0.4, 0.0, 0.0])
        if i % 12 == 0:
            ticks += sync.add_image(at(i / 50), frame(i))
    assert [t.stamp_ns for t in ticks if t.action_from_previous is None] == [at(0), at(108 / 50)]
    assert sync.drops == {Drop.MOTION_GAP: 1}


def test_absurdly_large_poses_are_no_poses():
    sync = TickSynchronizer(4.0)
    stream = [(k, s, [1e300, 0, 0] if k == "pose" and i % 5 == 0 else v) for i, (k, s, v) in enumerate(events(3.0))]
    ticks = run(sync, stream)
    assert sync.drops.keys() == {Drop.POSE_NOT_FINITE}
    np.testing.assert_allclose(actions(ticks), np.tile([0.1, 0, 0], (len(ticks) - 1, 1)), atol=1e-6)


def test_one_absurd_twist_does_not_spoil_the_rest():
    sync = TickSynchronizer(4.0)
    ticks = []
    for i in range(201):
        ticks += sync.add_twist(at(i / 50), [1e29 if i == 20 else 0.4, 0.0, 0.0])
        if i % 5 == 0:
            ticks += sync.add_image(at(i / 50), frame(i))
    assert sync.drops == {Drop.POSE_NOT_FINITE: 1}
    steps = np.diff([t.stamp_ns for t in ticks]) / SECOND
    np.testing.assert_allclose(actions(ticks)[:, 0], 0.4 * steps, atol=1e-6)


def test_a_pose_of_another_width_is_refused():
    sync = TickSynchronizer(4.0, integrate="sum")
    sync.add_pose(at(0), [1.0, 2.0])
    with pytest.raises(DataError, match="shape"):
        sync.add_pose(at(1), [1.0, 2.0, 3.0])

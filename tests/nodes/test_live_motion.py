"""Live joint states, poses and commands go through the very code that converts recordings."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from egowm_core.data.motion import Motion
from egowm_core.data.preprocess import Preprocess
from egowm_core.data.sync import TickSynchronizer
from egowm_core.data.values import JOINT_STATE, TWIST_TYPES, JointsValue
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import DataError
from egowm_nodes.prediction.live_context import LiveContext, Skip
from tests.nodes.streams import at, picture_at, plain_header, plain_image, plain_odometry

ROBOT = load_embodiment("unitree_g1_26")
SOURCES = [channel.source or channel.name for channel in ROBOT.channels]


def joint_state(seconds: float, names: list[str], positions: list[float]) -> SimpleNamespace:
    return SimpleNamespace(header=plain_header(at(seconds)), name=names, position=positions, velocity=[], effort=[])


def angles(seconds: float) -> dict[str, float]:
    return {name: 0.1 * np.sin(seconds + index) for index, name in enumerate(SOURCES)}


def messages(seconds: float) -> list[tuple[float, SimpleNamespace | None]]:
    """Pictures (None) at 15 Hz; joints from two publishers, in no order, with one broken value."""
    found: list[tuple[float, SimpleNamespace | None]] = [(i / 15, None) for i in range(round(seconds * 15))]
    for rate_hz, part in ((60, SOURCES[14:][::-1]), (25, ["torso", *SOURCES[:14]])):
        for i in range(round(seconds * rate_hz) + 2):
            when = i / rate_hz + 1e-3
            positions = {"torso": 9.0, **angles(when)}
            found.append((when, joint_state(when, part, [positions[name] for name in part])))
    found[-10][1].position[3] = float("nan")
    return sorted(found, key=lambda message: message[0])


def run_live(robot: Embodiment, stream: list[tuple[float, SimpleNamespace | None]]) -> tuple[LiveContext, list[Skip]]:
    live, skips = LiveContext(robot, context_frames=1, horizon=12), []
    for when, message in stream:
        if message is None:
            progress = live.add_image(plain_image(when, picture_at(when)), arrived_s=when)
        else:
            progress = live.add_motion(message, JOINT_STATE, topic="joint_states")
        skips += progress.skips
    return live, skips


def test_live_joint_states_give_the_ticks_of_the_converter_to_the_bit():
    stream = messages(3.0)
    live, skips = run_live(ROBOT, stream)
    sync = TickSynchronizer.for_embodiment(ROBOT)
    motion, ticks, preprocess = Motion(ROBOT, sync), [], Preprocess.for_camera(ROBOT.camera())
    for when, message in stream:
        if message is None:
            ticks += sync.add_image(at(when), preprocess(picture_at(when)))
        else:
            value = JointsValue(dict(zip(message.name, message.position, strict=True)))
            ticks += motion.add(at(when), value, topic="joint_states")
    assert len(ticks) >= 14
    assert "joint not finite" in {skip.key for skip in skips}
    sample = live.hindsight()
    np.testing.assert_array_equal(sample.actions, [tick.action_from_previous for tick in ticks[-12:]])
    np.testing.assert_array_equal(sample.future_images, [tick.frame for tick in ticks[-12:]])
    for tick in ticks[-12:]:
        np.testing.assert_array_equal(live.state_at(tick.stamp_ns), tick.state)
        expected = angles((tick.stamp_ns - at(0)) * 1e-9)
        np.testing.assert_allclose(tick.state, [expected[name] for name in SOURCES], atol=1e-3)
    assert live.state_at(at(-1)) is None


def test_a_joint_renamed_while_running_is_named_in_the_log():
    def named(name: str, when: float) -> str:
        return "knee" if name == SOURCES[5] and when > 1.5 else name

    stream = [
        (when, m if m is None else joint_state(when, [named(n, when) for n in m.name], m.position))
        for when, m in messages(16.0)
    ]
    live, skips = run_live(ROBOT, stream)
    assert live.newest_ns <= at(1.5)
    (line, *_) = live.problems()
    assert SOURCES[5] in line
    assert "'knee'" in line
    for key in ("no odom", "joints incomplete"):
        told = [skip.text for skip in skips if skip.key == key]
        assert any(SOURCES[5] in text and "'knee'" in text for text in told)


def test_broken_joint_states_are_skipped_in_words():
    live = LiveContext(ROBOT, context_frames=1, horizon=4)
    for broken, key, words in [
        (joint_state(1, ["a", "b"], [1.0]), "joint message malformed", "differ in number"),
        (joint_state(2, [], []), "joint message empty", "no joint"),
        (joint_state(3, [SOURCES[0], SOURCES[0]], [1.0, 2.0]), "joint repeated", "several positions"),
        (joint_state(4, SOURCES, [float("inf")] * 26), "joint not finite", "not finite"),
    ]:
        progress = live.add_motion(broken, JOINT_STATE, topic="joint_states")
        assert key in {skip.key for skip in progress.skips}
        assert any(words in skip.text for skip in progress.skips)


def test_a_command_without_a_header_takes_the_time_it_was_received():
    robot = load_embodiment("rc_car_2dof")
    live = LiveContext(robot, context_frames=1, horizon=4)
    zero = SimpleNamespace(x=0.0, y=0.0, z=0.0)
    twist = SimpleNamespace(linear=SimpleNamespace(x=0.5, y=0.0, z=0.0), angular=zero)
    for i in range(60):
        when = i / 20
        if i % 4 == 0:
            live.add_image(plain_image(when, picture_at(when)), arrived_s=when)
        live.add_motion(twist, TWIST_TYPES[1], topic="cmd_vel", received_ns=at(when))
    np.testing.assert_allclose(live.last_action, [0.5, 0.0], atol=1e-6)
    with pytest.raises(DataError, match="measures no motion"):
        live.add_motion(twist, "std_msgs/msg/String", received_ns=at(9))


def test_odometry_still_goes_in_by_its_own_name():
    live = LiveContext(replace(load_embodiment("base_3dof")), context_frames=1, horizon=4)
    for i in range(40):
        live.add_image(plain_image(i / 12, picture_at(i / 12)), arrived_s=0.0)
        live.add_odometry(plain_odometry(i / 12 + 1e-3, x=0.4 * i / 12))
    np.testing.assert_allclose(live.last_action, [0.1, 0, 0], atol=1e-4)
    np.testing.assert_allclose(live.state_at(live.newest_ns)[0], 0.4 * (live.newest_ns - at(0)) * 1e-9, atol=1e-3)

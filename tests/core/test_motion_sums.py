"""Joints, grippers and commands, found by their names, into actions and states, with known motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from egowm_core.data.motion import Motion
from egowm_core.data.state import state_names
from egowm_core.data.sync import Drop, TickSynchronizer
from egowm_core.data.values import JointsValue, PoseValue, TwistValue
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import DataError
from tests.core.motion_drive import BASE, FRAME, SECOND, at, drive, pairs


def joints(robot: Embodiment, seconds: float) -> dict[str, float]:
    """Deltas grow linearly; velocities swing, so that their mean over a tick is not their value at its end."""
    return {
        channel.source or channel.name: (
            0.4 * np.sin(5 * seconds) if channel.kind == "velocity" else 0.1 * (index % 5) * seconds - 0.3
        )
        for index, channel in enumerate(robot.channels)
    }


@pytest.mark.parametrize("name", ["humanoid_25dof", "unitree_g1_26"])
def test_joints_by_name_in_two_parts(name):
    robot = load_embodiment(name)

    def half(first: bool) -> Callable[[float], JointsValue]:
        def value(seconds: float) -> JointsValue:
            items = list(joints(robot, seconds).items())[::-1]
            return JointsValue(dict(items[:12] if first else [*items[12:], ("unwanted", 1.0)]))

        return value

    second = [(i / 80 + 0.001, "/other", half(False)(i / 80 + 0.001)) for i in range(330)]
    ticks, sync, motion = drive(robot, half(True), hz=200.0, more=second)
    assert len(ticks) >= 18
    assert set(sync.drops) <= {Drop.NO_ODOM, Drop.JOINTS_INCOMPLETE}
    for start, end, action in pairs(ticks):
        a, b = joints(robot, start), joints(robot, end)
        for value, channel in zip(action, robot.channels, strict=True):
            source = channel.source or channel.name
            swung = 0.4 * (np.cos(5 * start) - np.cos(5 * end)) / 5 / (end - start)
            expected = swung if channel.kind == "velocity" else b[source] - a[source]
            assert value == pytest.approx(expected, abs=1e-3), channel.name
    for tick in ticks:
        expected = joints(robot, (tick.stamp_ns - BASE) / SECOND)
        np.testing.assert_allclose(tick.state, [expected[s.source] for s in robot.states], atol=1e-3)
    assert motion.problems() == []
    assert set(motion.stats) == {"/motion", "/other"}
    assert motion.stats["/motion"].summary()["rate_hz"] == pytest.approx(200, rel=1e-3)


def test_a_joint_renamed_half_way_ends_the_segment_and_is_told():
    robot = load_embodiment("unitree_g1_26")

    def value(seconds: float) -> JointsValue:
        positions = joints(robot, seconds)
        if seconds > 2.0:
            positions["elbow_right"] = positions.pop("kRightElbow")
        return JointsValue(positions)

    ticks, sync, motion = drive(robot, value)
    assert len(ticks) == 10 + 1
    assert ticks[-1].stamp_ns == at(2.0)
    assert sync.drops[Drop.NO_ODOM] > 0
    (line,) = motion.problems()
    assert "joint 'kRightElbow' on /motion was last seen at stamp 1700000002.000000000" in line
    assert "'elbow_right'" in line


def hand(seconds: float) -> np.ndarray:
    """A gripper pointing down (roll about pi, where it wraps) that turns about the base's z while it moves."""
    return np.array([0.1 * seconds, -0.05 * seconds, 0.3, np.arctan2(0.0, -1.0), 0.0, 0.8 * seconds])


def test_a_manipulator_takes_its_gripper_from_a_further_topic():
    robot = load_embodiment("manipulator_7dof")
    assert state_names(robot) == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    grip = [(i / 30, "/joint_states", JointsValue({"gripper": 0.2 * i / 30, "x": 99.0})) for i in range(121)]

    def value(seconds: float) -> PoseValue:
        pose = hand(seconds)
        pose[3] *= 1 if round(seconds * 50) % 2 else -1  # the same orientation, written either way
        return PoseValue(pose)

    ticks, sync, motion = drive(robot, value, more=grip, topic="/gripper_pose")
    assert len(ticks) == 20
    assert not sync.drops
    assert motion.problems() == []
    for start, end, action in pairs(ticks):
        step = end - start
        expected = [0.1 * step, -0.05 * step, 0, 0, 0, 0.8 * step, 0.2 * step]
        np.testing.assert_allclose(action, expected, atol=1e-5)
    for tick in ticks:
        seconds = (tick.stamp_ns - BASE) / SECOND
        np.testing.assert_allclose(np.sin(tick.state[3:6] - hand(seconds)[3:]), 0, atol=1e-5)
        np.testing.assert_allclose(tick.state[[0, 6]], [0.1 * seconds, 0.2 * seconds], atol=1e-5)


def test_a_hand_that_pitches_through_vertical_does_not_jump():
    robot = load_embodiment("manipulator_7dof")

    def value(seconds: float) -> PoseValue:
        pitch = np.pi / 2 - 0.5 + 0.4 * seconds
        over = pitch > np.pi / 2  # roll and yaw flip there
        angles = [np.pi, np.pi - pitch, np.pi] if over else [0.0, pitch, 0.0]
        return PoseValue(np.array([0, 0, 0, *angles]))

    grip = [(i / 30, "/joint_states", JointsValue({"gripper": 0.5})) for i in range(121)]
    ticks, sync, _ = drive(robot, value, more=grip)
    assert not sync.drops
    for start, end, action in pairs(ticks):
        np.testing.assert_allclose(action, [0, 0, 0, 0, 0.4 * (end - start), 0, 0], atol=1e-5)


def test_a_manipulator_without_its_gripper_says_so():
    ticks, sync, motion = drive(load_embodiment("manipulator_7dof"), lambda s: PoseValue(hand(s)), topic="/pose")
    assert not ticks
    assert sync.drops[Drop.NO_ODOM] > 0
    assert any(line.startswith("joint 'gripper'") and "never came" in line for line in motion.problems())


def commands(seconds: float) -> TwistValue:
    return TwistValue(np.array([round(seconds * 20) % 7 / 10, 0.0, -0.5 if seconds < 2 else 0.5]))


def test_commands_hold_and_are_averaged_over_a_tick():
    robot = load_embodiment("rc_car_2dof")
    ticks, sync, _ = drive(robot, commands, hz=20.0)
    assert len(ticks) == 20
    assert not sync.drops
    for start, end, action in pairs(ticks):
        held = [commands(start + i * 0.05).twist for i in range(round((end - start) / 0.05))]
        np.testing.assert_allclose(action, np.mean(held, axis=0)[[0, 2]], atol=1e-5)
    for tick in ticks:  # at the stamp of a command, that command; between two, the former
        np.testing.assert_allclose(tick.state, commands((tick.stamp_ns - BASE) / SECOND).twist[[0, 2]], atol=1e-6)
    assert state_names(robot) == ("throttle", "steering")
    late, _, _ = drive(robot, commands, hz=20.0, image_lag_s=0.02)
    np.testing.assert_allclose(late[5].state, commands(late[5].stamp_ns * 1e-9 - BASE * 1e-9 - 0.05).twist[[0, 2]])


def test_absolute_channels_are_the_value_at_the_later_tick():
    robot = load_embodiment("rc_car_2dof")
    robot = replace(robot, channels=tuple(replace(c, kind="absolute") for c in robot.channels))
    ticks, _, _ = drive(robot, commands, hz=20.0)
    for tick in ticks[1:]:
        np.testing.assert_array_equal(tick.action_from_previous, tick.state)


def test_a_velocity_of_a_pose_is_its_mean_over_the_tick():
    robot = load_embodiment("manipulator_7dof")
    channels = tuple(replace(robot.channels[i], kind="velocity", limits=(-2, 2)) for i in (0, 5))
    robot = replace(robot, channels=channels, further_sources=())
    ticks, _, _ = drive(robot, lambda s: PoseValue(hand(s)))
    assert len(ticks) == 20
    for _, _, action in pairs(ticks):
        np.testing.assert_allclose(action, [0.1, 0.8], atol=1e-5)


def test_a_field_that_a_topic_does_not_have_is_refused():
    motion = Motion(robot := load_embodiment("rc_car_2dof"), TickSynchronizer.for_embodiment(robot))
    with pytest.raises(DataError, match=r"/pose gives a pose.*'rc_car_2dof'; expected cmd_vel"):
        motion.add(0, PoseValue(np.zeros(6)), topic="/pose")


def test_gap_limits_are_per_source():
    robot = load_embodiment("rc_car_2dof")
    _, strict, _ = drive(robot, commands, hz=4.0, max_odom_gap_s=0.2)
    assert strict.drops[Drop.ODOM_GAP] > 5
    ticks, loose, motion = drive(robot, commands, hz=4.0, max_odom_gap_s=0.3)
    assert not loose.drops
    assert len(ticks) == 20
    assert motion.stats["/motion"].gap_limit_ns == 300_000_000


def test_what_is_integrated_over_an_unmeasured_stretch_breaks_the_segment():
    robot = load_embodiment("rc_car_2dof")
    sync = TickSynchronizer.for_embodiment(robot, max_odom_gap_s=0.1)
    motion = Motion(robot, sync)
    ticks = []
    for i in range(100):
        if not 41 <= i <= 43:  # 0.16 s without a command, between two ticks
            ticks += motion.add(at(i * 0.04), commands(0.0), topic="/cmd_vel")
        if i % 5 == 0:
            ticks += sync.add_image(at(i * 0.04), FRAME)
    broken = [round((tick.stamp_ns - BASE) / SECOND / 0.04) for tick in ticks if tick.action_from_previous is None]
    assert broken == [0, 45]
    assert sync.drops == {Drop.MOTION_GAP: 1}
    assert motion.stats["/cmd_vel"].gaps == [(at(1.6), at(1.76))]


def test_one_wild_command_costs_its_tick_and_no_later_one():
    robot = load_embodiment("rc_car_2dof")

    def value(seconds: float) -> TwistValue:
        wild = abs(seconds - 1.0) < 0.01
        return TwistValue(np.array([1e29 if wild else 0.3, 0.0, np.nan if seconds == 2.0 else 0.1]))

    ticks, sync, _ = drive(robot, value, hz=20.0)
    assert sync.drops == {Drop.OUTSIDE_LIMITS: 1, Drop.JOINT_NOT_FINITE: 1}
    assert len(ticks) == 20
    for tick in ticks[7:]:
        np.testing.assert_allclose(tick.action_from_previous, [0.3, 0.1], atol=1e-6)

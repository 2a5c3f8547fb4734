"""Every kind of motion source into the actions and states of every built-in embodiment, with known motion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from egowm_core.channels import ActionTopic, StateChannel
from egowm_core.data.bag import Bag
from egowm_core.data.motion import Motion, motion_sources, motion_types
from egowm_core.data.state import state_names
from egowm_core.data.sync import Drop, Tick, TickSynchronizer
from egowm_core.data.values import (
    JOINT_STATE,
    ODOMETRY,
    POSE_STAMPED,
    TWIST_TYPES,
    ImageValue,
    JointsValue,
    OdometryValue,
    PoseValue,
    TwistValue,
)
from egowm_core.embodiment import Embodiment, builtin_embodiments, load_embodiment
from egowm_core.errors import ConfigError, DataError
from egowm_core.geometry import se2_delta, se3_delta

BAGS = Path(__file__).parents[3] / "shared" / "data" / "bags"
SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND
FRAME = np.zeros((2, 2, 3), np.uint8)


def at(seconds: float) -> int:
    return BASE + round(seconds * SECOND)


def drive(
    robot: Embodiment,
    values: Callable[[float], object],
    *,
    seconds: float = 4.0,
    hz: float = 50.0,
    topic: str = "/motion",
    more: list[tuple[float, str, object]] | None = None,
    **options: float,
) -> tuple[list[Tick], TickSynchronizer, Motion]:
    """Images at four times the model's rate and motion ``values`` at ``hz``, in the order of their stamps."""
    sync = TickSynchronizer.for_embodiment(robot, **options)
    motion = Motion(robot, sync)
    count = round(seconds * 4 * robot.rate_hz)
    events: list[tuple[float, str, object]] = [(i / (4 * robot.rate_hz), "image", None) for i in range(count)]
    events += [(i / hz, topic, values(i / hz)) for i in range(round(seconds * hz) + 1)]
    ticks = []
    for when, name, value in sorted(events + (more or []), key=lambda event: event[0]):
        ticks += sync.add_image(at(when), FRAME) if name == "image" else motion.add(at(when), value, topic=name)
    motion.finish()
    sync.finish()
    return ticks, sync, motion


def pairs(ticks: list[Tick]) -> Iterator[tuple[float, float, np.ndarray]]:
    for before, tick in pairwise(ticks):
        assert tick.action_from_previous is not None
        assert tick.action_from_previous.dtype == tick.state.dtype == np.float32
        yield (before.stamp_ns - BASE) / SECOND, (tick.stamp_ns - BASE) / SECOND, tick.action_from_previous


# ---- which types ------------------------------------------------------------------------------------------------


def test_every_builtin_embodiment_can_be_converted():
    found = {name: motion_types(load_embodiment(name), explicit=False) for name in builtin_embodiments()}
    assert found == {
        "base_3dof": (ODOMETRY,),
        "camera_6dof": (ODOMETRY,),
        "humanoid_25dof": (JOINT_STATE,),
        "manipulator_7dof": (POSE_STAMPED,),
        "rc_car_2dof": TWIST_TYPES,
        "unitree_g1_26": (JOINT_STATE,),
    }
    assert [source.type for source in motion_sources(load_embodiment("manipulator_7dof"))] == [
        POSE_STAMPED,
        JOINT_STATE,
    ]


def test_velocities_stand_in_for_odometry_only_where_named():
    assert motion_types(load_embodiment("base_3dof"), explicit=True) == (ODOMETRY, *TWIST_TYPES, POSE_STAMPED)
    assert motion_types(load_embodiment("camera_6dof"), explicit=True) == (ODOMETRY, POSE_STAMPED)
    assert motion_types(load_embodiment("unitree_g1_26"), explicit=True) == (JOINT_STATE,)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("base_3dof", {"action_source": ActionTopic(topic="js", type=JOINT_STATE)}, "JointState.*integrate se2"),
        ("camera_6dof", {"action_source": ActionTopic(topic="v", type=TWIST_TYPES[0])}, "TwistStamped.*integrate se3"),
        ("manipulator_7dof", {"further_sources": ()}, "'gripper'.*no field of.*PoseStamped.*further_sources"),
        ("rc_car_2dof", {"action_source": ActionTopic(topic="p", type=POSE_STAMPED)}, "'throttle'.*'linear.x'"),
        ("base_3dof", {"further_sources": (ActionTopic(topic="p", type=ODOMETRY),)}, "further_sources.*se2"),
        ("base_3dof", {"states": (StateChannel(name="fuel", unit="1"),)}, "'fuel'.*no field of nav_msgs"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(name, changes, words):
    robot = replace(load_embodiment(name), **changes)
    with pytest.raises(ConfigError, match=words):
        motion_types(robot, explicit=False)
    with pytest.raises(ConfigError, match=words):
        TickSynchronizer.for_embodiment(robot)


def test_a_source_with_a_typo_gets_the_nearest_field():
    robot = load_embodiment("rc_car_2dof")
    channels = (replace(robot.channels[0], source="linear.xx"), robot.channels[1])
    with pytest.raises(ConfigError, match=r"did you mean 'linear\.x'"):
        motion_types(replace(robot, channels=channels), explicit=False)


# ---- rigid bodies -----------------------------------------------------------------------------------------------


def planar(seconds: float) -> np.ndarray:
    yaw = 3.0 + 0.3 * seconds  # passes pi
    return np.array([np.sin(yaw), 1 - np.cos(yaw), np.arctan2(np.sin(yaw), np.cos(yaw))])


def odometry(seconds: float) -> OdometryValue:
    return OdometryValue(planar(seconds), np.array([0.3, 0.0, 0.3]))


def test_planar_odometry_gives_body_frame_deltas_and_the_pose_as_state():
    ticks, sync, _ = drive(load_embodiment("base_3dof"), odometry)
    assert len(ticks) == 16
    assert not sync.drops
    for start, end, action in pairs(ticks):
        np.testing.assert_allclose(action, se2_delta(planar(start), planar(end)), atol=1e-4)
    for tick in ticks:
        np.testing.assert_allclose(tick.state, planar((tick.stamp_ns - BASE) / SECOND), atol=1e-4)
        assert np.abs(tick.state[2]) <= np.float32(np.pi)


@pytest.mark.parametrize(
    "values",
    [
        lambda s: TwistValue(np.array([0.3, 0.0, 0.3])),  # 0.3 m/s along a circle of radius 1 m
        lambda s: PoseValue(pose6_of(planar(s))),
    ],
)
def test_twists_and_bare_poses_give_the_same_deltas_as_odometry(values):
    robot = load_embodiment("base_3dof")
    expected, _, _ = drive(robot, odometry)
    ticks, _, _ = drive(robot, values)
    assert len(ticks) == len(expected) == 16
    for tick, other in zip(ticks[1:], expected[1:], strict=True):
        np.testing.assert_allclose(tick.action_from_previous, other.action_from_previous, atol=1e-4)


def pose6_of(pose: np.ndarray) -> np.ndarray:
    return np.array([pose[0], pose[1], 0.7, 0.0, 0.0, pose[2]])


def test_states_of_a_base_come_from_the_fields_of_its_odometry():
    states = (StateChannel(name="speed", unit="m/s", source="linear.x"), StateChannel(name="yaw", unit="rad"))
    robot = replace(load_embodiment("base_3dof"), states=states)
    assert state_names(robot) == ("speed", "yaw")
    ticks, _, motion = drive(robot, odometry)
    plain, _, _ = drive(load_embodiment("base_3dof"), odometry)
    for tick, other in zip(ticks, plain, strict=True):
        np.testing.assert_allclose(tick.state, [0.3, other.state[2]], atol=1e-5)
        np.testing.assert_equal(tick.action_from_previous, other.action_from_previous)
    with pytest.raises(DataError, match=r"/cmd_vel gives a twist.*it has no yaw"):
        motion.add(at(9), TwistValue(np.zeros(3)), topic="/cmd_vel")


def spatial(seconds: float) -> np.ndarray:
    return np.array(
        [seconds * 0.5, np.sin(seconds), 0.2 * np.cos(seconds), np.sin(seconds), 0.9 * np.sin(2 * seconds), 4 * seconds]
    )


@pytest.mark.parametrize("kind", ["odometry", "pose"])
def test_a_free_camera_gives_deltas_on_se3_and_its_pose_as_state(kind):
    robot = load_embodiment("camera_6dof")
    wide = replace(robot, channels=tuple(replace(c, limits=(-3, 3)) for c in robot.channels))

    def value(seconds: float) -> object:
        pose = spatial(seconds)
        return PoseValue(pose) if kind == "pose" else OdometryValue(pose[[0, 1, 5]], np.zeros(3), pose)

    ticks, sync, _ = drive(wide, value, hz=201.0)
    assert len(ticks) == 16
    assert not sync.drops
    for start, end, action in pairs(ticks):
        np.testing.assert_allclose(action, se3_delta(spatial(start), spatial(end)), atol=2e-4)
    for tick in ticks:
        expected = spatial((tick.stamp_ns - BASE) / SECOND)
        np.testing.assert_allclose(np.sin(tick.state - expected), 0, atol=2e-4)  # angles wrap
        assert (np.abs(tick.state[3:]) <= np.float32(np.pi)).all()


def test_planar_odometry_is_no_free_camera():
    motion = Motion(robot := load_embodiment("camera_6dof"), TickSynchronizer.for_embodiment(robot))
    for value in (odometry(0.0), TwistValue(np.zeros(3)), JointsValue({})):
        with pytest.raises(DataError, match=r"/x gives a .*'camera_6dof'; expected odom \(nav_msgs/msg/Odometry\)"):
            motion.add(0, value, topic="/x")


# ---- sums of named values ---------------------------------------------------------------------------------------


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


# ---- real recordings --------------------------------------------------------------------------------------------


def convert(name: str, robot: Embodiment, topic: str) -> tuple[list[Tick], TickSynchronizer, Motion]:
    if not (BAGS / name).is_dir():
        pytest.skip("the shared recordings are not here")
    sync = TickSynchronizer.for_embodiment(robot)
    motion, ticks = Motion(robot, sync), []
    with Bag(BAGS / name) as bag:
        for item in bag.read(["/camera/image_raw/compressed" if topic != "/joint_states" else HEAD, topic]):
            if isinstance(item.value, ImageValue):
                ticks += sync.add_image(item.stamp_ns, FRAME)
            else:
                ticks += motion.add(item.stamp_ns, item.value, topic=item.topic)
    motion.finish()
    sync.finish()
    return ticks, sync, motion


HEAD = "/camera/head/image_raw/compressed"


def test_the_shared_humanoid_recording():
    robot = load_embodiment("unitree_g1_26")
    ticks, sync, motion = convert("g1_inspire_ep001", robot, "/joint_states")
    assert len(ticks) == 66
    assert not sync.drops
    assert motion.problems() == []
    moved = np.cumsum([tick.action_from_previous for tick in ticks[1:]], axis=0)
    np.testing.assert_allclose(moved, [tick.state - ticks[0].state for tick in ticks[1:]], atol=1e-5)
    assert motion.stats["/joint_states"].summary()["rate_hz"] == pytest.approx(30, rel=1e-3)


def test_the_shared_car_recording():
    ticks, sync, motion = convert("donkeycar_tub", load_embodiment("rc_car_2dof"), "/cmd_vel")
    assert len(ticks) == 250
    assert not sync.drops
    actions = np.stack([tick.action_from_previous for tick in ticks[1:]])
    assert (np.abs(actions) <= 1).all()
    assert 0.4 < actions[:, 0].mean() < 0.8
    assert motion.stats["/cmd_vel"].num_gaps == 0


@pytest.mark.parametrize("name", ["gostanford_no1vc_7_1", "gostanford_no1vc_9_1"])
def test_the_shared_corridor_recordings_fit_base_and_camera_alike(name):
    base, base_sync, _ = convert(name, load_embodiment("base_3dof"), "/odom")
    camera, _, _ = convert(name, load_embodiment("camera_6dof"), "/odom")
    assert [tick.stamp_ns for tick in base] == [tick.stamp_ns for tick in camera]
    assert base_sync.drops[Drop.OUTSIDE_LIMITS] > 0
    for planar_tick, spatial_tick in zip(base, camera, strict=True):
        if planar_tick.action_from_previous is None or spatial_tick.action_from_previous is None:
            continue
        found = spatial_tick.action_from_previous[[0, 1, 5]]
        np.testing.assert_allclose(found, planar_tick.action_from_previous, atol=2e-3)  # yaw in the way
        np.testing.assert_allclose(spatial_tick.state[[0, 1, 5]], planar_tick.state, atol=1e-5)


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

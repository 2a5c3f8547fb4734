"""Motion sources of rigid bodies and of real recordings into actions and states, and which types can be one."""

from __future__ import annotations

from dataclasses import replace
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
from tests.core.motion_drive import BASE, FRAME, SECOND, at, drive, pairs

BAGS = Path(__file__).parents[3] / "shared" / "data" / "bags"


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

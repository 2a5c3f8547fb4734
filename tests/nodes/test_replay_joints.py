"""Recordings of joints: which topics are played under which names, what the plan is, and the node that plays them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data  # noqa: E402
from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402
from sensor_msgs.msg import CompressedImage, JointState  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from egowm_core.channels import ActionTopic  # noqa: E402
from egowm_core.data.messages import joints_value, stamp_ns  # noqa: E402
from egowm_core.data.values import JointsValue, OdometryValue, PoseValue, Stamped, TwistValue  # noqa: E402
from egowm_core.embodiment import load_embodiment  # noqa: E402
from egowm_core.errors import DataError  # noqa: E402
from egowm_nodes.replay.messages import MESSAGE_TYPES, message_of  # noqa: E402
from egowm_nodes.replay.playback import look, timetable  # noqa: E402
from egowm_sim.codec import JPEG_FORMAT, encode_jpeg  # noqa: E402
from tests.fixtures.tiny_checkpoint import made_up_picture  # noqa: E402

DOMAIN = str(1 + (os.getpid() + 20) % 100)
FIRST_NS = 1_600_000_000_000_000_000
NAMES = ("shoulder", "elbow", "hand")
LIMIT_S = 60.0
SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "bags"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of pictures at 10 Hz, joint states at 20 Hz and commands that lead them by 0.1 rad."""
    path = tmp_path_factory.mktemp("bags") / "arm"
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types

    def header(at_ns: int) -> Any:
        stamp = types["builtin_interfaces/msg/Time"](sec=at_ns // 10**9, nanosec=at_ns % 10**9)
        return types["std_msgs/msg/Header"](stamp=stamp, frame_id="")

    def joints(at_ns: int, ahead: float, names: tuple[str, ...] = NAMES) -> Any:
        values = ahead + np.arange(len(names)) + (at_ns - FIRST_NS) * 1e-9
        return types["sensor_msgs/msg/JointState"](
            header=header(at_ns), name=list(names), position=values, velocity=np.zeros(0), effort=np.zeros(0)
        )

    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kinds = {
            "/head/compressed": "sensor_msgs/msg/CompressedImage",
            "/joint_states": "sensor_msgs/msg/JointState",
            "/joint_commands": "sensor_msgs/msg/JointState",
        }
        connections = {topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in kinds.items()}

        def write(topic: str, at_ns: int, message: Any) -> None:
            writer.write(connections[topic], at_ns, store.serialize_cdr(message, kinds[topic]))

        for number in range(40):
            at_ns = FIRST_NS + number * 50_000_000
            write("/joint_states", at_ns, joints(at_ns, 0.0))
            write("/joint_commands", at_ns, joints(at_ns, 0.1, NAMES if number != 7 else NAMES[:2]))
            if number % 2 == 0:
                jpeg = types["sensor_msgs/msg/CompressedImage"](
                    header=header(at_ns), format=JPEG_FORMAT, data=encode_jpeg(made_up_picture(24, 32, seed=number))
                )
                write("/head/compressed", at_ns, jpeg)
    return path


def test_joint_states_are_found_by_type_and_by_embodiment(bag: Path) -> None:
    found = look(bag)
    assert [(stream.topic.name, stream.name) for stream in found.streams] == [
        ("/head/compressed", "image/compressed"),
        ("/joint_states", "joint_states"),
    ]
    assert found.commands is None
    named = look(bag, embodiment=load_embodiment("unitree_g1_26"), odom_topic="joint_commands")
    assert [(s.topic.name, s.name, s.type) for s in named.motions] == [
        ("/joint_commands", "joint_states", "sensor_msgs/msg/JointState")
    ]
    both = look(bag, odom_topic="joint_states, /joint_commands")
    assert [stream.topic.name for stream in both.motions] == ["/joint_states", "/joint_commands"]
    assert len(list(timetable(both))) == 20 + 40 + 40


def test_a_recording_without_what_the_robot_needs_is_refused(bag: Path) -> None:
    with pytest.raises(DataError, match="cmd_vel"):
        look(bag, embodiment=load_embodiment("rc_car_2dof"))
    with pytest.raises(DataError, match="joint_comands"):
        look(bag, plan_topic="joint_comands")
    with pytest.raises(DataError, match="expected sensor_msgs/msg/JointState"):
        look(bag, plan_topic="head/compressed")


def test_commands_become_the_plan_of_any_moment(bag: Path) -> None:
    commands = look(bag, plan_topic="joint_commands").commands
    assert commands is not None and commands.names == NAMES
    assert commands.skipped == 1 and len(commands.stamps_ns) == 39  # one lacked a joint
    times_s, positions = commands.ahead(FIRST_NS + 320_000_000, seconds=1.0, rate_hz=5.0)
    np.testing.assert_allclose(times_s, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(positions[:, 1], 1.1 + 0.32 + times_s, atol=1e-6)  # across the skipped one, too
    times_s, _ = commands.ahead(FIRST_NS + 1_700_000_000, seconds=1.0, rate_hz=5.0)
    assert len(times_s) == 2  # the recording ends 0.25 s later
    assert len(commands.ahead(FIRST_NS - 1, seconds=1.0, rate_hz=5.0)[0]) == 0


def test_it_plays_joints_and_plans_with_their_stamps(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    heard: dict[str, list[Any]] = {"joint_states": [], "joint_trajectory": [], "image/compressed": []}
    kinds = {"joint_states": JointState, "joint_trajectory": JointTrajectory, "image/compressed": CompressedImage}
    reliable = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
    for topic, kind in kinds.items():
        quality = qos_profile_sensor_data if kind is CompressedImage else reliable
        node.create_subscription(kind, topic, heard[topic].append, quality)
    parameters = [f"bag:={bag}", "plan_topic:=joint_commands", "plan_s:=1.0", "rate:=2.0"]
    words = [part for parameter in parameters for part in ("-p", parameter)]
    command = [sys.executable, "-m", "egowm_nodes.replay_node", "--ros-args", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        end = time.monotonic() + LIMIT_S
        while process.poll() is None:
            assert time.monotonic() < end
            executor.spin_once(timeout_sec=0.05)
        said = process.communicate()[0]
        for _ in range(20):
            executor.spin_once(timeout_sec=0.02)
    finally:
        process.kill()
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
    assert process.returncode == 0, said
    assert "20 of /head/compressed, 40 of /joint_states" in said
    states, plans = heard["joint_states"], heard["joint_trajectory"]
    assert len(states) == 40
    assert (np.diff([stamp_ns(message) for message in states]) == 50_000_000).all()
    np.testing.assert_allclose([list(message.position) for message in states][20], [1.0, 2.0, 3.0])
    assert states[0].name == list(NAMES) and abs(stamp_ns(states[0]) * 1e-9 - time.time()) < LIMIT_S
    assert len(plans) >= 8  # five a recorded second, while there is something ahead
    first = plans[0]
    assert stamp_ns(first) == stamp_ns(states[0]) and first.joint_names == list(NAMES) and len(first.points) == 6
    assert list(first.points[1].positions) == pytest.approx([0.3, 1.3, 2.3])
    assert first.points[1].time_from_start.nanosec == 200_000_000


def test_values_come_back_as_the_messages_they_were() -> None:
    def played(value: Any, kind: str) -> Any:
        return message_of(Stamped("/topic", FIRST_NS, value), FIRST_NS + 5, MESSAGE_TYPES[kind])

    pose6 = np.array([1.0, 2.0, 0.3, 0.1, -0.2, 1.5])
    odometry = played(OdometryValue(pose6[[0, 1, 5]], np.array([0.4, 0.0, 0.2]), pose6), "nav_msgs/msg/Odometry")
    assert stamp_ns(odometry) == FIRST_NS + 5 and odometry.pose.pose.position.z == pytest.approx(0.3)
    planar = played(OdometryValue(pose6[[0, 1, 5]], np.zeros(3)), "nav_msgs/msg/Odometry")
    assert planar.pose.pose.orientation.z == pytest.approx(np.sin(0.75))
    lost = played(PoseValue(np.array([1.0, 2.0, 0.3, np.nan, np.nan, np.nan])), "geometry_msgs/msg/PoseStamped")
    assert lost.pose.orientation.w == 0.0  # no unit quaternion then, none now
    assert played(TwistValue(np.array([0.4, 0.0, 0.2])), "geometry_msgs/msg/TwistStamped").twist.angular.z == 0.2
    doubted = played(JointsValue({"elbow": 0.5}, repeated=("hand",)), "sensor_msgs/msg/JointState")
    assert joints_value(doubted) == JointsValue({"elbow": 0.5}, repeated=("hand",))
    assert played(JointsValue({}, fault="2 names but 1 positions"), "sensor_msgs/msg/JointState") is None


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared recordings")
def test_the_recorded_humanoid_is_understood() -> None:
    robot = load_embodiment("unitree_g1_26")
    found = look(SHARED / "g1_inspire_ep001", embodiment=robot, plan_topic="joint_commands")
    assert [stream.name for stream in found.streams] == ["image/compressed", "joint_states"]
    assert robot.action_source == ActionTopic(topic="joint_states", type="sensor_msgs/msg/JointState")
    assert found.image_rate_hz == pytest.approx(30.0, rel=0.01)
    assert found.commands is not None
    assert set(found.commands.names) >= {channel.source for channel in robot.channels}

"""Plans by real topics: what each message becomes, what is refused in words, and what is not even subscribed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

import rclpy
from builtin_interfaces.msg import Duration
from egowm_msgs.msg import ActionSequence as ActionSequenceMsg
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry, Path
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from egowm_core.data.values import ODOMETRY
from egowm_core.embodiment import load_embodiment
from egowm_nodes import conversions
from egowm_nodes.plans.chooser import ActionChooser, Choice
from egowm_nodes.plans.inputs import PlanInputs
from tests.nodes.rig import DOMAIN

START = 1_700_000_000_000_000_000
TICK = 250_000_000
LIMIT_S = 30.0
TOPICS = {
    "actions": ActionSequenceMsg,
    "plan": Path,
    "joint_trajectory": JointTrajectory,
    "cmd_vel": Twist,
}


class Bench:
    """One node that takes plans, one that sends them; ``said`` are the reports."""

    def __init__(self, embodiment: str, *, stamped: bool = False, **options: Any) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN, signal_handler_options=SignalHandlerOptions.NO)
        self.node, self.sender = (
            Node(name, context=self.context, namespace=embodiment) for name in ("taker", "sender")
        )
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.said: list[str] = []
        self.newest_ns: int | None = START
        robot = load_embodiment(embodiment)
        given = {"horizon": 8, "plan_timeout_s": 1.0, "hold_last_command": True, "command_timeout_s": 60.0}
        self.chooser = ActionChooser(robot, **(given | options))
        self.inputs = PlanInputs(
            self.node,
            robot,
            self.chooser,
            newest_frame_ns=self._newest_ns,
            report=self._report,
            speed_mps=0.4,
            stamped_commands=stamped,
        )
        kinds = TOPICS | ({"cmd_vel": TwistStamped} if stamped else {})
        self.publishers = {name: self.sender.create_publisher(kind, name, 10) for name, kind in kinds.items()}

    def _newest_ns(self) -> int | None:
        return self.newest_ns

    def _report(self, key: str, text: str) -> None:
        self.said.append(f"{key}: {text}")

    def listens(self) -> list[str]:
        return [subscription.topic_name.rpartition("/")[2] for subscription in self.inputs._subscriptions]

    def until(self, condition: Callable[[], Any]) -> Any:
        end = time.monotonic() + LIMIT_S
        while not (value := condition()):
            assert time.monotonic() < end, self.said
            self.executor.spin_once(timeout_sec=0.05)
        return value

    def send(self, topic: str, message: Any) -> None:
        """Publish and wait until it was taken or refused."""
        self.until(self.publishers[topic].get_subscription_count)
        before = self._seen()
        self.publishers[topic].publish(message)
        self.until(lambda: self._seen() != before)

    def _seen(self) -> tuple[int, int, int]:
        return self.chooser.plans_taken, sum(self.inputs.refused.values()), id(self.chooser._command)

    def odometry(self, stamp_ns: int, x: float, yaw: float = 0.0) -> None:
        message = Odometry(header=conversions.header(stamp_ns, "odom"), child_frame_id="base_link")
        message.pose.pose.position.x = x
        message.pose.pose.orientation.z, message.pose.pose.orientation.w = math.sin(yaw / 2), math.cos(yaw / 2)
        self.inputs.add_motion(message, ODOMETRY)

    def choose(self, ticks: int = 0, **known: Any) -> Choice | None:
        at_ns = START + ticks * TICK
        return self.chooser.choose(at_ns, None, now_s=time.monotonic(), pose=self.inputs.pose_at(at_ns), **known)

    def close(self) -> None:
        self.inputs.close()
        self.executor.shutdown()
        self.node.destroy_node()
        self.sender.destroy_node()
        self.context.try_shutdown()


@pytest.fixture(scope="module")
def base() -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        bench = Bench("base_3dof")
        for i in range(41):
            bench.odometry(START - 10**9 + i * 50_000_000, 0.02 * i)
        yield bench
        bench.close()


@pytest.fixture(scope="module")
def humanoid() -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        bench = Bench("humanoid_25dof", stamped=True)
        yield bench
        bench.close()


def path(
    points: list[tuple[float, float]], *, frame: str = "odom", stamp_ns: int = START, every_s: float = 0.0
) -> Path:
    message = Path(header=conversions.header(stamp_ns, frame))
    for index, (x, y) in enumerate(points):
        pose = PoseStamped(header=conversions.header(stamp_ns + round(index * every_s * 1e9), frame))
        pose.pose.position.x, pose.pose.position.y = x, y
        message.poses.append(pose)
    return message


def trajectory(names: list[str], points: list[tuple[float, list[float]]], stamp_ns: int = START) -> JointTrajectory:
    message = JointTrajectory(header=conversions.header(stamp_ns, ""), joint_names=names)
    for seconds, positions in points:
        after = Duration(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))
        message.points.append(JointTrajectoryPoint(positions=positions, time_from_start=after))
    return message


def test_each_robot_listens_to_what_it_can_follow(base, humanoid):
    assert base.listens() == ["actions", "plan", "cmd_vel"]
    assert humanoid.listens() == ["actions", "joint_trajectory", "cmd_vel"]


def test_a_path_in_the_odometry_frame_is_driven_from_where_the_robot_is(base):
    base.send("plan", path([(0.0, 0.0), (3.0, 0.0)]))
    choice = base.choose()
    assert choice.kind == "path"
    np.testing.assert_allclose(choice.actions.values, np.tile([0.1, 0, 0], (8, 1)), atol=1e-5)


def test_a_path_in_the_base_frame_lies_ahead_of_the_robot_as_it_was_at_its_stamp(base):
    ahead = [(0.02 * i, 0.0) for i in range(60)]
    base.send("plan", path(ahead, frame="base_link", stamp_ns=START - 500_000_000, every_s=0.05))
    start = base.chooser._plans["path"].poses[0]
    np.testing.assert_allclose(start, [0.2, 0.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(base.choose().actions.values[:6, 0], 0.1, atol=0.03)


def test_actions_come_before_a_path_and_at_any_rate(base):
    message = ActionSequenceMsg(header=conversions.header(0, ""), channels=["dx", "dy", "dyaw"], rate_hz=10.0)
    message.data = [0.02, 0.0, 0.01] * 20
    base.send("actions", message)
    choice = base.choose()
    assert (choice.kind, choice.extended) == ("actions", 0)
    np.testing.assert_allclose(choice.actions.values[:, 2], 0.025, atol=1e-6)
    base.inputs.clock_reset()
    assert base.choose() is None and base.inputs.pose_at(START) is None
    for i in range(41):
        base.odometry(START - 10**9 + i * 50_000_000, 0.02 * i)


def late(message: Path) -> Path:
    message.poses[1].header = message.poses[0].header
    return message


def turned(message: Path) -> Path:
    message.poses[0].pose.orientation.w = 3.0
    return message


def mixed(message: Path) -> Path:
    message.poses[1].header.frame_id = "map"
    return message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (path([(0.0, 0.0), (1.0, 0.0)], frame="map"), "frame 'map', expected 'odom' or 'base_link'; install tf2_ros"),
        (path([(0.0, 0.0), (1.0, 0.0)], frame=""), "no frame_id"),
        (path([]), "0 poses; expected 1..4096"),
        (path([(0.0, 0.0)] * 5000), "5000 poses"),
        (path([(0.0, 0.0), (math.nan, 0.0)]), "pose 1 of the path is not finite"),
        (turned(path([(0.0, 0.0), (1.0, 0.0)])), "no unit quaternion"),
        (mixed(path([(0.0, 0.0), (1.0, 0.0)])), "its poses in 'map'"),
        (late(path([(0.0, 0.0), (0.1, 0.0), (0.2, 0.0)], every_s=1.0)), "stamps do not increase"),
        (path([(0.0, 0.0), (9.0, 0.0)], every_s=1.0), "outside its limits"),
        (path([(0.0, 0.0), (1.0, 0.0)], frame="base_link", stamp_ns=START - 10**12), "says nothing of that time"),
    ],
)
def test_a_path_that_does_not_fit_is_refused_in_words(base, message, words):
    refused = base.inputs.refused["path"]
    base.send("plan", message)
    assert base.inputs.refused["path"] == refused + 1
    assert base.said[-1].startswith("plan: refused: path refused: ") and words in base.said[-1]


@pytest.mark.parametrize(
    ("data", "channels", "words"),
    [
        ([0.0] * 3 * 5000, ["dx", "dy", "dyaw"], "expected at most 256 channels and 4096 rows"),
        ([0.0] * 4, ["dx", "dy", "dyaw"], "whole number of rows"),
        ([], ["x"] * 300, "300 channels"),
        ([], [], "whole number of rows"),
    ],
)
def test_actions_of_a_wrong_size_are_refused_before_they_are_copied(base, data, channels, words):
    base.send("actions", ActionSequenceMsg(channels=channels, rate_hz=4.0, data=data))
    assert words in base.said[-1]


def test_a_joint_trajectory_starts_from_the_state_and_a_stamped_command_moves_the_base(humanoid):
    command = TwistStamped(header=conversions.header(START, "base_link"))
    command.twist.linear.x = 0.5
    humanoid.send("cmd_vel", command)
    humanoid.send("joint_trajectory", trajectory(["NECK_PITCH", "LEFT_ELBOW_PITCH"], [(0.8, [0.4, -0.8])], stamp_ns=0))
    choice = humanoid.choose(state=np.zeros(25, np.float32))
    values = dict(zip(load_embodiment("humanoid_25dof").channel_names, choice.actions.values.T, strict=True))
    np.testing.assert_allclose(values["neck_pitch"], [0.1] * 4 + [0.0] * 4, atol=1e-6)
    np.testing.assert_allclose(values["left_elbow_pitch"], [-0.2] * 4 + [0.0] * 4, atol=1e-6)
    np.testing.assert_allclose(values["linear_velocity"], 0.5)
    assert (choice.kind, choice.extended) == ("joint_trajectory", 4)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            trajectory(["NECK"], [(1.0, [0.1])]),
            "'NECK', which 'humanoid_25dof' does not have; did you mean 'NECK_PITCH'",
        ),
        (trajectory(["NECK_PITCH"], [(1.0, [0.1, 0.2])]), "point 0 of the trajectory has 2 positions"),
        (trajectory(["NECK_PITCH"], [(1.0, [])]), "0 positions"),
        (trajectory(["NECK_PITCH"], []), "0 points of 1 joints"),
        (trajectory(["NECK_PITCH"] * 400, [(1.0, [0.1] * 400)]), "of 400 joints"),
        (trajectory(["NECK_PITCH"], [(2.0, [0.1]), (1.0, [0.2])]), "not increasing"),
        (trajectory(["NECK_PITCH"], [(0.2, [math.inf])]), "position of 'NECK_PITCH' in point 0 is not finite"),
        (trajectory(["NECK_PITCH"], [(0.0, [0.0]), (1.0, [50.0])]), "it looks like degrees"),
    ],
)
def test_a_trajectory_that_does_not_fit_is_refused_in_words(humanoid, message, words):
    humanoid.send("joint_trajectory", message)
    assert "joint_trajectory refused" in humanoid.said[-1] and words in humanoid.said[-1]
    assert humanoid.choose(state=np.zeros(25, np.float32)).kind == "joint_trajectory"  # the former stays


def test_a_plan_without_stamp_waits_for_the_camera(humanoid):
    humanoid.newest_ns = None
    humanoid.send("joint_trajectory", trajectory(["NECK_PITCH"], [(1.0, [0.1])], stamp_ns=0))
    assert "there is no frame yet" in humanoid.said[-1]
    humanoid.newest_ns = START


def test_where_one_source_is_asked_for_the_others_are_not_subscribed(monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    bench = Bench("base_3dof", source="path")
    assert bench.listens() == ["plan", "cmd_vel"]
    bench.inputs.close()
    assert not bench.listens()
    bench.close()

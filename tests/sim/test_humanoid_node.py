"""sim_humanoid on real rclpy: topics, plans that it tells and obeys, limits, parts, refusals, and a clean stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from geometry_msgs.msg import Twist  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from egowm_core.embodiment import load_embodiment  # noqa: E402
from egowm_sim.humanoid import JOINT_NAMES, JOINTS  # noqa: E402
from egowm_sim.humanoid_messages import trajectory_message  # noqa: E402

DOMAIN = str(101 + (os.getpid() + 30) % 100)
LIMIT_S = 60.0
QUIET = ("image_height:=96", "image_width:=128", "image_transport:=compressed")


class Robot:
    """A humanoid process, and a node that hears and commands it."""

    def __init__(self, *parameters: str) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}
        for topic, kind, quality in (
            ("joint_states", JointState, 50),
            ("odom", Odometry, 10),
            ("image/compressed", CompressedImage, qos_profile_sensor_data),
            ("camera_info", CameraInfo, qos_profile_sensor_data),
        ):
            self.listen(topic, kind, quality)
        self.plans = self.node.create_publisher(JointTrajectory, "joint_trajectory", 10)
        self.twists = self.node.create_publisher(Twist, "cmd_vel", 10)
        arguments = [part for parameter in (*QUIET, *parameters) for part in ("-p", parameter)]
        command = [sys.executable, "-m", "egowm_sim.humanoid_node", "--ros-args", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def listen(self, topic: str, kind: type, quality: Any = 10) -> None:
        self.heard[topic] = []
        self.node.create_subscription(kind, topic, self.heard[topic].append, quality)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end, {topic: len(heard) for topic, heard in self.heard.items()}
            self.executor.spin_once(timeout_sec=0.05)

    def joint(self, name: str) -> float:
        """Its newest measured position."""
        for message in reversed(self.heard["joint_states"]):
            if name in message.name:
                return float(message.position[message.name.index(name)])
        return float("nan")

    def order(self, points: dict[str, list[float]], *, stamp_ns: int = 0, step_s: float = 0.1) -> None:
        columns = np.array(list(points.values()), np.float64)
        rows = [(step_s * (number + 1), row) for number, row in enumerate(columns.T)]
        self.plans.publish(trajectory_message(list(points), stamp_ns, rows))

    def end(self) -> str:
        """Stop it; what it said."""
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=LIMIT_S)[1]
        assert self.process.returncode == 0, said
        assert "Traceback" not in said
        return said

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Robot]]:
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    robots: list[Robot] = []

    def begin(*parameters: str) -> Robot:
        robots.append(Robot(*parameters))
        return robots[-1]

    yield begin
    for robot in robots:
        robot.close()


def _stamp(message: Any) -> int:
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def test_it_obeys_trajectories_and_velocities_within_limits(start: Callable[..., Robot]) -> None:
    robot = start("seed:=3", "joint_rate_hz:=50.0")
    robot.until(lambda: all(len(heard) > 3 for heard in robot.heard.values()))
    robot.until(lambda: robot.plans.get_subscription_count() > 0 and robot.twists.get_subscription_count() > 0)
    state, odom = robot.heard["joint_states"][-1], robot.heard["odom"][-1]
    assert tuple(state.name) == JOINT_NAMES == tuple(c.source for c in load_embodiment("humanoid_25dof").channels)
    assert np.isfinite(state.velocity[:23]).all() and np.isnan(state.velocity[23:]).all()
    assert robot.heard["image/compressed"][-1].header.frame_id == "head_camera_optical_frame"
    assert robot.heard["camera_info"][-1].header.frame_id == "head_camera_optical_frame"
    assert (odom.header.frame_id, odom.child_frame_id) == ("odom", "base_link")
    assert abs(_stamp(state) * 1e-9 - time.time()) < 5.0

    resting = robot.joint("LEFT_ELBOW_PITCH")
    robot.order({"NECK_PITCH": [0.4, 0.6], "RIGHT_HAND_CLOSURE": [0.5, 0.9]})  # a subset, in an order of its own
    robot.until(lambda: robot.joint("NECK_PITCH") > 0.55 and robot.joint("RIGHT_HAND_CLOSURE") > 0.8)
    assert robot.joint("LEFT_ELBOW_PITCH") == pytest.approx(resting, abs=0.05)
    limit = {joint.name: joint.high for joint in JOINTS}["NECK_PITCH"]
    robot.order({"NECK_PITCH": [2.5]})  # cut at its limit
    robot.until(lambda: robot.joint("NECK_PITCH") > limit - 0.05)

    robot.order({"NECK_PITCH": [float("nan")]})
    robot.order({"NECK_PICH": [0.0]})
    robot.order({"NECK_PITCH": [0.0]}, stamp_ns=1_000_000_000)  # long over
    turn = Twist()
    turn.angular.z = float("nan")
    robot.twists.publish(turn)
    turn.angular.z = 0.5

    def turning() -> bool:
        robot.twists.publish(turn)
        return robot.joint("ANGULAR_VELOCITY") > 0.4 and robot.heard["odom"][-1].twist.twist.angular.z > 0.4

    robot.until(turning)
    robot.until(lambda: abs(robot.joint("ANGULAR_VELOCITY")) < 0.02)  # told nothing more, it stops
    robot.order({"LINEAR_VELOCITY": [-0.3] * 20})  # the base by trajectory, too
    robot.until(lambda: robot.joint("LINEAR_VELOCITY") < -0.2)
    robot.until(lambda: abs(robot.joint("LINEAR_VELOCITY")) < 0.02)
    assert limit - 0.1 < robot.joint("NECK_PITCH") < limit + 0.05  # what was refused moved nothing
    said = robot.end()
    assert "beyond the limits of NECK_PITCH" in said
    assert "not finite" in said


def test_it_works_by_itself_and_tells_its_plan_and_comes_in_parts(start: Callable[..., Robot]) -> None:
    robot = start("seed:=3", "drive:=auto", "split_joint_states:=true", "joint_rate_hz:=50.0", "frame_prefix:=h/")
    robot.listen("joint_trajectory", JointTrajectory)
    robot.listen("cmd_vel", Twist)
    heard = robot.heard
    robot.until(lambda: len(heard["joint_trajectory"]) > 20 and len(heard["cmd_vel"]) > 40 and len(heard["odom"]) > 3)
    assert heard["odom"][-1].child_frame_id == "h/base_link"
    body = [message for message in heard["joint_states"] if len(message.name) == 21]
    rest = [message for message in heard["joint_states"] if len(message.name) == 4]
    assert set(body[0].name) | set(rest[0].name) == set(JOINT_NAMES)
    assert rest[0].name[0] == "ANGULAR_VELOCITY"
    assert len(body) + len(rest) == len(heard["joint_states"])
    assert np.median(np.diff([_stamp(message) for message in body])) == 20_000_000
    assert 30_000_000 <= np.median(np.diff([_stamp(message) for message in rest])) <= 40_000_000

    plan = heard["joint_trajectory"][3]
    assert tuple(plan.joint_names) == JOINT_NAMES and len(plan.points) == 11
    after_s = [point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in plan.points]
    np.testing.assert_allclose(np.diff(after_s), 0.2, atol=1e-9)
    plans = [m for m in heard["joint_trajectory"] if _stamp(m) < _stamp(body[-1]) - 900_000_000]
    at_first, planned, done = (
        np.concatenate([_arms(plan, body, **which) for plan in plans])
        for which in ({"point": 0}, {"point": 4}, {"point": 4, "measured": True})
    )
    assert np.abs(planned - at_first).max() > 0.05  # it moves meanwhile, and as it said: the servos lag a little, and
    assert np.abs(done - planned).mean() < 0.5 * np.abs(planned - at_first).mean()  # what is decided later is not told
    robot.end()


def _arms(plan: Any, states: list[Any], *, point: int, measured: bool = False) -> np.ndarray:
    """The 14 arm joints as planned for a point, or as ``measured`` at its time."""
    columns, planned = slice(6, 20), plan.points[point]
    if not measured:
        return np.array(planned.positions[columns])
    at_ns = _stamp(plan) + planned.time_from_start.sec * 10**9 + planned.time_from_start.nanosec
    return np.array(min(states, key=lambda message: abs(_stamp(message) - at_ns)).position[columns])


@pytest.mark.parametrize(
    ("parameter", "told"),
    [("drive:=fly", "topic, auto"), ("joint_rate_hz:=700.0", "out of range"), ("image_transport:=avi", "both, raw")],
)
def test_bad_parameters_end_it_with_1(start: Callable[..., Robot], parameter: str, told: str) -> None:
    process = start(parameter).process
    errors = process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == 1
    assert told in errors
    assert "Traceback" not in errors

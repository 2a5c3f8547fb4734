"""sim_robot on real rclpy: topics, commands, frames, and a clean stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from geometry_msgs.msg import Twist  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402

DOMAIN = str(101 + os.getpid() % 100)
LIMIT_S = 60.0


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return dict(os.environ)


class Listener:
    """A node that keeps what it hears."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}

    def listen(self, topic: str, kind: type, qos: Any = 10) -> None:
        self.heard[topic] = []
        self.node.create_subscription(kind, topic, self.heard[topic].append, qos)

    def until(self, condition: Callable[[], bool], tick: Callable[[], None] = lambda: None) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end, {topic: len(heard) for topic, heard in self.heard.items()}
            tick()
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def listener(environment: dict[str, str]) -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def begin(*parameters: str) -> subprocess.Popen[str]:
        arguments = [part for parameter in parameters for part in ("-p", parameter)]
        command = [sys.executable, "-m", "egowm_sim.node", "--ros-args", *arguments]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _stamp(message: Any) -> int:
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def test_it_publishes_obeys_stops_and_ends(listener: Listener, start: Callable[..., subprocess.Popen[str]]) -> None:
    heard = listener.heard
    for topic, kind in (("image", Image), ("image/compressed", CompressedImage), ("camera_info", CameraInfo)):
        listener.listen(topic, kind, qos_profile_sensor_data)
    listener.listen("odom", Odometry)
    publisher = listener.node.create_publisher(Twist, "cmd_vel", 10)
    process = start("seed:=10", "image_height:=120", "image_width:=160")
    listener.until(lambda: all(len(messages) > 3 for messages in heard.values()))

    image, jpeg, info, odom = (heard[topic][-1] for topic in ("image", "image/compressed", "camera_info", "odom"))
    assert (image.encoding, image.height, image.width, image.step) == ("rgb8", 120, 160, 480)
    assert (image.header.frame_id, odom.header.frame_id) == ("camera_optical_frame", "odom")
    assert odom.child_frame_id == "base_link"
    assert info.k[0] == pytest.approx(80.0)
    assert abs(_stamp(odom) * 1e-9 - time.time()) < 5.0
    raw = {_stamp(message): message for message in heard["image"]}
    common = [message for message in heard["image/compressed"] if _stamp(message) in raw]
    pixels = np.frombuffer(raw[_stamp(common[-1])].data, np.uint8).reshape(120, 160, 3)
    decoded = cv2.imdecode(np.frombuffer(common[-1].data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - pixels).mean() < 6.0
    assert jpeg.format.startswith("rgb8; jpeg")

    turn = Twist()
    turn.angular.z = 0.5
    listener.until(lambda: heard["odom"][-1].twist.twist.angular.z > 0.4, lambda: publisher.publish(turn))
    assert heard["odom"][-1].pose.pose.orientation.z > 0.0
    turn.angular.z = float("nan")
    publisher.publish(turn)  # refused; and without further commands it stops by itself
    listener.until(lambda: abs(heard["odom"][-1].twist.twist.angular.z) < 0.01)
    stamps = np.diff([_stamp(message) for message in heard["odom"]])
    assert np.median(stamps) == 50_000_000

    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_it_drives_itself_and_says_so(listener: Listener, start: Callable[..., subprocess.Popen[str]]) -> None:
    listener.listen("cmd_vel", Twist)
    listener.listen("odom", Odometry)
    listener.listen("image", Image, qos_profile_sensor_data)
    listener.listen("image/compressed", CompressedImage, qos_profile_sensor_data)
    process = start("seed:=3", "drive:=auto", "image_transport:=compressed")
    heard = listener.heard
    listener.until(lambda: len(heard["cmd_vel"]) > 40 and len(heard["image/compressed"]) > 3)
    assert max(abs(m.linear.x) + abs(m.angular.z) for m in heard["cmd_vel"]) > 0.05
    assert heard["image"] == []
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors


@pytest.mark.parametrize(
    ("parameter", "told"),
    [("drive:=fly", "cmd_vel, auto"), ("image_rate_hz:=700.0", "out of range"), ("seed:=-1", "out of range")],
)
def test_bad_parameters_end_it_with_1(start: Callable[..., subprocess.Popen[str]], parameter: str, told: str) -> None:
    process = start(parameter)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert told in errors
    assert "Traceback" not in errors

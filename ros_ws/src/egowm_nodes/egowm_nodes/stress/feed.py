"""A made-up robot that streams pictures and odometry at given rates: what a flood and a latency are measured with.

Each picture is preceded by odometry of the very same stamp, so that nothing but the node itself delays its tick. Knows
rclpy; renders nothing while it streams.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from egowm_nodes import conversions

_VIEWS = 24
_SWING_RAD, _SWING_S = 0.2, 6.0
_REMEMBERED = 20_000


class Feed:
    """Streams until left; a context manager. ``sent_s`` tells when (steady s) the picture of a stamp went out."""

    def __init__(self, node: Node, *, height: int, width: int, rate_hz: float, compressed: bool = False) -> None:
        self._node, self._rate_hz, self._compressed = node, rate_hz, compressed
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._images = node.create_publisher(kind, topic, qos)
        self._odometry = node.create_publisher(Odometry, "odom", 10)
        self._messages = [self._message(view) for view in _views(height, width)]
        self.sent_s: OrderedDict[int, float] = OrderedDict()
        self.count = 0
        self._stop, self._paused = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._node.destroy_publisher(self._images)
        self._node.destroy_publisher(self._odometry)

    def pause(self) -> None:
        """Send nothing until ``go_on``."""
        self._paused.set()

    def go_on(self) -> None:
        """Stream again."""
        self._paused.clear()

    def _run(self) -> None:
        began_s, number = time.monotonic(), 0
        while not self._stop.wait(max(0.0, began_s + number / self._rate_hz - time.monotonic())):
            if self._paused.is_set():
                number += 1
                continue
            phase = 2.0 * math.pi * (number / self._rate_hz) / _SWING_S
            yaw = _SWING_RAD * math.sin(phase)
            stamp_ns = time.time_ns()
            self._odometry.publish(odometry(stamp_ns, yaw))
            message = self._messages[round((math.sin(phase) + 1.0) / 2.0 * (_VIEWS - 1))]
            message.header.stamp = conversions.time_message(stamp_ns)
            self.sent_s[stamp_ns] = time.monotonic()
            if len(self.sent_s) > _REMEMBERED:
                self.sent_s.popitem(last=False)
            self._images.publish(message)
            self.count += 1
            number = max(number + 1, math.floor((time.monotonic() - began_s) * self._rate_hz))  # late ones are left out

    def _message(self, view: np.ndarray) -> Any:
        make = conversions.compressed_message if self._compressed else conversions.image_message
        return make(view, 0, "camera_optical_frame")


def odometry(stamp_ns: int, yaw: float) -> Odometry:
    """A robot that turns on the spot."""
    message = Odometry(header=conversions.header(stamp_ns, "odom"), child_frame_id="base_link")
    message.pose.pose.orientation.z, message.pose.pose.orientation.w = math.sin(yaw / 2), math.cos(yaw / 2)
    return message


def _views(height: int, width: int) -> list[np.ndarray]:
    """(H,W,3) uint8 pictures along a turn: a textured wall that moves sideways."""
    rng = np.random.default_rng(7)
    reach = width // 4
    wall = cv2.resize(rng.uniform(40, 215, (24, 40, 3)).astype(np.uint8), (width + reach, height))
    steps = np.linspace(reach, 0, _VIEWS).round().astype(int)
    return [np.ascontiguousarray(wall[:, left : left + width]) for left in steps]

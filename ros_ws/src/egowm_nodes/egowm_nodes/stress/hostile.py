"""Malformed and hostile messages, seeded: nearly right ones of the types that the suite takes, and serialised garbage.

Nearly right messages get past the first check and try the later ones. Any other class is filled with wild values. Knows
the messages that robots send; knows no node.
"""

from __future__ import annotations

import array
import math
import time
from typing import Any

import cv2
import numpy as np
from egowm_msgs.msg import ActionSequence, Rollout
from geometry_msgs.msg import PoseStamped, Twist
from nav_msgs.msg import Odometry, Path
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from egowm_core.embodiment import Embodiment
from egowm_nodes import conversions
from egowm_nodes.stress.wild import LARGEST, TEXTS, Wild

_ENCODINGS = ("rgb8", "bgr8", "mono8", "rgba8", "16UC1", "32FC1", "8UC3", "bayer_rggb8", "bayer_rggb16", "nv12",
              "yuv422", "yuyv", "", "RGB8", "rgb8\x00", "jpeg", "A" * 5000)  # fmt: skip
_SIZES = (0, 1, 2, 3, 7, 64, 97, 240, 320, 4096, 8192, 65535, 2**31 - 1, 2**32 - 1)


class Hostile(Wild):
    """Messages for the robot of ``embodiment``; the same seed makes the same ones, but for their stamps."""

    def __init__(self, seed: int, embodiment: Embodiment) -> None:
        super().__init__(seed)
        self._robot = embodiment
        camera = embodiment.camera()
        picture = np.random.default_rng(seed).integers(0, 255, (camera.height * 2, camera.width * 2, 3), dtype=np.uint8)
        self._picture = cv2.GaussianBlur(picture, (9, 9), 0)
        self._small = np.ascontiguousarray(self._picture[::2, ::2])
        self._jpeg = bytes(conversions.compressed_message(self._picture, 0, "optical").data)
        self._png = cv2.imencode(".png", self._small)[1].tobytes()
        self._nearly = {
            Image: self._image, CompressedImage: self._compressed, Odometry: self._odometry, JointState: self._joints,
            ActionSequence: self._actions, Path: self._path, JointTrajectory: self._trajectory, Twist: self._twist,
            CameraInfo: self._camera_info, Rollout: self._rollout,
        }  # fmt: skip

    def message(self, kind: type[Any]) -> Any:
        """A hostile message of this class: nearly right with some fields gone wild, or wild altogether."""
        self.begin()
        make = self._nearly.get(kind)
        if make is None or self.rng.random() < 0.15:
            return self.wild(kind)
        message = make()
        for _ in range(self.rng.choice((0, 0, 1, 1, 2))):
            self.spoil(message)
        return message

    def largest(self, kind: type[Any]) -> Any:
        """A message with ``LARGEST`` bytes in it; None for a class that has no field for them."""
        message = kind()
        if hasattr(message, "data") and isinstance(message.data, array.array) and message.data.typecode == "B":
            message.data = bytes(LARGEST)
            return message
        if kind is Rollout:
            message.frames = [Image(data=bytes(LARGEST))]
            return message
        return None

    def raw(self, kind: type[Any]) -> bytes:
        """Serialised bytes: cut short, with bits flipped, with absurd lengths, or noise; always some bytes."""
        rng, data = self.rng, bytearray(serialize_message(self.message(kind)))
        way = rng.randrange(5)
        if way == 0:
            return bytes(data[: rng.randrange(4, max(5, len(data)))])
        if way == 1:
            return b"\x00\x01\x00\x00" + rng.randbytes(rng.choice((1, 16, 400, 70_000)))
        if way == 2:
            for _ in range(rng.randrange(1, 40)):
                data[rng.randrange(4, len(data))] ^= 1 << rng.randrange(8)
        elif way == 3:
            at = 4 + 4 * rng.randrange(0, max(1, min(len(data), 400) // 4 - 1))
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x40", b"\x00" * 4))
        else:
            data[:4] = rng.choice((b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x03\x00\x00", b"\x00\x0b\x00\x00"))
        return bytes(data)

    # ---- nearly right -------------------------------------------------------------------------------------------

    def _image(self) -> Image:
        rng = self.rng
        message = conversions.image_message(self._picture, self._stamp(), "optical")
        way = rng.randrange(8)
        if way == 0:
            message.encoding = rng.choice(_ENCODINGS)
        elif way == 1:
            message.height, message.width = rng.choice(_SIZES), rng.choice(_SIZES)
        elif way == 2:
            message.step = rng.choice(_SIZES)
        elif way == 3:
            message.data = self.payload()
        elif way == 4:  # of another size, consistently
            height, width = rng.choice((1, 2, 96, 500)), rng.choice((1, 3, 128, 900))
            message.height, message.width, message.step = height, width, 3 * width
            message.data = bytes(3 * height * width)
        elif way == 5:
            message.header.frame_id = "f" * rng.choice((300, 100_000))
        return message

    def _compressed(self) -> CompressedImage:
        rng = self.rng
        data = bytearray(rng.choice((self._jpeg, self._png)))
        way = rng.randrange(7)
        if way == 0:
            data = data[: rng.randrange(len(data))]
        elif way == 1:
            for _ in range(rng.randrange(1, 200)):
                data[rng.randrange(2, len(data))] = rng.randrange(256)
        elif way == 2:
            data = bytearray(self.payload())
        elif way == 3:  # a picture that claims another size
            data = _claim(bytearray(self._jpeg), rng.choice(_SIZES) & 0xFFFF, rng.choice(_SIZES) & 0xFFFF)
        elif way == 4:  # scans without end
            data = bytearray(
                self._jpeg[:-2] + b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00" * 5000 + b"\xff\xd9"
            )
        message = CompressedImage(header=conversions.header(self._stamp(), "optical"), data=bytes(data))
        message.format = rng.choice(("jpeg", "png", "rgb8; jpeg compressed bgr8", "16UC1; compressedDepth", *TEXTS))
        return message

    def _odometry(self) -> Odometry:
        message = Odometry(header=conversions.header(self._stamp(), "odom"), child_frame_id="base_link")
        pose = message.pose.pose
        pose.position.x, pose.position.y = self.real(), self.real()
        pose.orientation.w = self.rng.choice((1.0, 0.0, math.nan, 1e200, -1.0))
        return message

    def _joints(self) -> JointState:
        rng = self.rng
        names = [channel.name for channel in self._robot.channels]
        rng.shuffle(names)
        names = names[: rng.randrange(len(names) + 1)] + [
            rng.choice(names + list(TEXTS)) for _ in range(rng.randrange(4))
        ]
        if rng.random() < 0.01:
            names += [f"{'j' * rng.choice((1, 2000))}{number}" for number in range(3000)]
        count = len(names) + rng.choice((0, 0, 0, 1, -1))
        return JointState(
            header=conversions.header(self._stamp(), ""),
            name=names,
            position=[self.real() for _ in range(max(0, count))],
        )

    def _actions(self) -> ActionSequence:
        rng, robot = self.rng, self._robot
        rows, width = rng.choice((0, 1, 8, 8, 40, 5000)), robot.action_dim
        values = np.random.default_rng(rng.randrange(2**32)).uniform(*robot.limits.T, (rows, width)) * rng.choice(
            (1, 1, 55)
        )
        message = ActionSequence(
            header=conversions.header(self._stamp(), robot.base_frame), embodiment=robot.name, rate_hz=robot.rate_hz,
            channels=list(robot.channel_names), data=values.ravel().tolist(),
        )  # fmt: skip
        way = rng.randrange(6)
        if way == 0 and len(message.data):
            message.data[rng.randrange(len(message.data))] = self.real32()
        elif way == 1:
            message.channels = rng.choice(([], list(robot.channel_names)[::-1], ["x"] * rng.choice((1, 20_000))))
        elif way == 2:
            message.rate_hz = self.real()
        elif way == 3:
            message.source = rng.randrange(256)
        return message

    def _path(self) -> Path:
        rng = self.rng
        message = Path(header=conversions.header(self._stamp(), rng.choice(("odom", "base_link", "map", *TEXTS))))
        for number in range(rng.choice((0, 1, 2, 10, 10, 3000))):
            pose = PoseStamped(header=conversions.header(self._stamp(), rng.choice(("odom", "map"))))
            pose.pose.position.x = 0.05 * number if rng.random() < 0.9 else self.real()
            pose.pose.orientation.w = rng.choice((1.0, 1.0, 0.0, math.nan))
            message.poses.append(pose)
        return message

    def _trajectory(self) -> JointTrajectory:
        rng = self.rng
        names = [channel.name for channel in self._robot.channels]
        rng.shuffle(names)
        message = JointTrajectory(header=conversions.header(rng.choice((0, self._stamp())), ""))
        message.joint_names = names[: rng.randrange(len(names) + 1)] + rng.choice(([], [], [rng.choice(TEXTS)]))
        for number in range(rng.choice((0, 1, 5, 5, 2000))):
            width = len(message.joint_names) + rng.choice((0, 0, 0, 0, 1, -1))
            point = JointTrajectoryPoint(positions=[self.real() if rng.random() < 0.1 else 0.1] * max(0, width))
            point.time_from_start.sec = rng.choice((number, number, -1, 2**31 - 1, 0))
            message.points.append(point)
        return message

    def _twist(self) -> Twist:
        message = Twist()
        message.linear.x, message.linear.y, message.angular.z = self.real(), self.real(), self.real()
        return message

    def _camera_info(self) -> CameraInfo:
        height, width = self._picture.shape[:2]
        rng = self.rng
        message = CameraInfo(header=conversions.header(self._stamp(), "optical"), height=height, width=width)
        message.d = [self.real() for _ in range(rng.choice((0, 5, 5, 10_000)))]
        message.k = [self.real() for _ in range(9)]
        if rng.random() < 0.3:
            message.height, message.width = rng.choice(_SIZES), rng.choice(_SIZES)
        return message

    def _rollout(self) -> Rollout:
        rng, robot = self.rng, self._robot
        begin_ns, period_ns = self._stamp(), round(1e9 / robot.rate_hz)
        count = rng.choice((0, 1, 8, 8, 8, 40))
        actions = self._actions()
        actions.source = rng.choice((0, 1, 2, 2, 9))
        if rng.random() < 0.7:
            actions.channels = list(robot.channel_names)
            actions.data = [0.0] * (count * robot.action_dim)
        stamps = [begin_ns + (number + 1) * period_ns * rng.choice((1, 1, 1, 1, 0, -3)) for number in range(count)]
        picture = rng.choice((self._small, self._small, self._small, self._picture, np.zeros((1, 1, 3), np.uint8)))
        message = Rollout(header=conversions.header(begin_ns, "optical"), embodiment=robot.name, actions=actions)
        message.stamps = [conversions.time_message(max(0, stamp)) for stamp in stamps]
        message.frames = [conversions.image_message(picture, max(0, stamp), "optical") for stamp in stamps]
        if message.frames and rng.random() < 0.3:
            self.spoil(rng.choice(message.frames))
        return message

    def _stamp(self) -> int:
        now_ns = time.time_ns()
        jump_s = self.rng.choice((0,) * 12 + (-0.5, 0.5, -5, 5, 3600, -3600, 10**9 // 4))
        return self.rng.choice((0, 1)) if self.rng.random() < 0.03 else max(0, now_ns + round(jump_s * 1e9))


def _claim(jpeg: bytearray, height: int, width: int) -> bytearray:
    """A JPEG whose frame header says another size."""
    at = jpeg.find(b"\xff\xc0")
    if at >= 0:
        jpeg[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return jpeg

"""Small real bags with known motion, written by rosbags, for the tests of the data pipeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types
START_NS = 1_700_000_000_000_000_000


def header(stamp_ns: int, frame_id: str = ""):
    time = T["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return T["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def image(stamp_ns: int, pixels: NDArray[np.uint8], encoding: str = "rgb8"):
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return T["sensor_msgs/msg/Image"](
        header=header(stamp_ns), height=height, width=width, encoding=encoding, is_bigendian=0,
        step=width * channels, data=np.ascontiguousarray(pixels).reshape(-1),
    )  # fmt: skip


def jpeg(stamp_ns: int, rgb: NDArray[np.uint8]):
    data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].reshape(-1)
    return T["sensor_msgs/msg/CompressedImage"](header=header(stamp_ns), format="jpeg", data=data)


def png16(stamp_ns: int, labels: NDArray[np.uint16]):
    data = cv2.imencode(".png", labels)[1].reshape(-1)
    return T["sensor_msgs/msg/CompressedImage"](header=header(stamp_ns), format="16UC1; png", data=data)


def odometry(stamp_ns: int, pose: Sequence[float]):
    point, quaternion = T["geometry_msgs/msg/Point"], T["geometry_msgs/msg/Quaternion"]
    return T["nav_msgs/msg/Odometry"](
        header=header(stamp_ns, "odom"),
        child_frame_id="base_link",
        pose=T["geometry_msgs/msg/PoseWithCovariance"](
            pose=T["geometry_msgs/msg/Pose"](
                position=point(x=float(pose[0]), y=float(pose[1]), z=0.0),
                orientation=quaternion(x=0.0, y=0.0, z=float(np.sin(pose[2] / 2)), w=float(np.cos(pose[2] / 2))),
            ),
            covariance=np.zeros(36),
        ),
        twist=T["geometry_msgs/msg/TwistWithCovariance"](twist=twist((0, 0, 0)), covariance=np.zeros(36)),
    )


def twist(values: Sequence[float]):
    vector = T["geometry_msgs/msg/Vector3"]
    return T["geometry_msgs/msg/Twist"](
        linear=vector(x=float(values[0]), y=float(values[1]), z=0.0),
        angular=vector(x=0.0, y=0.0, z=float(values[2])),
    )


def text(value: object):
    return T["std_msgs/msg/String"](data=json.dumps(value))


def write_bag(path: Path, messages: Sequence[tuple[int, str, object]], *, storage: str = "mcap") -> Path:
    """``messages`` are (record time ns, topic, message)."""
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    path.parent.mkdir(parents=True, exist_ok=True)
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections = {}
        for log_ns, topic, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], log_ns, STORE.serialize_cdr(message, kind))
    return path


def scene(index: int, size: tuple[int, int] = (60, 80)) -> NDArray[np.uint8]:
    """A smooth picture that differs from every other index's."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    planes = [
        128 + 60 * np.sin(rows / 9 + index),
        128 + 60 * np.cos(columns / 11 + 2 * index),
        40 + (7 * index) % 180 + 0 * rows,
    ]
    return np.stack(planes, axis=-1).astype(np.uint8)


def known_pose(seconds: float) -> tuple[float, float, float]:
    """A circle of 0.4 m/s and 0.3 rad/s: the same body-frame motion at every tick."""
    radius, yaw = 0.4 / 0.3, 0.3 * seconds
    return radius * np.sin(yaw), radius * (1 - np.cos(yaw)), float(np.arctan2(np.sin(yaw), np.cos(yaw)))


def drive(
    path: Path, *, seconds: float = 6.0, image_hz: float = 8.0, odom_hz: float = 40.0, storage: str = "mcap",
    truth: bool = False, raw: bool = False, size: tuple[int, int] = (60, 80), prefix: str = "",
) -> Path:  # fmt: skip
    """A recording of the robot driving ``known_pose``: images and odometry stamped at their nominal times."""
    messages: list[tuple[int, str, object]] = []
    if truth:
        messages.append((START_NS, "/truth/structures", text({"1": {"name": "left", "static": True}})))
    for i in range(int(seconds * image_hz)):
        stamp = START_NS + round(i * 1e9 / image_hz)
        picture = scene(i, size)
        if raw:
            messages.append((stamp + 20_000_000, f"{prefix}/image", image(stamp, picture)))
        else:
            messages.append((stamp + 20_000_000, f"{prefix}/image/compressed", jpeg(stamp, picture)))
        if truth:
            labels = np.zeros(size, np.uint16)
            labels[:, : 1 + i % size[1]] = 1
            messages.append((stamp + 21_000_000, "/truth/segmentation/compressed", png16(stamp, labels)))
    for i in range(int(seconds * odom_hz) + 2):
        stamp = START_NS + round(i * 1e9 / odom_hz)
        messages.append((stamp + 1_000_000, f"{prefix}/odom", odometry(stamp, known_pose(i / odom_hz))))
        messages.append((stamp + 1_000_000, f"{prefix}/cmd_vel", twist((0.4, 0, 0.3))))
    return write_bag(path, sorted(messages, key=lambda m: m[0]), storage=storage)


def panorama(seed: int, size: tuple[int, int] = (60, 960)) -> NDArray[np.uint8]:
    """A textured strip all around the robot, 360 degrees wide."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 235, (6, 48, 3), dtype=np.uint8)
    fine = rng.integers(0, 255, (size[0] // 3, size[1] // 6, 3), dtype=np.uint8)
    strip = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC) * 0.7
    strip += cv2.resize(fine, size[::-1], interpolation=cv2.INTER_LINEAR) * 0.3
    return np.clip(strip, 0, 255).astype(np.uint8)


def moving_bag(
    path: Path, *, length: int = 60, image_hz: float = 8.0, odom_hz: float = 40.0, seed: int = 0,
    lag_s: float = 0.0, storage: str = "mcap",
) -> Path:  # fmt: skip
    """A robot turning to and fro before a panorama: ``length`` images that show what was ahead ``lag_s`` earlier."""
    strip, messages = panorama(seed), list[tuple[int, str, object]]()
    width = strip.shape[1] // 4  # 90 degrees

    def yaw(seconds: float) -> float:
        return 0.4 * float(np.sin(0.9 * seconds) + 0.4 * np.sin(2.1 * seconds + seed))

    for i in range(length):
        seconds, stamp = i / image_hz, START_NS + round(i * 1e9 / image_hz)
        middle = strip.shape[1] / 2 - yaw(seconds - lag_s) / (2 * np.pi) * strip.shape[1]
        columns = (np.arange(width) + round(middle - width / 2)) % strip.shape[1]
        messages.append((stamp + 20_000_000, "/image/compressed", jpeg(stamp, strip[:, columns])))
    for i in range(int(length / image_hz * odom_hz) + 2):
        seconds, stamp = i / odom_hz, START_NS + round(i * 1e9 / odom_hz)
        messages.append((stamp + 1_000_000, "/odom", odometry(stamp, (0.1 * seconds, 0.0, yaw(seconds)))))
    return write_bag(path, sorted(messages, key=lambda m: m[0]), storage=storage)

"""Bags out of data that was published in another form: pictures, odometry and joints under nominal stamps.

Written beside its place and renamed, so that a bag that is there is whole. Knows no data set.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

START_NS = 1_000_000_000_000  # of nominal stamps; zero would read as no stamp at all


class BagWriter:
    """Messages into an open bag, in order of time; topics appear with their first message."""

    def __init__(self, writer: Any) -> None:
        self._writer, self._store = writer, get_typestore(Stores.ROS2_JAZZY)
        self._connections: dict[str, Any] = {}

    def jpeg(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """A compressed picture, as it is."""
        kind = "sensor_msgs/msg/CompressedImage"
        message = self._type(kind)(
            header=self._header(stamp_ns, "camera"), format="jpeg", data=np.frombuffer(data, np.uint8)
        )
        self._write(topic, kind, stamp_ns, message)

    def odometry(self, topic: str, stamp_ns: int, x: float, y: float, yaw: float) -> None:
        """A planar pose in m, m, rad."""
        kind, zero = "nav_msgs/msg/Odometry", self._type("geometry_msgs/msg/Vector3")(x=0.0, y=0.0, z=0.0)
        quaternion = self._type("geometry_msgs/msg/Quaternion")
        pose = self._type("geometry_msgs/msg/Pose")(
            position=self._type("geometry_msgs/msg/Point")(x=float(x), y=float(y), z=0.0),
            orientation=quaternion(x=0.0, y=0.0, z=float(np.sin(yaw / 2)), w=float(np.cos(yaw / 2))),
        )
        message = self._type(kind)(
            header=self._header(stamp_ns, "odom"),
            child_frame_id="base_link",
            pose=self._type("geometry_msgs/msg/PoseWithCovariance")(pose=pose, covariance=np.zeros(36)),
            twist=self._type("geometry_msgs/msg/TwistWithCovariance")(
                twist=self._type("geometry_msgs/msg/Twist")(linear=zero, angular=zero), covariance=np.zeros(36)
            ),
        )
        self._write(topic, kind, stamp_ns, message)

    def joints(self, topic: str, stamp_ns: int, positions: Mapping[str, float]) -> None:
        """Named values, in their units."""
        kind, nothing = "sensor_msgs/msg/JointState", np.zeros(0)
        message = self._type(kind)(
            header=self._header(stamp_ns, "base_link"),
            name=list(positions),
            position=np.array(list(positions.values()), np.float64),
            velocity=nothing,
            effort=nothing,
        )
        self._write(topic, kind, stamp_ns, message)

    def _type(self, kind: str) -> Any:
        return self._store.types[kind]

    def _header(self, stamp_ns: int, frame: str) -> Any:
        time = self._type("builtin_interfaces/msg/Time")(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        return self._type("std_msgs/msg/Header")(stamp=time, frame_id=frame)

    def _write(self, topic: str, kind: str, stamp_ns: int, message: Any) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._store)
        self._writer.write(self._connections[topic], stamp_ns, self._store.serialize_cdr(message, kind))


@contextlib.contextmanager
def new_bag(path: Path) -> Iterator[BagWriter]:
    """An mcap bag at ``path``, there once it is whole; nothing is left of it where writing fails."""
    partial = path.parent / ".partial" / path.name
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Writer(partial, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            yield BagWriter(writer)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            partial.parent.rmdir()

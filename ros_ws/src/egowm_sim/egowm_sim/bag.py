"""Writes what the simulated robot would have published into one mcap bag, through rosbags (no ROS needed).

Topics: /image/compressed, /camera_info, /odom, /cmd_vel; of a humanoid /joint_states and /joint_trajectory; with truth
/truth/segmentation/compressed, /truth/depth/compressed (16UC1 png: structure id, millimetres) and /truth/structures
(JSON, once); with faults /faults (JSON at each change: kind, severity, wheel, active, now).
Knows message layouts; knows no simulation loop.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from egowm_sim.camera import BASE_FRAME, ODOM_FRAME, OPTICAL_FRAME, camera_matrix
from egowm_sim.codec import JPEG_FORMAT, PNG16_FORMAT, depth_millimetres, encode_jpeg, encode_png16
from egowm_sim.robot import Odometry
from egowm_sim.view import Truth

TOPICS = {
    "/image/compressed": "sensor_msgs/msg/CompressedImage",
    "/camera_info": "sensor_msgs/msg/CameraInfo",
    "/odom": "nav_msgs/msg/Odometry",
    "/cmd_vel": "geometry_msgs/msg/Twist",
}
Vector = NDArray[np.float64]
JOINT_TOPICS = {
    "/joint_states": "sensor_msgs/msg/JointState",
    "/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
}
TRUTH_TOPICS = {
    "/truth/segmentation/compressed": "sensor_msgs/msg/CompressedImage",
    "/truth/depth/compressed": "sensor_msgs/msg/CompressedImage",
    "/truth/structures": "std_msgs/msg/String",
}
FAULT_TOPICS = {"/faults": "std_msgs/msg/String"}


class RobotBag:
    """A bag directory that appears at ``path`` only when complete. Use as a context manager.

    Meanwhile it lies in ``path`` + ".partial"; leaving with an error removes it.
    """

    def __init__(
        self,
        path: Path,
        *,
        height: int,
        width: int,
        truth: bool,
        faults: bool = False,
        joints: bool = False,
        optical_frame: str = OPTICAL_FRAME,
    ) -> None:
        self.path = path
        self._partial = path.with_name(path.name + ".partial")
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._size = (height, width)
        self._optical_frame = optical_frame
        wanted = ((JOINT_TOPICS, joints), (TRUTH_TOPICS, truth), (FAULT_TOPICS, faults))
        self._topics = {**TOPICS, **{topic: kind for group, is_in in wanted if is_in for topic, kind in group.items()}}
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._writer = Writer(self._partial / path.name, version=9, storage_plugin=StoragePlugin.MCAP)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> RobotBag:
        self._writer.open()
        for topic, kind in self._topics.items():
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._types)
        self._info = self._camera_info()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._writer.abort()
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        self._writer.close()
        inner = self._partial / self.path.name
        for file in inner.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        inner.replace(self.path)
        self._partial.rmdir()

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._types.types[kind](**fields)

    def _header(self, stamp_ns: int, frame: str) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        stamp = self._make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self._make("std_msgs/msg/Header", stamp=stamp, frame_id=frame)

    def _write(self, topic: str, stamp_ns: int, message: Any) -> None:
        connection = self._connections[topic]
        self._writer.write(connection, stamp_ns, self._types.serialize_cdr(message, connection.msgtype))

    def _camera_info(self) -> Any:
        height, width = self._size
        k = camera_matrix(height, width)
        roi = self._make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        return self._make(
            "sensor_msgs/msg/CameraInfo", header=self._header(0, self._optical_frame), height=height, width=width,
            distortion_model="plumb_bob", d=np.zeros(5), k=k.ravel(), r=np.eye(3).ravel(),
            p=np.hstack([k, np.zeros((3, 1))]).ravel(), binning_x=0, binning_y=0, roi=roi,
        )  # fmt: skip

    def _compressed(self, topic: str, stamp_ns: int, form: str, data: NDArray[np.uint8]) -> None:
        header = self._header(stamp_ns, self._optical_frame)
        self._write(
            topic, stamp_ns, self._make("sensor_msgs/msg/CompressedImage", header=header, format=form, data=data)
        )

    def image(self, stamp_ns: int, image: NDArray[np.uint8]) -> None:
        """Write a picture (H,W,3) uint8 RGB as jpeg, and the camera info of the same stamp."""
        self._compressed("/image/compressed", stamp_ns, JPEG_FORMAT, encode_jpeg(image))
        self._info.header = self._header(stamp_ns, self._optical_frame)
        self._write("/camera_info", stamp_ns, self._info)

    def odometry(self, odometry: Odometry) -> None:
        """Write wheel odometry, odom -> base_link."""
        point = self._make("geometry_msgs/msg/Point", x=odometry.x, y=odometry.y, z=0.0)
        turn = self._make(
            "geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=math.sin(odometry.yaw / 2), w=math.cos(odometry.yaw / 2)
        )
        pose = self._make("geometry_msgs/msg/Pose", position=point, orientation=turn)
        message = self._make(
            "nav_msgs/msg/Odometry",
            header=self._header(odometry.stamp_ns, ODOM_FRAME),
            child_frame_id=BASE_FRAME,
            pose=self._make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
            twist=self._make(
                "geometry_msgs/msg/TwistWithCovariance",
                twist=self._twist(odometry.v, odometry.w),
                covariance=np.zeros(36),
            ),
        )
        self._write("/odom", odometry.stamp_ns, message)

    def _twist(self, v: float, w: float) -> Any:
        linear = self._make("geometry_msgs/msg/Vector3", x=v, y=0.0, z=0.0)
        angular = self._make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=w)
        return self._make("geometry_msgs/msg/Twist", linear=linear, angular=angular)

    def command(self, stamp_ns: int, v: float, w: float) -> None:
        """Write the command (m/s, rad/s) given at ``stamp_ns``."""
        self._write("/cmd_vel", stamp_ns, self._twist(v, w))

    def joints(self, stamp_ns: int, names: Sequence[str], positions: Vector, velocities: Vector) -> None:
        """Write the joints' state; ``velocities`` may be of the first names only, the others' are 0."""
        speeds = np.zeros(len(names))
        speeds[: len(velocities)] = velocities
        message = self._make(
            "sensor_msgs/msg/JointState", header=self._header(stamp_ns, ""), name=list(names),
            position=np.asarray(positions, np.float64), velocity=speeds, effort=np.zeros(0),
        )  # fmt: skip
        self._write("/joint_states", stamp_ns, message)

    def trajectory(self, stamp_ns: int, names: Sequence[str], points: Sequence[tuple[float, Vector]]) -> None:
        """Write what is planned for the joints: (seconds from ``stamp_ns``, positions) in order."""
        nothing = np.zeros(0)
        made = [
            self._make(
                "trajectory_msgs/msg/JointTrajectoryPoint", positions=np.asarray(positions, np.float64),
                velocities=nothing, accelerations=nothing, effort=nothing, time_from_start=self._duration(after_s),
            )
            for after_s, positions in points
        ]  # fmt: skip
        message = self._make(
            "trajectory_msgs/msg/JointTrajectory", header=self._header(stamp_ns, ""), joint_names=list(names),
            points=made,
        )  # fmt: skip
        self._write("/joint_trajectory", stamp_ns, message)

    def _duration(self, seconds: float) -> Any:
        whole, rest = divmod(round(seconds * 1e9), 1_000_000_000)
        return self._make("builtin_interfaces/msg/Duration", sec=whole, nanosec=rest)

    def structures(self, stamp_ns: int, structures: dict[int, dict[str, object]]) -> None:
        """Write the table of structures."""
        text = json.dumps({str(number): entry for number, entry in structures.items()})
        self._write("/truth/structures", stamp_ns, self._make("std_msgs/msg/String", data=text))

    def fault(self, stamp_ns: int, text: str) -> None:
        """Write a change of faults that happened at ``stamp_ns``."""
        self._write("/faults", stamp_ns, self._make("std_msgs/msg/String", data=text))

    def truth(self, stamp_ns: int, truth: Truth) -> None:
        """Write structure ids and depth of the picture of the same stamp."""
        segmentation, depth = encode_png16(truth.segmentation), encode_png16(depth_millimetres(truth.depth_m))
        self._compressed("/truth/segmentation/compressed", stamp_ns, PNG16_FORMAT, segmentation)
        self._compressed("/truth/depth/compressed", stamp_ns, PNG16_FORMAT, depth)

"""Recorded values as ROS messages again, with the stamps to play them with. Knows no node and no clock."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from egowm_core.data.values import (
    JOINT_STATE,
    ODOMETRY,
    POSE_STAMPED,
    ImageValue,
    JointsValue,
    OdometryValue,
    PoseValue,
    Stamped,
    TwistValue,
)
from egowm_core.errors import ConfigError
from egowm_core.geometry import quaternion_from_rpy

ODOM_FRAME, BASE_FRAME = "odom", "base_link"
MESSAGE_TYPES: dict[str, type[Any]] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    ODOMETRY: Odometry,
    POSE_STAMPED: PoseStamped,
    "geometry_msgs/msg/Twist": Twist,
    "geometry_msgs/msg/TwistStamped": TwistStamped,
    JOINT_STATE: JointState,
}


def message_of(item: Stamped, stamp_ns: int, kind: type[Any]) -> Any:
    """The message of type ``kind`` of a recorded value, stamped ``stamp_ns``; None where it has no meaning to play.

    Raises:
        ConfigError: a value or stamp that no message can be made of.
    """
    value = item.value
    if isinstance(value, ImageValue):
        return _image(value.message, stamp_ns)
    if isinstance(value, OdometryValue):
        return _odometry(value, stamp_ns)
    if isinstance(value, TwistValue) and kind is TwistStamped:
        stamped = TwistStamped(twist=_twist(value.twist))
        stamped.header.frame_id, stamped.header.stamp = BASE_FRAME, time_of(stamp_ns)
        return stamped
    if isinstance(value, TwistValue):
        return _twist(value.twist)
    if isinstance(value, PoseValue):
        message = PoseStamped()
        message.header.frame_id, message.header.stamp = ODOM_FRAME, time_of(stamp_ns)
        _pose(message.pose, value.pose6)
        return message
    if isinstance(value, JointsValue):
        return None if value.fault else _joints(value, stamp_ns)
    raise ConfigError(f"{item.topic} has messages that are not played: {type(value).__name__}")


def trajectory_message(
    names: tuple[str, ...], stamp_ns: int, times_s: NDArray[np.float64], positions: NDArray[np.float64]
) -> JointTrajectory:
    """Positions (P,D) of joints ``names`` at ``stamp_ns`` + ``times_s`` (P,)."""
    message = JointTrajectory(joint_names=list(names))
    message.header.stamp = time_of(stamp_ns)
    for after_s, row in zip(times_s, positions, strict=True):
        seconds, nanoseconds = divmod(round(float(after_s) * 1e9), 1_000_000_000)
        point = JointTrajectoryPoint(positions=row.tolist())
        point.time_from_start = Duration(sec=seconds, nanosec=nanoseconds)
        message.points.append(point)
    return message


def time_of(stamp_ns: int) -> Time:
    """Nanoseconds to a ROS time. Raises ConfigError where they do not fit."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    if not 0 <= seconds < 2**31:
        raise ConfigError(f"stamp {stamp_ns} ns does not fit a ROS time; play with restamp:=false or a later clock")
    return Time(sec=seconds, nanosec=nanoseconds)


def _odometry(value: OdometryValue, stamp_ns: int) -> Odometry:
    message = Odometry(child_frame_id=BASE_FRAME)
    message.header.frame_id, message.header.stamp = ODOM_FRAME, time_of(stamp_ns)
    planar = np.array([value.pose[0], value.pose[1], 0.0, 0.0, 0.0, value.pose[2]])
    whole = value.pose6 is not None and bool(np.isfinite(value.pose6).all())
    _pose(message.pose.pose, value.pose6 if whole and value.pose6 is not None else planar)
    message.twist.twist = _twist(value.twist)
    return message


def _pose(pose: Any, pose6: NDArray[np.float64]) -> None:
    """Fill a geometry_msgs/Pose; an orientation that was no unit quaternion stays one that is refused (all zeros)."""
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in pose6[:3])
    turn = quaternion_from_rpy(*pose6[3:]) if np.isfinite(pose6[3:]).all() else np.zeros(4)
    q = pose.orientation
    q.x, q.y, q.z, q.w = (float(v) for v in turn)


def _twist(values: NDArray[np.float64]) -> Twist:
    message = Twist()
    message.linear.x, message.linear.y, message.angular.z = (float(value) for value in values)
    return message


def _joints(value: JointsValue, stamp_ns: int) -> JointState:
    message = JointState(name=list(value.positions), position=list(value.positions.values()))
    for name in value.repeated:  # in doubt then, in doubt again: two positions, neither of which is used
        message.name = [*message.name, name, name]
        message.position = [*message.position, 0.0, math.inf]
    message.header.stamp = time_of(stamp_ns)
    return message


def _image(recorded: Any, stamp_ns: int) -> Image | CompressedImage:
    if hasattr(recorded, "format"):
        message: Image | CompressedImage = CompressedImage(format=str(recorded.format))
    else:
        message = Image(
            height=int(recorded.height), width=int(recorded.width), encoding=str(recorded.encoding),
            is_bigendian=int(recorded.is_bigendian), step=int(recorded.step),
        )  # fmt: skip
    message.header.frame_id, message.header.stamp = str(recorded.header.frame_id), time_of(stamp_ns)
    message.data = recorded.data.tobytes()  # bytes: assigning an array takes a hundred times longer
    return message

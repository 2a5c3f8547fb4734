"""Stamps and motion out of ROS messages, duck-typed: the same from rclpy and from a recording.

Imports no ROS; pictures are ``images``. The converter and the live node read their messages here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.values import (
    JOINT_STATE,
    ODOMETRY,
    POSE_STAMPED,
    TWIST_TYPES,
    JointsValue,
    OdometryValue,
    PoseValue,
    TwistValue,
)
from egowm_core.errors import DataError
from egowm_core.geometry import rpy_from_quaternion, yaw_from_quaternion


def stamp_ns(message: Any) -> int:
    """Header stamp of a message in nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def odometry_pose(message: Any) -> NDArray[np.float64]:
    """nav_msgs/Odometry to (3,) x m, y m, yaw rad in the odometry frame.

    The yaw is NaN when the orientation is no unit quaternion (all zeros: never filled in).
    """
    position, q = message.pose.pose.position, message.pose.pose.orientation
    norm = math.sqrt(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w)
    yaw = yaw_from_quaternion(q.x, q.y, q.z, q.w) if 0.9 < norm < 1.1 else math.nan
    return np.array([position.x, position.y, yaw], np.float64)


def pose6(message: Any) -> NDArray[np.float64]:
    """Odometry, PoseStamped or Pose to (6,) x, y, z m and roll, pitch, yaw rad, R = Rz(yaw) Ry(pitch) Rx(roll).

    The angles are NaN when the orientation is no unit quaternion (all zeros: never filled in).
    """
    pose = message
    while hasattr(pose, "pose"):
        pose = pose.pose
    p, q = pose.position, pose.orientation
    norm = math.sqrt(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w)
    if not 0.9 < norm < 1.1:
        return np.array([p.x, p.y, p.z, math.nan, math.nan, math.nan], np.float64)
    return np.array([p.x, p.y, p.z, *rpy_from_quaternion(q.x / norm, q.y / norm, q.z / norm, q.w / norm)], np.float64)


def twist_velocity(message: Any) -> NDArray[np.float64]:
    """Twist, TwistStamped or Odometry to (3,) m/s, m/s, rad/s in the body frame."""
    twist = message
    while hasattr(twist, "twist"):
        twist = twist.twist
    return np.array([twist.linear.x, twist.linear.y, twist.angular.z], np.float64)


def odometry_value(message: Any) -> OdometryValue:
    """nav_msgs/Odometry with all that is read of it; a message without a twist has a NaN one."""
    twist = twist_velocity(message) if hasattr(message, "twist") else np.full(3, np.nan)
    return OdometryValue(odometry_pose(message), twist, pose6(message))


def joints_value(message: Any) -> JointsValue:
    """sensor_msgs/JointState to positions by name, rad or m; what is wrong with it is said in the value, not raised."""
    names, positions = [str(name) for name in message.name], [float(position) for position in message.position]
    if len(names) != len(positions):
        return JointsValue({}, fault=f"{len(names)} names but {len(positions)} positions")
    found = dict(zip(names, positions, strict=True))
    if len(found) == len(names):
        return JointsValue(found)
    # The last of several wins in a dict, so a name is in doubt where an earlier position differs from it.
    doubted = {name for name, position in zip(names, positions, strict=True) if found[name] != position}
    return JointsValue({name: found[name] for name in found if name not in doubted}, repeated=tuple(sorted(doubted)))


MotionValue = OdometryValue | TwistValue | PoseValue | JointsValue
MOTION_READERS: dict[str, Callable[[Any], MotionValue]] = {
    ODOMETRY: odometry_value,
    POSE_STAMPED: lambda message: PoseValue(pose6(message)),
    JOINT_STATE: joints_value,
    **dict.fromkeys(TWIST_TYPES, lambda message: TwistValue(twist_velocity(message))),
}


def motion_value(message: Any, message_type: str) -> MotionValue:
    """A motion message as a value, the same from rclpy and from a recording. Raises DataError on other types."""
    if message_type not in MOTION_READERS:
        raise DataError(f"{message_type} measures no motion; readable are {', '.join(MOTION_READERS)}")
    return MOTION_READERS[message_type](message)

"""Stamps and motion out of ROS messages, duck-typed: the same from rclpy and from a recording.

Imports no ROS; pictures are ``images``. The converter and the live node read their messages here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from egowm_core.geometry import yaw_from_quaternion
from egowm_core.schema import nearest


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


def twist_velocity(message: Any) -> NDArray[np.float64]:
    """Twist, TwistStamped or Odometry to (3,) m/s, m/s, rad/s in the body frame."""
    twist = message
    while hasattr(twist, "twist"):
        twist = twist.twist
    return np.array([twist.linear.x, twist.linear.y, twist.angular.z], np.float64)


def joint_positions(message: Any) -> dict[str, float]:
    """sensor_msgs/JointState to positions by name, rad or m. Raises DataError when names and positions disagree."""
    names, positions = list(message.name), list(message.position)
    if len(names) != len(positions):
        raise DataError(f"joint state has {len(names)} names but {len(positions)} positions; fix the driver's message")
    return {str(name): float(position) for name, position in zip(names, positions, strict=True)}


def joint_vector(positions: Mapping[str, float], embodiment: Embodiment) -> NDArray[np.float64]:
    """Joint positions in the order of the embodiment's channels (D,). Raises DataError naming a missing joint."""
    joints = [channel.source or channel.name for channel in embodiment.channels]
    for joint in joints:
        if joint not in positions:
            raise DataError(
                f"joint {joint!r} of embodiment {embodiment.name!r} is not in the joint states"
                f"{nearest(joint, positions)}; they have {', '.join(positions)}"
            )
    return np.array([positions[joint] for joint in joints], np.float64)

"""Planners' messages to plans: ActionSequence, nav_msgs/Path, trajectory_msgs/JointTrajectory.

Sizes are looked at before anything is copied. Pure functions of duck-typed messages; knows no node and no freshness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.messages import odometry_pose, stamp_ns
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from egowm_core.types import NANOSECONDS_PER_SECOND
from egowm_nodes import conversions
from egowm_nodes.plans.chooser import Plan
from egowm_nodes.plans.joints import JointPlan
from egowm_nodes.plans.sources import MAX_ROWS

MAX_NAMES = 256
Array = NDArray[np.float64]


@dataclass(frozen=True)
class RawPath:
    """``poses`` (N,3) x, y, yaw in ``frame``; ``stamps_ns`` (N,), or None where the poses have no times."""

    frame: str
    stamp_ns: int
    poses: Array
    stamps_ns: NDArray[np.int64] | None


def plan_from_message(message: Any) -> Plan:
    """egowm_msgs/ActionSequence as it came.

    Raises:
        DataError: too long, no channels, a length that is no multiple of their number, or an unknown source.
    """
    names = len(message.channels)
    if names > MAX_NAMES or len(message.data) > MAX_ROWS * max(names, 1):
        raise DataError(
            f"the plan has {len(message.data)} values for {names} channels; expected at most {MAX_NAMES} channels and"
            f" {MAX_ROWS} rows: send the next seconds of it"
        )
    return Plan(
        embodiment=str(message.embodiment),
        channels=tuple(str(name) for name in message.channels),
        rate_hz=float(message.rate_hz),
        start_ns=conversions.time_ns(message.header.stamp),
        values=conversions.action_values(message),
        source=conversions.action_source(message),
    )


def path_from_message(message: Any) -> RawPath:
    """nav_msgs/Path as it came. Poses bear times where their stamps differ from each other.

    Raises:
        DataError: no poses or too many, or poses in several frames.
    """
    if not 1 <= len(message.poses) <= MAX_ROWS:
        raise DataError(f"the path has {len(message.poses)} poses; expected 1..{MAX_ROWS}: send the next metres of it")
    frame = str(message.header.frame_id)
    others = {str(pose.header.frame_id) for pose in message.poses} - {"", frame}
    if len(others) > 1 or (others and frame):
        raise DataError(f"the path lies in {frame!r} and its poses in {sorted(others)[0][:80]!r}; give it one frame")
    stamps = np.array([stamp_ns(pose) for pose in message.poses], np.int64)
    timed = len(stamps) > 1 and bool((stamps != stamps[0]).any())
    return RawPath(
        frame=frame or next(iter(others), ""),
        stamp_ns=stamp_ns(message),
        poses=np.array([_pose(pose) for pose in message.poses]),
        stamps_ns=stamps if timed else None,
    )


def joints_from_message(message: Any, embodiment: Embodiment, start_ns: int) -> JointPlan:
    """trajectory_msgs/JointTrajectory whose points lie at ``time_from_start`` after ``start_ns``.

    Raises:
        DataError: too many names or points, no points, points without positions, or of another length than the names.
    """
    names, points = tuple(str(name) for name in message.joint_names[: MAX_NAMES + 1]), message.points
    if len(names) > MAX_NAMES or not 1 <= len(points) <= MAX_ROWS:
        raise DataError(
            f"the trajectory has {len(points)} points of {len(message.joint_names)} joints; expected 1..{MAX_ROWS}"
            f" points and at most {MAX_NAMES} joints: send the next seconds of it"
        )
    for row, point in enumerate(points):
        if len(point.positions) != len(names) or len(point.velocities) not in (0, len(names)):
            raise DataError(
                f"point {row} of the trajectory has {len(point.positions)} positions and {len(point.velocities)}"
                f" velocities for {len(names)} joints; give a position for each (velocities as well, or none)"
            )
    known = [bool(len(point.velocities)) for point in points]
    blank = [np.nan] * len(names)
    velocities = [point.velocities if fast else blank for point, fast in zip(points, known, strict=True)]
    return JointPlan(
        embodiment,
        names,
        np.array([_seconds(point.time_from_start) for point in points]),
        np.array([point.positions for point in points], np.float64).reshape(len(points), len(names)),
        start_ns,
        np.array(velocities, np.float64).reshape(len(points), len(names)) if all(known) and names else None,
    )


def _pose(stamped: Any) -> Array:
    """(3,) x, y, yaw; NaN yaw where the orientation is no unit quaternion, 0 where it was never filled in."""
    pose = odometry_pose(_AsOdometry(stamped))
    q = stamped.pose.orientation
    if q.x == q.y == q.z == q.w == 0.0:
        pose[2] = 0.0
    return pose


@dataclass(frozen=True)
class _AsOdometry:
    """A PoseStamped where an Odometry is read."""

    pose: Any


def _seconds(duration: Any) -> float:
    return int(duration.sec) + int(duration.nanosec) / NANOSECONDS_PER_SECOND

"""SE(2) deltas and camera geometry. Numpy only; knows no robot, model or message."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def wrap_angle(angle: Array | float) -> Array:
    """Angles in rad to (-pi, pi]."""
    return np.asarray(np.pi - np.mod(np.pi - np.asarray(angle), 2 * np.pi))


def yaw_from_quaternion(x: float, y: float, z: float, w: float) -> float:
    """Heading in rad about +z of a unit quaternion (REP-103)."""
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def se2_delta(previous: Array, current: Array) -> Array:
    """Pose (...,3) x, y, yaw of ``current`` seen from ``previous``, both in one world frame (m, rad)."""
    previous, current = np.asarray(previous, np.float64), np.asarray(current, np.float64)
    dx, dy = current[..., 0] - previous[..., 0], current[..., 1] - previous[..., 1]
    cos, sin = np.cos(previous[..., 2]), np.sin(previous[..., 2])
    dyaw = wrap_angle(current[..., 2] - previous[..., 2])
    return np.stack([cos * dx + sin * dy, -sin * dx + cos * dy, dyaw], axis=-1)


def se2_compose(pose: Array, delta: Array) -> Array:
    """The pose reached from ``pose`` (...,3) by ``delta`` (...,3) in its body frame."""
    pose, delta = np.asarray(pose, np.float64), np.asarray(delta, np.float64)
    cos, sin = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    x = pose[..., 0] + cos * delta[..., 0] - sin * delta[..., 1]
    y = pose[..., 1] + sin * delta[..., 0] + cos * delta[..., 1]
    return np.stack([x, y, wrap_angle(pose[..., 2] + delta[..., 2])], axis=-1)


def se2_integrate(deltas: Array) -> Array:
    """Per-tick deltas (...,T,3) to poses (...,T,3) relative to the frame before the first delta."""
    deltas = np.asarray(deltas, np.float64)
    pose = np.zeros_like(deltas[..., 0, :])
    poses = []
    for t in range(deltas.shape[-2]):
        pose = se2_compose(pose, deltas[..., t, :])
        poses.append(pose)
    return np.stack(poses, axis=-2)

"""SE(2) and SE(3) deltas. Numpy only; knows no robot, model or message.

A pose on SE(3) is (6,): x, y, z in m and roll, pitch, yaw in rad, R = Rz(yaw) Ry(pitch) Rx(roll) as in REP-103. Every
rotation has such angles, so nothing is lost at a pitch of 90 degrees, where they are merely not unique; all arithmetic
goes through unit quaternions (x, y, z, w).
"""

from __future__ import annotations

import math

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


def quaternion_from_rpy(roll: float, pitch: float, yaw: float) -> NDArray[np.float64]:
    """Unit quaternion (4,) x, y, z, w of Rz(yaw) Ry(pitch) Rx(roll)."""
    cr, cp, cy = np.cos([roll / 2, pitch / 2, yaw / 2])
    sr, sp, sy = np.sin([roll / 2, pitch / 2, yaw / 2])
    return np.array(
        [
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
            cr * cp * cy + sr * sp * sy,
        ]
    )


def rpy_from_quaternion(x: float, y: float, z: float, w: float) -> NDArray[np.float64]:
    """Roll, pitch, yaw (3,) in rad of a unit quaternion; where roll and yaw turn about one axis, the yaw is 0."""
    sine, level, turned = 2.0 * (w * y - z * x), 1.0 - 2.0 * (y * y + z * z), 2.0 * (w * z + x * y)
    cosine = math.hypot(level, turned)
    if cosine < 1e-6:  # rounding would decide the angles
        return np.array([2.0 * math.atan2(x, w), math.copysign(math.pi / 2, sine), 0.0])
    roll = math.atan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))
    return np.array([roll, math.atan2(sine, cosine), math.atan2(turned, level)])


def rotation_between(
    first: NDArray[np.float64], second: NDArray[np.float64], *, world: bool = False
) -> NDArray[np.float64]:
    """Rotation vector (3,) in rad, at most pi long, that turns unit quaternion ``first`` (4,) into ``second``.

    In the first one's frame, or with ``world`` in the frame that both are given in.
    """
    back = first * np.array([-1.0, -1.0, -1.0, 1.0])
    change = _multiply(second, back) if world else _multiply(back, second)
    if change[3] < 0:
        change = -change  # the short way round
    size = float(np.linalg.norm(change[:3]))
    angle = 2.0 * np.arctan2(size, change[3])
    return np.asarray(change[:3] * (angle / size if size > 1e-12 else 2.0))


def se3_delta(previous: NDArray[np.float64], current: NDArray[np.float64]) -> NDArray[np.float64]:
    """(6,) motion from pose ``previous`` to ``current`` (6,): translation and rotation vector in the previous frame."""
    first = quaternion_from_rpy(*previous[3:])
    step = _rotate(first * np.array([-1.0, -1.0, -1.0, 1.0]), current[:3] - previous[:3])
    return np.concatenate([step, rotation_between(first, quaternion_from_rpy(*current[3:]))])


def se3_interpolate(first: NDArray[np.float64], second: NDArray[np.float64], fraction: float) -> NDArray[np.float64]:
    """The pose (6,) a ``fraction`` of the way: positions linearly, orientations along the shortest rotation."""
    start = quaternion_from_rpy(*first[3:])
    turn = fraction * rotation_between(start, quaternion_from_rpy(*second[3:]))
    half = float(np.linalg.norm(turn)) / 2.0
    step = np.append(turn * (np.sin(half) / (2.0 * half) if half > 1e-12 else 0.5), np.cos(half))
    position = first[:3] + fraction * (second[:3] - first[:3])
    return np.concatenate([position, rpy_from_quaternion(*_multiply(start, step))])


def _multiply(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hamilton product of quaternions x, y, z, w."""
    vector = a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3])
    return np.append(vector, a[3] * b[3] - a[:3] @ b[:3])


def _rotate(quaternion: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    axis = quaternion[:3]
    turned = 2.0 * np.cross(axis, vector)
    return np.asarray(vector + quaternion[3] * turned + np.cross(axis, turned))

"""The humanoid's readings and plans to ROS messages and back, with the frames of its head camera.

Pure functions of ordinary message classes; knows no node and no simulation loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from egowm_sim.backend import mujoco
from egowm_sim.camera import BASE_FRAME
from egowm_sim.humanoid import JointReading
from egowm_sim.joint_targets import MOST_POINTS, Trajectory
from egowm_sim.messages import header, time_message

OPTICAL_FRAME = "head_camera_optical_frame"  # as the embodiment says
_MOST_NAMES = 256
_OPTICAL = np.diag([1.0, -1.0, -1.0])  # z forward, x right, y down, from MuJoCo's camera (x right, y up, backwards)


def joint_state(reading: JointReading, *, names: Sequence[str] | None = None) -> JointState:
    """A reading, or the part of it that ``names`` say in their order: rad and rad/s, hands 0 open to 1 closed.

    The base's velocities are two further names, with the velocity for their position and NaN, not known, for theirs.
    """
    index = {name: number for number, name in enumerate(reading.names)}
    chosen = [index[name] for name in (reading.names if names is None else names)]
    velocities = np.append(reading.velocities, [math.nan, math.nan])
    return JointState(
        header=header(reading.stamp_ns, ""),
        name=[reading.names[number] for number in chosen],
        position=reading.positions[chosen].tolist(),
        velocity=velocities[chosen].tolist(),
    )


def trajectory_message(
    names: Sequence[str], stamp_ns: int, points: Sequence[tuple[float, NDArray[np.float64]]]
) -> JointTrajectory:
    """Points (seconds after ``stamp_ns``, positions) for ``names``."""
    message = JointTrajectory(joint_names=list(names))
    message.header.stamp = time_message(stamp_ns)
    for after_s, positions in points:
        seconds, nanoseconds = divmod(round(after_s * 1e9), 1_000_000_000)
        point = JointTrajectoryPoint(positions=positions.tolist())
        point.time_from_start = Duration(sec=seconds, nanosec=nanoseconds)
        message.points.append(point)
    return message


def trajectory(message: JointTrajectory) -> Trajectory:
    """A message as it came, unchecked; of one that is too large only so much that its refusal is certain."""
    starts = message.header.stamp
    points = message.points[: MOST_POINTS + 1]
    names = [str(name) for name in message.joint_names[:_MOST_NAMES]]
    return Trajectory(
        names=names,
        start_ns=int(starts.sec) * 1_000_000_000 + int(starts.nanosec),
        times_s=[point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in points],
        positions=[list(point.positions[: len(names) + 1]) for point in points],
    )


def head_transform(data: Any, stamp_ns: int) -> TransformStamped:
    """base_link -> head_camera_optical_frame, by an MjData: it moves with legs, torso and neck."""
    base, camera = data.body("base"), data.cam("front")
    from_base = np.asarray(base.xmat, np.float64).reshape(3, 3).T
    position = from_base @ (np.asarray(camera.xpos) - np.asarray(base.xpos))
    x, y, z, w = _quaternion(from_base @ np.asarray(camera.xmat, np.float64).reshape(3, 3) @ _OPTICAL)
    message = TransformStamped(header=header(stamp_ns, BASE_FRAME), child_frame_id=OPTICAL_FRAME)
    shift, turn = message.transform.translation, message.transform.rotation
    shift.x, shift.y, shift.z = (float(value) for value in position)
    turn.x, turn.y, turn.z, turn.w = x, y, z, w
    return message


def _quaternion(matrix: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Unit quaternion x, y, z, w of a rotation (3,3)."""
    found = np.zeros(4)
    mujoco.mju_mat2Quat(found, np.ascontiguousarray(matrix).ravel())
    w, x, y, z = (float(value) for value in found)
    return x, y, z, w

"""Rendered futures that stand in for predictions: what the robot saw, and what it would have seen had it moved wrongly.

A ``Stage`` is one simulated room. It drives the robot with real physics to get true paths, then puts the robot on
any path *kinematically* (level, at its settled height, no physics) and renders pictures, structure ids and depth. So
the observed future and every wrong one are made in the same way and have true masks, and a path without error gives
the very same pictures. ``perturb`` makes wrong actions of graded size; ``carry`` follows any mask of the context
frame through a future by geometry alone.

Knows no score, no tracker and no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType, TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.geometry import se2_compose, se2_delta, se2_integrate
from egowm_sim import camera
from egowm_sim.backend import SimulationError, mujoco
from egowm_sim.driver import CONTROL_PERIOD_S, WanderingDriver
from egowm_sim.simulation import Simulation

Poses = NDArray[np.float64]  # (...,3): x, y in m and yaw in rad
Deltas = NDArray[np.float64]  # (T,3): dx, dy, dyaw in the previous body frame, m and rad

DEPTH_TOLERANCE = 0.02  # of the distance: nearer than that along the ray is the same surface


class ActionError(Enum):
    """How the actions of a future are wrong; ``ACTION_LEVELS`` says by how much."""

    TRANSLATION_SCALE = "translation_scale"  # moves by (1 - amount) of the true way: 1 stands still, 2 backs up
    ROTATION_SCALE = "rotation_scale"  # turns by (1 - amount) of the true turn
    FORWARD_BIAS = "forward_bias"  # moves by amount m a tick too far ahead, or too little
    YAW_BIAS = "yaw_bias"  # turns by amount degrees a tick too much to one side
    LAG = "lag"  # does what was done amount ticks before


# Chosen so that the first is barely visible and the last is gross after 8 ticks (of 0.25 s: at most 0.15 m, 0.15 rad).
ACTION_LEVELS: Mapping[ActionError, tuple[float, ...]] = MappingProxyType({
    ActionError.TRANSLATION_SCALE: (0.1, 0.3, 0.7, 1.4, 2.0),
    ActionError.ROTATION_SCALE: (0.05, 0.15, 0.4, 1.0, 2.0),
    ActionError.FORWARD_BIAS: (0.005, 0.015, 0.04, 0.08, 0.15),
    ActionError.YAW_BIAS: (0.1, 0.3, 0.8, 2.0, 4.0),
    ActionError.LAG: (1, 2, 3, 5, 8),
})  # fmt: skip


@dataclass(frozen=True)
class Future:
    """What the camera sees along a path of F poses.

    ``images`` (F,H,W,3) uint8, ``segmentation`` (F,H,W) uint16 structure ids (0 background), ``depth_m`` (F,H,W)
    float32 along the optical axis, ``poses`` (F,3).
    """

    images: NDArray[np.uint8]
    segmentation: NDArray[np.uint16]
    depth_m: NDArray[np.float32]
    poses: Poses


def perturb(deltas: Deltas, error: ActionError, amount: float, *, horizon: int, sign: int = 1) -> Deltas:
    """Wrong actions (horizon,3) for the last ``horizon`` of ``deltas`` (T,3); those before are the history for a lag.

    ``sign`` (1 or -1) is the direction of a bias. An ``amount`` of 0 gives the true actions.

    Raises:
        SimulationError: fewer deltas than the horizon, or too few for the lag.
    """
    if not 0 < horizon <= len(deltas):
        raise SimulationError(f"{len(deltas)} actions were given for a horizon of {horizon}; give at least that many")
    wrong = np.array(deltas[-horizon:])
    if error is ActionError.TRANSLATION_SCALE:
        wrong[:, :2] *= 1 - amount
    elif error is ActionError.ROTATION_SCALE:
        wrong[:, 2] *= 1 - amount
    elif error is ActionError.FORWARD_BIAS:
        wrong[:, 0] += sign * amount
    elif error is ActionError.YAW_BIAS:
        wrong[:, 2] += sign * math.radians(amount)
    else:
        late = round(amount)
        if not 0 <= late <= len(deltas) - horizon:
            raise SimulationError(
                f"a lag of {late} ticks needs {horizon + late} actions, got {len(deltas)}; give more history"
            )
        wrong = np.array(deltas[len(deltas) - horizon - late : len(deltas) - late])
    return wrong


def path(start: Poses, deltas: Deltas) -> Poses:
    """Poses (T+1,3) from ``start`` (3,) by ``deltas`` (T,3), the start among them."""
    return np.concatenate([start[None], se2_compose(start, se2_integrate(deltas))])


def deltas_of(poses: Poses) -> Deltas:
    """Actions (T,3) between poses (T+1,3)."""
    return np.asarray(se2_delta(poses[:-1], poses[1:]))


class Stage:
    """The room of ``seed`` with a camera of ``height`` x ``width``; a context manager.

    Raises:
        SimulationError: the arguments are out of range, or no OpenGL back end works (at the first picture).
    """

    def __init__(self, *, seed: int, height: int, width: int) -> None:
        self._simulation = Simulation(seed=seed, height=height, width=width)
        self._settled_m = float(self._simulation._data.qpos[2])
        self.seed = seed
        self.static = frozenset(
            number for number, facts in self._simulation.room.structures.items() if facts.get("static", True)
        )
        self._clearance = self._simulation.room.floor_map.clearance()

    def drive(self, seconds: float, *, rate_hz: float) -> Poses:
        """True poses (M,3) at ``rate_hz`` of ``seconds`` of wandering with real wheels and contacts.

        Raises:
            SimulationError: the time between ticks is no multiple of the driver's period.
        """
        every = round(1 / (rate_hz * CONTROL_PERIOD_S))
        if every < 1 or abs(every * CONTROL_PERIOD_S * rate_hz - 1) > 1e-6:
            raise SimulationError(
                f"rate_hz is {rate_hz:g}; expected {1 / CONTROL_PERIOD_S:g} divided by a whole number"
            )
        driver = WanderingDriver(self._simulation.room.floor_map, seed=self.seed)
        poses = []
        for step in range(round(seconds / CONTROL_PERIOD_S) + 1):
            now = self._simulation.pose()
            if step % every == 0:
                poses.append((now.x, now.y, now.yaw))
            self._simulation.step(*driver.command(now.x, now.y, now.yaw), CONTROL_PERIOD_S)
        return np.asarray(poses)

    def render(self, poses: Poses) -> Future:
        """The camera's view from each of ``poses`` (F,3)."""
        images, segmentation, depth_m = [], [], []
        for x, y, yaw in poses.tolist():
            _place(self._simulation, x, y, yaw, height_m=self._settled_m)
            images.append(self._simulation.observe().image)
            truth = self._simulation.truth()
            segmentation.append(truth.segmentation)
            depth_m.append(truth.depth_m)
        return Future(np.stack(images), np.stack(segmentation), np.stack(depth_m), np.array(poses))

    def clearance(self, poses: Poses) -> float:
        """The least distance in m from ``poses`` (F,3) to anything the body could touch; 0 inside of it."""
        cells = [self._simulation.room.floor_map.index(x, y) for x, y, _ in poses.tolist()]
        return float(min(self._clearance[cell] for cell in cells))

    def close(self) -> None:
        """Free the renderer."""
        self._simulation.close()

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _place(simulation: Simulation, x: float, y: float, yaw: float, *, height_m: float) -> None:
    """Put the base there, level and at rest. Physics must not go on from such a pose: it may be inside a wall."""
    data = simulation._data
    data.qpos[:7] = (x, y, height_m, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2))
    data.qvel[:] = 0.0
    mujoco.mj_kinematics(simulation._model, data)
    mujoco.mj_comPos(simulation._model, data)
    mujoco.mj_camlight(simulation._model, data)


def carry(masks: NDArray[np.bool_], context: Future, future: Future) -> NDArray[np.bool_]:
    """Where surfaces under ``masks`` (N,H,W) of ``context``'s first frame are seen after ``future``'s first: (N,T,H,W).

    Each pixel of the future is put into the room by its depth and looked up in the context frame; it belongs to a
    mask if the context frame saw that same surface there. A surface that comes into view later belongs to no mask.
    """
    _, height, width = masks.shape
    matrix = camera.camera_matrix(height, width)
    mount = camera.mount_rotation() @ np.diag([1.0, -1.0, -1.0])  # base from optical axes
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    rays = np.stack([(columns - matrix[0, 2]) / matrix[0, 0], (rows - matrix[1, 2]) / matrix[1, 1], 0 * rows + 1], -1)
    at = np.array([camera.FORWARD_M, 0.0, camera.HEIGHT_M])  # of the camera on the base
    kernel = np.ones((3, 3), np.uint8)
    nearest, farthest = cv2.erode(context.depth_m[0], kernel), cv2.dilate(context.depth_m[0], kernel)
    out = np.zeros((len(masks), len(future.poses) - 1, height, width), np.bool_)
    for t, depth_m in enumerate(future.depth_m[1:]):
        x, y, yaw = se2_delta(context.poses[0], future.poses[t + 1])
        turn = np.array([[math.cos(yaw), -math.sin(yaw), 0.0], [math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
        moved = mount.T @ (turn @ at + [x, y, 0.0] - at)  # of the camera, along the context's optical axes
        seen = (rays @ (mount.T @ turn @ mount).T) * depth_m[..., None] + moved
        ahead = np.maximum(seen[..., 2], 1e-6)
        column = seen[..., 0] / ahead * matrix[0, 0] + matrix[0, 2]
        row = seen[..., 1] / ahead * matrix[1, 1] + matrix[1, 2]
        inside = (
            (seen[..., 2] > 0) & (np.abs(column - matrix[0, 2]) < width / 2) & (np.abs(row - matrix[1, 2]) < height / 2)
        )
        i = np.clip(np.round(row), 0, height - 1).astype(np.intp)
        j = np.clip(np.round(column), 0, width - 1).astype(np.intp)
        same = (seen[..., 2] > nearest[i, j] * (1 - DEPTH_TOLERANCE)) & (
            seen[..., 2] < farthest[i, j] * (1 + DEPTH_TOLERANCE)
        )
        out[:, t] = masks[:, i, j] & (inside & same)
    return out

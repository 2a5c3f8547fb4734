"""A furnished room as an arena for tasks: the robot is put where a task begins, and drives there with real physics.

Knows rooms, the base and what the model sees of the camera; knows no policy and no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.preprocess import Preprocess
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from egowm_core.geometry import se2_compose, se2_integrate
from egowm_core.types import FloatArray, ImageArray
from egowm_sim.backend import mujoco
from egowm_sim.robot import BODY_RADIUS_M, SpeedRamp
from egowm_sim.robot_simulation import TICK_S
from egowm_sim.simulation import SETTLE_TICKS, Simulation

PoseArray = NDArray[np.float64]  # (3,): x, y in m and yaw in rad


def check_base(embodiment: Embodiment) -> None:
    """Raises ConfigError unless the embodiment is of the simulated base: dx, dy, dyaw a tick of whole 10 ms."""
    ticks = 1 / (embodiment.rate_hz * TICK_S)
    if embodiment.integrate != "se2" or embodiment.action_dim != 3 or abs(ticks - round(ticks)) > 1e-6:
        raise ConfigError(
            f"{embodiment.name} at {embodiment.rate_hz:g} Hz isn't the simulated base (dx, dy, dyaw at a rate of whole"
            " 10 ms); give a checkpoint for base_3dof"
        )


class Arena(Simulation):
    """The room of ``seed``; pictures are taken as recordings have them and then made what the model sees.

    Raises:
        ConfigError: not the base's embodiment.
        SimulationError: as ``Simulation``.
    """

    def __init__(self, *, seed: int, embodiment: Embodiment) -> None:
        check_base(embodiment)
        super().__init__(seed=seed)
        self._embodiment = embodiment
        self._preprocess = Preprocess.for_camera(embodiment.camera())
        self._settled = np.array(self._data.qpos)
        self._clear_m = self.room.floor_map.clearance()
        self.touched_ticks = 0

    def put(self, pose: PoseArray) -> None:
        """The robot at rest at ``pose`` (x, y, yaw), with nothing touched yet."""
        data = self._data
        data.qpos[:] = self._settled
        data.qpos[:2] = pose[:2]
        data.qpos[3:7] = math.cos(pose[2] / 2), 0.0, 0.0, math.sin(pose[2] / 2)
        data.qvel[:] = 0.0
        data.ctrl[:] = 0.0
        data.qacc_warmstart[:] = 0.0
        mujoco.mj_forward(self._model, data)
        mujoco.mj_step(self._model, data, SETTLE_TICKS * self._substeps)
        self._ramp = SpeedRamp()
        self.touched_ticks = 0

    def picture(self) -> ImageArray:
        """What the model sees now (H,W,3) uint8."""
        return self._preprocess(self.observe().image)

    def at(self) -> PoseArray:
        """The true pose (3,)."""
        now = self.pose()
        return np.array([now.x, now.y, now.yaw])

    def clearance(self, poses: PoseArray) -> float:
        """The least distance in m from the places of ``poses`` (F,3) to anything that the body could touch."""
        return float(min(self._clear_m[self.room.floor_map.index(x, y)] for x, y, _ in poses.tolist()))

    def view_m(self) -> float:
        """Median depth of the picture now, in m."""
        return float(np.median(self.truth().depth_m))

    def _ticked(self) -> None:
        super()._ticked()
        self.touched_ticks += self.contacts() > 0


class ArenaWorld:
    """One episode in an arena: a world (see ``egowm_core.policy.Worlds``, here of one) with real wheels and contacts.

    ``poses`` (1+T,3) are the true ones, at the start and after every step.
    """

    def __init__(self, arena: Arena, start: PoseArray, embodiment: Embodiment) -> None:
        arena.put(start)
        self._arena, self._rate_hz = arena, embodiment.rate_hz
        self._frames = arena.picture()[None]
        self.poses: list[PoseArray] = [arena.at()]

    @property
    def frames(self) -> ImageArray:
        """What is seen now (1,H,W,3)."""
        return self._frames

    def step(self, actions: FloatArray) -> ImageArray:
        """Ask the base for ``actions`` (1,3), dx, dy, dyaw of a tick; it can't go sideways. What is then seen."""
        dx, _, dyaw = (float(value) for value in actions[0])
        self._arena.step(dx * self._rate_hz, dyaw * self._rate_hz, 1 / self._rate_hz)
        self.poses.append(self._arena.at())
        self._frames = self._arena.picture()[None]
        return self._frames


class RampActuator:
    """What the base makes of an action by its own limits of speed and acceleration, on an even floor without slip.

    A model is told what a robot did, and a policy says what it should do: this stands between them where there is no
    robot. ``asked`` remembers what was wished for.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        self._rate_hz, self._ramp = embodiment.rate_hz, SpeedRamp()
        self.asked: list[FloatArray] = []

    def __call__(self, action: FloatArray) -> FloatArray:
        """The motion (3,) of a tick, in m, m and rad, that follows from asking for ``action`` (3,)."""
        self.asked.append(np.array(action))
        v, w = float(action[0]) * self._rate_hz, float(action[2]) * self._rate_hz
        speeds = [self._ramp.advance(v, w, TICK_S) for _ in range(round(1 / (self._rate_hz * TICK_S)))]
        small = np.array([(speed * TICK_S, 0.0, turn * TICK_S) for speed, turn in speeds])
        return np.asarray(se2_integrate(small)[-1], np.float32)


@dataclass(frozen=True)
class Error:
    """How far a pose is from a goal's."""

    distance_m: float
    angle_deg: float


def error_of(pose: PoseArray, goal: PoseArray) -> Error:
    """Of ``pose`` (3,) to ``goal`` (3,)."""
    turn = (pose[2] - goal[2] + math.pi) % (2 * math.pi) - math.pi
    return Error(float(np.hypot(*(pose[:2] - goal[:2]))), math.degrees(abs(turn)))


def arc(start: PoseArray, length_m: float, turn_rad: float, *, pieces: int = 12) -> PoseArray:
    """Poses (pieces+1,3) along an even arc from ``start`` (3,)."""
    step = np.array([length_m * np.sinc(turn_rad / pieces / (2 * math.pi)) / pieces, 0.0, turn_rad / pieces])
    half = turn_rad / pieces / 2
    step[:2] = step[0] * math.cos(half), step[0] * math.sin(half)
    return np.concatenate([start[None], se2_compose(start, se2_integrate(np.tile(step, (pieces, 1))))])


def free_of_things(arena: Arena, poses: Sequence[PoseArray] | PoseArray, *, margin_m: float) -> bool:
    """Whether the body keeps ``margin_m`` from everything at all of ``poses`` (F,3)."""
    return arena.clearance(np.asarray(poses)) > BODY_RADIUS_M + margin_m

"""The robot of the planning bench: put where a task starts, moved tick by tick in lockstep, looked through, and cloned.

``Course`` wraps one ``Simulation`` with real wheels and contacts. ``foresee`` is the oracle's: it lets the simulation
itself run ahead under other actions, takes pictures of where they end, and puts everything back. Knows no planner.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.geometry import se2_delta
from egowm_core.types import FloatArray
from egowm_sim.backend import mujoco
from egowm_sim.futures import _place
from egowm_sim.robot import SpeedRamp, wheel_speeds
from egowm_sim.robot_simulation import TICK_S
from egowm_sim.simulation import Simulation


class Course:
    """The room of ``seed``; ``tick_s`` is how long each action lasts. A context manager."""

    def __init__(self, *, seed: int, height: int, width: int, tick_s: float) -> None:
        self._simulation = Simulation(seed=seed, height=height, width=width)
        self.tick_s = tick_s
        self._height_m = float(self._simulation._data.qpos[2])
        self.room = self._simulation.room

    def start(self, pose: NDArray[np.float64]) -> None:
        """Put the robot to a pose (3,) where it fits, at rest; odometry counts from there."""
        x, y, yaw = pose.tolist()
        _place(self._simulation, x, y, yaw, height_m=self._height_m)
        mujoco.mj_forward(self._simulation._model, self._simulation._data)
        self._simulation._ramp = SpeedRamp()
        self._odometry_at_start = self._odometry()
        self.bumps = 0  # ticks in which the robot touched something
        self.travelled_m = 0.0

    @property
    def stamp_ns(self) -> int:
        """Simulated time now."""
        return self._simulation.stamp_ns

    def picture(self) -> NDArray[np.uint8]:
        """What the camera sees now (H,W,3) uint8."""
        return self._simulation.observe().image

    def pose(self) -> NDArray[np.float64]:
        """True x, y, yaw in the room (m, rad)."""
        now = self._simulation.pose()
        return np.array([now.x, now.y, now.yaw])

    def odometry(self) -> NDArray[np.float64]:
        """Dead-reckoned x, y, yaw since ``start``, in the frame of the robot as it stood then."""
        return np.asarray(se2_delta(self._odometry_at_start, self._odometry()))

    def act(self, action: FloatArray) -> None:
        """One tick of ``action`` (3,) dx, dy, dyaw: asked of the wheels as speeds, dy left out."""
        before, touched = self.pose(), False
        v, w = float(action[0]) / self.tick_s, float(action[2]) / self.tick_s
        for _ in range(round(self.tick_s / TICK_S)):
            self._simulation.step(v, w, TICK_S)
            touched = touched or self._simulation.contacts() > 0
        self.travelled_m += float(np.hypot(*(self.pose() - before)[:2]))
        self.bumps += touched

    def foresee(self, candidates: FloatArray) -> NDArray[np.uint8]:
        """(N,1,H,W,3) uint8: what the camera would really see after each of ``candidates`` (N,T,3)."""
        simulation, kind = self._simulation, mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(simulation._model, kind))
        mujoco.mj_getState(simulation._model, simulation._data, state, kind)
        asked = simulation.command
        pictures = []
        for rows in candidates:
            self._run_ahead(rows, asked)
            simulation.look(simulation._data)
            pictures.append(simulation.render()[None])
            mujoco.mj_setState(simulation._model, simulation._data, state, kind)
            mujoco.mj_forward(simulation._model, simulation._data)
        return np.stack(pictures)

    def _run_ahead(self, rows: FloatArray, asked: tuple[float, float]) -> None:
        """As ``Simulation.step``, but that neither clock nor odometry goes on."""
        simulation: Any = self._simulation
        ramp = SpeedRamp()
        ramp.v, ramp.w = asked
        for action in rows.tolist():
            for _ in range(round(self.tick_s / TICK_S)):
                v, w = ramp.advance(action[0] / self.tick_s, action[2] / self.tick_s, TICK_S)
                simulation._set_speeds(*wheel_speeds(v, w))
                mujoco.mj_step(simulation._model, simulation._data, simulation._substeps)

    def _odometry(self) -> NDArray[np.float64]:
        now = self._simulation.odometry()
        return np.array([now.x, now.y, now.yaw])

    def close(self) -> None:
        """Free the renderer."""
        self._simulation.close()

    def __enter__(self) -> Course:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""One robot in one room: step it, look through its camera, read its odometry and the truth.

Deterministic: equal seeds and equal commands give equal images and odometry. Knows no ROS; simulated time
starts at ``start_ns`` and moves only with ``step``.
"""

from __future__ import annotations

import math

import numpy as np

from egowm_core.geometry import yaw_from_quaternion
from egowm_sim.backend import SimulationError, mujoco
from egowm_sim.robot import Odometry, SpeedRamp, WheelOdometry, wheel_speeds
from egowm_sim.robot_simulation import START_NS, TICK_S, TIMESTEP_S, Pose, RobotSimulation
from egowm_sim.rooms import Room, generate_room
from egowm_sim.scene import Scene, build_scene

SETTLE_TICKS = 30


class Simulation(RobotSimulation):
    """A room, a robot and its camera, all of ``seed``.

    Args:
        seed: picks room, start pose and wheel errors; not negative.
        height, width: image size in pixels.
        start_ns: stamp of the first instant.

    Raises:
        SimulationError: the arguments are out of range, or no OpenGL back end works (at the first image).
    """

    def __init__(self, *, seed: int, height: int = 240, width: int = 320, start_ns: int = START_NS) -> None:
        super().__init__(seed=seed, height=height, width=width, start_ns=start_ns)
        self.room = generate_room(seed)
        rng = np.random.default_rng([seed, 0x0B07])
        x, y = self.room.floor_map.random_free(rng)
        yaw = float(rng.uniform(-math.pi, math.pi))
        self.scene = self._build(self.room, x=x, y=y, yaw=yaw)
        self._model = self.scene.model
        self._data = mujoco.MjData(self._model)
        self._base = self._model.body("base").id
        self._wheels = np.array([self._model.joint(name).qposadr[0] for name in ("left", "right")])
        mujoco.mj_step(self._model, self._data, SETTLE_TICKS * self._substeps)
        self._ramp = SpeedRamp()
        self._odometry = WheelOdometry(rng, angles=self._data.qpos[self._wheels], stamp_ns=start_ns)

    @property
    def command(self) -> tuple[float, float]:
        """The (v, w) in m/s and rad/s that the wheels are asked for now, after all limits."""
        return self._ramp.v, self._ramp.w

    def step(self, v: float, w: float, dt_s: float) -> Odometry:
        """Drive towards ``v`` m/s and ``w`` rad/s for ``dt_s`` (a multiple of 10 ms); returns the new odometry.

        Raises:
            SimulationError: a value is not finite or ``dt_s`` is not a positive multiple of the tick.
        """
        ticks = round(dt_s / TICK_S)
        if ticks < 1 or abs(ticks * TICK_S - dt_s) > 1e-6 or not (math.isfinite(v) and math.isfinite(w)):
            raise SimulationError(
                f"step(v={v}, w={w}, dt_s={dt_s}): expected finite speeds and dt_s a positive multiple of {TICK_S} s"
            )
        for _ in range(ticks):
            self._set_speeds(*wheel_speeds(*self._ramp.advance(v, w, TICK_S)))
            mujoco.mj_step(self._model, self._data, self._substeps)
            self._ticked()
        return self._odometry.update(self._data.qpos[self._wheels], self.stamp_ns)

    def pose(self) -> Pose:
        """True pose and twist."""
        x, y, _, qw, qx, qy, qz = self._data.qpos[:7]
        yaw = yaw_from_quaternion(qx, qy, qz, qw)
        vx, vy = self._data.qvel[:2]
        return Pose(float(x), float(y), yaw, float(vx * math.cos(yaw) + vy * math.sin(yaw)), float(self._data.qvel[5]))

    # ---- hooks of faulty.py: what differs where things go wrong --------------------------------------------------

    def _build(self, room: Room, *, x: float, y: float, yaw: float) -> Scene:
        """The scene of ``room`` with the robot at (x, y, yaw) (m, rad)."""
        return build_scene(room, x=x, y=y, yaw=yaw, height=self.height, width=self.width, timestep_s=TIMESTEP_S)

    def _set_speeds(self, left: float, right: float) -> None:
        """Ask the motors for these speeds (rad/s) for the next tick."""
        self._data.ctrl[:] = left, right

    def _ticked(self) -> None:
        """A tick has passed."""
        self._ticks += 1

    def contacts(self) -> int:
        """How many contacts the robot's body has now with anything but the floor (bumps)."""
        floor = self._model.geom("floor").id
        return sum(floor not in (contact.geom1, contact.geom2) for contact in self._data.contact[: self._data.ncon])

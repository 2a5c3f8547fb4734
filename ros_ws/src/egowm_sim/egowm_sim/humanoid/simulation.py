"""One humanoid at one workplace: step it, look through its head camera, read its joints, odometry and the truth.

Deterministic: equal seeds and equal commands give equal pictures and readings. Knows no ROS; simulated time starts at
``start_ns`` and moves only with ``step``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_sim.backend import SimulationError, mujoco
from egowm_sim.camera import vertical_fov_deg
from egowm_sim.humanoid.body import (
    BASE,
    FINGERS,
    HAND_CLOSURE_RAD,
    JOINT_NAMES,
    JOINTS,
    TOUCHES_ROOM,
    TOUCHES_THINGS,
    add_humanoid,
)
from egowm_sim.humanoid.workplace import Workplace, generate_workplace
from egowm_sim.robot import SpeedRamp, WheelOdometry, wheel_speeds
from egowm_sim.robot_simulation import START_NS, TICK_S, TIMESTEP_S, Pose, RobotSimulation
from egowm_sim.scene import Scene, furnished

Vector = NDArray[np.float64]
HOME: Vector = np.array(
    [0.0, 0.0, 0.10, -0.2, 0.0, 0.10]
    + 2 * [-0.35, 0.15, 0.0, -1.05, 0.0, 0.0, 0.0]
    + [0.15, 0.2, 0.2]
)  # fmt: skip
"""Joint positions (23,) of a robot at rest: slightly crouched, hands before it."""

_LOW = np.array([joint.low for joint in JOINTS])
_HIGH = np.array([joint.high for joint in JOINTS])
_SPEED = np.array([joint.speed for joint in JOINTS])
_THING = 4  # contact bit of things: they meet each other, the room and the hands


@dataclass(frozen=True)
class JointReading:
    """``positions`` (25,): joints in rad (hands 0..1), then the base's speeds (m/s, rad/s); ``velocities`` (23,)."""

    stamp_ns: int
    positions: Vector
    velocities: Vector
    names: tuple[str, ...] = JOINT_NAMES


class HumanoidSimulation(RobotSimulation):
    """A workplace, a humanoid and the camera in its head, all of ``seed``.

    Args:
        seed: picks workplace and odometry errors; not negative.
        height, width: picture size in pixels.
        start_ns: stamp of the first instant.

    Raises:
        SimulationError: the arguments are out of range, or no OpenGL back end works (at the first picture).
    """

    def __init__(self, *, seed: int, height: int = 240, width: int = 320, start_ns: int = START_NS) -> None:
        super().__init__(seed=seed, height=height, width=width, start_ns=start_ns)
        self.workplace = generate_workplace(seed)
        self.room = self.workplace.room
        self.scene = _build(self.workplace, height=height, width=width)
        self.model = model = self.scene.model
        self._data = mujoco.MjData(model)
        self._joint_q = np.array([model.joint(name).qposadr[0] for name in _driven()])
        self._joint_v = np.array([model.joint(name).dofadr[0] for name in _driven()])
        self._base_q = np.array([model.joint(name).qposadr[0] for name in BASE])
        self._base_v = np.array([model.joint(name).dofadr[0] for name in BASE])
        self._origin = self.workplace.stand
        self._targets = HOME.copy()
        self._data.qpos[self._joint_q] = self._to_motors(HOME)
        self._data.ctrl[:] = np.concatenate([self._to_motors(HOME), np.zeros(3)])
        mujoco.mj_step(model, self._data, 60 * self._substeps)
        self._ramp = SpeedRamp()
        self._wheels = np.zeros(2)  # angles of the wheels that the base would have
        rng = np.random.default_rng([seed, 0x0B07])
        self._odometry = WheelOdometry(rng, angles=self._wheels, stamp_ns=start_ns)

    @property
    def data(self) -> Any:
        """MuJoCo's state, for who looks closer."""
        return self._data

    @property
    def targets(self) -> Vector:
        """Where the servos are held now (23,), after limits of position and speed."""
        return self._targets.copy()

    def step(self, joints: Vector, v: float, w: float, dt_s: float) -> JointReading:
        """Move the joints towards ``joints`` (23,) and the base at ``v`` m/s, ``w`` rad/s for ``dt_s``.

        Beyond their limits of position and speed targets are cut.

        Raises:
            SimulationError: a value is not finite or ``dt_s`` is not a positive multiple of the tick.
        """
        ticks = round(dt_s / TICK_S)
        wanted = np.asarray(joints, np.float64)
        finite = wanted.shape == (len(JOINTS),) and np.isfinite(wanted).all() and math.isfinite(v) and math.isfinite(w)
        if ticks < 1 or abs(ticks * TICK_S - dt_s) > 1e-6 or not finite:
            raise SimulationError(
                f"step(joints {wanted.shape}, v={v}, w={w}, dt_s={dt_s}): expected {len(JOINTS)} finite joints, finite"
                f" speeds and dt_s a positive multiple of {TICK_S} s"
            )
        wanted = np.clip(wanted, _LOW, _HIGH)
        for _ in range(ticks):
            self._targets += np.clip(wanted - self._targets, -_SPEED * TICK_S, _SPEED * TICK_S)
            speed, turn = self._ramp.advance(v, w, TICK_S)
            yaw = float(self._data.qpos[self._base_q[2]])
            self._data.ctrl[:] = [
                *self._to_motors(self._targets), speed * math.cos(yaw), speed * math.sin(yaw), turn,
            ]  # fmt: skip
            mujoco.mj_step(self.model, self._data, self._substeps)
            self._ticks += 1
            pose = self.pose()
            self._wheels += np.array(wheel_speeds(pose.v, pose.w)) * TICK_S
        self._odometry.update(self._wheels, self.stamp_ns)
        return self.reading()

    def reading(self) -> JointReading:
        """Encoders and the base's measured velocities, now."""
        positions = self._from_motors(self._data.qpos[self._joint_q])
        velocities = self._from_motors(self._data.qvel[self._joint_v])
        odometry = self.odometry()
        return JointReading(self.stamp_ns, np.append(positions, [odometry.v, odometry.w]), velocities)

    def pose(self) -> Pose:
        """The base's true pose and twist in the room."""
        # the body's own frame stands at the workplace, turned; its joints move in that frame
        along, aside, turned = self._data.qpos[self._base_q]
        forward, left, w = self._data.qvel[self._base_v]
        x0, y0, yaw0 = self._origin
        x = x0 + along * math.cos(yaw0) - aside * math.sin(yaw0)
        y = y0 + along * math.sin(yaw0) + aside * math.cos(yaw0)
        v = forward * math.cos(turned) + left * math.sin(turned)
        return Pose(float(x), float(y), float(math.remainder(yaw0 + turned, 2 * math.pi)), float(v), float(w))

    @staticmethod
    def _to_motors(joints: Vector) -> Vector:
        """Joint positions (23,) to motors: three fingers a hand."""
        return np.concatenate([joints[:-2], np.repeat(joints[-2:], 3) * HAND_CLOSURE_RAD])

    @staticmethod
    def _from_motors(motors: Vector) -> Vector:
        hands = motors[-6:].reshape(2, 3).mean(axis=1) / HAND_CLOSURE_RAD
        return np.concatenate([motors[:-6], hands])


def _driven() -> list[str]:
    """Joints in the order of the actuators, without the base's."""
    names = [joint.name for joint in JOINTS if not joint.name.endswith("_HAND_CLOSURE")]
    return [*names, *FINGERS["LEFT"], *FINGERS["RIGHT"]]


def _build(workplace: Workplace, *, height: int, width: int) -> Scene:
    builder = furnished(workplace.room, height=height, width=width, timestep_s=TIMESTEP_S)
    spec = builder.spec
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for thing in workplace.things:
        turn = [math.cos(thing.yaw / 2), 0, 0, math.sin(thing.yaw / 2)]
        body = spec.worldbody.add_body(name=thing.name, pos=[thing.x, thing.y, thing.z], quat=turn)
        body.add_freejoint()
        geom = builder.part(thing.part, structure=thing.structure_id, body=body)
        geom.density, geom.condim, geom.friction = 300.0, 4, [0.8, 0.01, 0.001]
        geom.contype, geom.conaffinity = TOUCHES_ROOM | _THING, TOUCHES_THINGS | _THING
    x, y, yaw = workplace.stand
    add_humanoid(spec, x=x, y=y, yaw=yaw, fovy_deg=vertical_fov_deg(height, width))
    scene = builder.compile()
    table = scene.geom_structure == workplace.table_id
    scene.model.geom_conaffinity[table] |= TOUCHES_THINGS  # hands rest on it; other furniture they pass through
    scene.model.geom_condim[table] = 3
    return scene

"""A differential-drive base with real wheel contacts, and its dead-reckoned odometry.

Two driven wheels, two frictionless casters, a camera on a short mast. Knows no room and no ROS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.geometry import se2_compose
from egowm_sim import camera
from egowm_sim.backend import mujoco

WHEEL_RADIUS_M = 0.10
TRACK_M = 0.36
BODY_RADIUS_M = 0.22

MAX_V_MPS, MAX_W_RADPS = 0.6, 0.6
MAX_ACCELERATION, MAX_YAW_ACCELERATION = 0.8, 1.5  # m/s^2, rad/s^2
ENCODER_TICKS = 4096
WHEELS = ("left", "right")  # the order of every pair of wheels

ROBOT_GROUP = 2  # MuJoCo geom group of the robot's own parts


def add_robot(spec: Any, *, x: float, y: float, yaw: float, fovy_deg: float) -> None:
    """Add the base at (x, y, yaw) (m, rad) to an MjSpec, with camera ``front`` and actuators ``left``, ``right``."""
    geom = mujoco.mjtGeom
    body = spec.worldbody.add_body(name="base", pos=[x, y, 0.0], quat=[math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)])
    body.add_freejoint()
    skin = {"group": ROBOT_GROUP, "contype": 1, "conaffinity": 0, "rgba": [0.25, 0.27, 0.3, 1.0]}
    body.add_geom(
        type=geom.mjGEOM_CYLINDER,
        size=[BODY_RADIUS_M, 0.09, 0],
        pos=[0, 0, 0.16],
        mass=14.0,
        friction=[0.2, 0.005, 0.0001],
        condim=3,
        **skin,
    )
    body.add_geom(type=geom.mjGEOM_CYLINDER, size=[0.02, 0.10, 0], pos=[0, 0, 0.35], mass=0.4, condim=1, **skin)
    for sign in (-1, 1):
        body.add_geom(
            type=geom.mjGEOM_SPHERE, size=[0.05, 0, 0], pos=[sign * 0.16, 0, 0.0505], mass=0.2, condim=1, **skin
        )
    for name, side in (("left", 1), ("right", -1)):
        wheel = body.add_body(name=f"{name}_wheel", pos=[0, side * TRACK_M / 2, WHEEL_RADIUS_M])
        wheel.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 1, 0], armature=0.15)
        wheel.add_geom(
            name=f"{name}_wheel",
            type=geom.mjGEOM_ELLIPSOID,
            size=[WHEEL_RADIUS_M, 0.02, WHEEL_RADIUS_M],
            mass=0.8,
            condim=3,
            friction=[1.1, 0.005, 0.0001],
            **skin,
        )
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_velocity(kv=15.0)
        motor.forcelimited, motor.forcerange = True, [-12.0, 12.0]
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, camera.mount_rotation().flatten())
    body.add_camera(name="front", pos=[camera.FORWARD_M, 0, camera.HEIGHT_M], quat=quat, fovy=fovy_deg)


@dataclass(frozen=True)
class Odometry:
    """Pose (x, y, yaw) in the odom frame (m, rad), body twist ``v`` (m/s), ``w`` (rad/s), at ``stamp_ns``."""

    x: float
    y: float
    yaw: float
    v: float
    w: float
    stamp_ns: int


class SpeedRamp:
    """Commands within speed and acceleration limits."""

    def __init__(self) -> None:
        self.v, self.w = 0.0, 0.0

    def advance(self, v: float, w: float, dt_s: float) -> tuple[float, float]:
        """One tick of ``dt_s`` towards the wanted (v, w) in m/s and rad/s; returns what the wheels are asked for."""
        v, w = min(max(v, -MAX_V_MPS), MAX_V_MPS), min(max(w, -MAX_W_RADPS), MAX_W_RADPS)
        dv, dw = MAX_ACCELERATION * dt_s, MAX_YAW_ACCELERATION * dt_s
        self.v += min(max(v - self.v, -dv), dv)
        self.w += min(max(w - self.w, -dw), dw)
        return self.v, self.w


def wheel_speeds(v: float, w: float) -> tuple[float, float]:
    """Left and right wheel speeds in rad/s of a body moving at ``v`` m/s and ``w`` rad/s."""
    return (v - w * TRACK_M / 2) / WHEEL_RADIUS_M, (v + w * TRACK_M / 2) / WHEEL_RADIUS_M


class WheelOdometry:
    """Dead reckoning from noisy encoders and slightly wrong wheel radii and track.

    ``gain`` (2,) is what the left and right encoder count for each tick there is: 1, but for a fault.
    """

    def __init__(self, rng: np.random.Generator, *, angles: NDArray[np.float64], stamp_ns: int) -> None:
        """``angles`` (2,) rad are the wheels' angles at the start, where the odom frame lies."""
        self._rng = rng
        self._radii = WHEEL_RADIUS_M * (1 + rng.normal(0, 0.003, 2))
        self._track = TRACK_M * (1 + rng.normal(0, 0.006))
        self.gain = np.ones(2)
        self._slip = np.zeros(2)
        self._angles = np.array(angles)
        self._pose = np.zeros(3)
        self._residual = np.zeros(2)
        self.now = Odometry(0.0, 0.0, 0.0, 0.0, 0.0, stamp_ns)

    def shift_clock(self, by_ns: int) -> None:
        """Move the stamp of the last odometry by ``by_ns``."""
        self.now = replace(self.now, stamp_ns=self.now.stamp_ns + by_ns)

    def update(self, angles: NDArray[np.float64], stamp_ns: int) -> Odometry:
        """Add the turn of both wheels since the last call; ``angles`` (2,) are unwrapped rad."""
        dt_s = (stamp_ns - self.now.stamp_ns) * 1e-9
        if dt_s <= 0:
            return self.now
        self._slip += dt_s * -self._slip / 2.0 + math.sqrt(dt_s) * self._rng.normal(0, 0.005, 2)
        turned = (angles - self._angles) * (1 + self._slip) + self._residual
        self._angles = np.array(angles)
        step = 2 * math.pi / ENCODER_TICKS
        counted = np.round(turned / step) * step
        self._residual = turned - counted
        left, right = counted * self.gain * self._radii
        forward, dyaw = (left + right) / 2, (right - left) / self._track
        chord = forward * np.sinc(dyaw / (2 * math.pi))  # an arc's chord, so that turning in curves is exact
        delta = np.array([chord * math.cos(dyaw / 2), chord * math.sin(dyaw / 2), dyaw])
        self._pose = se2_compose(self._pose, delta)
        x, y, yaw = (float(value) for value in self._pose)
        self.now = Odometry(x, y, yaw, float(forward / dt_s), float(dyaw / dt_s), stamp_ns)
        return self.now

"""The humanoid's body: a wheeled base, one leg of three joints, torso, two arms with hands, a head with a camera.

Proportions and joint order are those of the 1X EVE v2.0 recordings (25 degrees of freedom: 23 joints, two velocities of
the base); masses and motors are round numbers. The base is driven in the plane, without wheels of its own; joints are
position servos, and gravity is compensated, as such arms do it. Knows MuJoCo; knows no room and no ROS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from egowm_sim.backend import mujoco
from egowm_sim.robot import BODY_RADIUS_M, ROBOT_GROUP

ANKLE_M, LEG_M = 0.22, 0.38  # above the floor; shin and thigh each
SHOULDER_M, NECK_M = 0.40, 0.52  # above the hip
CAMERA_FORWARD_M, CAMERA_UP_M = 0.10, 0.06  # in the head
CAMERA_PITCH_RAD = math.radians(15.0)  # downwards, with the neck straight
HAND_CLOSURE_RAD = 1.2  # of the fingers, when closed

TOUCHES_ROOM, TOUCHES_THINGS = 1, 2  # bits of contact masks
_DARK, _LIGHT, _SKIN = (0.16, 0.17, 0.19, 1.0), (0.80, 0.79, 0.76, 1.0), (0.85, 0.42, 0.12, 1.0)


@dataclass(frozen=True)
class Joint:
    """A joint or hand: limits in rad (hands: 0 open to 1 closed), fastest speed and servo stiffness."""

    name: str
    low: float
    high: float
    speed: float
    stiffness: float


_ARM = (
    ("SHOULDER_PITCH", -2.6, 1.0, 140.0),
    ("SHOULDER_ROLL", -0.3, 1.8, 140.0),  # outwards positive, on both sides
    ("SHOULDER_YAW", -1.5, 1.5, 90.0),
    ("ELBOW_PITCH", -2.3, 0.0, 90.0),
    ("ELBOW_YAW", -1.5, 1.5, 40.0),
    ("WRIST_PITCH", -1.0, 1.0, 30.0),
    ("WRIST_ROLL", -0.8, 0.8, 30.0),
)
JOINTS = (
    Joint("HIP_YAW", -0.8, 0.8, 0.6, 900.0),
    Joint("HIP_ROLL", -0.25, 0.25, 0.4, 1500.0),
    Joint("HIP_PITCH", -0.3, 1.2, 0.6, 1500.0),
    Joint("KNEE_PITCH", -1.5, 0.0, 0.6, 2000.0),
    Joint("ANKLE_ROLL", -0.15, 0.15, 0.4, 2500.0),
    Joint("ANKLE_PITCH", -0.3, 0.9, 0.6, 2500.0),
    *(
        Joint(f"{side}_{name}", low, high, 1.6, stiffness)
        for side in ("LEFT", "RIGHT")
        for name, low, high, stiffness in _ARM
    ),
    Joint("NECK_PITCH", -0.3, 0.9, 0.9, 60.0),
    Joint("LEFT_HAND_CLOSURE", 0.0, 1.0, 2.5, 6.0),
    Joint("RIGHT_HAND_CLOSURE", 0.0, 1.0, 2.5, 6.0),
)
"""The 23 joints in the order of the embodiment ``humanoid_25dof``."""

JOINT_NAMES = (*(joint.name for joint in JOINTS), "LINEAR_VELOCITY", "ANGULAR_VELOCITY")
"""All 25 names; the last two are the base's velocities (m/s, rad/s)."""

FINGERS = {side: tuple(f"{side}_FINGER_{i}" for i in range(3)) for side in ("LEFT", "RIGHT")}
BASE = ("base_x", "base_y", "base_yaw")


def add_humanoid(spec: Any, *, x: float, y: float, yaw: float, fovy_deg: float) -> None:
    """Add the humanoid at (x, y, yaw) (m, rad) to an MjSpec, with camera ``front`` in its head.

    Actuators bear the names of ``JOINTS`` (one a finger for hands), then those of ``BASE``.
    """
    base = spec.worldbody.add_body(name="base", pos=[x, y, 0.0], quat=[math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)])
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    for name, kind, axis in zip(BASE, (slide, slide, hinge), ([1, 0, 0], [0, 1, 0], [0, 0, 1]), strict=True):
        base.add_joint(name=name, type=kind, axis=axis)
    _cylinder(base, [0, 0, 0.13], BODY_RADIUS_M, 0.09, mass=40.0, color=_DARK, touches=TOUCHES_ROOM)
    shin = _link(base, "shin", [0, 0, ANKLE_M])
    _hinges(shin, ANKLE_ROLL=[1, 0, 0], ANKLE_PITCH=[0, 1, 0])
    _bar(shin, [0, 0, 0], [0, 0, LEG_M], 0.07, mass=5.0, color=_DARK)
    thigh = _link(shin, "thigh", [0, 0, LEG_M])
    _hinges(thigh, KNEE_PITCH=[0, 1, 0])
    _bar(thigh, [0, 0, 0], [0, 0, LEG_M], 0.08, mass=6.0, color=_LIGHT)
    torso = _link(thigh, "torso", [0, 0, LEG_M])
    _hinges(torso, HIP_PITCH=[0, 1, 0], HIP_ROLL=[1, 0, 0], HIP_YAW=[0, 0, 1])
    _box(torso, [0, 0, 0.24], [0.10, 0.15, 0.20], mass=10.0, color=_LIGHT)
    for side, sign in (("LEFT", 1), ("RIGHT", -1)):
        _add_arm(torso, side, sign)
    head = _link(torso, "head", [0, 0, NECK_M])
    _hinges(head, NECK_PITCH=[0, 1, 0])
    _ellipsoid(head, [0, 0, 0.08], [0.09, 0.08, 0.11], mass=1.5, color=_LIGHT)
    sine, cosine = math.sin(CAMERA_PITCH_RAD / 2), math.cos(CAMERA_PITCH_RAD / 2)
    mount = _times((cosine, 0.0, sine, 0.0), (0.5, 0.5, -0.5, -0.5))
    head.add_camera(name="front", pos=[CAMERA_FORWARD_M, 0, CAMERA_UP_M], quat=mount, fovy=fovy_deg)
    _add_motors(spec)


def _add_arm(torso: Any, side: str, sign: int) -> None:
    """Shoulder to fingers, hanging down with all joints at zero."""
    upper = _link(torso, f"{side}_upper_arm", [0, sign * 0.20, SHOULDER_M])
    _hinges(
        upper,
        **{
            f"{side}_SHOULDER_PITCH": [0, 1, 0],
            f"{side}_SHOULDER_ROLL": [sign, 0, 0],
            f"{side}_SHOULDER_YAW": [0, 0, sign],
        },
    )
    _bar(upper, [0, 0, 0], [0, 0, -0.28], 0.045, mass=1.8, color=_SKIN)
    lower = _link(upper, f"{side}_forearm", [0, 0, -0.28])
    _hinges(lower, **{f"{side}_ELBOW_PITCH": [0, 1, 0], f"{side}_ELBOW_YAW": [0, 0, sign]})
    _bar(lower, [0, 0, 0], [0, 0, -0.24], 0.04, mass=1.2, color=_LIGHT, touches=TOUCHES_THINGS)
    hand = _link(lower, f"{side}_hand", [0, 0, -0.26])
    _hinges(hand, **{f"{side}_WRIST_PITCH": [0, 1, 0], f"{side}_WRIST_ROLL": [sign, 0, 0]})
    _box(hand, [0, 0, -0.05], [0.02, 0.04, 0.05], mass=0.4, color=_SKIN, touches=TOUCHES_THINGS)
    hand.add_site(name=f"{side}_grip", pos=[0, 0, -0.13])
    for i, (forward, aside, axis) in enumerate(((0.03, 0.025, 1), (0.03, -0.025, 1), (-0.03, 0.0, -1))):
        finger = _link(hand, f"{side}_finger_{i}", [forward, aside, -0.10])
        _hinges(finger, **{FINGERS[side][i]: [0, axis, 0]})
        _bar(finger, [0, 0, 0], [0, 0, -0.08], 0.013, mass=0.05, color=_DARK, touches=TOUCHES_THINGS)


def _add_motors(spec: Any) -> None:
    for joint in JOINTS:
        side = joint.name.split("_")[0]
        for target in FINGERS[side] if joint.name.endswith("_HAND_CLOSURE") else (joint.name,):
            motor = spec.add_actuator(name=target, target=target, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            motor.set_to_position(kp=joint.stiffness, kv=0.12 * joint.stiffness)
            motor.forcelimited, motor.forcerange = True, [-0.6 * joint.stiffness, 0.6 * joint.stiffness]
    for name, gain in zip(BASE, (3000.0, 3000.0, 600.0), strict=True):
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_velocity(kv=gain)
        motor.forcelimited, motor.forcerange = True, [-0.4 * gain, 0.4 * gain]


def _link(parent: Any, name: str, position: list[float]) -> Any:
    return parent.add_body(name=name, pos=position, gravcomp=1.0)


def _hinges(body: Any, **axes: list[int]) -> None:
    for name, axis in axes.items():
        body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=axis, armature=0.02)


def _geom(body: Any, kind: str, *, touches: int, color: tuple[float, ...], mass: float, **shape: Any) -> None:
    """``touches``: with which bit the geom meets others; 0 for nothing."""
    body.add_geom(
        type=getattr(mujoco.mjtGeom, kind), group=ROBOT_GROUP, contype=touches, conaffinity=0, rgba=list(color),
        mass=mass, friction=[1.2, 0.01, 0.0005], condim=4, **shape,
    )  # fmt: skip


def _cylinder(body: Any, at: list[float], radius: float, half: float, **rest: Any) -> None:
    _geom(body, "mjGEOM_CYLINDER", pos=at, size=[radius, half, 0], **rest)


def _bar(body: Any, start: list[float], end: list[float], radius: float, *, touches: int = 0, **rest: Any) -> None:
    _geom(body, "mjGEOM_CAPSULE", fromto=[*start, *end], size=[radius, 0, 0], touches=touches, **rest)


def _box(body: Any, at: list[float], half: list[float], *, touches: int = 0, **rest: Any) -> None:
    _geom(body, "mjGEOM_BOX", pos=at, size=half, touches=touches, **rest)


def _ellipsoid(body: Any, at: list[float], half: list[float], *, touches: int = 0, **rest: Any) -> None:
    _geom(body, "mjGEOM_ELLIPSOID", pos=at, size=half, touches=touches, **rest)


def _times(a: tuple[float, ...], b: tuple[float, ...]) -> list[float]:
    """Product of two quaternions (w, x, y, z)."""
    w, x, y, z = a
    s, i, j, k = b
    return [
        w * s - x * i - y * j - z * k,
        w * i + x * s + y * k - z * j,
        w * j - x * k + y * s + z * i,
        w * k + x * j - y * i + z * s,
    ]

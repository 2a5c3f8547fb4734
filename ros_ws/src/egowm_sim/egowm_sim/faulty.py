"""A simulated robot that things go wrong with: faults carried out in physics, in the room and in the camera.

What happens in the world is simulated (grip, motors, mount, light, people); only what happens inside a camera is done
to pictures (lens.py). Until a fault begins, pictures and odometry are to the bit those of ``Simulation``. Knows no ROS.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_sim.backend import SimulationError, mujoco
from egowm_sim.faults import MOST_PEOPLE, RANGES, Fault, FaultChange, FaultKind, FaultPlan, most_people
from egowm_sim.lens import Lens
from egowm_sim.people import Walker, draw_person, limb_pose
from egowm_sim.robot import WHEELS
from egowm_sim.robot_simulation import START_NS, TICK_S, TIMESTEP_S, Instant
from egowm_sim.rooms import Room
from egowm_sim.scene import Scene, build_scene
from egowm_sim.simulation import Simulation
from egowm_sim.view import Truth

DRAG = 430.0  # N s/m of a body that sits on a sill: all the grip there is (170 N) moves it at 0.4 m/s
YAW_DRAG = 60.0  # N m s/rad, likewise at 0.5 rad/s
AWAY_M = -50.0  # where people are who are not there: below the floor, out of every view


@dataclass(frozen=True)
class _Shot:
    """What the picture of one snapshot needs to know."""

    number: int
    active: dict[FaultKind, Fault]


@dataclass(frozen=True)
class _Moment:
    """The poses of one tick, for pictures that come late."""

    tick: int
    qpos: NDArray[np.float64]
    mocap: NDArray[np.float64]
    turns: NDArray[np.float64]


class FaultySimulation(Simulation):
    """A ``Simulation`` with faults, planned (``faults``) or begun and ended as it runs (``begin``, ``end``).

    Args:
        faults: what goes wrong, in seconds from the start.
        camera_noise: sigma of the pixels' noise in grey levels.
        flicker: sigma of the exposure from picture to picture, as a share.
        people: how many people the room has in store for the fault "people"; as many as ``faults`` need where None.

    ``truth`` stays what a sound camera on the mount as it now stands would see now: lag, freeze, lens and darkness do
    not change it, a turned mount and people (structures that are not static) do.

    Raises:
        SimulationError: a value is out of range, or two faults of one kind overlap.
    """

    def __init__(
        self,
        *,
        seed: int,
        height: int = 240,
        width: int = 320,
        start_ns: int = START_NS,
        faults: Sequence[Fault] = (),
        camera_noise: float = 0.0,
        flicker: float = 0.0,
        people: int | None = None,
    ) -> None:
        self._plan = FaultPlan(faults)
        self._people_count = most_people(faults) if people is None else people
        if not most_people(faults) <= self._people_count <= MOST_PEOPLE:
            raise SimulationError(
                f"{self._people_count} people in store; expected {most_people(faults)} (the faults') to {MOST_PEOPLE}"
            )
        super().__init__(seed=seed, height=height, width=width, start_ns=start_ns)
        self._lens = Lens(seed=seed, height=height, width=width, camera_noise=camera_noise, flicker=flicker)
        self._walkers: list[Walker] = []
        self._sound = _Sound(self._model)
        self._late: Any = None  # a second MjData, made at the first late picture
        self._moments: deque[_Moment] = deque(maxlen=round(RANGES[FaultKind.TIME_LAG].high / TICK_S) + 1)
        self._shot = _Shot(0, {})
        self._changes: list[FaultChange] = []
        self._hide_people()
        self._note_moment()
        self._apply(self._plan.advance(0.0))

    # ---- faults as they come and go ----------------------------------------------------------------------------

    @property
    def time_s(self) -> float:
        """Simulated seconds since the start, the clock of planned faults."""
        return self._ticks * TICK_S

    @property
    def active(self) -> tuple[Fault, ...]:
        """The faults of now."""
        return tuple(self._plan.active.values())

    def begin(self, fault: Fault) -> None:
        """Begin ``fault`` now, whatever its start, in place of one of its kind; it ends at its ``end_s`` or by ``end``.

        Raises:
            SimulationError: there are fewer people in store than the fault wants.
        """
        if fault.kind is FaultKind.PEOPLE and fault.severity > self._people_count:
            raise SimulationError(
                f"{fault.what}: this room has {self._people_count} people in store; make the simulation with more"
            )
        self._apply(self._plan.begin(fault, self.time_s))

    def end(self, kind: FaultKind | None = None) -> None:
        """End the fault of ``kind`` now, or all with None."""
        for each in [kind] if kind is not None else list(self._plan.active):
            self._apply(self._plan.end(each, self.time_s))

    def changes(self) -> list[FaultChange]:
        """The faults that began or ended since the last call."""
        out, self._changes = self._changes, []
        return out

    def __enter__(self) -> FaultySimulation:
        return self

    # ---- Simulation's hooks ------------------------------------------------------------------------------------

    def _build(self, room: Room, *, x: float, y: float, yaw: float) -> Scene:
        rng = np.random.default_rng([self.seed, 0x3A17])
        self._people = [draw_person(rng) for _ in range(self._people_count)]
        first = len(room.structures) + 1
        names = {first + i: {"name": f"person_{first + i}", "static": False} for i in range(len(self._people))}
        self.room = replace(room, structures={**room.structures, **names})
        return build_scene(
            self.room, x=x, y=y, yaw=yaw, height=self.height, width=self.width, timestep_s=TIMESTEP_S,
            people=dict(zip(names, self._people, strict=True)),
        )  # fmt: skip

    def _set_speeds(self, left: float, right: float) -> None:
        stuck = self._plan.active.get(FaultKind.STUCK_WHEEL)
        super()._set_speeds(*(np.array([left, right]) * (1.0 - _share(stuck))) if stuck else (left, right))

    def _ticked(self) -> None:
        super()._ticked()
        self._note_moment()
        if self._walkers:
            pose = self.pose()
            for walker in self._walkers:
                walker.advance(pose.x, pose.y, pose.yaw, TICK_S)
            self._show_people()
        changes = self._plan.advance(self.time_s)
        if changes:
            self._apply(changes)

    def snapshot(self) -> Instant:
        """Take the present poses, or with a lag those of then, for the next ``render``."""
        instant = super().snapshot()
        self._shot = _Shot(self._ticks, dict(self._plan.active))
        lag = self._shot.active.get(FaultKind.TIME_LAG)
        if lag is not None:
            self._look_back(lag.severity)
        return instant

    def render(self) -> NDArray[np.uint8]:
        """The picture (H,W,3) uint8 RGB of the last ``snapshot``, as the camera gives it."""
        active = self._shot.active
        if FaultKind.FROZEN_FRAME in active:
            frozen = self._lens.frozen()
            if frozen is not None:
                return frozen
        covered, gain = active.get(FaultKind.OCCLUSION), active.get(FaultKind.GAIN_CHANGE)
        return self._lens.expose(
            super().render(), self._shot.number,
            covered=covered.severity if covered else 0.0, gain=gain.severity if gain else 1.0,
        )  # fmt: skip

    def truth(self) -> Truth:
        """Structure ids and depth of what a sound camera on the present mount would see, now."""
        self.open_camera()
        super().snapshot()
        return self.render_truth()

    # ---- carrying faults out -----------------------------------------------------------------------------------

    def _apply(self, changes: list[FaultChange]) -> None:
        """Bring model, people and odometry in line with what is active, and keep ``changes`` for who asks."""
        if not changes:
            return
        self._changes += changes
        active, model, sound = self._plan.active, self._model, self._sound
        self._grip(active.get(FaultKind.WHEEL_SLIP))
        self._odometry.gain[:] = 1.0 + _share(active.get(FaultKind.ENCODER_BIAS))
        light = 1.0 - active[FaultKind.LIGHTS_OUT].severity if FaultKind.LIGHTS_OUT in active else 1.0
        model.light_diffuse[:], model.mat_emission[:] = sound.diffuse * light, sound.emission * light
        model.vis.headlight.ambient[:] = sound.ambient * light
        model.vis.headlight.diffuse[:] = sound.headlight * light
        yaw, pitch = (
            math.radians(active[kind].severity) if kind in active else 0.0
            for kind in (FaultKind.CAMERA_YAW, FaultKind.CAMERA_PITCH)
        )  # fmt: skip
        model.cam_quat[sound.camera] = _turned(sound.quat, yaw, pitch)
        mujoco.mj_camlight(model, self._data)
        wanted = int(active[FaultKind.PEOPLE].severity) if FaultKind.PEOPLE in active else 0
        if wanted != len(self._walkers):
            pose = self.pose()
            self._walkers = self._walkers[:wanted]
            for number in range(len(self._walkers), wanted):
                walker = Walker(self.room.floor_map, seed=self.seed, number=number)
                walker.enter(pose.x, pose.y, pose.yaw)
                self._walkers.append(walker)
            self._hide_people()
            self._show_people()

    def _grip(self, slip: Fault | None) -> None:
        model, sound = self._model, self._sound
        lost = _share(slip)
        model.geom_friction[sound.wheels, 0] = sound.friction * (1.0 - lost)
        model.geom_priority[sound.wheels] = (lost > 0).astype(int)  # else the floor's own friction would count
        model.dof_damping[:6] = sound.damping
        if slip is not None:
            model.dof_damping[:2], model.dof_damping[5] = np.array([DRAG, YAW_DRAG]) * (lost > 0).mean()

    def _note_moment(self) -> None:
        data = self._data
        self._moments.append(_Moment(self._ticks, data.qpos.copy(), data.mocap_pos.copy(), data.mocap_quat.copy()))

    def _look_back(self, lag_s: float) -> None:
        """Give the renderer the poses of ``lag_s`` ago, or of the start."""
        if self._late is None:
            self._late = mujoco.MjData(self._model)
        back = min(round(lag_s / TICK_S), len(self._moments) - 1)
        moment = self._moments[-1 - back]
        self._late.qpos[:] = moment.qpos
        self._late.mocap_pos[:], self._late.mocap_quat[:] = moment.mocap, moment.turns
        mujoco.mj_kinematics(self._model, self._late)
        mujoco.mj_camlight(self._model, self._late)
        self.look(self._late)

    def _show_people(self) -> None:
        at = 0
        for limbs, walker in zip(self._people, self._walkers, strict=False):
            for limb in limbs:
                self._data.mocap_pos[at], self._data.mocap_quat[at] = limb_pose(limb, walker)
                at += 1

    def _hide_people(self) -> None:
        self._data.mocap_pos[:] = (0.0, 0.0, AWAY_M)


class _Sound:
    """The model's values without any fault."""

    def __init__(self, model: Any) -> None:
        self.wheels = np.array([model.geom(f"{side}_wheel").id for side in WHEELS])
        self.friction = model.geom_friction[self.wheels, 0].copy()
        self.damping = model.dof_damping[:6].copy()
        self.camera = model.camera("front").id
        self.quat = model.cam_quat[self.camera].copy()
        self.diffuse, self.emission = model.light_diffuse.copy(), model.mat_emission.copy()
        self.ambient = np.array(model.vis.headlight.ambient)
        self.headlight = np.array(model.vis.headlight.diffuse)


def _share(fault: Fault | None) -> NDArray[np.float64]:
    """The fault's severity at the left and the right wheel (2,)."""
    if fault is None:
        return np.zeros(2)
    return fault.severity * np.array([fault.wheel in (side, "both") for side in WHEELS], float)


def _turned(quat: NDArray[np.float64], yaw: float, pitch: float) -> NDArray[np.float64]:
    """The mount's quaternion (4,) w x y z, turned by ``yaw`` about the body's z and then tilted down by ``pitch``.

    Both zero gives ``quat`` itself, to the bit.
    """
    if yaw == pitch == 0.0:
        return quat
    about_z = np.array([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])
    about_x = np.array([math.cos(pitch / 2), -math.sin(pitch / 2), 0.0, 0.0])  # the camera's own x, image right
    out, half = np.zeros(4), np.zeros(4)
    mujoco.mju_mulQuat(half, about_z, quat)
    mujoco.mju_mulQuat(out, half, about_x)
    return out

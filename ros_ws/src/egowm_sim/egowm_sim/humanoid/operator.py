"""A seeded operator of the humanoid: works with both hands at the table, looks about, goes for a drive and works on.

Hands go to the things on the table and move them, by joint targets from inverse kinematics; all motion is smooth
(minimum jerk) and known ahead, so that it can be told as a plan. Knows the simulation; knows no ROS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_sim.driver import CONTROL_PERIOD_S, WanderingDriver
from egowm_sim.humanoid.body import JOINTS
from egowm_sim.humanoid.reach import Reach
from egowm_sim.humanoid.simulation import HOME, HumanoidSimulation

Vector = NDArray[np.float64]
_ARMS = {"LEFT": slice(6, 13), "RIGHT": slice(13, 20)}
_HANDS = {"LEFT": 21, "RIGHT": 22}
_NECK, _LEG = 20, slice(0, 6)
_BACK_OFF_S, _BACK_OFF_MPS = 2.0, -0.28
_LOW = np.array([joint.low for joint in JOINTS])
_HIGH = np.array([joint.high for joint in JOINTS])


@dataclass(frozen=True)
class HumanoidCommand:
    """Joint targets (23,) in rad (hands 0..1) and the base's speeds in m/s and rad/s."""

    joints: Vector
    v: float
    w: float


@dataclass(frozen=True)
class _Glide:
    """One group of joints from ``start`` to ``end`` (n,), minimum jerk over ``begin_s`` .. ``end_s``."""

    begin_s: float
    end_s: float
    start: Vector
    end: Vector

    def at(self, time_s: float) -> Vector:
        share = min(max((time_s - self.begin_s) / max(self.end_s - self.begin_s, 1e-6), 0.0), 1.0)
        return self.start + (self.end - self.start) * (share**3 * (10 - 15 * share + 6 * share**2))


class HumanoidOperator:
    """Gives a command every CONTROL_PERIOD_S for what the simulation shows."""

    def __init__(self, simulation: HumanoidSimulation, *, seed: int) -> None:
        self._simulation, self._rng = simulation, np.random.default_rng([seed, 0x0BE5])
        self._driver = WanderingDriver(simulation.room.floor_map, seed=seed)
        self._reach = Reach(simulation.model)
        self._time_s = 0.0
        self._mode, self._until_s = "work", float(self._rng.uniform(20.0, 44.0))
        self._glides = {
            name: _Glide(0.0, 0.0, HOME[part], HOME[part])
            for name, part in (("LEFT", _ARMS["LEFT"]), ("RIGHT", _ARMS["RIGHT"]), ("leg", _LEG))
        }
        for name, index in (("neck", _NECK), ("LEFT_HAND", _HANDS["LEFT"]), ("RIGHT_HAND", _HANDS["RIGHT"])):
            self._glides[name] = _Glide(0.0, 0.0, HOME[[index]], HOME[[index]])
        self._steps: dict[str, list[str]] = {"LEFT": [], "RIGHT": []}  # what each arm does next
        self._target: dict[str, Vector] = {}
        self._speeds = (0.0, 0.0)

    @property
    def mode(self) -> str:
        """work, back (off from the table) or wander."""
        return self._mode

    def command(self) -> HumanoidCommand:
        """What to do for the next CONTROL_PERIOD_S."""
        if self._time_s >= self._until_s:
            self._next_mode()
        for name in list(self._glides):
            if self._time_s >= self._glides[name].end_s:
                self._next_glide(name)
        pose = self._simulation.pose()
        if self._mode == "wander":
            self._speeds = self._driver.command(pose.x, pose.y, pose.yaw)
        else:
            self._speeds = (_BACK_OFF_MPS, 0.0) if self._mode == "back" else (0.0, 0.0)
        self._time_s += CONTROL_PERIOD_S
        return HumanoidCommand(self._joints(self._time_s), *self._speeds)

    def ahead(self, seconds: float, *, step_s: float = 0.2) -> list[tuple[float, Vector, float, float]]:
        """What is planned: (seconds from now, joint targets (23,), v, w), as far as every glide is decided."""
        times = np.arange(step_s, seconds + 1e-9, step_s)
        return [(float(t), self._joints(self._time_s + float(t)), *self._speeds) for t in times]

    def _joints(self, time_s: float) -> Vector:
        joints = HOME.copy()
        for side, part in _ARMS.items():
            joints[part] = self._glides[side].at(time_s)
            joints[_HANDS[side]] = self._glides[f"{side}_HAND"].at(time_s)[0]
        joints[_LEG] = self._glides["leg"].at(time_s)
        joints[_NECK] = self._glides["neck"].at(time_s)[0]
        return np.clip(joints, _LOW, _HIGH)

    # ---- decisions ----------------------------------------------------------------------------------------------

    def _next_mode(self) -> None:
        if self._mode == "work":
            self._mode, self._until_s = "back", self._time_s + _BACK_OFF_S
            for side in _ARMS:
                self._steps[side].clear()
        else:
            self._mode, self._until_s = "wander", math.inf

    def _glide(self, name: str, end: Vector, seconds: float) -> None:
        start = self._glides[name].at(self._time_s)
        self._glides[name] = _Glide(self._time_s, self._time_s + seconds, start, np.asarray(end, np.float64))

    def _next_glide(self, name: str) -> None:
        rng, work = self._rng, self._mode == "work"
        if name in _ARMS:
            self._next_reach(name)
        elif name == "leg":
            if rng.random() < 0.5:
                self._glide(name, self._glides[name].end, float(rng.uniform(1.0, 3.0)))  # stands still
                return
            crouch = float(rng.uniform(0.0, 0.35 if work else 0.15))
            lean = float(rng.uniform(0.0, 0.25)) if work else 0.0
            turn = float(rng.uniform(-0.45, 0.45)) if work or rng.random() < 0.3 else 0.0
            leg = [turn, 0.0, crouch + lean, -2 * crouch, 0.0, crouch]
            self._glide(name, np.array(leg), float(rng.uniform(1.2, 2.5)))
        elif name == "neck":
            low, high = (0.1, 0.65) if work else (-0.15, 0.45)
            self._glide(name, np.array([rng.uniform(low, high)]), float(rng.uniform(0.7, 1.6)))
            if rng.random() < 0.4:
                self._glide(name, self._glides[name].start, float(rng.uniform(0.8, 2.5)))
        elif not self._steps[name.split("_", maxsplit=1)[0]]:  # hands that nothing asks for open and close now and then
            self._glide(name, np.array([rng.uniform(0.0, 1.0)]), float(rng.uniform(0.6, 2.0)))

    def _next_reach(self, side: str) -> None:
        """The next part of picking something up and putting it elsewhere, or some pose before the body."""
        rng = self._rng
        if self._mode != "work":
            pose = HOME[_ARMS[side]] + rng.normal(0.0, 1.0, 7) * [0.3, 0.12, 0.2, 0.3, 0.3, 0.2, 0.2]
            self._glide(side, pose, float(rng.uniform(1.0, 2.5)))
            return
        if not self._steps[side]:
            if rng.random() < 0.3:
                self._glide(side, HOME[_ARMS[side]] + rng.normal(0, 0.25, 7), float(rng.uniform(0.8, 1.8)))
                return
            self._steps[side] = ["over", "down", "grip", "lift", "carry", "lower", "open", "lift"]
            self._target[side] = self._thing_for(side)
        step = self._steps[side].pop(0)
        if step in ("grip", "open"):
            closed = 0.9 if step == "grip" else 0.05
            self._glide(f"{side}_HAND", np.array([closed]), 0.5)
            self._glide(side, self._glides[side].end, 0.5)
            return
        if step == "carry":
            self._target[side] = self._spot_for(side)
        above = {"over": 0.20, "down": 0.04, "lift": 0.20, "carry": 0.20, "lower": 0.05}[step]
        pose = self._reach.solve(self._simulation.data, side, self._target[side] + [0, 0, above])
        far = float(np.abs(pose - self._glides[side].end).max())
        self._glide(side, pose, max(0.5, far / float(rng.uniform(0.7, 1.2))))

    def _thing_for(self, side: str) -> Vector:
        """Where one of the things is that this hand can well reach; else a spot on the table."""
        data, things = self._simulation.data, self._simulation.workplace.things
        places = [np.array(data.body(thing.name).xpos) for thing in things]
        near = [place for place in places if self._reachable(side, place)]
        return near[int(self._rng.integers(len(near)))] if near else self._spot_for(side)

    def _reachable(self, side: str, place: Vector) -> bool:
        ahead, aside = self._before(place)
        own = aside if side == "LEFT" else -aside
        return 0.2 < ahead < 0.75 and -0.15 < own < 0.45 and place[2] > self._simulation.workplace.top_m - 0.02

    def _before(self, place: Vector) -> tuple[float, float]:
        """How far a place lies ahead and to the left of the robot, in m."""
        pose = self._simulation.pose()
        dx, dy = place[0] - pose.x, place[1] - pose.y
        cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
        return float(dx * cos + dy * sin), float(dy * cos - dx * sin)

    def _spot_for(self, side: str) -> Vector:
        pose, rng = self._simulation.pose(), self._rng
        ahead, aside = float(rng.uniform(0.4, 0.65)), float(rng.uniform(-0.02, 0.35)) * (1 if side == "LEFT" else -1)
        cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
        top_m = self._simulation.workplace.top_m
        return np.array([pose.x + ahead * cos - aside * sin, pose.y + ahead * sin + aside * cos, top_m + 0.05])

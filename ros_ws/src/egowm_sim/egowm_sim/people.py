"""People who walk about in front of the robot: what they are made of and where they go.

They follow the free floor of the room, come into view from outside it, cross to and fro before the camera and keep off
the robot; nothing touches them. Knows no MuJoCo (scene.py builds them, faulty.py moves them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.graph import MCP_Geometric

from egowm_sim import surfaces
from egowm_sim.camera import HFOV_RAD
from egowm_sim.colors import Rng, color, shade
from egowm_sim.layout import FloorMap
from egowm_sim.parts import Part, Surface, ellipsoid

HIP_M, SHOULDER_M = 0.90, 1.40
STRIDE_M = 1.3  # both legs once
KEEP_OFF_M = 0.6  # from the robot's middle
NEAREST_M, FARTHEST_M = 0.9, 2.8  # where in front of the robot they cross
PATIENCE_S = 1.5  # a way is planned anew that often: the robot moves
UNSEEN_S = 1.0  # out of view for longer, a person comes in anew
BODY_M = 0.2
SEEN_RAD = HFOV_RAD / 2 + 0.25  # a person who stands further off the axis is wholly out of view


@dataclass(frozen=True)
class Limb:
    """A rigid part of a person: hangs at (``side`` to the left, ``height``) m, swings by ``swing`` rad at full gait."""

    name: str
    parts: list[Part]
    side: float = 0.0
    height: float = 0.0
    swing: float = 0.0


def _capsule(z: float, radius: float, long: float, surface: Surface, *, x: float = 0.0, y: float = 0.0) -> Part:
    """An upright capsule about (x, y, z) of full length ``long`` with its caps."""
    return Part("capsule", (x, y, z), (radius, long / 2 - radius, 0.0), surface)


def draw_person(rng: Rng) -> list[Limb]:
    """The limbs of a random person, facing +x: trunk with head, two legs, two arms."""
    shirt, trousers = Surface(image=surfaces.fabric(rng)), Surface(image=surfaces.fabric(rng))
    base = color(rng, hue=(0.04, 0.09), saturation=(0.25, 0.6), value=(0.35, 0.95))
    skin, hair = Surface.plain(base), Surface.plain(shade(color(rng, hue=(0.03, 0.12), value=(0.1, 0.6)), 0.8))
    shoes = Surface.plain(color(rng, saturation=(0.0, 0.7), value=(0.08, 0.9)))
    broad = float(rng.uniform(0.18, 0.24))
    trunk = [
        ellipsoid(0, 0, HIP_M + 0.03, (0.12, broad * 0.85, 0.14), trousers),
        ellipsoid(0, 0, 1.18, (0.125, broad, 0.33), shirt),
        ellipsoid(0, 0, 1.62, (0.10, 0.085, 0.13), skin),
        ellipsoid(-0.025, 0, 1.66, (0.10, 0.095, 0.11), hair),
    ]
    leg = [
        _capsule(-0.41, 0.085, 0.86, trousers),
        ellipsoid(0.06, 0, -HIP_M + 0.045, (0.14, 0.05, 0.045), shoes),
    ]
    arm = [_capsule(-0.22, 0.055, 0.52, shirt), ellipsoid(0.0, 0, -0.54, (0.045, 0.035, 0.08), skin)]
    return [
        Limb("trunk", trunk),
        Limb("left_leg", leg, 0.095, HIP_M, 0.45),
        Limb("right_leg", leg, -0.095, HIP_M, -0.45),
        Limb("left_arm", arm, broad + 0.05, SHOULDER_M, -0.35),
        Limb("right_arm", arm, -broad - 0.05, SHOULDER_M, 0.35),
    ]


def limb_pose(limb: Limb, walker: Walker) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """World position (3,) in m and quaternion (4,) w x y z of a limb of the person who walks as ``walker``."""
    s, c = math.sin(walker.yaw), math.cos(walker.yaw)
    position = np.array([walker.x - s * limb.side, walker.y + c * limb.side, limb.height])
    swing = limb.swing * walker.gait * math.sin(2 * math.pi * walker.walked_m / STRIDE_M)
    half_yaw, half_swing = walker.yaw / 2, swing / 2
    cy, sy, cs, ss = math.cos(half_yaw), math.sin(half_yaw), math.cos(half_swing), math.sin(half_swing)
    return position, np.array([cy * cs, -sy * ss, cy * ss, sy * cs])


class Walker:
    """One person's way. ``x``, ``y`` (m), ``yaw`` (rad), ``walked_m``, ``gait`` (0 standing to 1 walking).

    Call ``enter`` once, then ``advance`` as time goes by.
    """

    def __init__(self, floor_map: FloorMap, *, seed: int, number: int) -> None:
        self._map = floor_map
        self._rng = np.random.default_rng([seed, 0x3A17, number])
        clearance = floor_map.clearance()
        self._cost = np.where(clearance > BODY_M, 1.0 + 3.0 * np.exp(-(clearance - BODY_M) / 0.2), -1.0)
        self._rows, self._columns = np.nonzero(floor_map.drivable()[0])  # one region: all of it can be reached
        self._places = np.array(
            [floor_map.center(int(row), int(column)) for row, column in zip(self._rows, self._columns, strict=True)]
        )
        self._speed = float(self._rng.uniform(0.9, 1.3))
        self._way: list[tuple[float, float]] = []
        self._side = 1.0 if number % 2 == 0 else -1.0  # of the robot's axis that the next goal lies on
        self._since_plan_s = self._unseen_s = 0.0
        self.x = self.y = self.yaw = self.walked_m = self.gait = 0.0

    def enter(self, x: float, y: float, yaw: float) -> None:
        """Appear out of view of the robot at (x, y, yaw) (m, rad), where the way into its view is shortest.

        Where all the floor is in view (the robot has its back to a wall) it is the farthest place, as through a door.
        """
        distance, bearing = self._from_robot(x, y, yaw)
        goal = self._choose(distance, bearing)
        way_m = self._search(x, y).find_costs([self._cell(goal)])[0][self._rows, self._columns]
        unseen = (distance > NEAREST_M) & (np.abs(bearing) > SEEN_RAD) & np.isfinite(way_m)
        at = int(np.argmin(np.where(unseen, way_m, np.inf))) if unseen.any() else int(np.argmax(distance))
        self.x, self.y = (float(value) for value in self._places[at])
        self._way, self.gait, self._unseen_s = [], 0.0, 0.0
        self._side = -math.copysign(1.0, float(bearing[at]))  # across the view, to the other side

    def advance(self, x: float, y: float, yaw: float, dt_s: float) -> None:
        """Walk on for ``dt_s`` while the robot is at (x, y, yaw) (m, rad)."""
        off = math.hypot(self.x - x, self.y - y)
        bearing = _wrap(math.atan2(self.y - y, self.x - x) - yaw)
        self._unseen_s = self._unseen_s + dt_s if abs(bearing) > SEEN_RAD else 0.0
        if self._unseen_s > UNSEEN_S:  # the robot has turned away: come in from where it now looks
            self.enter(x, y, yaw)
            return
        self._since_plan_s += dt_s
        if not self._way or self._since_plan_s > PATIENCE_S:
            self._new_way(x, y, yaw)
        step_m = self._speed * dt_s
        if off < KEEP_OFF_M:  # the robot comes too near: step back from it, or aside
            away = math.atan2(self.y - y, self.x - x)
            for turn in (0.0, 0.8, -0.8, 1.5, -1.5):
                if self._move(math.cos(away + turn), math.sin(away + turn), step_m, turn=False):
                    break
            return
        while self._way and math.hypot(self._way[0][0] - self.x, self._way[0][1] - self.y) < max(0.08, step_m):
            self._way.pop(0)
        if not self._way:
            return
        dx, dy = self._way[0][0] - self.x, self._way[0][1] - self.y
        far = math.hypot(dx, dy)
        dx, dy = dx / far, dy / far
        if math.hypot(self.x + 0.1 * dx - x, self.y + 0.1 * dy - y) < min(off, KEEP_OFF_M + 0.15):
            self.gait = max(0.0, self.gait - 4 * dt_s)  # wait until the robot is gone or another way is chosen
        elif not self._move(dx, dy, step_m, turn=True):
            self._way = []

    def _move(self, dx: float, dy: float, step_m: float, *, turn: bool) -> bool:
        """One step along the unit direction (dx, dy); False, and none, where something stands."""
        here, there = self._map.index(self.x, self.y), self._map.index(self.x + dx * step_m, self.y + dy * step_m)
        if self._cost[there] < 0 <= self._cost[here]:
            return False
        self.x, self.y = self.x + dx * step_m, self.y + dy * step_m
        self.walked_m += step_m
        self.gait = min(1.0, self.gait + 4 * step_m)
        if turn:
            error = _wrap(math.atan2(dy, dx) - self.yaw)
            self.yaw += min(max(error, -4.0 * step_m), 4.0 * step_m)
        return True

    def _from_robot(self, x: float, y: float, yaw: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distance in m and bearing in rad of every place, seen from the robot."""
        dx, dy = (self._places - (x, y)).T
        return np.hypot(dx, dy), (np.arctan2(dy, dx) - yaw + np.pi) % (2 * np.pi) - np.pi

    def _cell(self, place: int) -> tuple[int, int]:
        return int(self._rows[place]), int(self._columns[place])

    def _choose(self, distance: NDArray[np.float64], bearing: NDArray[np.float64]) -> int:
        """A place before the robot, on the side of its axis whose turn it is."""
        before = (distance > NEAREST_M) & (distance < FARTHEST_M) & (np.abs(bearing) < HFOV_RAD / 2)
        score = np.abs(bearing - 0.5 * self._side) + 0.3 * np.abs(distance - 1.8) + np.where(before, 0.0, 3.0)
        return int(np.argmin(score + 0.3 * self._rng.random(len(score))))

    def _search(self, x: float, y: float) -> MCP_Geometric:
        """Ways over the free floor that rather go round the robot at (x, y)."""
        distance = np.hypot(self._places[:, 0] - x, self._places[:, 1] - y)
        cost, near = self._cost.copy(), distance < KEEP_OFF_M + 0.2
        cost[self._rows[near], self._columns[near]] = 60.0
        here = self._map.index(self.x, self.y)
        cost[here] = max(cost[here], 1.0)
        return MCP_Geometric(cost)

    def _new_way(self, x: float, y: float, yaw: float) -> None:
        """The way to a place before the robot, on the other side of its axis than the last."""
        if not self._way:
            self._side = -self._side
        self._since_plan_s = 0.0
        goal = self._choose(*self._from_robot(x, y, yaw))
        search, here = self._search(x, y), self._map.index(self.x, self.y)
        costs, _ = search.find_costs([self._cell(goal)], [here])
        if not np.isfinite(costs[here]):  # pushed into a corner: straight on
            self._way = [self._map.center(*self._cell(goal))]
            return
        cells = search.traceback(here)[::-1]
        self._way = [self._map.center(*cell) for cell in [*cells[4:-1:4], cells[-1]]]


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi

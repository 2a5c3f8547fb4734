"""Tasks with an answer that the simulator knows: drive to where a goal picture was taken. Knows arenas, no policy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from egowm_core.types import ImageArray
from egowm_sim.policy_eval.arena import Arena, Error, PoseArray, arc, error_of, free_of_things

SIDES = {"left": (14.0, 25.0), "ahead": (-5.0, 5.0), "right": (-25.0, -14.0)}  # degrees turned on the way
REACHES = {"near": (0.4, 0.6), "far": (0.75, 1.0)}  # m of way
CONDITIONS = tuple(f"{reach} {side}" for reach, side in product(REACHES, SIDES))
MARGIN_M = 0.12  # that the body keeps from things on the way
LEAST_VIEW_M = 1.2  # median depth of start's and goal's pictures: no tasks with the nose at a wall
_TRIES = 300


@dataclass(frozen=True)
class Success:
    """A task is done when the robot ends within ``distance_m`` and ``angle_deg`` of the goal's pose.

    A robot's radius, and an angle at which more than four fifths of the picture (90 degrees wide) are the goal's.
    Every task begins well outside of it.
    """

    distance_m: float = 0.25
    angle_deg: float = 12.0

    def __call__(self, error: Error) -> bool:
        return error.distance_m <= self.distance_m and error.angle_deg <= self.angle_deg


@dataclass(frozen=True)
class Task:
    """From ``start`` to ``goal`` (3,), as pictures (H,W,3) uint8 as well; ``condition`` is one of ``CONDITIONS``."""

    room: int
    number: int
    condition: str
    start: PoseArray
    goal: PoseArray
    goal_image: ImageArray = field(repr=False)

    @property
    def name(self) -> str:
        """Of the room and the task."""
        return f"room_{self.room:06d}_{self.number}"


def draw_tasks(arena: Arena, count: int, *, first: int = 0) -> list[Task]:
    """Up to ``count`` tasks in an arena, conditions in turn from the ``first``; the same ones for the same seed.

    A room may have no place for a condition: then there are fewer.
    """
    rng = np.random.default_rng([arena.seed, 0x7A5C])
    tasks: list[Task] = []
    for number in range(count):
        condition = CONDITIONS[(first + number) % len(CONDITIONS)]
        if (found := _draw(arena, condition, number, rng)) is not None:
            tasks.append(found)
    return tasks


def _draw(arena: Arena, condition: str, number: int, rng: np.random.Generator) -> Task | None:
    reach, side = condition.split(" ")
    for _ in range(_TRIES):
        x, y = arena.room.floor_map.random_free(rng)
        start = np.array([x, y, rng.uniform(-math.pi, math.pi)])
        way = arc(start, float(rng.uniform(*REACHES[reach])), math.radians(rng.uniform(*SIDES[side])))
        if not free_of_things(arena, way, margin_m=MARGIN_M):
            continue
        arena.put(start)
        if arena.view_m() < LEAST_VIEW_M:
            continue
        arena.put(way[-1])
        if arena.view_m() < LEAST_VIEW_M or arena.touched_ticks:
            continue
        goal = arena.at()
        if error_of(start, goal).distance_m > Success().distance_m:
            return Task(arena.seed, number, condition, start, goal, arena.picture())
    return None

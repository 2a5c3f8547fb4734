"""The tasks of the planning bench: where the robot starts, and a picture it took 1 to 3 m further on.

Both lie on one drive of the wandering driver with real wheels, so that a way between them exists. The goal lies ahead
and in view: a picture goal says nothing about what is behind the camera. Knows rooms and drives; no planner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.geometry import se2_delta
from egowm_sim.futures import Poses, Stage

RATE_HZ = 4.0
DRIVE_S = 60.0
WAY_M = (1.0, 3.0)  # along the drive, from start to goal
LEAST_STRAIGHT = 0.7  # of the way as the crow flies: no loops
VIEW_RAD = np.deg2rad(40.0)  # bearing of the goal, half the camera's field of view less some
TURN_RAD = np.deg2rad(60.0)  # difference of headings: more, and the pictures have nothing in common


@dataclass(frozen=True, eq=False)
class Task:
    """From ``start`` (3,) to ``goal`` (3,), x, y, yaw in the room of ``seed``; ``way`` (n,3) is how the robot went.

    ``picture`` (H,W,3) uint8 is what the camera sees at the goal, ``way_m`` the length of the way.
    """

    seed: int
    start: NDArray[np.float64]
    goal: NDArray[np.float64]
    way: Poses
    way_m: float
    picture: NDArray[np.uint8]


def find_task(stage: Stage) -> Task | None:
    """The task of this room, always the same one; None where its drive has none that fits."""
    poses = stage.drive(DRIVE_S, rate_hz=RATE_HZ)
    generator = np.random.default_rng([stage.seed, 0x90A1])
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(poses[:, :2], axis=0).T))])
    for first in generator.permutation(len(poses)).tolist():
        wanted = travelled[first] + generator.uniform(*WAY_M)
        last = int(np.searchsorted(travelled, wanted))
        if last >= len(poses) or not _fits(poses[first], poses[last], float(travelled[last] - travelled[first])):
            continue
        way = poses[first : last + 1]
        picture = stage.render(poses[last][None]).images[0]
        return Task(stage.seed, poses[first], poses[last], way, float(travelled[last] - travelled[first]), picture)
    return None


def _fits(start: NDArray[np.float64], goal: NDArray[np.float64], way_m: float) -> bool:
    x, y, turn = se2_delta(start, goal).tolist()
    straight = float(np.hypot(x, y))
    return (
        WAY_M[0] <= way_m <= WAY_M[1]
        and straight >= LEAST_STRAIGHT * way_m
        and abs(float(np.arctan2(y, x))) <= VIEW_RAD
        and abs(turn) <= TURN_RAD
    )

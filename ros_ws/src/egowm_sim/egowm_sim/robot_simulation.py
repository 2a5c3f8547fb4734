"""What every simulated robot has: a seed, a clock of whole ticks, odometry, a camera; and the words for an instant.

Knows no room, no body and no physics: a subclass builds the scene, steps it and tells the pose.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_sim.backend import SimulationError
from egowm_sim.robot import Odometry, WheelOdometry
from egowm_sim.view import CameraView, Truth

TIMESTEP_S = 0.005
TICK_S = 0.01  # how often the motors get new set points
START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class Pose:
    """True pose in the room (m, rad) and true body twist (m/s, rad/s)."""

    x: float
    y: float
    yaw: float
    v: float
    w: float


@dataclass(frozen=True)
class Instant:
    """Odometry and true pose of one instant."""

    odometry: Odometry
    pose: Pose
    stamp_ns: int


@dataclass(frozen=True)
class Observation:
    """``image`` (H,W,3) uint8 RGB with the odometry and true pose of the same instant."""

    image: NDArray[np.uint8]
    odometry: Odometry
    pose: Pose
    stamp_ns: int


class RobotSimulation(CameraView, ABC):
    """Simulated time starts at ``start_ns`` and moves only with the subclass's steps, tick by tick.

    Raises:
        SimulationError: a negative seed, or a picture's size out of range.
    """

    _data: Any  # MjData
    _odometry: WheelOdometry

    def __init__(self, *, seed: int, height: int, width: int, start_ns: int) -> None:
        if seed < 0:
            raise SimulationError(f"seed is {seed}; expected 0 or more")
        if not (16 <= height <= 2160 and 16 <= width <= 3840):
            raise SimulationError(f"image size is {height}x{width}; expected between 16x16 and 2160x3840")
        self.seed, self.height, self.width = seed, height, width
        self.start_ns, self._ticks = start_ns, 0
        self._substeps = round(TICK_S / TIMESTEP_S)

    @abstractmethod
    def pose(self) -> Pose:
        """True pose and twist in the room."""

    @property
    def stamp_ns(self) -> int:
        """Simulated time now."""
        return self.start_ns + self._ticks * round(TICK_S * 1e9)

    def shift_clock(self, by_ns: int) -> None:
        """Move the stamps of now and all that follows by ``by_ns`` (a start elsewhere, a stall); nothing else moves."""
        self.start_ns += by_ns
        self._odometry.shift_clock(by_ns)

    def odometry(self) -> Odometry:
        """Dead reckoning of the last step."""
        return self._odometry.now

    def observe(self) -> Observation:
        """The camera's picture with odometry and true pose, now."""
        self.open_camera()
        instant = self.snapshot()
        return Observation(self.render(), instant.odometry, instant.pose, instant.stamp_ns)

    def truth(self) -> Truth:
        """Structure ids and depth of the camera's picture, now; the robot's own body is background."""
        self.open_camera()
        self.snapshot()
        return self.render_truth()

    def snapshot(self) -> Instant:
        """Take the present poses for the next ``render``; from the thread that steps, while none renders."""
        self.look(self._data)
        return Instant(self.odometry(), self.pose(), self.stamp_ns)

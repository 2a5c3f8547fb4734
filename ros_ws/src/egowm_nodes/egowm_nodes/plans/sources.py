"""What all kinds of plans have in common: how they are asked for a model's actions, and what they answer.

Knows no kind of plan and no ROS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egowm_core.embodiment import Embodiment
from egowm_core.types import ActionSource, FloatArray

MAX_ROWS = 4096
_MOST = 1e7  # m, rad, m/s: no plan of a robot, and beyond it sums overflow
_BASE_FIELDS = {"linear.x": 0, "linear.y": 1, "angular.z": 2, "linear_velocity": 0, "angular_velocity": 2}
_BASE_UNITS = ("m/s", "rad/s")


@dataclass(frozen=True)
class Moment:
    """What is known at the context frame, taken at ``at_ns``.

    ``state`` (S,) as measured, in the order of the embodiment's states (or else channels); ``pose`` (3,) x, y, yaw in
    the odometry frame; ``held`` (D,) what would be held without a plan; ``twist`` (3,) a fresh commanded velocity.
    """

    at_ns: int
    state: FloatArray | None = None
    pose: NDArray[np.float64] | None = None
    held: FloatArray | None = None
    twist: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Sampled:
    """A plan on the model's ticks: ``values`` (T,D), of which rows after its end and before its start are counted."""

    values: FloatArray
    extended: int = 0
    led_in: int = 0


class PlanSource(Protocol):
    """A plan that was taken, anchored in time. ``stops`` says whether it comes to rest at its end of itself."""

    start_ns: int
    source: ActionSource
    stops: bool

    def lasts_s(self, moment: Moment) -> float:
        """How long after ``start_ns`` it has something to say."""

    def sample(self, moment: Moment, *, rows: int, stop: bool) -> Sampled:
        """Actions (rows,D) from the moment on; after its end at rest (``stop``) or as in its last row.

        Raises EmbodimentError, in words, where it can't be followed from there.
        """


def sane(values: ArrayLike) -> NDArray[np.bool_]:
    """Which values are finite and of a size that robots have."""
    return np.asarray(np.abs(np.asarray(values, np.float64)) <= _MOST)


def base_columns(embodiment: Embodiment) -> dict[int, int]:
    """Columns of actions that are a base's velocities, and the place of each in a planar twist (vx, vy, turn)."""
    return {
        column: _BASE_FIELDS[name.lower()]
        for column, channel in enumerate(embodiment.channels)
        if (name := channel.source or channel.name).lower() in _BASE_FIELDS
        and channel.kind == "velocity"
        and channel.unit in _BASE_UNITS
    }

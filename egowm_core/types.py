"""The values that flow through the house, as frozen dataclasses of numpy arrays.

Shape legend, used in every docstring and as name suffixes:
B batch, T time, C channel, H height, W width, D action channels, N structures.

Stamps are integer nanoseconds (``stamp_ns``); durations in seconds end in ``_s``.
This module knows no model, no ROS and no file format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import DataError

ImageArray = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
StampArray = NDArray[np.int64]

NANOSECONDS_PER_SECOND = 1_000_000_000


class ActionSource(Enum):
    """Which actions a rollout used."""

    PLANNED = "planned"  # what the robot intends to do
    HELD = "held"  # no plan: the last command held
    EXECUTED = "executed"  # what the robot really did (hindsight)


@dataclass(frozen=True)
class Frames:
    """A short video: ``images`` (T,H,W,3) uint8 RGB, ``stamps_ns`` (T,) strictly increasing."""

    images: ImageArray
    stamps_ns: StampArray

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise DataError(f"frames are (T,H,W,3) uint8, got {self.images.shape} {self.images.dtype}")
        if self.stamps_ns.shape != (len(self.images),):
            raise DataError(f"{len(self.images)} frames need as many stamps, got shape {self.stamps_ns.shape}")
        if np.any(np.diff(self.stamps_ns) <= 0):
            raise DataError("frame stamps must increase strictly; sort or drop the repeated ones")

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ActionSequence:
    """``values`` (T,D) float32 in the embodiment's units; row t moves frame t-1 to frame t.

    Row 0 moves the last context frame to the first predicted frame.
    """

    values: FloatArray
    source: ActionSource = ActionSource.PLANNED

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise DataError(f"actions are (T,D), got shape {self.values.shape}")

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Rollout:
    """Predicted ``frames`` (stamped with the future times they predict) and how they came about."""

    frames: Frames
    actions: ActionSequence
    context_stamp_ns: int
    num_denoising_steps: int
    seed: int
    timings_s: dict[str, float] = field(default_factory=dict)  # encode, denoise, decode, total


@dataclass(frozen=True)
class Scores:
    """Structural Consistency Score of a predicted video against the observed one.

    ``iou`` (N,T) float32 in 0..1, NaN where a structure has left the view; ``scs`` maps a horizon
    (frame number, from 1) to the score over frames 1..horizon in 0..100, NaN where nothing can be judged.
    """

    iou: FloatArray
    scs: dict[int, float]
    num_structures: dict[int, int]

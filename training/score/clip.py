"""What is scored: a context frame, what was observed after it, and what was predicted. Knows no file and no metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.types import ImageArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Clip:
    """One clip: ``context`` (H,W,3), ``observed`` (T,H,W,3), ``predicted`` by row name (T,H,W,3), all uint8 RGB.

    ``structures`` (N,H,W) are masks of the context frame, proposed where None; ``observed_masks`` (N,T,H,W) follow
    ``true_structures`` (M,H,W), where a simulator knows them. ``own_body`` (H,W) is where the robot sees itself.
    ``rate_hz`` is the rate of the frames, where known; ``start_s`` when the clip begins in its recording.

    Raises:
        ScoreError: the frames do not fit together.
    """

    name: str
    context: ImageArray
    observed: ImageArray
    predicted: Mapping[str, ImageArray]
    structures: BoolArray | None = None
    structure_names: tuple[str, ...] = ()
    true_structures: BoolArray | None = None
    observed_masks: BoolArray | None = None
    own_body: BoolArray | None = None
    rate_hz: float | None = None
    start_s: float | None = None

    def __post_init__(self) -> None:
        for row, frames in self.predicted.items():
            if frames.shape != self.observed.shape or frames.shape[1:] != self.context.shape:
                raise ScoreError(
                    f"clip {self.name}: context {self.context.shape}, observed {self.observed.shape} and {row}"
                    f" {frames.shape} do not fit; bring them to one length and resolution"
                )
        for name, mask in (("structures", self.structures), ("the own body", self.own_body)):
            if mask is not None and mask.shape[-2:] != self.context.shape[:2]:
                raise ScoreError(
                    f"clip {self.name}: masks of {name} are {mask.shape[-2]}x{mask.shape[-1]}, frames"
                    f" {self.context.shape[0]}x{self.context.shape[1]}; draw them on a frame of this clip"
                )

    def __len__(self) -> int:
        return len(self.observed)

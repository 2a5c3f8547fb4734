"""Strips of frames as PNG: what was observed above what each row predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from egowm_core.types import ImageArray

_ROWS = ("model", "model_wrong_actions", "model_warp_none", "warp_only", "autoencoder")


class _Clip(Protocol):
    @property
    def context(self) -> ImageArray: ...

    @property
    def observed(self) -> ImageArray: ...


def save_strips(
    directory: Path, clips: Sequence[_Clip], predicted: dict[str, list[ImageArray]], *, count: int = 12
) -> None:
    """Write ``clip_000.png``, ...: context and observed frames in the first row, then the table's rows, labelled."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(min(count, len(clips))):
        clip = clips[number]
        rows = [_row("observed", clip.context[-1], clip.observed)]
        rows += [_row(name, clip.context[-1], predicted[name][number]) for name in _ROWS if name in predicted]
        picture = cv2.cvtColor(np.concatenate(rows, axis=0), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(directory / f"clip_{number:03d}.png"), picture)


def _row(label: str, context: ImageArray, frames: ImageArray) -> ImageArray:
    chosen = [context, *frames[1::2]]
    row = np.concatenate([np.pad(frame, ((1, 1), (1, 1), (0, 0))) for frame in chosen], axis=1)
    cv2.putText(row, label, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 2, cv2.LINE_AA)
    cv2.putText(row, label, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return np.asarray(row)

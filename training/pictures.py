"""Pictures of a run: strips of frames, what was observed above what each row predicted; and the training curve."""

from __future__ import annotations

import csv
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
    directory: Path,
    clips: Sequence[_Clip],
    predicted: dict[str, list[ImageArray]],
    *,
    names: Sequence[str] = _ROWS,
    count: int = 12,
) -> None:
    """Write ``clip_000.png``, ...: context and observed frames in the first row, then the rows ``names``, labelled."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(min(count, len(clips))):
        clip = clips[number]
        rows = [_row("observed", clip.context[-1], clip.observed)]
        rows += [_row(name, clip.context[-1], predicted[name][number]) for name in names if name in predicted]
        picture = cv2.cvtColor(np.concatenate(rows, axis=0), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(directory / f"clip_{number:03d}.png"), picture)


def _row(label: str, context: ImageArray, frames: ImageArray) -> ImageArray:
    chosen = [context, *frames[1::2]]
    row = np.concatenate([np.pad(frame, ((1, 1), (1, 1), (0, 0))) for frame in chosen], axis=1)
    cv2.putText(row, label, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 2, cv2.LINE_AA)
    cv2.putText(row, label, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return np.asarray(row)


def save_curve(table: Path, picture: Path) -> None:
    """Draw the error on held-out clips over training (``curve.csv``), true against wrong actions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [float(row["step"]) for row in rows]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    warps = [name.removesuffix("_true") for name in rows[0] if name.endswith("_true")]
    for colour, warp in enumerate(warps):
        for suffix, style in (("true", "-"), ("wrong", "--")):
            label = f"geometry: {warp}, {suffix} actions"
            axes.plot(steps, [float(row[f"{warp}_{suffix}"]) for row in rows], style, color=f"C{colour}", label=label)
    axes.plot(steps, [float(row["copy"]) for row in rows], ":", color="grey", label="context copied")
    axes.set(xlabel="training step", ylabel="latent error of the last frame, one denoising step", ylim=(0, None))
    axes.legend(fontsize=7)
    FigureCanvasAgg(figure).print_png(str(picture))

"""Pictures of an evaluation: what policies saw in the simulator and in the model, and both verdicts side by side.

Knows arrays and figures; knows no model and no simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from egowm_core.types import ImageArray

_SHOWN = 6  # frames of a run
_LABEL_PX = 12


def save_strips(path: Path, runs: Mapping[str, tuple[ImageArray, ImageArray]], goal: ImageArray) -> None:
    """A picture of ``runs``, by policy the frames (1+T,H,W,3) of simulator and model, each row ending at the goal."""
    rows = []
    for name, pair in runs.items():
        for world, frames in zip(("simulator", "model"), pair, strict=True):
            at = np.unique(np.linspace(0, len(frames) - 1, _SHOWN).round().astype(int))
            row = np.concatenate([*frames[at], goal], axis=1)
            label = np.full((_LABEL_PX, row.shape[1], 3), 255, np.uint8)
            cv2.putText(label, f"{name}, {world}", (2, 9), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (0, 0, 0), 1, cv2.LINE_AA)
            cv2.putText(
                label, "goal", (row.shape[1] - goal.shape[1] + 2, 9), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (0, 0, 0), 1,
                cv2.LINE_AA,
            )  # fmt: skip
            rows += [label, row]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))


def plot_rates(path: Path, figures: Mapping[str, Any]) -> None:
    """Success rates by policy with intervals, simulator beside model; and by policy and condition, one on the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    bars, cells = figure.subplots(1, 2, width_ratios=(3, 2))
    rows = figures["rows"]
    for offset, world, color in ((-0.2, "simulator", "C0"), (0.2, "model", "C1")):
        rates = np.array([row[world]["rate"] for row in rows.values()])
        low = rates - [row[world]["low"] for row in rows.values()]
        high = [row[world]["high"] for row in rows.values()] - rates
        at = np.arange(len(rows)) + offset
        bars.bar(at, rates, 0.38, color=color, label=world)
        bars.errorbar(at, rates, yerr=np.stack([low, high]).clip(0), fmt="none", color="0.2", capsize=3)
    bars.set_xticks(range(len(rows)), list(rows))
    bars.set_ylim(0, 1.02)
    bars.set_ylabel("success rate (95 %, Wilson)")
    bars.legend()
    for number, row in enumerate(rows):
        points = [cell for cell in figures["cells"] if cell["policy"] == row]
        cells.scatter(
            [cell["simulator"] for cell in points], [cell["model"] for cell in points], s=26, alpha=0.7,
            color=f"C{number}", label=row,
        )  # fmt: skip
    cells.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    cells.set_xlabel("success rate in the simulator")
    cells.set_ylabel("success rate in the model")
    cells.set_title(f"policies x conditions, r = {figures['agreement']['cells_pearson']['value']:.2f}")
    cells.legend(fontsize=7)
    figure.savefig(path, dpi=110)

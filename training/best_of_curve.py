"""What best of N buys, as figures and a picture: the SCS over N for each way and chooser. Knows no model and no clip.

A record is what one clip gave: ``{"rows": {ROW: {"scs_true": iou, "scs": iou, "psnr": [...]}}}`` with IoUs as nested
lists (N,T), null where nothing is judged. A row is ``WAY_CHOOSER_N``. Gains are paired: N against one draw of the same
way on the same clips, clips resampled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egowm_core.scs.confidence import bootstrap_difference, bootstrap_mean, bootstrap_scs
from egowm_core.types import FloatArray

SCORES = ("scs_true", "scs")
ORACLE = "oracle"
_STYLES = {"mean": "-", "medoid": "--", "hindsight": "-.", ORACLE: ":"}
Record = Mapping[str, Any]


def row_name(way: str, by: str, n: int) -> str:
    """The row of ``n`` draws of a way; one draw is the same whoever chooses."""
    return f"{way}_1" if n == 1 else f"{way}_{by}_{n}"


def best_of_figures(
    records: Sequence[Record], *, choosers: Mapping[str, Sequence[str]], counts: Sequence[int], horizons: Sequence[int]
) -> dict[str, Any]:
    """``rows`` {ROW: {METRIC: {HORIZON: value}}}; ``curves`` {WAY: {CHOOSER: {METRIC: [point]}}} at the last horizon.

    A point is {"n", "mean", "low", "high", "clips", "gain", "gain_low", "gain_high"}; the gain is over one draw of the
    way and has no bounds at ``n`` 1.
    """
    rows: dict[str, dict[str, dict[str, float]]] = {}
    curves: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {}
    for way, names in choosers.items():
        for by in names:
            for n in counts:
                row = row_name(way, by, n)
                if row not in rows:
                    rows[row] = _row(records, row, horizons)
            curves.setdefault(way, {})[by] = {
                score: [_point(records, way, by, n, score, horizons[-1]) for n in counts] for score in SCORES
            }
    return {"clips": len(records), "rows": rows, "curves": curves}


def table(figures: Mapping[str, Any], *, counts: Sequence[int], score: str) -> str:
    """Markdown: a line a way and chooser, a column an N, with the gain over one draw and its interval."""
    lines = [f"| {score} | " + " | ".join(f"N = {n}" for n in counts) + " |", "|" + " --- |" * (len(counts) + 1)]
    for way, choosers in figures["curves"].items():
        for by, metrics in choosers.items():
            cells = []
            for point in metrics[score]:
                cell = _digits(point["mean"])
                if point["n"] > 1:
                    bounds = f"{_digits(point['gain_low'], signed=True)} to {_digits(point['gain_high'], signed=True)}"
                    cell += f" ({_digits(point['gain'], signed=True)}: {bounds})"
                else:
                    cell += f" ({_digits(point['low'])} to {_digits(point['high'])})"
                cells.append(cell)
            lines.append(f"| {way}, {by} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot_curves(path: Path, figures: Mapping[str, Any], *, horizon: int) -> None:
    """The curves as a PNG: one panel a kind of SCS; the gain over one draw against N, its interval as bars."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(SCORES), sharey=True)
    ways = list(figures["curves"])
    shown = [(way, by) for way, choosers in figures["curves"].items() for by in choosers]
    for axis, score in zip(axes, SCORES, strict=True):
        for number, (way, by) in enumerate(shown):
            points = [p for p in figures["curves"][way][by][score] if math.isfinite(p["gain"])]
            if not points:
                continue
            at = np.array([p["n"] for p in points]) * 2 ** (0.05 * (number - len(shown) / 2))
            gain = np.array([p["gain"] for p in points])
            low = gain - np.array([p["gain_low"] if p["n"] > 1 else p["gain"] for p in points])
            high = np.array([p["gain_high"] if p["n"] > 1 else p["gain"] for p in points]) - gain
            axis.errorbar(
                at, gain, yerr=np.stack([low, high]).clip(0), label=f"{way}, {by}", capsize=2, linewidth=1.3,
                linestyle=_STYLES.get(by, "-"), marker="o", markersize=3, color=f"C{ways.index(way)}",
            )  # fmt: skip
        axis.axhline(0, color="0.6", linewidth=0.8)
        axis.set_xscale("log", base=2)
        counts = sorted({p["n"] for way, by in shown for p in figures["curves"][way][by][score]})
        axis.set_xticks(counts, [str(n) for n in counts])
        axis.set_xlabel("N, draws of one future")
        axis.set_title(f"{score}, frames 1 to {horizon}")
    axes[0].set_ylabel("points of SCS over one draw (95 %)")
    if labelled := next((axis for axis in axes if axis.get_legend_handles_labels()[0]), None):
        labelled.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _row(records: Sequence[Record], row: str, horizons: Sequence[int]) -> dict[str, dict[str, float]]:
    found = {
        score: {str(h): round(item.mean, 3) for h, item in bootstrap_scs(_ious(records, row, score), horizons).items()}
        for score in SCORES
    }
    psnr = [record["rows"][row]["psnr"] for record in records]
    found["psnr"] = {str(h): round(bootstrap_mean([v[h - 1] for v in psnr]).mean, 3) for h in horizons}
    return found


def _point(records: Sequence[Record], way: str, by: str, n: int, score: str, horizon: int) -> dict[str, Any]:
    ious, single = (_ious(records, row_name(way, by, k), score) for k in (n, 1))
    mean = bootstrap_scs(ious, (horizon,))[horizon]
    gain = bootstrap_difference(ious, single, (horizon,))[horizon]
    bounds = {"gain_low": round(gain.low, 3), "gain_high": round(gain.high, 3)} if n > 1 else {}
    known = {"n": n, "mean": round(mean.mean, 3), "low": round(mean.low, 3), "high": round(mean.high, 3)}
    return {**known, "clips": mean.clips, "gain": round(gain.mean, 3), **bounds}


def _ious(records: Sequence[Record], row: str, score: str) -> list[FloatArray]:
    found = []
    for record in records:
        values = record["rows"][row].get(score)
        found.append(np.array(values, np.float32) if values else np.zeros((0, 1), np.float32))  # null becomes NaN
    return found


def _digits(value: float, *, signed: bool = False) -> str:
    return "-" if not math.isfinite(value) else f"{value:+.1f}" if signed else f"{value:.1f}"

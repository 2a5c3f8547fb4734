"""Many clips as one table: means over clips and how sure they are, by resampling clips. Knows no file and no page.

``rows`` is {row: {metric: {horizon: value}}}. ``scs`` and ``scs_true`` are means over frames 1..h, as in the EgoWM
paper, over all structures and frames of all clips; ``scs_at``, ``psnr``, ``ssim``, ``lpips``, ``dreamsim`` are of frame
h alone; Physics-IQ's four, ``fid`` and ``fvd`` are of frames 1..h. Intervals are by resampling clips
(``egowm_core.scs.confidence``): frames and structures of one clip depend on each other, so that a clip is the unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from egowm_core.scs.confidence import Interval, bootstrap_difference, bootstrap_mean, bootstrap_scs
from egowm_core.types import FloatArray
from training.score.measure import BEST_PSNR_DB, ClipScore, Measured

Table = dict[str, dict[str, dict[str, float]]]
Intervals = dict[str, dict[str, dict[str, dict[str, float]]]]
LEVEL, RESAMPLES = 0.95, 2000


def summarise(measured: Measured, horizons: Sequence[int], *, seed: int = 0) -> tuple[Table, Intervals]:
    """Means over clips and their intervals {"low", "high", "clips", "structures"}; NaN where nothing is judged."""
    table: Table = {}
    intervals: Intervals = {}
    for row in measured.rows:
        scores = measured.of(row)
        table[row], intervals[row] = {}, {}
        for metric in row_metrics(scores):
            found = _intervals(scores, metric, horizons, seed)
            table[row][metric] = {str(h): rounded(metric, item.mean) for h, item in found.items()}
            intervals[row][metric] = {str(h): _plain(metric, item) for h, item in found.items()}
        for metric, by_horizon in measured.sets.get(row, {}).items():
            table[row][metric] = {str(h): round(value, 3) for h, value in by_horizon.items()}
    return table, intervals


def differences(measured: Measured, horizons: Sequence[int], *, seed: int = 0) -> Intervals:
    """How many points of SCS the first row has over each other row of the same clips, with paired intervals.

    {other row: {"scs" or "scs_true": {horizon: {"mean", "low", "high", "clips", "structures"}}}}; empty for one row.
    """
    found: Intervals = {}
    rows = measured.rows
    first = measured.of(rows[0]) if rows else []
    for row in rows[1:]:
        scores = measured.of(row)
        if [score.clip for score in scores] != [score.clip for score in first]:
            continue
        for kind in sorted({name for score in first for name in score.iou}):
            ious = [[score.iou[kind] for score in side if kind in score.iou] for side in (first, scores)]
            paired = bootstrap_difference(ious[0], ious[1], horizons, resamples=RESAMPLES, level=LEVEL, seed=seed)
            found.setdefault(row, {})[kind] = {
                str(h): {"mean": round(item.mean, 3), **_plain(kind, item)} for h, item in paired.items()
            }
    return found


def _intervals(scores: Sequence[ClipScore], metric: str, horizons: Sequence[int], seed: int) -> dict[int, Interval]:
    ious = [score.iou[metric] for score in scores if metric in score.iou]
    if ious:
        return bootstrap_scs(ious, horizons, resamples=RESAMPLES, level=LEVEL, seed=seed)
    return {
        h: bootstrap_mean([value_at(score, metric, h) for score in scores], resamples=RESAMPLES, level=LEVEL, seed=seed)
        for h in horizons
    }


def _plain(metric: str, item: Interval) -> dict[str, float]:
    bounds = {"low": rounded(metric, item.low), "high": rounded(metric, item.high)}
    return {**bounds, "clips": item.clips, "structures": item.structures}


def row_metrics(scores: Sequence[ClipScore]) -> list[str]:
    """The metrics that the clips of a row have, sorted."""
    return sorted({name for score in scores for name in (*score.scs, *score.series, *score.means)})


def value_at(score: ClipScore, metric: str, horizon: int) -> float:
    """A clip's value of a metric at a horizon; NaN beyond its end or where nothing is judged."""
    for means in (score.scs, score.means):
        if metric in means:
            return means[metric].get(horizon, math.nan)
    series = score.series.get(metric)
    if series is None or horizon > len(series):
        return math.nan
    return min(float(series[horizon - 1]), BEST_PSNR_DB) if metric == "psnr" else float(series[horizon - 1])


def curves(measured: Measured, *, seed: int = 0) -> dict[str, dict[str, FloatArray]]:
    """{metric: {row: (T,3)}}: mean over clips of each frame alone, and its interval, for metrics of single frames."""
    found: dict[str, dict[str, FloatArray]] = {}
    for row in measured.rows:
        scores = measured.of(row)
        for metric in sorted({name for score in scores for name in score.series}):
            length = max(len(score.series.get(metric, ())) for score in scores)
            points = [
                bootstrap_mean([value_at(score, metric, t) for score in scores], resamples=500, level=LEVEL, seed=seed)
                for t in range(1, length + 1)
            ]
            found.setdefault(metric, {})[row] = np.array([(p.mean, p.low, p.high) for p in points], np.float32)
    return found


def rounded(metric: str, value: float) -> float:
    """Three decimals, as tables have it; six of a mean squared error, which is small."""
    return round(value, 6 if metric == "mse" else 3)

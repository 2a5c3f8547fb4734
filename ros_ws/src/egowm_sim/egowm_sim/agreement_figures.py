"""Figures of judged futures: how well tracking agrees with truth, and what the SCS sees that PSNR and SSIM do not.

Everything is computed from the records of ``agreement.judge_room``. A *condition* is one action error or one
degradation at one level; its row is named ``yaw_bias:3``. Intervals resample clips, since the futures of one clip
share its structures. Knows no simulator and no plot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError

# what is compared: an estimate and its truth
PAIRS: Mapping[str, tuple[str, str]] = {
    "tracked": ("scs_tracked", "scs_masks"),
    "half_tracked": ("scs_true", "scs_masks"),
    "automatic": ("scs", "scs_carried"),
    "automatic_other_structures": ("scs", "scs_masks"),
    "truth_other_structures": ("scs_carried", "scs_masks"),
    "tracked_against_carried": ("scs_tracked", "scs_masks_carried"),
}
GROUPS = ("action", "degraded", "combined", "all", "one_a_clip")
WITHIN = 5.0  # points: the goal for a clip
ORDER_TOLERANCE = 1.0  # points: a rise by less from one level to the next is no rise
RESAMPLES = 1000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One future of one clip. ``clip`` numbers clips from 0; ``values`` is {metric: {horizon: value}}."""

    clip: int
    error: str | None
    error_level: int
    degradation: str | None
    degradation_level: int
    values: Mapping[str, Mapping[str, float]]

    @property
    def group(self) -> str:
        """identical, action, degraded or combined."""
        if self.error:
            return "combined" if self.degradation else "action"
        return "degraded" if self.degradation else "identical"

    @property
    def condition(self) -> str:
        """The name of its row."""
        parts = [f"{self.error}:{self.error_level}"] if self.error else []
        parts += [f"{self.degradation}:{self.degradation_level}"] if self.degradation else []
        return "+".join(parts) or "identical"


def judged_futures(rooms: Iterable[Mapping[str, Any]]) -> list[Judged]:
    """The futures in the records of ``agreement.judge_room``, NaN where JSON has null."""
    out: list[Judged] = []
    clips = (clip for room in rooms for clip in room["clips"])
    for number, clip in enumerate(clips):
        for future in clip["futures"]:
            values = {
                metric: {horizon: math.nan if value is None else float(value) for horizon, value in series.items()}
                for metric, series in future["metrics"].items()
            }
            error, degradation = future["error"], future["degradation"]
            out.append(Judged(number, error, future["error_level"], degradation, future["degradation_level"], values))
    return out


def of_group(futures: Sequence[Judged], group: str) -> list[Judged]:
    """Those of one of ``GROUPS``; "all" leaves out the identical ones, "one_a_clip" takes one of those of each clip.

    Raises:
        ScoreError: no such group.
    """
    if group not in GROUPS:
        raise ScoreError(f"no group {group!r}; expected one of {', '.join(GROUPS)}")
    if group in ("action", "degraded", "combined"):
        return [future for future in futures if future.group == group]
    moved = [future for future in futures if future.group != "identical"]
    if group == "all":
        return moved
    rng = np.random.default_rng(0)
    by_clip: dict[int, list[Judged]] = {}
    for future in moved:
        by_clip.setdefault(future.clip, []).append(future)
    return [items[int(rng.integers(len(items)))] for items in by_clip.values()]


def values_of(futures: Sequence[Judged], metric: str, horizon: int) -> Array:
    """(F,) of one metric over frames 1..horizon."""
    return np.array([future.values[metric][str(horizon)] for future in futures], np.float64)


def agreement(
    estimate: Array, truth: Array, clips: NDArray[np.integer], *, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """How ``estimate`` (F,) agrees with ``truth`` (F,), in points, over pairs where both are judged.

    ``mean_difference`` is of absolute values, ``bias`` of signed ones. With ``resamples``, 95% intervals of the two
    headline figures, resampling ``clips`` (F,). A correlation is NaN where the truth never changes.
    """
    both = np.isfinite(estimate) & np.isfinite(truth)
    estimate, truth, clips = estimate[both], truth[both], clips[both]
    if len(estimate) < 3:
        return {"futures": len(estimate), "clips": len(set(clips.tolist()))}
    from scipy.stats import spearmanr

    varied = float(np.ptp(truth)) > 0 and float(np.ptp(estimate)) > 0
    difference = estimate - truth
    out: dict[str, Any] = {
        "futures": len(estimate),
        "clips": len(set(clips.tolist())),
        "mean_difference": float(np.abs(difference).mean()),
        "bias": float(difference.mean()),
        "largest_difference": float(np.abs(difference).max()),
        "within_5": float((np.abs(difference) <= WITHIN).mean()),
        "pearson": _pearson(estimate, truth),
        "spearman": float(spearmanr(estimate, truth).statistic) if varied else math.nan,
    }
    if resamples:
        members = [np.flatnonzero(clips == clip) for clip in np.unique(clips)]
        rng = np.random.default_rng(0)
        draws = []
        for _ in range(resamples):
            chosen = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
            draws.append((np.abs(difference[chosen]).mean(), _pearson(estimate[chosen], truth[chosen])))
        for i, name in enumerate(("mean_difference", "pearson")):
            column = np.array(draws)[:, i]
            bounds = np.quantile(column, (0.025, 0.975)) if np.isfinite(column).all() else (math.nan, math.nan)
            out[f"{name}_interval"] = [float(bound) for bound in bounds]
    return out


def _pearson(a: Array, b: Array) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if float(np.ptp(a)) > 0 and float(np.ptp(b)) > 0 else math.nan


def table(futures: Sequence[Judged], horizons: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """{condition: {metric: {horizon: mean over clips}}}, the combined ones as one row."""
    by_row: dict[str, list[Judged]] = {}
    for future in futures:
        by_row.setdefault("combined" if future.group == "combined" else future.condition, []).append(future)
    order = sorted(by_row, key=lambda row: (row != "identical", row))
    return {
        row: {
            metric: {str(h): _mean(values_of(by_row[row], metric, h)) for h in horizons}
            for metric in by_row[row][0].values
        }
        for row in order
    }


def _mean(values: Array) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else math.nan


def order(futures: Sequence[Judged], error: str, metric: str, horizon: int) -> dict[str, Any]:
    """Whether ``metric`` falls with the level of an action error; level 0 is the identical future.

    ``means`` over clips by level; ``steps_in_order`` and ``clips_in_order`` are shares of steps between neighbouring
    levels, and of clips with all steps, that do not rise (SCS: by more than ``ORDER_TOLERANCE``); ``kendall_of_means``
    and ``kendall`` (mean over clips) are -1 where it always falls; ``isotonic_residual`` is how far the means are from
    the nearest falling curve.
    """
    from scipy.optimize import isotonic_regression
    from scipy.stats import kendalltau

    series: dict[int, dict[int, float]] = {}
    for future in futures:
        if future.group == "action" and future.error == error:
            series.setdefault(future.clip, {})[future.error_level] = future.values[metric][str(horizon)]
    for future in futures:
        if future.group == "identical" and future.clip in series:
            series[future.clip][0] = future.values[metric][str(horizon)]
    levels = sorted({level for by_level in series.values() for level in by_level})
    grid = np.array([[by_level.get(level, math.nan) for level in levels] for by_level in series.values()], np.float64)
    grid = grid[np.isfinite(grid).all(axis=1)] if len(grid) else grid.reshape(0, 0)
    if not len(grid):
        return {"clips": 0}
    steps = np.diff(grid, axis=1) <= (ORDER_TOLERANCE if metric.startswith("scs") else 0.0)
    means = grid.mean(axis=0)
    fitted = isotonic_regression(means, increasing=False).x
    return {
        "clips": len(grid),
        "levels": levels,
        "means": [float(mean) for mean in means],
        "steps_in_order": float(steps.mean()),
        "clips_in_order": float(steps.all(axis=1).mean()),
        "kendall_of_means": float(kendalltau(levels, means).statistic),
        "kendall": float(np.nanmean([kendalltau(levels, row).statistic for row in grid if np.ptp(row) > 0])),
        "isotonic_residual": float(np.abs(means - fitted).max()),
    }


def separation(futures: Sequence[Judged], metric: str, horizon: int, *, least_level: int = 2) -> dict[str, float]:
    """How surely ``metric`` ranks a right motion in worse pictures above a wrong motion in perfect ones: 0..1.

    The probability that a random degraded future (any level) scores better than a random one with an action error
    of at least ``least_level`` (the area under the ROC curve); 0.5 is chance, below it prefers the wrong motion.
    For each kind of degradation, and "all".
    """
    wrong_futures = [future for future in of_group(futures, "action") if future.error_level >= least_level]
    wrong = values_of(wrong_futures, metric, horizon)
    degraded = of_group(futures, "degraded")
    kinds = {"all": degraded}
    for future in degraded:
        kinds.setdefault(str(future.degradation), []).append(future)
    lower = metric in ("lpips", "dreamsim")
    out = {}
    for kind in sorted(kinds):
        right = values_of(kinds[kind], metric, horizon)
        out[kind] = _above(wrong, right) if lower else _above(right, wrong)
    return out


def _above(first: Array, second: Array) -> float:
    """The probability that a value of ``first`` exceeds one of ``second``, ties by half."""
    from scipy.stats import mannwhitneyu

    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    if not len(first) or not len(second):
        return math.nan
    return float(mannwhitneyu(first, second, method="asymptotic").statistic / (len(first) * len(second)))


def by_structure(rooms: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, float]]]:
    """Where tracking is off: mean difference in points of single structures, by area, border and what is revealed."""
    facts = [structure for room in rooms for clip in room["clips"] for structure in clip["structures"]]
    facts = [fact for fact in facts if fact["difference"] is not None and math.isfinite(fact["difference"])]
    edges = {"area": (0, 0.01, 0.02, 0.05, 0.1, 1), "border": (0, 0.001, 0.1, 1), "revealed": (0, 0.05, 0.1, 0.2, 1.01)}
    out: dict[str, list[dict[str, float]]] = {}
    for name, bounds in edges.items():
        for low, high in pairwise(bounds):
            inside = [fact["difference"] for fact in facts if low <= fact[name] < high]
            if inside:
                out.setdefault(name, []).append(
                    {"from": low, "to": high, "structures": len(inside), "mean_difference": float(np.mean(inside))}
                )
    return out


def all_figures(rooms: Sequence[Mapping[str, Any]], horizons: Sequence[int]) -> dict[str, Any]:
    """Everything: {"rows", "agreement", "by_condition", "order", "separation", "structures", "counts"}."""
    futures = judged_futures(rooms)
    rows = table(futures, horizons)
    metrics = [metric for metric in next(iter(rows.values())) if metric not in ("scs_carried", "scs_masks_carried")]
    errors = sorted({future.error for future in futures if future.error})
    last = max(horizons)
    compared: dict[str, Any] = {}
    for pair, (estimate, truth) in PAIRS.items():
        for group in GROUPS:
            members = of_group(futures, group)
            clips = np.array([future.clip for future in members])
            for horizon in horizons:
                compared.setdefault(pair, {}).setdefault(group, {})[str(horizon)] = agreement(
                    values_of(members, estimate, horizon), values_of(members, truth, horizon), clips,
                    resamples=RESAMPLES if horizon == last else 0,
                )  # fmt: skip
    conditions = [row for row in rows if row not in ("identical", "combined")]
    by_condition = {
        pair: agreement(
            np.array([rows[row][estimate][str(last)] for row in conditions]),
            np.array([rows[row][truth][str(last)] for row in conditions]),
            np.arange(len(conditions)),
            resamples=0,
        )
        for pair, (estimate, truth) in PAIRS.items()
    }
    return {
        "rows": rows,
        "agreement": compared,
        "by_condition": by_condition,
        "order": {error: {metric: order(futures, error, metric, last) for metric in metrics} for error in errors},
        "separation": {metric: separation(futures, metric, last) for metric in metrics},
        "structures": by_structure(rooms),
        "counts": {
            "rooms": len(rooms),
            "clips": len({future.clip for future in futures}),
            "futures": len(futures),
            "proposed": sum(clip["proposed"] for room in rooms for clip in room["clips"]),
            "excluded": sum(clip["excluded"] for room in rooms for clip in room["clips"]),
            "unjudged_automatic": int(np.isnan(values_of(futures, "scs", last)).sum()),
            **{group: len(of_group(futures, group)) for group in ("action", "degraded", "combined")},
        },
    }

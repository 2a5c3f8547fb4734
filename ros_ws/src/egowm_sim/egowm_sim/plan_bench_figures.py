"""What the planning bench measured: success, path length and bumps of each planner, with 95% intervals.

Shares have Wilson's interval, means and medians a bootstrap's over tasks. SPL is success weighted by path length
(Anderson et al., arXiv 1807.06757) with the way on which the goal was found for the shortest one, which it may not be.
Differences of success are paired: the same tasks. Knows episodes as JSON; no planner and no simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959964
RESAMPLES = 2000
Array = NDArray[np.float64]


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95% interval of a share (Wilson, 1927); NaN without trials."""
    if trials == 0:
        return math.nan, math.nan
    share, z2 = successes / trials, Z95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    values: Sequence[float], statistic: Callable[[Array], Array] | None = None, *, seed: int = 0
) -> tuple[float, float]:
    """95% interval of ``statistic`` (along the last axis; the mean) by resampling values; NaN of less than two."""
    if len(values) < 2:
        return math.nan, math.nan
    found = np.asarray(values, np.float64)
    drawn = found[np.random.default_rng(seed).integers(0, len(found), (RESAMPLES, len(found)))]
    estimates = drawn.mean(axis=-1) if statistic is None else statistic(drawn)
    low, high = np.percentile(estimates, [2.5, 97.5])
    return float(low), float(high)


def row_figures(episodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures of one planner's episodes. ``X_low`` and ``X_high`` are X's interval."""
    successes = [bool(one["success"]) for one in episodes]
    arrived = [one for one in episodes if one["success"]]
    bumped = sum(one["bumps"] > 0 for one in episodes)
    spl = [one["success"] * one["way_m"] / max(one["way_m"], one["travelled_m"]) for one in episodes]
    travelled = [float(one["travelled_m"]) for one in arrived]
    ratio = [one["travelled_m"] / one["way_m"] for one in arrived]
    off = [float(one["off_m"]) for one in episodes]
    figures: dict[str, Any] = {"n": len(episodes), "successes": sum(successes)}
    figures |= _with("success", _mean(successes), wilson(sum(successes), len(successes)))
    figures |= _with("spl", _mean(spl), bootstrap(spl))
    figures |= _with("path_m", _mean(travelled), bootstrap(travelled))
    figures |= _with("path_ratio", _mean(ratio), bootstrap(ratio))
    figures |= _with("off_m_median", _median(off), bootstrap(off, lambda drawn: np.median(drawn, axis=-1)))
    figures |= _with("bumped", bumped / len(episodes) if episodes else math.nan, wilson(bumped, len(episodes)))
    figures["ticks"] = round(_mean([float(one["ticks"]) for one in episodes]), 2)
    figures["cpu_s"] = round(_mean([float(one["cpu_s"]) for one in episodes]), 2)
    return figures


def differences(rows: Mapping[str, Sequence[Mapping[str, Any]]], *, of: str = "model") -> dict[str, Any]:
    """By how much success of ``of`` exceeds that of each other row on the same tasks, with a paired bootstrap."""
    if of not in rows:
        return {}
    mine = {one["seed"]: float(one["success"]) for one in rows[of]}
    found: dict[str, Any] = {}
    for name, episodes in rows.items():
        gaps = [mine[one["seed"]] - float(one["success"]) for one in episodes if one["seed"] in mine]
        if name != of:
            found[name] = {"n": len(gaps), **_with("success_gap", _mean(gaps), bootstrap(gaps))}
    return found


def format_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as a table for people."""
    head = f"{'planner':<12}{'success':>22}{'SPL':>20}{'path, arrived':>22}{'off, median':>22}{'bumped':>20}"
    lines = [head, "-" * len(head)]
    for name, row in rows.items():
        lines.append(
            f"{name:<12}{_percent(row, 'success'):>22}{_number(row, 'spl'):>20}{_number(row, 'path_m', ' m'):>22}"
            f"{_number(row, 'off_m_median', ' m'):>22}{_percent(row, 'bumped'):>20}"
        )
    number = max((int(row["n"]) for row in rows.values()), default=0)
    return "\n".join([*lines, f"n = {number} tasks a planner; 95% intervals in brackets"])


def _with(name: str, value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {name: round(value, 4), f"{name}_low": round(interval[0], 4), f"{name}_high": round(interval[1], 4)}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else math.nan


def _percent(row: Mapping[str, Any], name: str) -> str:
    value, low, high = (100 * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return "-" if math.isnan(value) else f"{value:.0f} % [{low:.0f}, {high:.0f}]"


def _number(row: Mapping[str, Any], name: str, unit: str = "") -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if math.isnan(low):
        return "-" if math.isnan(value) else f"{value:.2f}{unit}"
    return f"{value:.2f}{unit} [{low:.2f}, {high:.2f}]"

"""How sure a mean SCS over clips is: bootstrap intervals, resampled by clip.

Structures and frames of one clip are not independent (one room, one motion): whole clips are drawn with replacement,
and each draw is averaged over the structures and frames that it holds, as the score itself is (percentile intervals:
Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Two rows of a table that were measured on the
same clips are compared by the paired difference: the same clips are drawn for both. Knows IoUs and plain values alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.types import FloatArray

_DRAWS_AT_ONCE = 4_000_000  # counts held at a time: 32 MB

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """``mean`` between ``low`` and ``high``; NaN where nothing could be judged, the bounds also with one clip alone.

    ``clips`` and ``structures`` are how many it rests on (structures 0 where the values were not of structures).
    """

    mean: float
    low: float
    high: float
    clips: int
    structures: int


def bootstrap_scs(
    ious: Sequence[FloatArray],
    horizons: Sequence[int],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[int, Interval]:
    """Mean SCS over frames 1..h of several clips in 0..100 with its interval, for each horizon h.

    ``ious`` are one (N,T) array a clip, NaN where nothing is judged; N and T may differ. A clip shorter than h, or with
    nothing to judge within it, does not count at h.

    Raises:
        ScoreError: an array is not (N,T), a horizon below 1, or ``resamples`` or ``level`` out of range.
    """
    intervals = {}
    for horizon in horizons:
        totals, counts, structures = _sums(ious, horizon)
        intervals[int(horizon)] = _interval(
            100 * totals, counts, structures, resamples=resamples, level=level, seed=seed
        )
    return intervals


def bootstrap_difference(
    ious: Sequence[FloatArray],
    others: Sequence[FloatArray],
    horizons: Sequence[int],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[int, Interval]:
    """SCS of ``ious`` minus that of ``others``, in points: two rows over the same clips, in the same order.

    Only clips where both can be judged count. 0 outside of low..high: a difference at this level.

    Raises:
        ScoreError: as ``bootstrap_scs``, or the rows are not of the same clips (their numbers differ).
    """
    if len(ious) != len(others):
        raise ScoreError(f"a paired difference needs the same clips in both rows, got {len(ious)} and {len(others)}")
    _check(resamples, level)
    intervals = {}
    for horizon in horizons:
        first, first_counts, first_structures = _sums(ious, horizon)
        second, second_counts, second_structures = _sums(others, horizon)
        both = (first_counts > 0) & (second_counts > 0)
        clips, structures = int(both.sum()), int(np.minimum(first_structures, second_structures)[both].sum())
        weights = (first[both], first_counts[both], second[both], second_counts[both])
        mean = _difference(np.ones((1, clips)), *weights)[0] if clips else float("nan")
        drawn = (
            np.concatenate([_difference(draw, *weights) for draw in _draws(clips, resamples, seed)])
            if clips > 1
            else np.full(1, np.nan)
        )
        intervals[int(horizon)] = _bounds(float(mean), drawn, level, clips, structures)
    return intervals


def bootstrap_mean(
    values: Sequence[float] | Array, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of one value a clip (PSNR, SSIM, ...) with its interval; NaN values do not count.

    Raises:
        ScoreError: the values are not a line of numbers, one is infinite, or ``resamples`` or ``level`` out of range.
    """
    series = np.asarray(values, np.float64)
    if series.ndim != 1 or np.isinf(series).any():
        raise ScoreError(f"a mean is over finite values, one a clip; got {series.shape}, cap infinite ones first")
    judged = np.isfinite(series)
    zeros = np.zeros(len(series), np.int64)
    return _interval(
        np.where(judged, series, 0), judged.astype(np.float64), zeros, resamples=resamples, level=level, seed=seed
    )


def _sums(ious: Sequence[FloatArray], horizon: int) -> tuple[Array, Array, NDArray[np.int64]]:
    """Per clip: the sum of IoU over frames 1..horizon, how many it is of, and of how many structures."""
    if horizon < 1:
        raise ScoreError(f"a horizon is a frame number from 1, got {horizon}")
    totals, counts, structures = np.zeros(len(ious)), np.zeros(len(ious)), np.zeros(len(ious), np.int64)
    for clip, iou in enumerate(ious):
        if iou.ndim != 2:
            raise ScoreError(f"IoU of a clip is (N,T), got {iou.shape} at clip {clip}")
        if horizon > iou.shape[1]:
            continue
        within = iou[:, :horizon]
        judged = np.isfinite(within)
        totals[clip] = within[judged].sum(dtype=np.float64)
        counts[clip] = np.count_nonzero(judged)
        structures[clip] = np.count_nonzero(judged.any(axis=1))
    return totals, counts, structures


def _interval(
    totals: Array, counts: Array, structures: NDArray[np.int64], *, resamples: int, level: float, seed: int
) -> Interval:
    """Of the ratio of sums over clips."""
    _check(resamples, level)
    judged = counts > 0
    clips = int(judged.sum())
    if clips == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0, 0)
    totals, counts = totals[judged], counts[judged]
    drawn = np.full(1, np.nan)
    if clips > 1:
        drawn = np.concatenate([(draw @ totals) / (draw @ counts) for draw in _draws(clips, resamples, seed)])
    return _bounds(float(totals.sum() / counts.sum()), drawn, level, clips, int(structures[judged].sum()))


def _difference(draw: Array, first: Array, first_counts: Array, second: Array, second_counts: Array) -> Array:
    """Points between two rows for each drawing (R,clips) of how often a clip counts."""
    return np.asarray(100 * ((draw @ first) / (draw @ first_counts) - (draw @ second) / (draw @ second_counts)))


def _draws(clips: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each clip was drawn (R,clips) in ``resamples`` drawings, in parts of bounded size."""
    rng = np.random.default_rng(seed)
    part = max(1, _DRAWS_AT_ONCE // clips)
    chances = np.full(clips, 1 / clips)
    for start in range(0, resamples, part):
        yield rng.multinomial(clips, chances, size=min(part, resamples - start)).astype(np.float64)


def _bounds(mean: float, drawn: Array, level: float, clips: int, structures: int) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), clips, structures)


def _check(resamples: int, level: float) -> None:
    if not 1 <= resamples <= 1_000_000 or not 0 < level < 1:
        raise ScoreError(f"resamples are 1 to 1000000 and the level is between 0 and 1, got {resamples} and {level}")

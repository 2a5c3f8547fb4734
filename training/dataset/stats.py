"""Statistics as LeRobot v3.0 keeps them, per feature: min, max, mean, std, count and five quantiles.

Of numbers exactly; of frames by counting pixel values while they stream by, so exactly, too, for the pixels counted.
Knows arrays; no file. What LeRobot does: `lerobot.datasets.compute_stats`, whose quantiles are estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egowm_core.types import ImageArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
KEYS = ("min", "max", "mean", "std", "count", *QUANTILES)

Stats = dict[str, Any]
"""One feature's: a key of ``KEYS`` to (nested) lists of numbers."""

_LARGE, _TARGET = 300, 150  # pixels: of longer frames, LeRobot counts every n-th row and column


def feature_stats(values: ArrayLike) -> Stats:
    """Of values (T,) or (T,D), T > 0: lists of D numbers, of one for (T,)."""
    array = np.asarray(values, np.float64)
    array = array[:, None] if array.ndim == 1 else array
    found = {"min": array.min(0), "max": array.max(0), "mean": array.mean(0), "std": array.std(0)}
    quantiles = np.quantile(array, list(QUANTILES.values()), axis=0)
    return {
        **{key: value.tolist() for key, value in found.items()},
        "count": [len(array)],
        **{key: value.tolist() for key, value in zip(QUANTILES, quantiles, strict=True)},
    }


class ImageStats:
    """Of frames, per colour channel, in 0..1 and shaped (3,1,1); holds 256 counts a channel."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256), np.int64)
        self._frames = 0

    def add(self, frame: ImageArray) -> None:
        """Count a frame (H,W,3)."""
        height, width = frame.shape[:2]
        step = 1 if max(height, width) < _LARGE else (width if width > height else height) // _TARGET
        pixels = frame[::step, ::step]
        for channel in range(3):
            self._counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
        self._frames += 1

    def stats(self) -> Stats:
        """Of the frames so far, at least one."""
        values, total = np.arange(256) / 255.0, self._counts.sum(axis=1)
        mean = self._counts @ values / total
        variance = np.maximum(self._counts @ values**2 / total - mean**2, 0.0)
        present = [np.flatnonzero(counts) / 255.0 for counts in self._counts]
        found: dict[str, ArrayLike] = {
            "min": [values_of[0] for values_of in present],
            "max": [values_of[-1] for values_of in present],
            "mean": mean,
            "std": np.sqrt(variance),
        }
        quantiles = {key: [_quantile(counts, q) for counts in self._counts] for key, q in QUANTILES.items()}
        return {
            **{key: _per_channel(value) for key, value in found.items()},
            "count": [self._frames],
            **{key: _per_channel(value) for key, value in quantiles.items()},
        }


def aggregate(items: Sequence[Stats]) -> Stats:
    """Of all episodes from those of each, as LeRobot does: exact, but for the quantiles, which it bounds.

    Quantiles up to the median are the smallest of the episodes', the others the largest.
    """
    counts = np.array([item["count"][0] for item in items], np.float64)

    def stack(key: str) -> NDArray[np.float64]:
        return np.array([item[key] for item in items], np.float64)

    mean, std = stack("mean"), stack("std")
    weights = (counts / counts.sum()).reshape(-1, *[1] * (mean.ndim - 1))
    total = (mean * weights).sum(axis=0)
    variance = ((std**2 + (mean - total) ** 2) * weights).sum(axis=0)
    return {
        "min": stack("min").min(axis=0).tolist(),
        "max": stack("max").max(axis=0).tolist(),
        "mean": total.tolist(),
        "std": np.sqrt(variance).tolist(),
        "count": [int(counts.sum())],
        **{
            key: (stack(key).min(axis=0) if q <= 0.5 else stack(key).max(axis=0)).tolist()
            for key, q in QUANTILES.items()
        },
    }


def _quantile(counts: NDArray[np.int64], q: float) -> float:
    """The q-quantile of pixel values in 0..1, between neighbours as ``numpy.quantile``."""
    at = q * (int(counts.sum()) - 1)
    below, share = int(at), at - int(at)
    low, high = np.searchsorted(np.cumsum(counts), [below, below + (share > 0)], side="right")
    return float(low + share * (high - low)) / 255.0


def _per_channel(values: ArrayLike) -> list[list[list[float]]]:
    found: list[list[list[float]]] = np.asarray(values, np.float64).reshape(3, 1, 1).tolist()
    return found

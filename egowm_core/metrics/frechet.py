"""The Frechet distance of two sets of features, of which only sums are kept. Knows no network and no picture.

    d^2 = |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)

Dowson and Landau 1982, as Heusel et al. (arXiv 1706.08500) use it. S are unbiased covariances. With fewer samples than
features, S has not full rank and the distance of two samples of the same set is well above 0: compare only
distances of equally many samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError

FeatureArray = NDArray[np.floating]


@dataclass
class FeatureSums:
    """``count`` feature vectors as their sum (F,) and sum of outer products (F,F), float64."""

    count: int
    total: NDArray[np.float64]
    outer: NDArray[np.float64]

    @classmethod
    def of(cls, features: FeatureArray) -> FeatureSums:
        """Sums of features (S,F)."""
        sums = cls(0, np.zeros(features.shape[1:]), np.zeros((*features.shape[1:], *features.shape[1:])))
        sums.add(features)
        return sums

    def add(self, features: FeatureArray) -> None:
        """Take in more features (S,F). Raises ScoreError when they do not fit or are not finite."""
        if features.ndim != 2 or features.shape[1:] != self.total.shape:
            raise ScoreError(f"features are (S,{len(self.total)}), got {features.shape}")
        if not np.isfinite(features).all():
            raise ScoreError("features are not finite: check the weights of the metric's network")
        values = features.astype(np.float64)
        self.count += len(values)
        self.total += values.sum(axis=0)
        self.outer += values.T @ values

    @property
    def mean(self) -> NDArray[np.float64]:
        """(F,)."""
        return self.total / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(F,F), unbiased."""
        centred = self.outer - self.count * np.outer(self.mean, self.mean)
        return np.asarray(centred / (self.count - 1))


def frechet_distance(predicted: FeatureSums, observed: FeatureSums) -> float:
    """Squared Frechet distance of two Gaussians with the sets' moments, as FID and FVD report it.

    NaN where a set has fewer than two samples. Raises ScoreError when the sets' features differ in length.
    """
    if predicted.total.shape != observed.total.shape:
        raise ScoreError(f"features of {len(predicted.total)} and {len(observed.total)} values cannot be compared")
    if min(predicted.count, observed.count) < 2:
        return float("nan")
    values, vectors = np.linalg.eigh(predicted.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ observed.covariance @ root)
    gap = predicted.mean - observed.mean
    traces = np.trace(predicted.covariance) + np.trace(observed.covariance)
    # rounding may leave a few millionths below 0 for equal sets
    return max(0.0, float(gap @ gap + traces - 2 * np.sqrt(np.maximum(product, 0)).sum()))

"""Page's cumulative sum (Biometrika 41, 1954), one-sided: the evidence for a lasting change, forgetting what isn't.

    g_t = max(0, g_{t-1} + min(z_t, most) - drift),   alarm when g_t >= threshold

``z`` counts spreads above what is usual. ``drift`` is what is forgiven a tick: ordinary noise never adds up. ``most``
bounds what one tick can do, so that one outlier is no alarm unless it is meant to be. A change of a few spreads is
found in a few ticks, a slight one later but surely. Knows numbers only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from egowm_core.errors import ScoreError


@dataclass(frozen=True, kw_only=True)
class CusumLimits:
    """``threshold`` and ``most`` in spreads, ``drift`` in spreads a tick; ``ceiling`` (thresholds) bounds recovery."""

    drift: float = 1.0
    threshold: float = 8.0
    most: float = 4.0
    ceiling: float = 2.5

    def __post_init__(self) -> None:
        if not (0 < self.drift < self.most and self.threshold > 0 and self.ceiling >= 1):
            raise ScoreError(
                "a CUSUM needs 0 < drift < most, a positive threshold and a ceiling of at least 1, got drift"
                f" {self.drift}, most {self.most}, threshold {self.threshold}, ceiling {self.ceiling}"
            )


class Cusum:
    """One channel's sum, in thresholds: 1 is the alarm."""

    def __init__(self, limits: CusumLimits) -> None:
        self.limits = limits
        self.value = 0.0

    def add(self, z: float) -> float:
        """Take one tick's ``z`` (spreads; NaN changes nothing) and give the new value."""
        if not math.isnan(z):
            limits = self.limits
            moved = self.value + (min(z, limits.most) - limits.drift) / limits.threshold
            self.value = min(max(0.0, moved), limits.ceiling)
        return self.value

    def reset(self) -> None:
        """Forget everything."""
        self.value = 0.0

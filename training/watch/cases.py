"""Which comparisons are worth a picture, kept while they pass by, and the strips of them. Decides nothing.

Best and worst are known as they come; the median is only known at the end, so those nearest to the median so far are
kept. Memory holds ``_NEAR`` + 2 comparisons, however long the recording is.
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from egowm_core.drift import Comparison
from egowm_core.scs import DenseFlowTracker, propose_structures
from training.score.clip import Clip
from training.score.strips import save_strip

_NEAR = 12


@dataclass
class Cases:
    """The best, the median and the worst comparison by score, so far."""

    _scores: list[float] = field(default_factory=list)
    _best: tuple[float, int, Comparison] | None = None
    _worst: tuple[float, int, Comparison] | None = None
    _near: list[tuple[float, int, Comparison]] = field(default_factory=list)
    _unjudged: tuple[int, Comparison] | None = None

    def add(self, number: int, score: float, comparison: Comparison) -> None:
        """Take comparison ``number``; NaN where nothing could be judged."""
        if not math.isfinite(score):
            self._unjudged = self._unjudged or (number, comparison)
            return
        insort(self._scores, score)
        one = (score, number, comparison)
        if self._best is None or score > self._best[0]:
            self._best = one
        if self._worst is None or score < self._worst[0]:
            self._worst = one
        self._near = sorted([*self._near, one], key=self._distance)[:_NEAR]

    def chosen(self) -> list[tuple[str, int, Comparison]]:
        """(case, number, comparison), each comparison once; the first one where none was judged."""
        if self._best is None or self._worst is None:
            return [] if self._unjudged is None else [("not judged", *self._unjudged)]
        cases = [("worst", self._worst), ("median", min(self._near, key=self._distance)), ("best", self._best)]
        numbers = [one[1] for _, one in cases]
        return [(case, one[1], one[2]) for i, (case, one) in enumerate(cases) if one[1] not in numbers[:i]]

    def _distance(self, one: tuple[float, int, Comparison]) -> tuple[float, int]:
        return abs(one[0] - self._scores[len(self._scores) // 2]), one[1]


def save_case(path: Path, comparison: Comparison, *, max_structures: int, tracker: DenseFlowTracker) -> None:
    """The strip of one comparison: observed, predicted, and both sides' masks on what was observed."""
    structures = propose_structures(comparison.context, max_structures=max_structures)
    observed, predicted = (
        tracker.follow(np.concatenate([comparison.context[None], frames])).carry(structures)
        for frames in (comparison.observed, comparison.predicted)
    )
    clip = Clip("comparison", comparison.context, comparison.observed, {"predicted": comparison.predicted})
    save_strip(path, clip, "predicted", structures, predicted, observed)

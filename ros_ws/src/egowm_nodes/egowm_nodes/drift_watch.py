"""The drift detector between two threads and two clocks: scores come with data stamps, silence is steady time.

A recording from years ago is as fresh as its last score is in steady time. Knows no ROS and no picture.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping

from egowm_core.errors import ScoreError
from egowm_core.scs import DriftDetector, DriftLimits, DriftReport, DriftState
from egowm_core.types import NANOSECONDS_PER_SECOND


class DriftWatch:
    """A ``DriftDetector`` that several threads may use. ``clock`` is steady, in s."""

    def __init__(self, limits: DriftLimits, clock: Callable[[], float]) -> None:
        self._detector = DriftDetector(limits)
        self._clock = clock
        self._lock = threading.Lock()
        self._scored_ns: int | None = None  # data time of the last score ...
        self._scored_s = clock()  # ... and when it came
        self.generation = 0

    @property
    def report(self) -> DriftReport:
        """The newest report."""
        return self._detector.report

    def score(self, scs: Mapping[int, float], stamp_ns: int, *, generation: int) -> DriftReport:
        """Take the scores of one comparison; ignored when ``reset`` came since ``generation``.

        Scores from before the last one (a clock that was reset) start the detector anew.
        """
        with self._lock:
            if generation != self.generation:
                return self._detector.report
            if self._scored_ns is None:
                self._detector.reset()  # forget checks before the first score: they are on no data clock
            self._scored_ns, self._scored_s = stamp_ns, self._clock()
            try:
                return self._detector.update(scs, stamp_ns)
            except ScoreError:
                self._detector.reset()
                return self._detector.update(scs, stamp_ns)

    def check(self) -> DriftReport:
        """The state now: STALE when scores have stopped coming."""
        with self._lock:
            silent_ns = round((self._clock() - self._scored_s) * NANOSECONDS_PER_SECOND)
            if self._scored_ns is None:
                self._detector.check(0)
                return self._detector.check(silent_ns)
            return self._detector.check(self._scored_ns + silent_ns)

    def reset(self) -> None:
        """Forget the baseline and all scores."""
        with self._lock:
            self._detector.reset()
            self._scored_ns, self._scored_s = None, self._clock()
            self.generation += 1

    def baseline(self) -> float:
        """Median score of the longest horizon when all was well; NaN until it is learned."""
        known = self._detector.baseline
        return known[max(known)].median if known else math.nan

    @property
    def stale(self) -> bool:
        """Whether the newest report says STALE."""
        return self._detector.report.state is DriftState.STALE

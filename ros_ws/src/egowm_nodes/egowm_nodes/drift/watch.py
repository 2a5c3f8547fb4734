"""The drift detector between two threads and two clocks: evidence comes with data stamps, silence is steady time.

A recording from years ago is as fresh as its last comparison is in steady time. Knows no ROS and no picture.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from egowm_core.drift import DriftBaseline, DriftDetector, DriftLimits, DriftReport, DriftState, Evidence
from egowm_core.drift.baseline import moved_px
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ScoreError
from egowm_core.types import NANOSECONDS_PER_SECOND, FloatArray


class DriftWatch:
    """A ``DriftDetector`` that several threads may use. ``clock`` is steady, in s; ``generation`` counts resets."""

    def __init__(
        self,
        embodiment: Embodiment,
        limits: DriftLimits,
        clock: Callable[[], float],
        *,
        baseline: DriftBaseline | None = None,
    ) -> None:
        self._scales, self._limits, self._given, self._clock = embodiment.scales, limits, baseline, clock
        self._tick_s = 1.0 / embodiment.rate_hz
        self._lock = threading.Lock()
        self.generation = 0
        self._detector, self._report = self._fresh()
        self._judged_ns: int | None = None  # data time of the last comparison ...
        self._judged_s = clock()  # ... and when it came

    @property
    def report(self) -> DriftReport:
        """The newest report."""
        return self._report

    @property
    def baseline(self) -> DriftBaseline | None:
        """What is usual; None while it is learned."""
        return self._detector.baseline

    @property
    def learns(self) -> bool:
        """Whether the baseline is learned here, rather than given."""
        return self._given is None

    @property
    def stale(self) -> bool:
        """Whether the newest report says STALE."""
        return self._report.state is DriftState.STALE

    def plan(self, context_stamp_ns: int, actions: FloatArray) -> None:
        """What was planned or held (T,D) at the frame of this stamp."""
        with self._lock:
            self._detector.plan(context_stamp_ns, actions)

    def judge(self, evidence: Evidence, *, generation: int) -> DriftReport:
        """Take the evidence of one comparison; ignored when ``reset`` came since ``generation``.

        Evidence from before the last one (a clock that was reset) starts the detector anew.
        """
        with self._lock:
            if generation != self.generation:
                return self._report
            self._judged_ns, self._judged_s = evidence.stamps_ns[-1].item(), self._clock()
            try:
                self._report = self._detector.update(evidence)
            except ScoreError:
                self._detector.reset()
                self._report = self._detector.update(evidence)
            return self._report

    def usual(self, evidence: Evidence) -> dict[int, float]:
        """SCS by horizon that motion as in ``evidence`` usually gets, 0..100; empty while it is learned."""
        if (known := self.baseline) is None:
            return {}
        return {h: level.usual(moved_px(known.expectation, evidence, h)) for h, level in known.scs.items()}

    def check(self) -> DriftReport:
        """The state now: STALE when comparisons have stopped coming, or never came."""
        with self._lock:
            silent_s = self._clock() - self._judged_s
            if self._judged_ns is not None:
                self._report = self._detector.check(self._judged_ns + round(silent_s * NANOSECONDS_PER_SECOND))
            elif silent_s > self._limits.stale_after_s:
                reason = f"nothing to compare for {silent_s:.1f} s; check the camera and the world model"
                self._report = DriftReport(DriftState.STALE, reason)
            return self._report

    def reset(self, *, tick_s: float | None = None) -> None:
        """Forget all but a given baseline. ``tick_s``: from now on so many seconds lie between two actions."""
        with self._lock:
            self._tick_s = tick_s or self._tick_s
            self.generation += 1
            self._detector, self._report = self._fresh()
            self._judged_ns, self._judged_s = None, self._clock()

    def _fresh(self) -> tuple[DriftDetector, DriftReport]:
        detector = DriftDetector(self._scales, tick_s=self._tick_s, limits=self._limits, baseline=self._given)
        return detector, detector.report

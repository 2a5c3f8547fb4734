"""The drift detector: evidence in, states with causes out. No ROS, no clock of its own.

``DriftDetector.update`` takes the evidence of one comparison of executed actions; ``check`` says later whether
comparisons have stopped coming. Without a baseline the first minute is learned from (UNDEFINED meanwhile); with one,
from the checkpoint, it judges from the first comparison on.

The state follows the strongest channel: WARN at its alarm, ERROR at ``error_at`` alarms, unless the cause is one that
robots live with (a change of light, people). Absolute limits of the score, where set, hold from the first comparison
on: a baseline learned while something was already broken can't hide it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.drift.baseline import BaselineLearner, DriftBaseline, moved_px
from egowm_core.drift.causes import Explanation, explain
from egowm_core.drift.channels import CUT_TICKS, Channels
from egowm_core.drift.evidence import Evidence
from egowm_core.drift.plans import PlanBook
from egowm_core.drift.signs import tick_signs
from egowm_core.drift.states import Cause, DriftReport, DriftState
from egowm_core.errors import ScoreError
from egowm_core.types import NANOSECONDS_PER_SECOND, FloatArray

_HARMLESS = {Cause.EXPOSURE, Cause.MOVING_THINGS}
_SMOOTHED = 3  # comparisons whose median absolute limits judge


@dataclass(frozen=True, kw_only=True)
class DriftLimits:
    """When to worry. ``learn_ticks`` make the baseline where none is given. WARN is at 1 alarm, ERROR at ``error_at``.

    ``hold_s``: how long an event (a knock, a change of light) stays reported. ``warn_below`` and ``error_below`` are
    absolute scores 0..100 of the longest horizon, or None. No comparison for ``stale_after_s`` is STALE.
    """

    learn_ticks: int = 240
    error_at: float = 1.5
    hold_s: float = 5.0
    warn_below: float | None = None
    error_below: float | None = None
    stale_after_s: float = 3.0

    def __post_init__(self) -> None:
        if self.learn_ticks < 48:
            raise ScoreError(f"learn_ticks is {self.learn_ticks}; at least 48 ticks tell what is usual")
        if self.error_at < 1 or self.hold_s < 0:
            raise ScoreError(f"error_at is at least 1 and hold_s not negative, got {self.error_at} and {self.hold_s}")
        if self.warn_below is not None and self.error_below is not None and self.error_below > self.warn_below:
            raise ScoreError(f"error_below {self.error_below} must not exceed warn_below {self.warn_below}")
        if not self.stale_after_s > 0:
            raise ScoreError(f"stale_after_s must be positive, got {self.stale_after_s}")


class DriftDetector:
    """One detector per stream. ``scales`` (D,) are the embodiment's channels', ``tick_s`` its period."""

    def __init__(
        self,
        scales: NDArray[np.floating[Any]],
        *,
        tick_s: float,
        limits: DriftLimits | None = None,
        baseline: DriftBaseline | None = None,
    ) -> None:
        self.limits = DriftLimits() if limits is None else limits
        self._scales, self._tick_s, self._given = scales, tick_s, baseline
        self.reset()

    def reset(self) -> None:
        """Forget everything but the baseline given at construction (new scene, clock jumped back, operator's wish)."""
        self._plans = PlanBook(self._scales)
        self._learner = BaselineLearner(self._scales, keep=2 * self.limits.learn_ticks)
        self._learn_at = self.limits.learn_ticks
        self._channels = None if self._given is None else self._new_channels(self._given)
        self._newest_ns = -1
        self._alive_ns: int | None = None  # when the last comparison, or else the first check, was
        self._compared = False
        self._scores: dict[int, deque[float]] = {}
        self._report = DriftReport(DriftState.UNDEFINED, "no comparison yet")

    @property
    def report(self) -> DriftReport:
        """The newest report."""
        return self._report

    @property
    def baseline(self) -> DriftBaseline | None:
        """What is usual; None until it is learned."""
        return None if self._channels is None else self._channels.baseline

    def plan(self, context_stamp_ns: int, actions: FloatArray) -> None:
        """What was planned (T,D), in units, at the frame of this stamp: to be held against what is then done."""
        self._plans.add(context_stamp_ns, actions)

    def update(self, evidence: Evidence) -> DriftReport:
        """Take the evidence of one comparison of executed actions.

        Raises:
            ScoreError: a comparison older than the last one (``reset`` first if the clock jumped), or actions of
                another width.
        """
        stamp_ns = int(evidence.stamps_ns[-1])
        if self._compared and self._alive_ns is not None and stamp_ns < self._alive_ns:
            raise ScoreError(
                f"comparison stamped {stamp_ns} ns after one at {self._alive_ns} ns; reset if the clock jumped"
            )
        if evidence.actions.shape[1] != len(self._scales):
            raise ScoreError(
                f"actions of {evidence.actions.shape[1]} channels; this detector expects {len(self._scales)}"
            )
        self._alive_ns, self._compared = stamp_ns, True
        limit = self._absolute(evidence)
        if self._channels is None:
            self._report = self._learn(evidence, stamp_ns, limit)
        else:
            self._report = self._judge(self._channels, evidence, stamp_ns, limit)
        self._newest_ns = max(self._newest_ns, stamp_ns)
        return self._report

    def check(self, now_ns: int) -> DriftReport:
        """The state at ``now_ns``: STALE when the last comparison, or the first check, is too long ago."""
        if self._alive_ns is None:
            self._alive_ns = now_ns
        age_s = (now_ns - self._alive_ns) / NANOSECONDS_PER_SECOND
        if age_s > self.limits.stale_after_s:
            reason = f"nothing compared for {age_s:.1f} s, expected every {self.limits.stale_after_s:g} s"
            self._report = DriftReport(DriftState.STALE, reason, stamp_ns=self._report.stamp_ns)
        return self._report

    def _new_channels(self, baseline: DriftBaseline) -> Channels:
        return Channels(baseline, hold_ticks=max(1, round(self.limits.hold_s / self._tick_s)))

    def _learn(self, evidence: Evidence, stamp_ns: int, limit: tuple[DriftState, str] | None) -> DriftReport:
        self._learner.add(evidence, self._plans.gaps(evidence))
        done, wanted = self._learner.ticks, self.limits.learn_ticks
        reason = f"learning what is usual, {min(done, wanted)} of {wanted} ticks"
        if done >= self._learn_at:
            self._learn_at = done + wanted // 4  # should it fail, not again with every comparison
            try:
                self._channels = self._new_channels(self._learner.learn())
                reason = f"learned what is usual from {done} ticks"
            except ScoreError as error:
                reason = f"still learning: {error}"
        state, reason = limit or (DriftState.UNDEFINED, reason)
        return DriftReport(state, reason, stamp_ns=stamp_ns, scs=dict(evidence.scs))

    def _judge(
        self, channels: Channels, evidence: Evidence, stamp_ns: int, limit: tuple[DriftState, str] | None
    ) -> DriftReport:
        gaps = self._plans.gaps(evidence)
        for sign in tick_signs(evidence, channels.baseline.expectation, after_ns=self._newest_ns):
            at = int(np.searchsorted(evidence.stamps_ns, sign.stamp_ns))
            channels.add_tick(sign, plan_gap=float(gaps[at]))
        channels.add_scores(evidence)
        alarm = max(channels.values.values())
        found = explain(channels, tick_s=self._tick_s) if channels.history else None
        if found is None:
            channels.covered = False
        elif found.cause is Cause.OCCLUDED and channels.since_cut <= CUT_TICKS:
            channels.covered = True
        state, reason = self._state(channels, evidence, alarm, found)
        if limit is not None and _rank(limit[0]) > _rank(state):
            state, reason = limit
        return DriftReport(
            state,
            reason,
            cause=Cause.NONE if found is None else found.cause,
            stamp_ns=stamp_ns,
            alarm=alarm,
            channels=dict(channels.values),
            scs=dict(evidence.scs),
            baseline_scs={
                h: level.usual(moved_px(channels.baseline.expectation, evidence, h))
                for h, level in channels.baseline.scs.items()
            },
            lag_s=None if found is None else found.lag_s,
        )

    def _state(
        self, channels: Channels, evidence: Evidence, alarm: float, found: Explanation | None
    ) -> tuple[DriftState, str]:
        if found is not None:
            error = alarm >= self.limits.error_at and found.cause not in _HARMLESS
            return (DriftState.ERROR if error else DriftState.WARN), found.words
        judged = {h: value for h, value in evidence.scs.items() if math.isfinite(value)}
        if not judged:
            return DriftState.UNDEFINED, "no structure could be judged"
        horizon = max(judged)
        if (level := channels.baseline.scs.get(horizon)) is None:
            return DriftState.OK, f"SCS over {horizon} frames is {judged[horizon]:.0f}"
        usual = level.usual(moved_px(channels.baseline.expectation, evidence, horizon))
        return DriftState.OK, f"SCS over {horizon} frames is {judged[horizon]:.0f}, usually {usual:.0f} for such motion"

    def _absolute(self, evidence: Evidence) -> tuple[DriftState, str] | None:
        """The state by the absolute limits, where they are broken."""
        judged: Mapping[int, float] = {h: value for h, value in evidence.scs.items() if math.isfinite(value)}
        if not judged:
            self._scores.clear()
            return None
        horizon = max(judged)
        scores = self._scores.setdefault(horizon, deque(maxlen=_SMOOTHED))
        scores.append(judged[horizon])
        value = float(np.median(scores))
        for state, below in ((DriftState.ERROR, self.limits.error_below), (DriftState.WARN, self.limits.warn_below)):
            if below is not None and value < below:
                return state, f"SCS over {horizon} frames is {value:.1f}, below the limit of {below:g}"
        return None


def _rank(state: DriftState) -> int:
    return (DriftState.UNDEFINED, DriftState.OK, DriftState.WARN, DriftState.ERROR, DriftState.STALE).index(state)

"""Decide from a stream of SCS values whether the world still agrees with the model. No ROS, no clock of its own.

``DriftDetector.update`` takes the scores of one comparison (a value per horizon, NaN where nothing could be judged)
and the stamp of the newest frame in it; ``check`` says later whether scores have stopped coming. Both answer with a
``DriftReport``: state, reason in words, and the figures behind it.

The decision, per horizon: the median of the last few scores is compared with a baseline (median and spread of the
first such medians, or one given, say from a checkpoint's own validation scores). WARN and ERROR need a fall of so
many points *and* so many spreads, so that neither a naturally noisy scene nor a naturally steady one raises alarms.
Absolute limits, where set, hold from the first score on: a baseline learned while something was already broken can't
hide it.
The worst horizon gives the state. Robust statistics, no memory beyond the window: change detection over time
belongs to a later detector behind the same ``update``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from egowm_core.errors import ScoreError
from egowm_core.types import NANOSECONDS_PER_SECOND

_MAD_TO_SIGMA = 1.4826  # of a normal distribution


class DriftState(Enum):
    """What the monitor believes; the names are also the words of the message."""

    OK = "OK"
    WARN = "WARN"
    ERROR = "ERROR"
    STALE = "STALE"  # scores have stopped coming
    UNDEFINED = "UNDEFINED"  # nothing could be judged, or the baseline is being learned


@dataclass(frozen=True)
class Baseline:
    """What scores of one horizon, smoothed over the window, are like when all is well, in points.

    ``spread`` is a robust sigma (1.48 x median absolute deviation).
    """

    median: float
    spread: float


@dataclass(frozen=True, kw_only=True)
class DriftLimits:
    """When to worry. Scores are 0..100.

    ``learn`` scores make the baseline; ``window`` scores are smoothed by their median. A fall is WARN from
    ``warn_drop`` points and ``warn_spreads`` spreads, ERROR likewise. ``warn_below`` and ``error_below`` are absolute
    scores, or None. No score for ``stale_after_s`` is STALE.
    """

    learn: int = 20
    window: int = 3
    warn_drop: float = 10.0
    error_drop: float = 20.0
    warn_spreads: float = 3.0
    error_spreads: float = 5.0
    warn_below: float | None = None
    error_below: float | None = None
    stale_after_s: float = 3.0

    def __post_init__(self) -> None:
        if self.learn < 3 or self.window < 1:
            raise ScoreError(f"learn is at least 3 scores and window at least 1, got {self.learn} and {self.window}")
        if not 0 < self.warn_drop <= self.error_drop or not 0 <= self.warn_spreads <= self.error_spreads:
            raise ScoreError(
                "drops and spreads are positive and the warning comes first, got warn_drop "
                f"{self.warn_drop}, error_drop {self.error_drop}, warn_spreads {self.warn_spreads}, "
                f"error_spreads {self.error_spreads}"
            )
        if self.warn_below is not None and self.error_below is not None and self.error_below > self.warn_below:
            raise ScoreError(f"error_below {self.error_below} must not exceed warn_below {self.warn_below}")
        if not self.stale_after_s > 0:
            raise ScoreError(f"stale_after_s must be positive, got {self.stale_after_s}")


@dataclass(frozen=True)
class DriftReport:
    """``scs``: smoothed score per horizon; ``drop``: points below the baseline (NaN before it is learned)."""

    state: DriftState
    reason: str
    stamp_ns: int | None = None
    horizon: int | None = None  # the one that decided
    scs: dict[int, float] = field(default_factory=dict)
    drop: dict[int, float] = field(default_factory=dict)


class DriftDetector:
    """Feed scores in, get states out; one detector per stream.

    ``baseline`` (per horizon) skips learning for the horizons that it names.
    """

    def __init__(self, limits: DriftLimits | None = None, *, baseline: Mapping[int, Baseline] | None = None) -> None:
        self.limits = DriftLimits() if limits is None else limits
        self._given = dict(baseline or {})
        self.reset()

    def reset(self) -> None:
        """Forget everything but the baseline given at construction (new scene, clock jumped back, operator's wish)."""
        self.baseline: dict[int, Baseline] = dict(self._given)
        self._learning: dict[int, list[float]] = {}
        self._recent: dict[int, deque[float]] = {}
        self._alive_ns: int | None = None
        self._report = DriftReport(DriftState.UNDEFINED, "no score yet")

    @property
    def report(self) -> DriftReport:
        """The newest report."""
        return self._report

    def update(self, scs: Mapping[int, float], stamp_ns: int) -> DriftReport:
        """Take the scores of one comparison, horizon -> 0..100 or NaN, at ``stamp_ns``.

        Raises:
            ScoreError: a score outside 0..100, or a stamp before the last one (``reset`` first if the clock jumped).
        """
        for horizon, value in scs.items():
            if not (math.isnan(value) or 0 <= value <= 100):
                raise ScoreError(f"a score is 0..100 or NaN, got {value} at horizon {horizon}")
        if self._alive_ns is not None and stamp_ns < self._alive_ns:
            raise ScoreError(f"score stamped {stamp_ns} ns after one at {self._alive_ns} ns; reset if the clock jumped")
        self._alive_ns = stamp_ns
        judged = {horizon: float(value) for horizon, value in sorted(scs.items()) if not math.isnan(value)}
        if not judged:
            self._recent.clear()
            self._report = DriftReport(DriftState.UNDEFINED, "no structure could be judged", stamp_ns)
            return self._report
        for horizon in [known for known in self._recent if known not in judged]:
            del self._recent[horizon]  # a gap: do not smooth across it
        smooth: dict[int, float] = {}
        for horizon, value in judged.items():
            recent = self._recent.setdefault(horizon, deque(maxlen=self.limits.window))
            recent.append(value)
            smooth[horizon] = float(np.median(recent))
        drop = {h: self.baseline[h].median - v if h in self.baseline else math.nan for h, v in smooth.items()}
        self._report = self._judge(smooth, drop, stamp_ns)
        self._learn(smooth)
        return self._report

    def check(self, now_ns: int) -> DriftReport:
        """The state at ``now_ns``: STALE when the last score, or the first check, is too long ago."""
        if self._alive_ns is None:
            self._alive_ns = now_ns
        age_s = (now_ns - self._alive_ns) / NANOSECONDS_PER_SECOND
        if age_s > self.limits.stale_after_s:
            self._recent.clear()  # do not smooth across the gap
            reason = f"no score for {age_s:.1f} s, expected one every {self.limits.stale_after_s:g} s"
            self._report = DriftReport(DriftState.STALE, reason, self._report.stamp_ns)
        return self._report

    def _learn(self, smooth: Mapping[int, float]) -> None:
        for horizon, value in smooth.items():
            if horizon in self.baseline:
                continue
            values = self._learning.setdefault(horizon, [])
            values.append(value)
            if len(values) >= self.limits.learn:
                median = float(np.median(values))
                spread = _MAD_TO_SIGMA * float(np.median(np.abs(np.asarray(values) - median)))
                self.baseline[horizon] = Baseline(median, spread)
                del self._learning[horizon]

    def _judge(self, smooth: dict[int, float], drop: dict[int, float], stamp_ns: int) -> DriftReport:
        def report(state: DriftState, reason: str, horizon: int | None) -> DriftReport:
            return DriftReport(state, reason, stamp_ns, horizon, smooth, drop)

        for state in (DriftState.ERROR, DriftState.WARN):
            alarms = [(h, self._alarm(state, h, smooth[h], drop[h])) for h in smooth]
            raised = [(h, reason) for h, reason in alarms if reason is not None]
            if raised:
                horizon, reason = max(raised, key=lambda pair: np.nan_to_num(drop[pair[0]], nan=-math.inf))
                return report(state, reason, horizon)
        known = [h for h in smooth if h in self.baseline]
        if not known:
            done = max((len(self._learning.get(h, ())) for h in smooth), default=0) + 1
            return report(DriftState.UNDEFINED, f"learning the baseline, {done} of {self.limits.learn} scores", None)
        worst = max(known, key=lambda h: drop[h])
        reason = f"SCS over {worst} frames is {smooth[worst]:.1f}, baseline {self.baseline[worst].median:.1f}"
        return report(DriftState.OK, reason, worst)

    def _alarm(self, state: DriftState, horizon: int, value: float, drop: float) -> str | None:
        """Why this horizon is in ``state`` (or worse), or None."""
        limits, error = self.limits, state is DriftState.ERROR
        below = limits.error_below if error else limits.warn_below
        if below is not None and value < below:
            return f"SCS over {horizon} frames is {value:.1f}, below the limit of {below:g}"
        if horizon not in self.baseline:
            return None
        baseline = self.baseline[horizon]
        points, spreads = (
            (limits.error_drop, limits.error_spreads) if error else (limits.warn_drop, limits.warn_spreads)
        )
        if drop < max(points, spreads * baseline.spread):
            return None
        return (
            f"SCS over {horizon} frames is {value:.1f}, {drop:.1f} points below its baseline of "
            f"{baseline.median:.1f} (spread {baseline.spread:.1f})"
        )

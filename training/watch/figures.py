"""What a watch saw, in figures: comparisons, spans of states, alarms, and how often there were any.

An alarm is a stretch of WARN or ERROR; two less than ``QUIET_S`` apart are one, and it goes by the cause that was told
most often in it. Means have intervals from resampled stretches of ``BLOCK_S``: comparisons that follow each other share
frames and are not independent. Knows reports and stamps; no picture, no recording and no page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from egowm_core.drift import Cause, DriftReport, DriftState
from egowm_core.scs.confidence import Interval, bootstrap_scs
from egowm_core.types import NANOSECONDS_PER_SECOND

QUIET_S = 5.0
BLOCK_S = 10.0
LEVEL = 0.95
RAISED = (DriftState.WARN, DriftState.ERROR)
ALL = "all"


@dataclass(frozen=True)
class Seen:
    """One comparison: the stamp of its newest frame, what the detector said, and what was measured per horizon.

    ``learning``: the detector had no baseline yet.
    """

    stamp_ns: int
    report: DriftReport
    psnr: Mapping[int, float]
    structures: Mapping[int, int]
    learning: bool = False


@dataclass(frozen=True)
class Span:
    """A stretch in which state and cause stayed the same, seconds from the start; ``words`` as it was first told."""

    start_s: float
    end_s: float
    state: DriftState
    cause: Cause
    words: str


@dataclass(frozen=True)
class Alarm:
    """Comparisons ``first`` to ``last`` (numbers) were WARN or ERROR, give or take short rests in between.

    ``strength``: the strongest evidence, 1 at the alarm. ``causes``: how many comparisons told which.
    """

    first: int
    last: int
    start_s: float
    end_s: float
    state: DriftState
    cause: Cause
    strength: float
    words: str
    causes: Mapping[str, int]


@dataclass
class Watched:
    """A recording and all that was seen in it; ``start_ns`` is the stamp of the first context frame.

    ``strips``: pictures of chosen comparisons by file name, each as (case, number of the comparison, file).
    """

    name: str
    horizons: tuple[int, ...]
    stale_after_s: float
    start_ns: int = 0
    seen: list[Seen] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    strips: list[tuple[str, int, str]] = field(default_factory=list)

    def seconds(self, number: int) -> float:
        """From the start to the newest frame of a comparison; after a clock that went back, it goes back too."""
        return (self.seen[number].stamp_ns - self.start_ns) / NANOSECONDS_PER_SECOND

    def covered_s(self, which: Callable[[Seen], bool] = lambda seen: True) -> float:
        """How long it was watched: from each comparison to the next, where they did not stop coming."""
        return sum(end - start for start, end, seen in self._steps() if which(seen))

    def spans(self) -> list[Span]:
        """States over time, STALE where comparisons stopped coming, as the monitor would have said live."""
        pieces: list[Span] = []
        for number, (start_s, end_s, seen) in enumerate(self._steps()):
            report = seen.report
            pieces.append(Span(start_s, end_s, report.state, report.cause, report.reason))
            next_s = self.seconds(number + 1) if number + 1 < len(self.seen) else start_s
            if next_s - start_s > self.stale_after_s:
                words = f"nothing compared for {next_s - start_s:.1f} s"
                pieces.append(Span(end_s, next_s, DriftState.STALE, Cause.NONE, words))
        runs = (list(run) for _, run in groupby(pieces, key=lambda span: (span.state, span.cause)))
        return [Span(run[0].start_s, run[-1].end_s, run[0].state, run[0].cause, run[0].words) for run in runs]

    def alarms(self) -> list[Alarm]:
        """All alarms, in order."""
        groups: list[list[int]] = []
        for number, seen in enumerate(self.seen):
            if seen.report.state not in RAISED:
                continue
            if groups and 0 <= self.seconds(number) - self.seconds(groups[-1][-1]) <= QUIET_S:
                groups[-1].append(number)
            else:
                groups.append([number])
        return [self._alarm(group) for group in groups]

    def _alarm(self, numbers: Sequence[int]) -> Alarm:
        reports = [self.seen[number].report for number in numbers]
        causes = Counter(report.cause for report in reports)
        cause = causes.most_common(1)[0][0]
        told = max((r for r in reports if r.cause is cause), key=lambda r: r.alarm)
        return Alarm(
            first=numbers[0],
            last=numbers[-1],
            start_s=self.seconds(numbers[0]),
            end_s=self.seconds(numbers[-1]),
            state=DriftState.ERROR if any(r.state is DriftState.ERROR for r in reports) else DriftState.WARN,
            cause=cause,
            strength=max(report.alarm for report in reports),
            words=told.reason,
            causes={one.value: count for one, count in causes.most_common()},
        )

    def _steps(self) -> Iterable[tuple[float, float, Seen]]:
        """(start, end) in seconds that each comparison stands for: until the next, or until that is overdue."""
        steps = np.diff([self.seconds(number) for number in range(len(self.seen))])
        usual = float(np.median(steps[steps > 0])) if np.any(steps > 0) else 0.0
        for number, seen in enumerate(self.seen):
            step = float(steps[number]) if number < len(steps) else usual
            start_s = self.seconds(number)
            yield start_s, start_s + min(max(step, 0.0), self.stale_after_s), seen


def mean_scs(recordings: Sequence[Watched], horizon: int, *, seed: int = 0) -> Interval:
    """Mean SCS of all comparisons with its interval, by stretches of ``BLOCK_S``; NaN where nothing was judged."""
    return bootstrap_scs(_blocks(recordings, lambda seen: seen.report.scs.get(horizon, math.nan)), [1], seed=seed)[1]


def table_row(recordings: Sequence[Watched], horizons: Sequence[int]) -> dict[str, dict[str, float]]:
    """{metric: {horizon: mean}}: ``scs``, ``usual_scs`` (as the baseline has it for such motion) and ``psnr``."""
    seen = [one for recording in recordings for one in recording.seen]
    return {
        "scs": {str(h): _mean(one.report.scs.get(h, math.nan) for one in seen) for h in horizons},
        "usual_scs": {str(h): _mean(one.report.baseline_scs.get(h, math.nan) for one in seen) for h in horizons},
        "psnr": {str(h): _mean(one.psnr.get(h, math.nan) for one in seen) for h in horizons},
    }


def summary(recordings: Sequence[Watched]) -> dict[str, Any]:
    """Plain figures of recordings. Rates are per 10 minutes in which there was a baseline to judge by; ``minutes`` are
    those in which comparisons came. ``states`` and ``undefined`` are shares of all time, ``learning`` of ``minutes``.
    """
    seen = [one for recording in recordings for one in recording.seen]
    alarms = [alarm for recording in recordings for alarm in recording.alarms()]
    judged = sum(recording.covered_s(lambda one: not one.learning) for recording in recordings) / 60
    causes = Counter(alarm.cause.value for alarm in alarms).most_common()
    spent = dict.fromkeys(DriftState, 0.0)
    for recording in recordings:
        for span in recording.spans():
            spent[span.state] += max(0.0, span.end_s - span.start_s)
    whole, watched = sum(spent.values()), sum(recording.covered_s() for recording in recordings)
    return {
        "comparisons": len(seen),
        "minutes": watched / 60,
        "judged_minutes": judged,
        "alarms": len(alarms),
        "alarms_per_10_min": _rate(len(alarms), judged),
        "causes": {cause: {"alarms": n, "per_10_min": _rate(n, judged)} for cause, n in sorted(causes)},
        "states": {state.value: time / whole if whole else math.nan for state, time in spent.items()},
        "undefined": spent[DriftState.UNDEFINED] / whole if whole else math.nan,
        "learning": 1 - 60 * judged / watched if watched else math.nan,
    }


def _blocks(recordings: Sequence[Watched], value: Callable[[Seen], float]) -> list[Any]:
    blocks: list[Any] = []
    for recording in recordings:
        numbers = range(len(recording.seen))
        for _, run in groupby(numbers, key=lambda number: recording.seconds(number) // BLOCK_S):
            values = [value(recording.seen[number]) for number in run]
            blocks.append(np.asarray(values, np.float32)[:, None] / 100)
    return blocks


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _rate(count: int, minutes: float) -> float:
    return 10 * count / minutes if minutes > 0 else math.nan

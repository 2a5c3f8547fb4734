"""What the drift bench measured: detection per fault and false alarms, from the detector's reports on watched drives.

AUROC: of windows of ``WINDOW_S`` after the onset of a fault against all such windows of drives without fault, each by
its strongest alarm (Mann-Whitney). Delay: from the onset, the first moment at which the fault could show, to the
picture at which the state became WARN or ERROR. Right reason: the cause told most often in ``WINDOW_S`` after that.
Knows evidence, detector and baseline; no simulation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.drift import BaselineLearner, Cause, DriftBaseline, DriftDetector, DriftReport, DriftState
from egowm_core.drift.plans import PlanBook
from egowm_sim.drift_runs import Watched, held_plans
from egowm_sim.faults import FaultKind, parse_fault
from egowm_sim.robot_simulation import START_NS

WINDOW_S = 5.0
QUIET_S = 5.0  # alarms closer than this are one
RIGHT: dict[FaultKind, set[Cause]] = {
    FaultKind.WHEEL_SLIP: {Cause.SLIP},
    FaultKind.STUCK_WHEEL: {Cause.NOT_FOLLOWING},
    FaultKind.CAMERA_YAW: {Cause.CAMERA_MOVED},
    FaultKind.CAMERA_PITCH: {Cause.CAMERA_MOVED},
    FaultKind.OCCLUSION: {Cause.OCCLUDED},
    FaultKind.FROZEN_FRAME: {Cause.FROZEN},
    FaultKind.TIME_LAG: {Cause.LAG},
    FaultKind.ENCODER_BIAS: {Cause.ODOMETRY},
    FaultKind.LIGHTS_OUT: {Cause.DARK},
    FaultKind.GAIN_CHANGE: {Cause.EXPOSURE},
    FaultKind.PEOPLE: {Cause.MOVING_THINGS},
}
Scales = NDArray[np.float64]
_ALARMED = (DriftState.WARN, DriftState.ERROR)


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The detector's reports on one drive: ``times_s`` (n,) from its start, ``reports``."""

    watched: Watched
    times_s: NDArray[np.float64]
    reports: list[DriftReport]


def learn(watched: Iterable[Watched], scales: Scales, tick_s: float) -> DriftBaseline:
    """One baseline from drives without fault.

    Raises:
        ScoreError: too little to learn from.
    """
    learner = BaselineLearner(scales)
    for one in watched:
        book = PlanBook(scales)
        for stamp_ns, plan in held_plans(one, tick_s).items():
            book.add(stamp_ns, plan)
        for evidence in one.evidence:
            learner.add(evidence, book.gaps(evidence))
    return learner.learn()


def detect(watched: Watched, baseline: DriftBaseline, scales: Scales, tick_s: float) -> Verdicts:
    """Run the detector over one drive, as the node would live."""
    detector = DriftDetector(scales, tick_s=tick_s, baseline=baseline)
    plans = held_plans(watched, tick_s)
    times, reports = [], []
    for evidence in watched.evidence:
        for stamp_ns in (evidence.context_stamp_ns, *evidence.stamps_ns.tolist()):
            if int(stamp_ns) in plans:
                detector.plan(int(stamp_ns), plans[int(stamp_ns)])
        reports.append(detector.update(evidence))
        times.append((int(evidence.stamps_ns[-1]) - START_NS) * 1e-9)
    return Verdicts(watched, np.array(times), reports)


def free_figures(verdicts: Sequence[Verdicts]) -> dict[str, Any]:
    """Figures of drives without fault: minutes judged, alarms, alarms per 10 minutes, and what they were taken for."""
    minutes = sum(float(v.times_s[-1] - v.times_s[0]) for v in verdicts if len(v.times_s)) / 60
    alarms = [alarm for v in verdicts for alarm in _alarms(v)]
    undefined = [report.state is DriftState.UNDEFINED for v in verdicts for report in v.reports]
    return {
        "minutes": round(minutes, 2),
        "alarms": len(alarms),
        "false_alarms_per_10_min": round(10 * len(alarms) / minutes, 3) if minutes else math.nan,
        "causes": dict(Counter(cause.value for _, cause in alarms).most_common()),
        "undefined": round(float(np.mean(undefined)), 4) if undefined else math.nan,
    }


def fault_figures(verdicts: Sequence[Verdicts], free: Sequence[Verdicts]) -> dict[str, Any]:
    """Figures of all drives with one kind of fault."""
    shown = [v for v in verdicts if math.isfinite(v.watched.onset_s) and v.watched.onset_s + WINDOW_S <= v.times_s[-1]]
    negatives = [strength for v in free for strength in _windows(v)]
    positives = [_strongest(v, v.watched.onset_s, v.watched.onset_s + WINDOW_S) for v in shown]
    delays = [_delay_s(v) for v in shown]
    causes = [_told(v, delay) for v, delay in zip(shown, delays, strict=True)]
    right = [cause in right_causes(v.watched.run.fault) for v, cause in zip(shown, causes, strict=True)]
    low, high = bootstrap_auroc(positives, negatives)
    return {
        "drives": len(verdicts),
        "shown": len(shown),
        "auroc": round(auroc(positives, negatives), 4),
        "auroc_low": round(low, 4),
        "auroc_high": round(high, 4),
        "detected": sum(math.isfinite(delay) for delay in delays),
        "delay_s": _median(delays),
        "delay_worst_s": max(delays, default=math.nan),
        "reason_right": round(float(np.mean(right)), 3) if right else math.nan,
        "reasons": dict(Counter("none" if cause is None else cause.value for cause in causes).most_common()),
    }


def right_causes(fault: str) -> set[Cause]:
    """The causes that are right for a fault; a lens covered altogether is as dark as a dark room."""
    parsed = parse_fault(fault)
    whole = parsed.kind is FaultKind.OCCLUSION and parsed.severity == 1
    return RIGHT[parsed.kind] | ({Cause.DARK} if whole else set())


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Probability that a positive scores above a negative, ties counting half; NaN without both."""
    if not len(positives) or not len(negatives):
        return math.nan
    p, n = np.asarray(positives)[:, None], np.asarray(negatives)[None]
    return float(np.mean((p > n) + 0.5 * (p == n)))


def bootstrap_auroc(
    positives: Sequence[float], negatives: Sequence[float], *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of ``auroc``, resampling both sides."""
    if not len(positives) or not len(negatives):
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    p, n = np.asarray(positives), np.asarray(negatives)
    values = [auroc(rng.choice(p, p.size).tolist(), rng.choice(n, n.size).tolist()) for _ in range(resamples)]
    return float(np.percentile(values, 2.5)), float(np.percentile(values, 97.5))


def _alarms(verdicts: Verdicts) -> list[tuple[float, Cause]]:
    """Begin and first cause of each alarm; those less than ``QUIET_S`` apart are one."""
    found: list[tuple[float, Cause]] = []
    last_s = -math.inf
    for at_s, report in zip(verdicts.times_s.tolist(), verdicts.reports, strict=True):
        if report.state in _ALARMED:
            if at_s - last_s > QUIET_S:
                found.append((at_s, report.cause))
            last_s = at_s
    return found


def _windows(verdicts: Verdicts) -> list[float]:
    """The strongest alarm in each whole window of a drive."""
    first, last = float(verdicts.times_s[0]), float(verdicts.times_s[-1])
    starts = np.arange(first, last - WINDOW_S + 1e-6, WINDOW_S)
    return [_strongest(verdicts, float(start), float(start) + WINDOW_S) for start in starts]


def _strongest(verdicts: Verdicts, start_s: float, end_s: float) -> float:
    inside = (verdicts.times_s >= start_s) & (verdicts.times_s < end_s)
    return max((report.alarm for report, take in zip(verdicts.reports, inside, strict=True) if take), default=0.0)


def _delay_s(verdicts: Verdicts) -> float:
    """Seconds from the onset to the first alarm; infinite without one. An alarm that stood before the onset counts
    from its next beginning only, so that a false one earns nothing.
    """
    onset_s = verdicts.watched.onset_s
    before = [r.state in _ALARMED for t, r in zip(verdicts.times_s, verdicts.reports, strict=True) if t < onset_s]
    standing = bool(before and before[-1])
    for at_s, report in zip(verdicts.times_s.tolist(), verdicts.reports, strict=True):
        if at_s < onset_s:
            continue
        if report.state not in _ALARMED:
            standing = False
        elif not standing or report.cause in right_causes(verdicts.watched.run.fault):
            return round(at_s - onset_s, 3)
    return math.inf


def _told(verdicts: Verdicts, delay_s: float) -> Cause | None:
    """The cause told most often in the window after the alarm."""
    if not math.isfinite(delay_s):
        return None
    start_s = verdicts.watched.onset_s + delay_s - 1e-6
    causes = [
        report.cause
        for at_s, report in zip(verdicts.times_s.tolist(), verdicts.reports, strict=True)
        if start_s <= at_s < start_s + WINDOW_S and report.state in _ALARMED
    ]
    return Counter(causes).most_common(1)[0][0] if causes else None


def _median(delays: Sequence[float]) -> float:
    return float(np.median(delays)) if len(delays) else math.nan

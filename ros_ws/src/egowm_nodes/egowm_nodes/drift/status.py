"""What the drift_monitor node reports in the diagnostics: three statuses out of figures. Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from egowm_core.drift import Cause, DriftReport, DriftState, Evidence
from egowm_nodes.drift.sampling import EXECUTED, SLOTS, Sampling
from egowm_nodes.drift.watch import DriftWatch
from egowm_nodes.runtime.diagnostics import Level, Status, judge
from egowm_nodes.runtime.notices import Notice

_LEVELS = {
    DriftState.OK: Level.OK,
    DriftState.WARN: Level.WARN,
    DriftState.ERROR: Level.ERROR,
    DriftState.STALE: Level.STALE,
    DriftState.UNDEFINED: Level.OK,
}
_FEW = 0.5  # of the rollouts of executed actions


def inputs_status(missing: Sequence[str], notices: Sequence[Notice], figures: dict[str, str]) -> Status:
    """The status ``inputs``: what is missing, what went wrong of late, and the figures."""
    found = [(Level.STALE, text) for text in missing]
    for notice in notices:
        if notice.key == "scoring: failed":
            found.append((Level.ERROR, notice.text))
        elif notice.key.startswith(("input:", "scoring:")):
            found.append((Level.WARN, notice.text))
    level, message = judge(found, fine="images and rollouts flow")
    return Status("inputs", level, message, figures)


def sampling_status(sampling: Sampling, replaced: Mapping[str, int], *, every: int, cpu_share: float) -> Status:
    """The status ``sampling``: how much of what was heard was judged, and at what cost.

    ``replaced``: by slot, rollouts that waited for the scoring thread when a newer one came. ``cpu_share`` 1 is a core.
    """
    values: dict[str, str] = {}
    for slot in SLOTS:
        heard, judged = sampling.heard[slot], sampling.judged[slot]
        values |= {
            f"{slot} heard": str(heard.count),
            f"{slot} judged": str(judged.count),
            f"{slot} replaced": str(sampling.replaced[slot] + replaced.get(slot, 0)),
            f"{slot} passed over": str(sampling.passed_over[slot]),
            f"{slot} heard_hz": f"{heard.rate_hz():.2f}",
            f"{slot} judged_hz": f"{judged.rate_hz():.2f}",
            f"{slot} share judged": _share(sampling.share(slot)),
        }
    values |= {"scoring_ms p50 / p99": sampling.scoring.text(), "cpu_share of one core": _share(cpu_share)}
    share = sampling.share(EXECUTED)
    text = "nothing to judge yet" if math.isnan(share) else f"{share:.0%} of the rollouts of executed actions judged"
    found = []
    if share * every < _FEW:  # False while unknown
        found.append((Level.WARN, f"{text}: scoring does not keep up; lower max_structures or raise score_every"))
    level, message = judge(found, fine=text)
    return Status("sampling", level, message, values)


def drift_status(watch: DriftWatch, judged: Mapping[str, Evidence]) -> Status:
    """The status ``drift``: the state, the evidence behind it, and the newest scores by source of the actions."""
    report = watch.report
    values = {
        "state": report.state.value,
        "cause": report.cause.value,
        "alarm": f"{report.alarm:.2f}",
        "baseline": _origin(watch),
    }
    if report.lag_s is not None:
        values["lag_s"] = f"{report.lag_s:.2f}"
    values |= {f"strength {name}": f"{strength:.2f}" for name, strength in report.channels.items()}
    for source, evidence in sorted(judged.items()):
        usual = watch.usual(evidence)
        for horizon, scs in evidence.scs.items():
            values[f"scs {source} {horizon}"] = _figure(scs)
            values[f"usual scs {source} {horizon}"] = _figure(usual.get(horizon, math.nan))
            values[f"structures {source} {horizon}"] = str(evidence.num_structures[horizon])
            values[f"psnr_db {source} {horizon}"] = _figure(evidence.psnr[horizon])
    return Status("drift", _LEVELS[report.state], verdict(report, reason=True), values)


def verdict(report: DriftReport, *, reason: bool = False) -> str:
    """The state in words: with its cause where there is one, and with the reason where asked for."""
    text = report.state.value if report.cause is Cause.NONE else f"{report.state.value}, {report.cause.value}"
    return f"{text}: {report.reason}" if reason and report.reason else text


def _origin(watch: DriftWatch) -> str:
    if not watch.learns:
        return "given"
    return "being learned" if (known := watch.baseline) is None else f"learned from {known.ticks} ticks"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"

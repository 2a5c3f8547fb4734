"""What the drift_monitor node reports in the diagnostics: two statuses out of figures. Knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from egowm_core.scs import DriftReport, DriftState
from egowm_nodes.diagnostics import Level, Status, judge
from egowm_nodes.judging import Judgement
from egowm_nodes.notices import Notice

_LEVELS = {
    DriftState.OK: Level.OK,
    DriftState.WARN: Level.WARN,
    DriftState.ERROR: Level.ERROR,
    DriftState.STALE: Level.STALE,
    DriftState.UNDEFINED: Level.OK,
}


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


def drift_status(report: DriftReport, baseline: float, judgements: Mapping[str, Judgement]) -> Status:
    """The status ``drift``: the state, and the newest scores by source of the actions."""
    values = {"state": report.state.value, "baseline_scs": _figure(baseline)}
    for source, judgement in sorted(judgements.items()):
        for horizon in judgement.scs:
            values[f"scs {source} {horizon}"] = _figure(judgement.scs[horizon])
            values[f"structures {source} {horizon}"] = str(judgement.num_structures[horizon])
            values[f"psnr_db {source} {horizon}"] = _figure(judgement.psnr[horizon])
    return Status("drift", _LEVELS[report.state], report.reason, values)


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"

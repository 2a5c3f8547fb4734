"""A judgement to egowm_msgs/Drift. Knows no node. Not in ``conversions``: what only predicts imports no metric."""

from __future__ import annotations

import math
from collections.abc import Mapping

from egowm_msgs.msg import Drift as DriftMsg

from egowm_core.drift import DriftReport, DriftState
from egowm_core.types import ActionSource
from egowm_nodes.conversions import SOURCES, header, time_message

_STATES = {
    DriftState.OK: DriftMsg.OK,
    DriftState.WARN: DriftMsg.WARN,
    DriftState.ERROR: DriftMsg.ERROR,
    DriftState.STALE: DriftMsg.STALE,
    DriftState.UNDEFINED: DriftMsg.UNDEFINED,
}


def drift_message(
    report: DriftReport,
    *,
    stamp_ns: int,
    frame_id: str,
    source: ActionSource,
    context_stamp_ns: int,
    scs: Mapping[int, float],
    baseline_scs: Mapping[int, float],
    num_structures: Mapping[int, int],
    psnr: Mapping[int, float],
) -> DriftMsg:
    """One judgement under the state of ``report``; ``scs``, ``num_structures`` and ``psnr`` share their horizons."""
    horizons = sorted(scs)
    return DriftMsg(
        header=header(stamp_ns, frame_id),
        state=_STATES[report.state],
        reason="" if report.state is DriftState.OK else report.reason,
        cause=report.cause.value,
        alarm=report.alarm,
        channels=list(report.channels),
        strengths=list(report.channels.values()),
        lag_s=math.nan if report.lag_s is None else report.lag_s,
        source=SOURCES[source],
        context_stamp=time_message(context_stamp_ns),
        horizons=horizons,
        scs=[scs[h] for h in horizons],
        baseline_scs=[baseline_scs.get(h, math.nan) for h in horizons],
        structures=[num_structures[h] for h in horizons],
        psnr=[psnr[h] for h in horizons],
    )

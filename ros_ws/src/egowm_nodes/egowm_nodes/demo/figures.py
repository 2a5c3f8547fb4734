"""The report's plots as inline SVG, and the figures of a session as plain numbers. Knows a session and matplotlib."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from egowm_nodes.demo import motions
from egowm_nodes.demo.session import Judgement, Session
from egowm_nodes.pictures import STATE_COLORS

_HIGHEST_ALARM = 2.5
_SHOWN_JOINTS = 4


def spread(values: ArrayLike) -> dict[str, float] | None:
    """Median, 90th and 99th percentile and count; None where there are no values."""
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    if not array.size:
        return None
    p50, p90, p99 = (round(float(np.percentile(array, p)), 4) for p in (50, 90, 99))
    return {"p50": p50, "p90": p90, "p99": p99, "count": int(array.size)}


def summarize(session: Session) -> dict[str, Any]:
    """All figures of a session, JSON-ready.

    ``rows`` has mean SCS and PSNR by horizon (frames): ``model`` with executed actions (hindsight), ``model_planned``
    with planned or held ones.
    """
    executed = [judgement for judgement in session.judgements if judgement.source == "executed"]
    planned = [judgement for judgement in session.judgements if judgement.source != "executed"]
    sources = Counter(prediction.source for prediction in session.predictions)
    first, last = (session.predictions[i] if session.predictions else None for i in (0, -1))
    lasting_s = (last.received_ns - first.received_ns) * 1e-9 if first is not None and last is not None else 0.0
    return {
        "rows": {"model": _row(executed), "model_planned": _row(planned)},
        "duration_s": round(session.duration_s, 2),
        "rollouts": len(session.predictions),
        "rollouts_by_source": dict(sources),
        "rollout_rate_hz": round((len(session.predictions) - 1) / lasting_s, 3) if lasting_s > 0 else None,
        "camera_to_rollout_s": spread(session.latencies_s("planned", "held") if sources["planned"] + sources["held"]
                                      else session.latencies_s()),
        "inference_s": spread([prediction.inference_s for prediction in session.predictions]),
        "num_denoising_steps": dict(Counter(str(p.num_denoising_steps) for p in session.predictions)),
        "drift_messages": len(session.judgements),
        "drift_scored": sum(any(math.isfinite(s) for s in j.scs.values()) for j in session.judgements),
        "drift_states": dict(Counter(judgement.state for judgement in session.judgements)),
        "alarms": alarms(session),
        "drops": drops(session),
        "undecodable": dict(session.undecodable),
        "topics": {
            topic.name: {"type": topic.type, "count": topic.count, "rate_hz": _finite(topic.rate_hz)}
            for topic in session.topics
        },
    }  # fmt: skip


def alarms(session: Session) -> list[dict[str, Any]]:
    """Every stretch of WARN or ERROR under one cause, in order: when (s from the start), how strong, and why."""
    start_ns = _start_ns(session)
    executed = sorted(
        (j for j in session.judgements if j.source == "executed"), key=lambda judgement: judgement.stamp_ns
    )
    found = []
    for (alarmed, cause), group in groupby(executed, key=lambda j: (j.state in ("WARN", "ERROR"), j.cause)):
        stretch = list(group)
        if not alarmed:
            continue
        worst = max(stretch, key=lambda judgement: (judgement.state == "ERROR", np.nan_to_num(judgement.alarm)))
        found.append(
            {
                "start_s": round((stretch[0].stamp_ns - start_ns) * 1e-9, 2),
                "end_s": round((stretch[-1].stamp_ns - start_ns) * 1e-9, 2),
                "state": worst.state,
                "cause": cause,
                "alarm": _finite(worst.alarm),
                "channels": sorted(name for name, strength in worst.strengths.items() if strength >= 1),
                "lag_s": _finite(worst.lag_s),
                "reason": worst.reason,
            }
        )
    return found


def drops(session: Session) -> dict[str, str]:
    """What the nodes' last diagnostics say of drops, refusals and replacements."""
    words = ("drop", "skip", "refus", "replac", "reject", "undecod")
    return {
        f"{name}: {key}": value
        for name, (_, _, values) in sorted(session.diagnostics.items())
        for key, value in values.items()
        if any(word in key.lower() for word in words)
    }


def _row(judgements: Sequence[Judgement]) -> dict[str, dict[str, float | None]]:
    horizons = sorted({horizon for judgement in judgements for horizon in judgement.scs})
    return {
        "scs": {str(h): _mean([j.scs.get(h, math.nan) for j in judgements]) for h in horizons},
        "psnr": {str(h): _mean([j.psnr.get(h, math.nan) for j in judgements]) for h in horizons},
    }


def _mean(values: list[float]) -> float | None:
    kept = [value for value in values if math.isfinite(value)]
    return round(float(np.mean(kept)), 3) if kept else None


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def scs_plot(session: Session) -> str:
    """SCS over time by horizon with what is usual, over bands of state; the alarm and the robot's motion: SVG text."""
    figure = Figure(figsize=(10.5, 6.0), layout="constrained")
    upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=[3, 1.2, 1])
    start_ns = _start_ns(session)
    judgements = session.judgements
    horizons = sorted({horizon for judgement in judgements for horizon in judgement.scs})
    for number, horizon in enumerate(horizons):
        for executed, style in ((True, {"marker": ".", "linewidth": 1.4}), (False, {"marker": "x", "linestyle": ""})):
            chosen = [j for j in judgements if (j.source == "executed") == executed and horizon in j.scs]
            at_s = [(judgement.stamp_ns - start_ns) * 1e-9 for judgement in chosen]
            label = f"frame {horizon}" if executed else None
            scores = [judgement.scs[horizon] for judgement in chosen]
            upper.plot(at_s, scores, color=f"C{number}", markersize=5, label=label, **style)
            if executed:
                usual = [judgement.baseline_scs.get(horizon, math.nan) for judgement in chosen]
                upper.plot(at_s, usual, color=f"C{number}", linewidth=0.8, linestyle="--", alpha=0.7)
    if any(judgement.source != "executed" for judgement in judgements):
        upper.plot([], [], "x", color="#666666", markersize=5, label="planned or held actions")
    _bands(upper, session, start_ns)
    _alarm(middle, session, start_ns)
    upper.set_ylim(0, 100)
    upper.set_ylabel("SCS [%]")
    upper.grid(alpha=0.25)
    if judgements:
        upper.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), fontsize=8, ncols=8, frameon=False)
    if not _joints(lower, session, start_ns) and len(session.odometry_ns):
        at_s = (session.odometry_ns - start_ns) * 1e-9
        lower.plot(at_s, session.odometry[:, 5], linewidth=1.0, color="#3a78b8", label="turn [rad/s]")
        lower.plot(at_s, session.odometry[:, 3], linewidth=1.0, color="#8a6d3b", label="speed [m/s]")
        lower.legend(loc="lower center", bbox_to_anchor=(0.5, 0.94), fontsize=8, ncols=2, frameon=False)
    lower.grid(alpha=0.25)
    lower.set_xlabel("time [s]")
    return _svg(figure)


def _joints(axes: Any, session: Session, start_ns: int) -> bool:
    """The joints that moved most, a tick at a time, as executed; False for robots without any."""
    executed = [prediction for prediction in session.predictions if prediction.source == "executed"]
    channels = motions.joint_channels(executed[0].embodiment, executed[0].actions.shape[1]) if executed else ()
    executed = [prediction for prediction in executed if prediction.actions.shape[1] == len(channels)]
    if not channels:
        return False
    rows = np.stack([prediction.actions[0] for prediction in executed])
    shares = rows / np.array([channel.scale for channel in channels])
    at_s = [(int(prediction.stamps_ns[0]) - start_ns) * 1e-9 for prediction in executed]
    for index in np.argsort(-shares.std(axis=0))[:_SHOWN_JOINTS]:
        axes.plot(at_s, shares[:, index], linewidth=1.0, label=channels[index].name)
    axes.set_ylabel("of its scale")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 0.94), fontsize=8, ncols=_SHOWN_JOINTS, frameon=False)
    return True


def latency_plot(session: Session) -> str:
    """Inference time and camera-to-rollout latency over time: SVG text."""
    figure = Figure(figsize=(10.5, 2.4), layout="constrained")
    axes = figure.subplots()
    start_ns = _start_ns(session)
    for source in sorted({prediction.source for prediction in session.predictions}):
        chosen = [p for p in session.predictions if p.source == source]
        at_s = [(p.received_ns - session.arrivals_ns.get(start_ns, start_ns)) * 1e-9 for p in chosen]
        axes.plot(at_s, [p.inference_s for p in chosen], ".", label=f"inference, {source}")
        if source != "executed":
            late = [(p.received_ns - session.arrivals_ns.get(p.context_ns, p.received_ns)) * 1e-9 for p in chosen]
            axes.plot(at_s, [value or math.nan for value in late], ".", label=f"camera to rollout, {source}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time [s]")
    axes.set_ylabel("[s]")
    axes.grid(alpha=0.25)
    if session.predictions:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8, ncols=6, frameon=False)
    return _svg(figure)


def _start_ns(session: Session) -> int:
    if session.observed:
        return session.observed[0].stamp_ns
    return session.judgements[0].stamp_ns if session.judgements else 0


def _bands(axes: Any, session: Session, start_ns: int) -> None:
    judgements = sorted(session.judgements, key=lambda judgement: judgement.stamp_ns)
    times = [(judgement.stamp_ns - start_ns) * 1e-9 for judgement in judgements]
    seen: set[str] = set()
    for state, group in groupby(range(len(judgements)), key=lambda i: judgements[i].state):
        numbers = list(group)
        begin, end = times[numbers[0]], times[min(numbers[-1] + 1, len(times) - 1)]
        axes.axvspan(begin, end, color=_hex(state), alpha=0.15, linewidth=0, label=None if state in seen else state)
        seen.add(state)


def _alarm(axes: Any, session: Session, start_ns: int) -> None:
    """The strongest evidence over time with its threshold, and the cause where one begins."""
    chosen = sorted((j for j in session.judgements if j.source == "executed"), key=lambda judgement: judgement.stamp_ns)
    at_s = [(judgement.stamp_ns - start_ns) * 1e-9 for judgement in chosen]
    axes.plot(at_s, [min(judgement.alarm, _HIGHEST_ALARM) for judgement in chosen], color="#444444", linewidth=1.2)
    axes.axhline(1.0, color=_hex("ERROR"), linewidth=0.8, linestyle="--")
    for alarm in alarms(session):
        axes.annotate(
            alarm["cause"], (alarm["start_s"], 1.05), fontsize=8, color=_hex(alarm["state"]), annotation_clip=True
        )
    axes.set_ylim(0, _HIGHEST_ALARM)
    axes.set_ylabel("alarm")
    axes.grid(alpha=0.25)


def _hex(state: str) -> str:
    return "#{:02x}{:02x}{:02x}".format(*STATE_COLORS.get(state, (136, 136, 136)))


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "egowm", "font.size": 9}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

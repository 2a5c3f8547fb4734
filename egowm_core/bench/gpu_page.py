"""The page of `egowm-bench gpu`: measured sections as Markdown tables, what each step bought, and goals met or missed.

Knows files' contents alone: nothing is measured here, and what is absent is said to be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from egowm_core.bench.timing import STAGES, TOTAL

GOALS_S = {"cosmos": 0.35, "svd": 0.30}
"""Seconds that 16 frames of the real size may take, end to end."""
SPEED_UP_GOAL, FRAMES_PER_S_GOAL = 12.0, 60.0
_SHARED_CHAIN = ("stock", "ours_4_guided", "ours_4", "ours_1", "ours_1_default", "ours_1_reduce-overhead")
_CHAINS = {"svd": (*_SHARED_CHAIN, "ours_1_reduce-overhead_tiny_decoder"), "cosmos": _SHARED_CHAIN}
"""Rows between which one thing changes."""
_CHANGES = {
    "ours_4_guided": "4 denoising steps instead of the pipeline's own number",
    "ours_4": "no guidance: one evaluation a step, not two",
    "ours_1": "1 denoising step (a model that was distilled to it)",
    "ours_1_default": "compiled networks",
    "ours_1_reduce-overhead": "CUDA graphs",
    "ours_1_reduce-overhead_tiny_decoder": "the tiny decoder",
}

Section = Mapping[str, Any]
"""What a section's file holds: ``rows`` and ``about``."""


def page(sections: Mapping[str, Section]) -> str:
    """All sections that there are, as Markdown."""
    parts = ["# Measured by egowm-bench gpu"]
    if not sections:
        return f"{parts[0]}\n\nNothing was measured."
    for name, found in sections.items():
        about = found["about"]
        head = f"## {name}: {about['size']} size, {about['device']}, {about['dtype']}, torch {about['torch']}"
        ceiling = (
            f"Ceiling of matrix products: {about['ceiling_flop_per_s'] / 1e12:.3g} TFLOP/s. n = {about['repeats']}; a"
            " quarter of that for the stock pipeline and long futures, five times for streams."
        )
        if name in _CHAINS:
            body = [_table(found["rows"]), "", *_chain(name, found["rows"]), "", *_goals(name, found)]
        elif name.startswith("stream_"):
            body = _streams(found)
        else:
            body = [f"{about['long_frames']} frames.", "", _long_table(found["rows"])]
        body += _unfinished(found)
        parts.append("\n".join([head, "", ceiling, "", *body]))
    return "\n\n".join(parts)


def _table(rows: Mapping[str, Any]) -> str:
    columns = ("run", *(f"{stage}, ms" for stage in STAGES), "total p50 / p99, ms", "TFLOP/s", "% of ceiling")
    lines = [_row((*columns, "times stock", "peak GB")), _row(("---",) * (len(columns) + 2))]
    for name, row in rows.items():
        total = row[TOTAL]
        cells = [name, *(_ms(row[stage]["p50"]) for stage in STAGES)]
        cells += [f"{_ms(total['p50'])} / {_ms(total['p99'])}", f"{total['flop_per_s'] / 1e12:.3g}"]
        cells += [f"{100 * total['of_ceiling']:.1f}", _figure(row, "speed_up", "ratio", "{:.1f}"), _gigabytes(row)]
        lines.append(_row(cells))
    return "\n".join(lines)


def _long_table(rows: Mapping[str, Any]) -> str:
    lines = [_row(("run", "million parameters", "p50 / p99, s", "frames/s", "peak GB")), _row(("---",) * 5)]
    for name, row in rows.items():
        total = row[TOTAL]
        times = f"{total['p50']:.3g} / {total['p99']:.3g}"
        rate = f"{row['long_frames']['count'] / total['p50']:.3g}" if "long_frames" in row else ""
        lines.append(_row((name, f"{row['parameters']['count'] / 1e6:.1f}", times, rate, _gigabytes(row))))
    return "\n".join(lines)


def _chain(backbone: str, rows: Mapping[str, Any]) -> list[str]:
    """What each step bought, of those that were measured."""
    names = [name for name in _CHAINS[backbone] if name in rows]
    lines = ["What each step bought:", "", _row(("step", "p50, ms", "times the row above")), _row(("---",) * 3)]
    for before, name in zip([None, *names], names, strict=False):
        now = rows[name][TOTAL]["p50"]
        gain = "" if before is None else f"{rows[before][TOTAL]['p50'] / now:.2f}"
        lines.append(_row((_CHANGES.get(name, "the stock pipeline"), _ms(now), gain)))
    return lines


def _goals(backbone: str, found: Section) -> list[str]:
    if found["about"]["size"] != "real":
        return ["Goals are for the real size; this one says nothing of them."]
    ours = {name: row for name, row in found["rows"].items() if name != "stock"}
    if not ours or "stock" not in found["rows"]:
        return ["Goals: not measured."]
    best = min(ours, key=lambda name: float(ours[name][TOTAL]["p50"]))
    seconds = ours[best][TOTAL]["p50"]
    ratio = found["rows"]["stock"][TOTAL]["p50"] / seconds
    limit = GOALS_S[backbone]
    return [
        f"- {found['about']['frames']} frames end to end in at most {limit} s: {seconds:.3f} s with {best}, "
        f"{_met(seconds <= limit)}",
        f"- at least {SPEED_UP_GOAL:g} times stock in the same run: {ratio:.1f}, {_met(ratio >= SPEED_UP_GOAL)}",
    ]


def _streams(found: Section) -> list[str]:
    lines = [_row(("run", "step p50 / p99, ms", "frames/s", "peak GB")), _row(("---",) * 4)]
    best = 0.0
    for name, row in found["rows"].items():
        best = max(best, row["frames_per_s"]["p50"])
        times = f"{_ms(row['step']['p50'])} / {_ms(row['step']['p99'])}"
        lines.append(_row((name, times, f"{row['frames_per_s']['p50']:.3g}", _gigabytes(row))))
    if found["about"]["size"] == "real":
        goal = f"- at least {FRAMES_PER_S_GOAL:g} frames/s: {best:.1f}, {_met(best >= FRAMES_PER_S_GOAL)}"
        lines += ["", goal]
    return lines


def _unfinished(found: Section) -> list[str]:
    failures = [f"- **failed**: {row}: {reason}" for row, reason in found.get("failed", {}).items()]
    if not failures and not found.get("complete", True):
        failures = ["- not complete: it was interrupted, the same command goes on with it"]
    return ["", *failures] if failures else []


def _met(met: bool) -> str:
    return "met" if met else "**not met**"


def _figure(row: Mapping[str, Any], metric: str, key: str, form: str) -> str:
    return form.format(row[metric][key]) if metric in row else ""


def _gigabytes(row: Mapping[str, Any]) -> str:
    return f"{row['memory']['peak_bytes'] / 1e9:.1f}" if "memory" in row else ""


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}" if seconds < 0.1 else f"{1e3 * seconds:.0f}"


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"

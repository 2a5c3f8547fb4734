"""Rows of measurements as a table for people and as JSON for plots. Knows no model and no clock."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egowm_core.bench.timing import STAGES, TOTAL, Timing

COLUMNS = ("run", *STAGES, TOTAL, "TFLOP", "TFLOP/s", "% of ceiling", "times real time", "times stock", "peak GB")


@dataclass(frozen=True)
class Row:
    """One way to make one prediction. ``flop`` is per stage, as the eager networks do it."""

    name: str
    timing: Timing
    flop: Mapping[str, int]
    ceiling: float  # FLOP/s
    seconds_predicted: float  # how long the predicted future lasts
    stock_total_s: float | None = None  # the stock pipeline's median, where it was measured

    def metrics(self) -> dict[str, dict[str, float]]:
        """``{stage: {p50, p99 (s), flop, flop_per_s, of_ceiling}}`` for the stages and the total, and ratios."""
        flop = {**self.flop, TOTAL: sum(self.flop.values())}
        found: dict[str, dict[str, float]] = {}
        for stage, times in self.timing.stages.items():
            rate = flop[stage] / times.p50 if times.p50 > 0 else 0.0
            found[stage] = {
                "p50": times.p50,
                "p99": times.p99,
                "flop": float(flop[stage]),
                "flop_per_s": rate,
                "of_ceiling": rate / self.ceiling,
            }
        found["real_time"] = {"ratio": self.seconds_predicted / self.timing.stages[TOTAL].p50}
        if self.stock_total_s is not None:
            found["speed_up"] = {"ratio": self.stock_total_s / self.timing.stages[TOTAL].p50}
        if self.timing.peak_bytes is not None:
            found["memory"] = {"peak_bytes": float(self.timing.peak_bytes)}
        return found


def header() -> str:
    """The table's head, Markdown."""
    return f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


def line(row: Row) -> str:
    """One row of the table: median (p99) in ms per stage; the triples are encode / denoise / decode."""
    found = row.metrics()
    times = [f"{_ms(found[stage]['p50'])} ({_ms(found[stage]['p99'])})" for stage in (*STAGES, TOTAL)]
    triples = [
        " / ".join(f"{scale * found[stage][key]:.3g}" for stage in STAGES)
        for key, scale in (("flop", 1e-12), ("flop_per_s", 1e-12), ("of_ceiling", 100.0))
    ]
    speed_up = f"{found['speed_up']['ratio']:.2f}" if "speed_up" in found else ""
    peak = f"{found['memory']['peak_bytes'] / 1e9:.1f}" if "memory" in found else ""
    cells = [row.name, *times, *triples, f"{found['real_time']['ratio']:.1f}", speed_up, peak]
    return f"| {' | '.join(cells)} |"


def write_json(path: Path, rows: list[Row], about: Mapping[str, Any]) -> None:
    """``{"rows": {NAME: {METRIC: {...}}}, "about": {...}}``, whole or not at all."""
    figures = {"rows": {row.name: row.metrics() for row in rows}, "about": dict(about)}
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as handle:
        handle.write(json.dumps(figures, indent=1) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}" if seconds < 0.1 else f"{1e3 * seconds:.0f}"

"""Figures of a stress run: percentiles, memory over time, and what was promised against what was measured.

Knows no ROS and starts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from egowm_core.files import without_nan
from egowm_nodes.runtime.process_figures import MEGABYTE, Footprint, footprint


@dataclass
class Outcome:
    """What a run found: ``rows`` of figures by name, and ``checks`` (what was promised, whether it held)."""

    command: str
    settings: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[tuple[str, bool]] = field(default_factory=list)

    def check(self, promise: str, held: bool) -> None:
        """Note whether a promise held."""
        self.checks.append((promise, bool(held)))

    @property
    def failed(self) -> list[str]:
        """The promises that did not hold."""
        return [promise for promise, held in self.checks if not held]

    def as_json(self) -> dict[str, Any]:
        """Plain values; numbers that are not finite become null."""
        return {
            "command": self.command,
            "settings": without_nan(self.settings),
            "rows": without_nan(self.rows),
            "checks": [{"promise": promise, "held": held} for promise, held in self.checks],
        }

    def text(self) -> str:
        """For the terminal: a line a row, then a line a promise."""
        lines = [f"{name}: " + ", ".join(f"{key} {_short(value)}" for key, value in row.items()) for name, row in
                 self.rows.items()]  # fmt: skip
        lines += [f"{'held  ' if held else 'BROKEN'} {promise}" for promise, held in self.checks]
        return "\n".join(lines)


class MemoryLog:
    """Footprints of processes by name over time (steady s)."""

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[float, Footprint]]] = {}

    def sample(self, name: str, pid: int, now_s: float) -> None:
        """Look at a process now; one that is gone is left out."""
        found = footprint(pid)
        if found is not None:
            self._samples.setdefault(name, []).append((now_s, found))

    def names(self) -> list[str]:
        """Of the processes seen."""
        return list(self._samples)

    def row(self, name: str, *, settle_s: float = 0.0) -> dict[str, Any]:
        """Resident memory after ``settle_s`` and at the end (medians of a tenth), its growth in percent and slope."""
        samples = self._samples.get(name, [])
        begin_s = samples[0][0] + settle_s if samples else 0.0
        kept = [(at_s, found) for at_s, found in samples if at_s >= begin_s] or samples
        if not kept:
            return {"memory_mb": math.nan}
        times = np.array([at_s for at_s, _ in kept])
        sizes = np.array([found.rss / MEGABYTE for _, found in kept])
        part = max(1, len(sizes) // 10)
        first, last = float(np.median(sizes[:part])), float(np.median(sizes[-part:]))
        span_s = times[-1] - times[0]
        slope = float(np.polyfit(times - times[0], sizes, 1)[0]) if len(sizes) > 2 and span_s > 0 else math.nan
        return {
            "memory_begin_mb": first,
            "memory_end_mb": last,
            "memory_peak_mb": float(sizes.max()),
            "memory_course_mb": [round(float(np.median(piece)), 1) for piece in np.array_split(sizes, 8) if len(piece)],
            "memory_growth_percent": 100.0 * (last / first - 1.0),
            "memory_slope_mb_per_min": 60.0 * slope,
            "threads_begin": kept[0][1].threads,
            "threads_end": kept[-1][1].threads,
            "files_begin": kept[0][1].files,
            "files_end": kept[-1][1].files,
        }


def percentiles_ms(seconds: Sequence[float], *, prefix: str) -> dict[str, float]:
    """p50, p99 and maximum in ms; NaN where there are none."""
    if not seconds:
        return {f"{prefix}_{name}_ms": math.nan for name in ("p50", "p99", "max")}
    values = 1e3 * np.asarray(seconds, np.float64)
    p50, p99 = np.percentile(values, [50, 99])
    return {f"{prefix}_p50_ms": float(p50), f"{prefix}_p99_ms": float(p99), f"{prefix}_max_ms": float(values.max())}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

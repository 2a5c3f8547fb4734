"""What the planner reports in the diagnostics, from plain figures. Knows no node."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from egowm_nodes.runtime.diagnostics import Durations, Level, Status, judge


class Phase(Enum):
    """What the planner is at."""

    NO_GOAL = "no goal"
    LOOKING = "looking"  # standing still until a picture of that comes
    PLANNING = "planning"  # standing still
    DRIVING = "driving"
    OVER = "over"


@dataclass
class Figures:
    """Of the present way: costs of what was seen at its start, lowest and now; and of all plans."""

    phase: Phase = Phase.NO_GOAL
    end: str = ""  # how the last way ended
    first: float = math.nan
    lowest: float = math.nan
    now: float = math.nan
    best: float = math.nan  # of the last plan
    plans: int = 0
    took: Durations = field(default_factory=Durations)
    counts: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """A new goal."""
        self.phase, self.end = Phase.LOOKING, ""
        self.first = self.lowest = self.now = self.best = math.nan

    def saw(self, cost: float) -> None:
        """What is seen costs so much."""
        self.now = cost
        self.first = cost if math.isnan(self.first) else self.first
        self.lowest = cost if math.isnan(self.lowest) else min(self.lowest, cost)


def plan_status(figures: Figures, missing: str | None, troubles: list[str]) -> Status:
    """``plan``: where the way to the goal stands, and what hinders."""
    findings = [(Level.WARN, text) for text in troubles]
    if missing is not None:
        findings.append((Level.STALE, missing))
    fine = figures.phase.value if figures.phase is not Phase.OVER else f"over: {figures.end}"
    level, message = judge(findings, fine=fine)
    values = {
        "phase": figures.phase.value,
        "ended": figures.end or "-",
        "cost_first": _cost(figures.first),
        "cost_lowest": _cost(figures.lowest),
        "cost_now": _cost(figures.now),
        "cost_imagined": _cost(figures.best),
        "plans": str(figures.plans),
        "plan_ms p50 / p99": figures.took.text(),
    }
    return Status("plan", level, message, values | {name: str(n) for name, n in sorted(figures.counts.items())})


def _cost(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"

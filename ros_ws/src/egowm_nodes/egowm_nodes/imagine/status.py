"""What ``imagine`` did, for the diagnostics. Knows no ROS. Counts are written on two threads, each by one alone."""

from __future__ import annotations

from collections.abc import Sequence

from egowm_nodes.runtime.diagnostics import Level, Status, judge


class ImagineFigures:
    """Goals by how they ended, and how quick the last one was."""

    def __init__(self) -> None:
        self.done = 0
        self.refused = 0  # accepted and aborted at once, with a reason
        self.rejected = 0  # too many
        self.cancelled = 0
        self.failed = 0  # begun, but not ended well
        self.progress = 0.0  # of the goal that is worked on, 0..1
        self.last_s = 0.0  # work on the last goal, without what went on in between
        self.candidates_per_s = 0.0

    def worked(self, candidates: int, seconds: float) -> None:
        """A goal is through."""
        self.last_s, self.candidates_per_s = seconds, candidates / max(seconds, 1e-9)


def imagine_status(
    figures: ImagineFigures,
    *,
    waiting: int,
    running: bool,
    pace: dict[str, str],
    findings: Sequence[tuple[Level, str]],
) -> Status:
    """The status ``imagine``; ``pace`` says what is done at once, ``findings`` what went wrong lately."""
    level, message = judge(
        findings, fine=f"imagining, {figures.progress:.0%} done" if running else "waiting for a goal"
    )
    values = {
        "done": str(figures.done),
        "refused": str(figures.refused),
        "rejected": str(figures.rejected),
        "cancelled": str(figures.cancelled),
        "failed": str(figures.failed),
        "running": "1" if running else "0",
        "waiting": str(waiting),
        "last_s": f"{figures.last_s:.2f}",
        "candidates_per_s": f"{figures.candidates_per_s:.2f}",
    }
    return Status("imagine", level, message, values | {f"pace: {key}": value for key, value in pace.items()})

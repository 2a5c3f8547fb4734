"""Trackers by name, for commands and configurations: ``flow``, ``flow:PRESET``, ``sam2:DIRECTORY``."""

from __future__ import annotations

from egowm_core.errors import ScoreError
from egowm_core.scs.tracking import DenseFlowTracker, Tracker

TRACKERS = "flow, flow:ultrafast, flow:fast, flow:medium or sam2:DIRECTORY"


def tracker_for(name: str, *, device: str = "cpu") -> Tracker:
    """The tracker called ``name``; ``device`` is where a learned one runs.

    Raises:
        ScoreError: an unknown name or preset, or SAM 2 cannot be loaded (says what is missing).
    """
    kind, _, detail = name.partition(":")
    if kind == "flow":
        return DenseFlowTracker(preset=detail) if detail else DenseFlowTracker()
    if kind == "sam2" and detail:
        from egowm_core.scs.sam2 import Sam2Tracker

        return Sam2Tracker(detail, device=device)
    raise ScoreError(f"unknown tracker {name!r}; expected {TRACKERS}")

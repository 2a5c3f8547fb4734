"""A snapshot as a picture, for RViz and others that show images but no diagnostics. Knows no ROS.

OpenCV's own font has ASCII only; other characters become question marks.
"""

from __future__ import annotations

import cv2
import numpy as np

from egowm_core.types import ImageArray
from egowm_nodes.dashboard.board import Snapshot
from egowm_nodes.pictures import STATE_COLORS

WIDTH, LINE_HEIGHT, MARGIN = 720, 20, 8  # px
MOST_LINES = 40
MOST_CHARS = 96  # a line; what is longer ends in dots
_PAPER, _INK, _DIM = (24, 24, 24), (235, 235, 235), (160, 160, 160)
_SCALE = 0.42


def lines_of(snapshot: Snapshot) -> list[tuple[str, tuple[int, int, int]]]:
    """The board line by line, with a colour each: nodes, their statuses with messages, drift with scores."""
    lines: list[tuple[str, tuple[int, int, int]]] = [(f"egowm {snapshot.namespace}", STATE_COLORS[snapshot.worst()])]
    for node in snapshot.nodes:
        silent = node.state == "silent"
        state = f"silent for {node.age_s:.0f} s" if silent else node.state or "runs"
        lines.append((f"{node.name}: {state}, {node.drops} drops", STATE_COLORS["STALE"] if silent else _INK))
        lines += [
            (f"  {status.level:5s} {status.name}: {status.message}", STATE_COLORS[status.level])
            for status in node.statuses
            if status.name != "lifecycle" or status.level != "OK"
        ]
    for drift in snapshot.drifts:
        cause = "" if drift.cause in ("", "none") else f", {drift.cause}"
        lines.append((f"{drift.topic}: {drift.state}{cause}", STATE_COLORS.get(drift.state, _INK)))
        for source, scores in sorted(drift.scores.items()):
            said = ", ".join(f"{score.scs:.0f} at {score.horizon} (usual {score.usual:.0f})" for score in scores)
            lines.append((f"  SCS {source}: {said}".replace("nan", "-"), _DIM))
    return lines[:MOST_LINES]


def draw(snapshot: Snapshot) -> ImageArray:
    """(H, ``WIDTH``, 3) uint8 RGB; as high as there are lines."""
    lines = lines_of(snapshot)
    canvas = np.full((2 * MARGIN + LINE_HEIGHT * len(lines), WIDTH, 3), _PAPER, np.uint8)
    for i, (text, color) in enumerate(lines):
        place = (MARGIN, MARGIN + LINE_HEIGHT * (i + 1) - 6)
        shown = text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 3]}..."
        shown = shown.encode("ascii", "replace").decode()
        cv2.putText(canvas, shown, place, cv2.FONT_HERSHEY_SIMPLEX, _SCALE, color, 1, cv2.LINE_AA)
    return canvas

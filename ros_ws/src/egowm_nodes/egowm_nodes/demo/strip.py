"""The demo's strip picture: for a few contexts, predicted frames above what was then really observed.

Contexts are chosen where a base turns left, turns right and drives straight, and where joints move most. Knows a
session; writes one PNG.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from egowm_core.errors import DataError
from egowm_core.geometry import wrap_angle
from egowm_core.types import ImageArray
from egowm_nodes.demo import motions, panels
from egowm_nodes.demo.session import Picture, Prediction, Session

LABELS, TITLE, GAP = 84, 24, 2  # px: left column, line above a block, between frames
MOST_COLUMNS, FEWEST = 9, 3
STRAIGHT_RAD, TURN_RAD, MOVING_M = 0.10, 0.25, 0.15


@dataclass(frozen=True)
class Context:
    """A prediction with what was observed at its stamps (None where nothing), and how the robot moved meanwhile."""

    prediction: Prediction
    start: Picture
    observed: tuple[Picture | None, ...]
    turn_rad: float
    forward_m: float

    @property
    def seconds(self) -> float:
        """How far it reaches."""
        return (int(self.prediction.stamps_ns[-1]) - self.prediction.context_ns) * 1e-9

    @property
    def effort(self) -> float:
        """How much all joints move together, each by its own scale; 0 for robots without joints."""
        channels = motions.joint_channels(self.prediction.embodiment, self.prediction.actions.shape[1])
        return float(motions.sizes(self.prediction.actions, channels).sum()) if channels else 0.0


def contexts(session: Session) -> list[Context]:
    """All predictions that can be compared. Executed actions only, where there are such: they say what happened."""
    executed = [p for p in session.predictions if p.source == "executed"]
    stamps = [picture.stamp_ns for picture in session.observed]

    def seen(at_ns: int, near_ns: float) -> Picture | None:
        index = bisect.bisect_left(stamps, at_ns)
        around = [i for i in (index - 1, index) if 0 <= i < len(stamps)]
        best = min(around, key=lambda i: abs(stamps[i] - at_ns), default=None)
        return session.observed[best] if best is not None and abs(stamps[best] - at_ns) <= near_ns else None

    found = []
    for prediction in executed or session.predictions:
        step_ns = (int(prediction.stamps_ns[-1]) - prediction.context_ns) / len(prediction.stamps_ns)
        start = seen(prediction.context_ns, 0.5 * step_ns)
        observed = tuple(seen(int(at_ns), 0.5 * step_ns) for at_ns in prediction.stamps_ns)
        if start is None or sum(picture is not None for picture in observed) < 0.8 * len(observed):
            continue
        turn_rad, forward_m = _motion(session, prediction)
        found.append(Context(prediction, start, observed, turn_rad, forward_m))
    return found


def _motion(session: Session, prediction: Prediction) -> tuple[float, float]:
    """Turn (rad, left positive) and forward motion (m) over the horizon, by odometry; NaN without."""
    before, after = session.pose_at(prediction.context_ns), session.pose_at(int(prediction.stamps_ns[-1]))
    forward = math.cos(before[2]) * (after[0] - before[0]) + math.sin(before[2]) * (after[1] - before[1])
    return float(wrap_angle(after[2] - before[2])), float(forward)


def choose(found: list[Context], *, each: int = 1) -> list[Context]:
    """``each`` of the sharpest left and right turns and two of the straightest drives, apart from each other, by time.

    Of a robot with joints, ``FEWEST`` times ``each`` of those where they move most. Where there are fewer than three
    such, others fill up.
    """
    busiest = sorted((c for c in found if c.effort > 0), key=lambda c: -c.effort)
    if busiest:
        return _apart_from_each_other([(busiest, FEWEST * each)], found)
    left = sorted((c for c in found if c.turn_rad >= TURN_RAD), key=lambda c: -c.turn_rad)
    right = sorted((c for c in found if c.turn_rad <= -TURN_RAD), key=lambda c: c.turn_rad)
    straight = sorted(
        (c for c in found if abs(c.turn_rad) <= STRAIGHT_RAD and c.forward_m >= MOVING_M), key=lambda c: -c.forward_m
    )
    return _apart_from_each_other([(left, each), (right, each), (straight, 2 * each)], found)


def _apart_from_each_other(groups: list[tuple[list[Context], int]], others: list[Context]) -> list[Context]:
    """The first so many of each group that do not overlap, filled up with ``others``, by time."""
    chosen: list[Context] = []

    def take(group: list[Context], count: int) -> None:
        for context in group:
            if count > 0 and all(_apart(context, other) for other in chosen):
                chosen.append(context)
                count -= 1

    for group, count in groups:
        take(group, count)
    take(others, FEWEST - len(chosen))
    return sorted(chosen, key=lambda context: context.prediction.context_ns)


def _apart(one: Context, other: Context) -> bool:
    length_ns = int(one.prediction.stamps_ns[-1]) - one.prediction.context_ns
    return abs(one.prediction.context_ns - other.prediction.context_ns) >= length_ns


def describe(context: Context) -> str:
    """How the robot moved, in words."""
    actions = context.prediction.actions
    if channels := motions.joint_channels(context.prediction.embodiment, actions.shape[1]):
        return motions.describe(actions, channels, context.seconds)
    if not math.isfinite(context.turn_rad):
        return "motion unknown"
    turn = f"turns {'left' if context.turn_rad > 0 else 'right'} {abs(math.degrees(context.turn_rad)):.0f} deg"
    if abs(context.turn_rad) <= STRAIGHT_RAD:
        turn = "straight"
    return f"{turn}, {context.forward_m:+.2f} m"


def draw_strip(session: Session) -> ImageArray:
    """The picture. Raises DataError where no prediction can be compared with what was observed."""
    chosen = choose(contexts(session))
    if not chosen:
        raise DataError("no rollout could be compared with later pictures: run longer than the model's horizon")
    start_ns = session.observed[0].stamp_ns
    blocks = [_block(context, start_ns) for context in chosen]
    width = max(block.shape[1] for block in blocks)
    padded = [np.pad(b, ((0, 0), (0, width - b.shape[1]), (0, 0))) for b in blocks]
    return np.concatenate(padded, axis=0)


def _block(context: Context, start_ns: int) -> ImageArray:
    prediction = context.prediction
    count = len(prediction.frames)
    shown = sorted({round(i) for i in np.linspace(0, count - 1, min(count, MOST_COLUMNS - 1))})
    height, width = prediction.frames.shape[1:3]
    canvas = panels.page(TITLE + 2 * (height + GAP) + 6, LABELS + (len(shown) + 1) * (width + GAP))
    at_s = (prediction.context_ns - start_ns) * 1e-9
    text = f"{at_s:.1f} s: robot {describe(context)}   ({prediction.source} actions)"
    panels.write(canvas, text, LABELS, TITLE - 9, size=0.45)
    rows = [prediction.frames[i] for i in shown], [context.observed[i] for i in shown]
    for row, label in enumerate(("predicted", "observed")):
        top = TITLE + row * (height + GAP)
        panels.write(canvas, label, 4, top + height // 2 + 4, size=0.42)
        canvas[top : top + height, LABELS : LABELS + width] = context.start.image
        for column, frame in enumerate(rows[row], start=1):
            image = frame.image if isinstance(frame, Picture) else frame
            left = LABELS + column * (width + GAP)
            if image is not None:
                canvas[top : top + height, left : left + width] = image
    for column, i in enumerate([-1, *shown]):
        label = "context" if i < 0 else f"+{(int(prediction.stamps_ns[i]) - prediction.context_ns) * 1e-9:.2f} s"
        left = LABELS + column * (width + GAP) + 3
        panels.write(canvas, label, left, TITLE + height - 5, size=0.36, color=(255, 255, 120))
    return canvas


def write_strip(session: Session, path: Path) -> None:
    """Draw the strip and write it as PNG. Raises DataError as ``draw_strip`` does."""
    done, data = cv2.imencode(".png", cv2.cvtColor(draw_strip(session), cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"{path} could not be encoded")
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data.tobytes())
    partial.replace(path)

"""The last minute of drift as a picture: SCS against its usual value, strength of the alarm, state with its cause.

``draw_history`` is a pure function of moments; knows no ROS, no clock and no score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.drift import Cause, DriftState
from egowm_core.types import ImageArray
from egowm_nodes.pictures import STATE_COLORS

SPAN_S = 60.0
HEIGHT, WIDTH = 360, 640
HIGHEST_ALARM = 2.0  # stronger is drawn there
_PAPER, _INK, _FAINT, _GRID = (24, 26, 30), (235, 235, 235), (130, 136, 146), (52, 56, 62)
_LINES = ((86, 180, 233), (240, 228, 66), (204, 121, 167), (0, 158, 115), (230, 159, 0))  # told apart by everybody
_LIMIT, _ALARM = (214, 69, 65), (235, 235, 235)
_LEFT, _RIGHT = 40, 8
_GAP_S = 3.0  # lines are not drawn over longer silence
_FONT = cv2.FONT_HERSHEY_SIMPLEX
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Moment:
    """One judgement: ``at_s`` on any steady clock; scores by horizon in frames; ``executed``: it made the state."""

    at_s: float
    state: DriftState
    cause: Cause = Cause.NONE
    alarm: float = 0.0
    executed: bool = True
    scs: dict[int, float] = field(default_factory=dict)
    usual: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Axes:
    """A panel: pixel rows ``top`` (value ``high``) to ``bottom`` (value 0); the last ``span_s`` up to ``now_s``."""

    top: int
    bottom: int
    high: float
    now_s: float
    span_s: float
    right: int

    def x(self, at_s: float) -> int:
        share = 1.0 + (at_s - self.now_s) / self.span_s
        return _LEFT + round(min(max(share, 0.0), 1.0) * (self.right - _LEFT))

    def y(self, value: float) -> int:
        return self.bottom - round(min(max(value / self.high, 0.0), 1.0) * (self.bottom - self.top))


def draw_history(
    moments: Sequence[Moment],
    *,
    now_s: float,
    error_at: float,
    span_s: float = SPAN_S,
    height: int = HEIGHT,
    width: int = WIDTH,
) -> ImageArray:
    """The last ``span_s`` of ``moments`` (oldest first) as (height,width,3) uint8 RGB.

    Upper panel: SCS 0..100 by horizon, thick for executed actions, crosses for planned ones, thin for what is usual.
    Lower panel: the alarm, its threshold 1 and ``error_at``. Below: the state as a band, with causes in words.
    """
    canvas = np.zeros((height, width, 3), np.uint8)
    cv2.rectangle(canvas, (0, 0), (width, height), _PAPER, -1)
    shown = [moment for moment in moments if now_s - span_s <= moment.at_s <= now_s]
    band, floor, right = height - 52, height - 18, width - _RIGHT
    middle = 22 + (band - 22) * 5 // 8
    scores = _Axes(22, middle - 8, 100.0, now_s, span_s, right)
    alarms = _Axes(middle + 6, band - 6, HIGHEST_ALARM, now_s, span_s, right)
    _grid(canvas, scores, (0, 25, 50, 75, 100), "SCS")
    _grid(canvas, alarms, (0, 1, 2), "alarm")
    _scores(canvas, scores, shown)
    executed = [moment for moment in shown if moment.executed]
    for limit in (1.0, error_at):
        cv2.line(canvas, (_LEFT, alarms.y(limit)), (right, alarms.y(limit)), _LIMIT, 1)
    _run(canvas, alarms, [(moment.at_s, moment.alarm) for moment in executed], _ALARM, 2)
    _band(canvas, band, executed, scores)
    for back_s in np.linspace(span_s, 0, 5):
        text = "now" if back_s == 0 else f"-{back_s:g} s"
        x = scores.x(now_s - back_s)
        _write(canvas, text, min(max(_LEFT, x - _width(text) // 2), right - _width(text)), floor + 13, _FAINT)
    return canvas


def _grid(canvas: ImageArray, axes: _Axes, values: Sequence[float], name: str) -> None:
    for value in values:
        y = axes.y(value)
        cv2.line(canvas, (_LEFT, y), (axes.right, y), _GRID, 1)
        _write(canvas, f"{value:g}", _LEFT - 6 - _width(f"{value:g}"), y + 4, _FAINT)
    _write(canvas, name, *((4, axes.top - 8) if name == "SCS" else (_LEFT + 4, axes.top + 11)), _INK)


def _scores(canvas: ImageArray, axes: _Axes, shown: Sequence[Moment]) -> None:
    horizons = sorted({horizon for moment in shown for horizon in moment.scs})
    left = _LEFT
    for number, horizon in enumerate(horizons):
        color = _LINES[number % len(_LINES)]
        executed = [moment for moment in shown if moment.executed]
        usual = [(moment.at_s, moment.usual.get(horizon, math.nan)) for moment in executed]
        _run(canvas, axes, usual, _faded(color), 1)
        _run(canvas, axes, [(moment.at_s, moment.scs.get(horizon, math.nan)) for moment in executed], color, 2)
        for moment in shown:
            if not moment.executed and math.isfinite(score := moment.scs.get(horizon, math.nan)):
                place = (axes.x(moment.at_s), axes.y(score))
                cv2.drawMarker(canvas, place, color, cv2.MARKER_TILTED_CROSS, 7, 1, cv2.LINE_AA)
        left = _write(canvas, f"frame {horizon}", left, 14, color) + 14
    if horizons:
        _write(canvas, "thin: usual   x: planned or held", left + 4, 14, _FAINT)


def _run(canvas: ImageArray, axes: _Axes, points: Sequence[tuple[float, float]], color: Color, thickness: int) -> None:
    """A line through ``points`` (s, value), broken at NaN and at silence; a lone point is a dot."""
    part: list[tuple[int, int]] = []
    newest_s = -math.inf
    for at_s, value in (*points, (math.inf, math.nan)):
        if part and (math.isnan(value) or at_s - newest_s > _GAP_S):
            _line(canvas, part if len(part) > 1 else part * 2, color, thickness)
            part = []
        if math.isfinite(value):
            part.append((axes.x(at_s), axes.y(value)))
            newest_s = at_s


def _band(canvas: ImageArray, top: int, executed: Sequence[Moment], axes: _Axes) -> None:
    """The state over time, and below it each cause where it begins, as far as there is room."""
    bottom, free = top + 14, 0
    cause = Cause.NONE
    for number, moment in enumerate(executed):
        later = executed[number + 1].at_s if number + 1 < len(executed) else axes.now_s
        left, right = axes.x(moment.at_s), axes.x(min(later, moment.at_s + _GAP_S))
        cv2.rectangle(canvas, (left, top), (max(left, right), bottom), STATE_COLORS[moment.state.value], -1)
        if moment.cause is not cause and moment.cause is not Cause.NONE:
            x = min(left, axes.right - _width(moment.cause.value))
            if x >= free:
                free = _write(canvas, moment.cause.value, x, bottom + 13, _INK) + 8
        cause = moment.cause
    if executed:
        word = executed[-1].state.value
        _write(canvas, word, axes.right - _width(word), 14, STATE_COLORS[word])


def _line(canvas: ImageArray, points: Sequence[tuple[int, int]], color: Color, thickness: int) -> None:
    line: NDArray[np.int32] = np.asarray(points, np.int32)[:, None]
    cv2.polylines(canvas, [line], isClosed=False, color=color, thickness=thickness, lineType=cv2.LINE_AA)


def _faded(color: Color) -> Color:
    one, two, three = ((2 * part + 3 * paper) // 5 for part, paper in zip(color, _PAPER, strict=True))
    return one, two, three


def _write(canvas: ImageArray, text: str, left: int, baseline: int, color: Color) -> int:
    """Returns where the text ends, px."""
    cv2.putText(canvas, text, (left, baseline), _FONT, 0.4, color, 1, cv2.LINE_AA)
    return left + _width(text)


def _width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, 0.4, 1)[0][0])

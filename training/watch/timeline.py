"""The watch of a recording as a picture: states, scores against what is usual, the alarm and what raised it.

At most ``MAX_POINTS`` points a line and 400 spans, however long the recording is. Knows figures; no page and no file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from egowm_core.drift import DriftState
from training.report import svg
from training.report.words import clock
from training.watch.figures import RAISED, Span, Watched

MAX_POINTS, MAX_HORIZONS = 1000, 6
_MAX_SPANS = 400
_WIDTH, _LEFT, _RIGHT = 1000.0, 92.0, 990.0
_BAND, _PANEL, _ALARM, _CHANNEL, _GAP = 18.0, 64.0, 54.0, 11.0, 12.0
_TOP_ALARM = 2.5  # alarms, the ceiling of the sums
_SHADES = (0.25, 0.5, 0.75, 1.0)
_LETTER = 6.6  # px of a label's letter, about

Values = NDArray[np.float64]


def draw_watch(watched: Watched, *, error_at: float) -> Markup:
    """The picture: a band of states with causes above it, a panel a horizon, the alarm, and a row a channel."""
    spans = watched.spans()
    end_s = max([span.end_s for span in spans] + [1.0])
    merged = -(-len(watched.seen) // MAX_POINTS)
    seconds = [watched.seconds(number) for number in range(len(watched.seen))]
    breaks = np.diff(_merged(seconds, merged)) > max(watched.stale_after_s, 2.0 * merged)
    times = _merged(seconds, merged)
    parts = _causes(spans, end_s) + _states(spans, end_s)
    y = _BAND + 20 + _GAP
    for horizon in watched.horizons[:MAX_HORIZONS]:
        scs = _merged([seen.report.scs.get(horizon, math.nan) for seen in watched.seen], merged)
        usual = _merged([seen.report.baseline_scs.get(horizon, math.nan) for seen in watched.seen], merged)
        low = float(np.floor(np.nanmin([*scs, *usual, 60.0]) / 20) * 20)
        parts += _panel(y, _PANEL, f"SCS, {horizon} frames", (low, 100.0), [low, (low + 100) / 2, 100.0])
        parts += _lines(times, usual, end_s, y, _PANEL, (low, 100.0), "usual", breaks)
        parts += _lines(times, scs, end_s, y, _PANEL, (low, 100.0), "curve", breaks)
        y += _PANEL + _GAP
    alarm = _merged([seen.report.alarm for seen in watched.seen], merged, worst=True)
    parts += _panel(y, _ALARM, "alarm", (0.0, _TOP_ALARM), [0.0, 1.0, 2.0])
    for value, css in ((1.0, "limit-warn"), (error_at, "limit")):
        at = y + _ALARM * (1 - min(value, _TOP_ALARM) / _TOP_ALARM)
        parts.append(svg.line(_LEFT, at, _RIGHT, at, css))
    parts += _lines(times, alarm, end_s, y, _ALARM, (0.0, _TOP_ALARM), "curve", breaks)
    y += _ALARM + _GAP
    for name in dict.fromkeys(name for seen in watched.seen for name in seen.report.channels):
        strengths = _merged([seen.report.channels.get(name, 0.0) for seen in watched.seen], merged, worst=True)
        parts += _channel(name, times, strengths, end_s, y)
        y += _CHANNEL + 3
    for second in svg.time_ticks(end_s, 8):
        x = _x(second, end_s)
        parts += [svg.line(x, 20, x, y + 2, "grid"), svg.label(x, y + 14, clock(second), anchor="middle")]
    raised = sum(span.state in RAISED for span in spans)
    description = (
        f"Watch of {clock(end_s)}: states over time with {raised} stretches of WARN or ERROR, SCS of"
        f" {', '.join(map(str, watched.horizons))} frames against what is usual, strength of the alarm and its channels"
    )
    return svg.picture(_WIDTH, y + 18, description, parts, kind="timeline watch")


def _x(seconds: float, end_s: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * min(max(seconds / end_s, 0.0), 1.0)


def _merged(values: Sequence[float], merge: int, *, worst: bool = False) -> Values:
    """So many neighbours as one: their mean, or the largest; NaN where none is known."""
    row = np.asarray(values, np.float64)
    if merge <= 1:
        return row
    padded = np.full(-(-len(row) // merge) * merge, np.nan)
    padded[: len(row)] = row
    groups = padded.reshape(-1, merge)
    known = np.isfinite(groups)
    if worst:
        return np.where(known.any(axis=1), np.max(np.where(known, groups, -np.inf), axis=1), np.nan)
    total = np.where(known, groups, 0).sum(axis=1)
    return np.asarray(np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan))


def _states(spans: Sequence[Span], end_s: float) -> list[Markup]:
    parts = [svg.label(_LEFT - 6, 33, "state", anchor="end", css="label strong")]
    shown = sorted(spans, key=lambda span: (span.state not in RAISED, span.start_s - span.end_s))[:_MAX_SPANS]
    for span in sorted(shown, key=lambda span: (span.state in RAISED, span.start_s)):
        left = _x(span.start_s, end_s)
        width = max(_x(span.end_s, end_s) - left, 2.0 if span.state in RAISED else 0.5)
        title = svg.element("title", f"{clock(span.start_s)} {span.state.value}: {span.words}")
        parts.append(
            svg.element("rect", title, x=left, y=20, width=width, height=_BAND, class_=f"state {span.state.value}")
        )
        if width > _LETTER * (len(span.state.value) + 2):
            parts.append(svg.label(left + width / 2, 33, span.state.value, anchor="middle", css="label in-band"))
    return parts


def _causes(spans: Sequence[Span], end_s: float) -> list[Markup]:
    """The cause above each stretch of WARN or ERROR, where there is room; all are in the table below the picture."""
    parts: list[Markup] = []
    free = _LEFT
    for span in spans:
        if span.state not in RAISED:
            continue
        words = span.cause.value if span.cause.value != "none" else "below the limit"
        left = min(_x(span.start_s, end_s), _RIGHT - _LETTER * len(words))
        if left >= free:
            parts.append(svg.label(left, 14, words, css=f"label cause {span.state.value}"))
            free = left + _LETTER * len(words) + 6
    return parts


def _panel(y: float, height: float, name: str, bounds: tuple[float, float], marks: Sequence[float]) -> list[Markup]:
    low, high = bounds
    parts = [svg.bars([(_LEFT, y, _RIGHT - _LEFT, height)], "ground")]
    title, _, unit = name.partition(", ")
    parts.append(svg.label(4, y + height / 2 + 4, title, css="label strong"))
    parts += [svg.label(4, y + height / 2 + 18, unit)] if unit else []
    for value in marks:
        at = y + height * (1 - (value - low) / (high - low))
        parts.append(svg.label(_LEFT - 6, at + 4, f"{value:g}", anchor="end"))
    return parts


def _lines(
    times: Values,
    values: Values,
    end_s: float,
    y: float,
    height: float,
    bounds: tuple[float, float],
    css: str,
    breaks: NDArray[np.bool_],
) -> list[Markup]:
    """``values`` over ``times`` as lines, interrupted where one is not known and after each of ``breaks`` (n-1,)."""
    low, high = bounds
    part = np.concatenate([[0], np.cumsum(breaks)])
    known = np.isfinite(values)
    parts = []
    for (finite, _), run in groupby(range(len(values)), key=lambda i: (bool(known[i]), int(part[i]))):
        if not finite:
            continue
        points = [
            (_x(float(times[i]), end_s), y + height * (1 - (min(max(values[i], low), high) - low) / (high - low)))
            for i in run
        ]
        parts.append(svg.polyline(points if len(points) > 1 else [points[0], (points[0][0] + 1, points[0][1])], css))
    return parts


def _channel(name: str, times: Values, strengths: Values, end_s: float, y: float) -> list[Markup]:
    """One row: paler below the alarm, red from it on."""
    parts = [
        svg.label(_LEFT - 6, y + 9.5, name, anchor="end"),
        svg.bars([(_LEFT, y, _RIGHT - _LEFT, _CHANNEL)], "ground"),
    ]
    shades = [int(np.searchsorted(_SHADES, value, side="right")) if value > 0 else 0 for value in strengths]
    edges = [*times[1:], 2 * times[-1] - times[-2] if len(times) > 1 else times[-1] + 1]
    for shade in range(1, len(_SHADES) + 1):
        spans = []
        for found, run in groupby(range(len(shades)), key=shades.__getitem__):
            if found == shade:
                numbers = list(run)
                left = _x(float(times[numbers[0]]), end_s)
                spans.append((left, y, max(_x(float(edges[numbers[-1]]), end_s) - left, 1.0), _CHANNEL))
        parts.append(svg.bars(spans, f"count s{shade}" if shade < len(_SHADES) else "gap"))
    return parts


STATE_WORDS = {
    DriftState.OK: "as usual",
    DriftState.WARN: "something changed",
    DriftState.ERROR: "the prediction can't be trusted",
    DriftState.STALE: "comparisons stopped coming",
    DriftState.UNDEFINED: "still learning, or nothing to judge",
}
"""What each state means, for readers."""

"""Metrics over the horizon as pictures for a page: a line a row, its interval as a band. Knows no file."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup

from egowm_core.types import FloatArray
from training.report import svg
from training.report.words import figure

COLOURS = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#c2185b", "#8c6d31", "#17becf", "#7f7f7f")
_WIDTH, _HEIGHT = 420.0, 230.0
_LEFT, _RIGHT, _TOP, _BASE = 44.0, _WIDTH - 10, 12.0, _HEIGHT - 34


def colour(number: int) -> str:
    """The colour of a row, by its number."""
    return COLOURS[number % len(COLOURS)]


def draw_curves(metric: str, rows: dict[str, FloatArray], colours: dict[str, str]) -> Markup:
    """``rows`` (T,3) are mean, low and high of frames 1..T; frames without a value are gaps. Empty without values."""
    finite = [points[np.isfinite(points)] for points in rows.values()]
    values = np.concatenate(finite) if finite else np.zeros(0)
    if not len(values):
        return Markup("")
    low, high = float(values.min()), float(values.max())
    if metric.startswith(("scs", "ssim")):
        low = min(low, 0.0)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    length = max(len(points) for points in rows.values())

    def place(t: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_RIGHT - _LEFT) * ((t - 1) / (length - 1) if length > 1 else 0.5)
        return x, _BASE - (_BASE - _TOP) * (value - low) / (high - low)

    parts = []
    for value in svg.ticks(low, high, 5):
        y = place(1, value)[1]
        parts += [svg.line(_LEFT, y, _RIGHT, y, "grid"), svg.label(_LEFT - 5, y + 4, figure(value), anchor="end")]
    for t in sorted({max(1, round(t)) for t in svg.ticks(1, length, 8)} | {1, length}):
        parts.append(svg.label(place(t, low)[0], _BASE + 15, str(t), anchor="middle"))
    parts.append(svg.label((_LEFT + _RIGHT) / 2, _HEIGHT - 4, "frame", anchor="middle"))
    for row, points in rows.items():
        for run in _runs(points):
            band = [(t, points[t - 1, 1]) for t in run] + [(t, points[t - 1, 2]) for t in reversed(run)]
            corners = [place(t, float(v)) for t, v in band if math.isfinite(v)]
            if len(corners) > 2:
                text = " ".join(f"{svg.coordinate(x)},{svg.coordinate(y)}" for x, y in corners)
                parts.append(svg.element("polygon", points=text, fill=colours[row], fill_opacity="0.15"))
            line = [place(t, float(points[t - 1, 0])) for t in run]
            if len(line) == 1:
                parts.append(svg.element("circle", cx=line[0][0], cy=line[0][1], r=3.0, fill=colours[row]))
            text = " ".join(f"{svg.coordinate(x)},{svg.coordinate(y)}" for x, y in line)
            parts.append(svg.element("polyline", points=text, fill="none", stroke=colours[row], stroke_width="2"))
    last = ", ".join(f"{row} {figure(float(points[-1, 0]))}" for row, points in rows.items())
    return svg.picture(_WIDTH, _HEIGHT, f"{metric} by frame; at the last frame: {last}", parts, kind="curves")


def _runs(points: FloatArray) -> list[list[int]]:
    """Frames 1..T in stretches without a gap."""
    runs: list[list[int]] = []
    for t, mean in enumerate(points[:, 0], start=1):
        if not math.isfinite(mean):
            continue
        if runs and runs[-1][-1] == t - 1:
            runs[-1].append(t)
        else:
            runs.append([t])
    return runs

"""Histograms of actions against their limits, and the curve that a lag was found on, as pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from training.report import svg
from training.report.fields import Entry, mapping, number, numbers, pair, text
from training.report.verdict import Lag
from training.report.words import correlation, figure, percent, signed

MAX_BINS = 120
MAX_CHANNELS = 64
_MAX_POINTS = 400
_WIDTH, _HEIGHT, _BASE = 260.0, 132.0, 104.0
_LAG_WIDTH, _LAG_HEIGHT = 640.0, 230.0


@dataclass(frozen=True)
class Histogram:
    """Actions of one channel: ``counts`` (N,) between ``edges`` (N+1,), in ``unit``, against ``limits``."""

    channel: str
    unit: str
    edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    limits: tuple[float, float] | None = None
    largest: float | None = None

    @property
    def outside(self) -> NDArray[np.bool_]:
        """(N,) bins that lie beyond the limits."""
        if self.limits is None:
            return np.zeros(len(self.counts), bool)
        middle = (self.edges[:-1] + self.edges[1:]) / 2
        return np.asarray((middle < self.limits[0]) | (middle > self.limits[1]))

    @property
    def outside_share(self) -> float:
        """Share of actions beyond the limits, 0 to 1."""
        total = float(self.counts.sum())
        return float(self.counts[self.outside].sum()) / total if total else 0.0


def read_histograms(entry: Entry) -> list[Histogram]:
    """The histograms of a recording's report; ill-formed ones are left out."""
    largest, found = mapping(entry.get("largest_action")), []
    for name, item in mapping(entry.get("histograms")).items():
        data = mapping(item)
        edges, counts = np.array(numbers(data.get("edges"))), np.maximum(numbers(data.get("counts")), 0.0)
        if len(counts) < 1 or len(edges) != len(counts) + 1 or not (np.diff(edges) > 0).all():
            continue
        merge = -(-len(counts) // MAX_BINS)
        if merge > 1:
            starts = np.arange(0, len(counts), merge)
            edges, counts = np.append(edges[starts], edges[-1]), np.add.reduceat(counts, starts)
        limits = pair(data.get("limits"))
        found.append(Histogram(text(name), text(data.get("unit")), edges, counts, limits, number(largest.get(name))))
    return found[:MAX_CHANNELS]


def summed_histograms(recordings: Iterable[list[Histogram]]) -> list[Histogram]:
    """One histogram a channel over all recordings; unlike bins are spread over those of the widest."""
    by_channel: dict[str, list[Histogram]] = {}
    for histograms in recordings:
        for histogram in histograms:
            by_channel.setdefault(histogram.channel, []).append(histogram)
    return [_summed(group) for group in list(by_channel.values())[:MAX_CHANNELS]]


def _summed(group: list[Histogram]) -> Histogram:
    widest = max(group, key=lambda item: float(item.edges[-1] - item.edges[0]))
    edges = widest.edges
    counts = np.zeros(len(edges) - 1)
    for item in group:
        if np.array_equal(item.edges, edges):
            counts += item.counts
            continue
        cumulated = np.concatenate([[0.0], np.cumsum(item.counts)])
        inside = np.interp(edges, item.edges, cumulated)
        inside[0], inside[-1] = 0.0, cumulated[-1]  # nothing is lost that lies beyond the widest
        counts += np.diff(inside)
    known = [item.largest for item in group if item.largest is not None]
    return Histogram(widest.channel, widest.unit, edges, counts, widest.limits, max(known, key=abs) if known else None)


def draw_histogram(histogram: Histogram) -> Markup:
    """Bars of a logarithmic height, so that a few actions beyond a limit are seen; those are red, limits are lines."""
    limits, edges, counts = histogram.limits, histogram.edges, histogram.counts
    low, high = (float(pick([*edges, *(limits or ())])) for pick in (min, max))
    scale = (_WIDTH - 8) / (high - low)
    top = math.log1p(float(counts.max())) or 1.0
    heights = np.log1p(counts) / top * (_BASE - 22)
    boxes = [
        (4 + (float(a) - low) * scale, _BASE - float(h), max((float(b) - float(a)) * scale - 0.5, 0.5), float(h))
        for a, b, h in zip(edges[:-1], edges[1:], heights, strict=True)
    ]
    outside = histogram.outside
    parts = [
        svg.bars([box for box, out, n in zip(boxes, outside, counts, strict=True) if n and not out], "bar"),
        svg.bars([box for box, out, n in zip(boxes, outside, counts, strict=True) if n and out], "bar-out"),
        svg.line(0, _BASE, _WIDTH, _BASE, "axis"),
    ]
    marks = {0.0: "label"} if low < 0 < high else {}
    marks |= dict.fromkeys(limits, "label limit-text") if limits else {low: "label", high: "label"}
    for value, css in marks.items():
        x = 4 + (value - low) * scale
        if limits and value in limits:
            parts.append(svg.line(x, 12, x, _BASE, "limit"))
        anchor = "start" if x < 22 else "end" if x > _WIDTH - 22 else "middle"
        parts.append(svg.label(x, _BASE + 14, figure(value), anchor=anchor, css=css))
    parts.append(svg.label(_WIDTH / 2, _HEIGHT - 2, histogram.unit, anchor="middle"))
    described = f"limits {figure(limits[0])} to {figure(limits[1])}" if limits else "no limits known"
    description = (
        f"Histogram of {histogram.channel} in {histogram.unit or 'its unit'}: {figure(counts.sum())} actions,"
        f" {described}, {percent(histogram.outside_share)} outside"
    )
    return svg.picture(_WIDTH, _HEIGHT, description, parts, kind="histogram")


def draw_lag(lag: Lag) -> Markup:
    """Correlation over offset, with marks at 0, at the best offset and at what was corrected; empty without a curve."""
    step = -(-len(lag.offsets_s) // _MAX_POINTS) if lag.offsets_s else 1
    curve = list(zip(lag.offsets_s, lag.correlations, strict=True))[::step]
    if len(curve) < 2:
        return Markup("")
    reach = [offset for offset, _ in curve] + [0.0, lag.found_s, lag.corrected_s]
    low, high = min(reach), max(reach)
    left, right, top, base = 34.0, _LAG_WIDTH - 12, 26.0, _LAG_HEIGHT - 36
    floor = min(-0.25, *(value for _, value in curve))
    span = (high - low) or 1.0

    def place(offset: float, value: float) -> tuple[float, float]:
        return left + (right - left) * (offset - low) / span, base - (base - top) * (value - floor) / (1.0 - floor)

    parts = []
    for value in svg.ticks(floor, 1.0, 5):
        y = place(0, value)[1]
        parts += [svg.line(left, y, right, y, "grid"), svg.label(left - 5, y + 4, f"{value:.2g}", anchor="end")]
    for offset in svg.ticks(low, high, 8):
        parts.append(svg.label(place(offset, 0)[0], base + 15, figure(round(offset, 6)), anchor="middle"))
    parts.append(
        svg.label((left + right) / 2, _LAG_HEIGHT - 4, "offset of the picture after the motion, s", anchor="middle")
    )
    parts.append(svg.polyline([place(offset, value) for offset, value in curve], "curve"))
    marks = [(0.0, lag.before, "as stamped", "mark-zero")]
    if abs(lag.found_s) > 1e-9:
        marks.append((lag.found_s, lag.best, "best", "mark-bad" if lag.state == "uncorrected" else "mark-good"))
    if abs(lag.corrected_s) > 1e-9 and abs(lag.corrected_s - lag.found_s) > 1e-9:
        marks.append((lag.corrected_s, lag.now, "corrected", "mark-zero"))
    for row, (offset, at, word, css) in enumerate(marks):
        x = place(offset, 0)[0]
        anchor = "start" if x < _LAG_WIDTH / 2 else "end"
        parts.append(svg.line(x, top - 12, x, base, css))
        shift = 5 if anchor == "start" else -5
        y = top - 4 + 13 * row
        parts.append(
            svg.label(x + shift, y, f"{word}: {correlation(at)} at {signed(offset)}", anchor=anchor, css="label strong")
        )
        if at is not None:
            cx, cy = place(offset, at)
            parts.append(svg.element("circle", cx=cx, cy=cy, r=4.0, class_=css))
    description = (
        f"Correlation of picture and motion over their offset: {correlation(lag.before)} as stamped,"
        f" {correlation(lag.best)} at {signed(lag.found_s)}"
    )
    return svg.picture(_LAG_WIDTH, _LAG_HEIGHT, description, parts, kind="lag")

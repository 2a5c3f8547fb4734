"""The timeline of a recording as a picture: what was kept, what was left out, and a row of message counts a topic.

At most 300 bins, 30 topics and 400 marks a row, however long the recording is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

from training.report import svg
from training.report.fields import Entry, mapping, number, numbers, records, span_s, text
from training.report.words import clock, counted

MAX_BINS = 300
MAX_TOPICS = 30
_MAX_MARKS = 400
_LEVELS = 4  # shades of a bin: quarters of the topic's usual count
_WIDTH, _ROW, _BAR, _TOP = 1000.0, 32.0, 12.0, 14.0

Spans = list[tuple[float, float]]


@dataclass(frozen=True)
class Timeline:
    """Counts per bin of each topic and of kept frames, gaps of each topic and spans left out, in seconds from start."""

    bin_s: float
    bins: int
    topics: dict[str, list[float]]
    kept: list[float]
    gaps: dict[str, Spans] = field(default_factory=dict)
    excluded: Spans = field(default_factory=list)
    hidden: int = 0

    @property
    def duration_s(self) -> float:
        """What the picture spans."""
        return self.bin_s * self.bins


def read_timeline(entry: Entry) -> Timeline | None:
    """The timeline of a recording's report, merged to few enough bins; None where it holds none."""
    data = mapping(entry.get("timeline"))
    rows = {text(name): numbers(counts) for name, counts in mapping(data.get("topics")).items()}
    kept, bin_s = numbers(data.get("kept")), number(data.get("bin_s"))
    bins = max([len(kept), *(len(counts) for counts in rows.values())])
    if not bins or bin_s is None or bin_s <= 0:
        return None
    merge = -(-bins // MAX_BINS)
    gaps: dict[str, Spans] = defaultdict(list)
    for gap in records(entry.get("gaps")):
        if (span := span_s(entry, gap)) is not None:
            gaps[text(gap.get("topic"))].append(span)
    first = [text(entry.get(key)) for key in ("image_topic", "motion_topic")]
    order = sorted(rows, key=lambda name: (first.index(name) if name in first else 2, name not in gaps, name))
    return Timeline(
        bin_s=bin_s * merge,
        bins=-(-bins // merge),
        topics={name: _merged(rows[name], bins, merge) for name in order[:MAX_TOPICS]},
        kept=_merged(kept, bins, merge) if kept else [],
        gaps=dict(gaps),
        excluded=[span for item in records(entry.get("exclusions")) if (span := span_s(entry, item)) is not None],
        hidden=max(0, len(order) - MAX_TOPICS),
    )


def _merged(counts: Sequence[float], bins: int, merge: int) -> list[float]:
    padded = np.zeros(-(-bins // merge) * merge)
    padded[: len(counts)] = np.maximum(counts, 0)
    return [float(value) for value in padded.reshape(-1, merge).sum(axis=1)]


def draw_timeline(timeline: Timeline) -> Markup:
    """The picture: kept in green, left out in amber, gaps in red, and each topic darker where more messages came."""
    parts: list[Markup] = []
    y = 0.0
    if timeline.kept:
        kept = [i for i, value in enumerate(timeline.kept) if value > 0]
        parts += _row(timeline, y, "in the dataset", f"{counted(int(sum(timeline.kept)), 'frame')} kept")
        parts.append(svg.bars(_runs(timeline, kept, y), "kept"))
        y += _ROW
    if timeline.excluded:
        parts += _row(timeline, y, "left out by curation", counted(len(timeline.excluded), "span"))
        parts.append(svg.bars(_marks(timeline, timeline.excluded, y), "left-out"))
        y += _ROW
    for name, counts in timeline.topics.items():
        gaps = timeline.gaps.get(name, [])
        note = f"{int(sum(counts)):,} messages" + (f", {counted(len(gaps), 'gap')}" if gaps else "")
        parts += _row(timeline, y, svg.shorten(name, 70), note, full=name)
        usual = float(np.median([value for value in counts if value > 0] or [1.0]))
        shades = [int(np.ceil(min(1.0, value / usual) * _LEVELS)) for value in counts]
        for shade in range(1, _LEVELS + 1):
            parts.append(
                svg.bars(_runs(timeline, [i for i, s in enumerate(shades) if s == shade], y), f"count s{shade}")
            )
        parts.append(svg.bars(_marks(timeline, gaps, y), "gap"))
        y += _ROW
    parts += _axis(timeline, y)
    gap_count = sum(len(spans) for spans in timeline.gaps.values())
    description = (
        f"Timeline of {clock(timeline.duration_s)}: message counts of {counted(len(timeline.topics), 'topic')} over"
        f" time, {counted(gap_count, 'gap')} in red, kept spans in green"
    )
    return svg.picture(_WIDTH, y + 18, description, parts, kind="timeline")


def _row(timeline: Timeline, y: float, name: str, note: str, *, full: str = "") -> list[Markup]:
    title = svg.element("title", full) if full and full != name else Markup("")
    return [
        svg.element("text", escape(name) + title, x=0, y=y + 10, class_="label strong"),
        svg.label(_WIDTH, y + 10, note, anchor="end"),
        svg.bars([(0, y + _TOP, _WIDTH, _BAR)], "ground"),
    ]


def _runs(timeline: Timeline, indices: Sequence[int], y: float) -> list[tuple[float, float, float, float]]:
    """Neighbouring bins as one rectangle."""
    spans: list[tuple[float, float, float, float]] = []
    width = _WIDTH / timeline.bins
    start = last = -2
    for i in [*indices, -9]:
        if i != last + 1:
            if start >= 0:
                spans.append((start * width, y + _TOP, (last + 1 - start) * width, _BAR))
            start = i
        last = i
    return spans


def _marks(timeline: Timeline, spans: Spans, y: float) -> list[tuple[float, float, float, float]]:
    """Spans in seconds, wide enough to be seen; those that touch become one, and the longest stay if there are many."""
    scale = _WIDTH / timeline.duration_s
    marks: list[list[float]] = []
    for start, end in sorted(spans):
        left = min(max(start * scale, 0.0), _WIDTH - 2)
        right = min(max(end * scale, left + 2), _WIDTH)
        if marks and left <= marks[-1][1]:
            marks[-1][1] = max(marks[-1][1], right)
        else:
            marks.append([left, right])
    marks = sorted(marks, key=lambda mark: mark[0] - mark[1])[:_MAX_MARKS]
    return [(left, y + _TOP, right - left, _BAR) for left, right in sorted(marks)]


def _axis(timeline: Timeline, y: float) -> list[Markup]:
    parts = []
    for second in svg.time_ticks(timeline.duration_s, 8):
        x = _WIDTH * second / timeline.duration_s
        anchor = "start" if x < 20 else "end" if x > _WIDTH - 20 else "middle"
        parts += [svg.line(x, 0, x, y + 2, "grid"), svg.label(x, y + 13, clock(second), anchor=anchor)]
    return parts

"""The demo's video: observed, predicted for that very moment one and two seconds earlier, and the overlay.

Knows a session and a video encoder (PyAV); pictures appear at their header stamps, in real time.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from egowm_core.errors import DataError
from egowm_core.types import ImageArray
from egowm_nodes.demo import panels
from egowm_nodes.demo.session import Judgement, Picture, Prediction, Session
from egowm_nodes.pictures import STATE_COLORS

AHEAD_S = (1.0, 2.0)
PANEL_HEIGHT, PANEL_WIDTH, HEADER, FOOTER, GAP = 288, 384, 26, 34, 4
OLDEST_OVERLAY_S = 3.0
MOST_REASON = 110  # characters
_CLOCK = Fraction(1, 1000)  # video time base: milliseconds


@dataclass(frozen=True)
class Due:
    """A predicted frame for a moment: ``ahead_s`` is how long before it was predicted, ``source`` its actions'."""

    image: ImageArray
    ahead_s: float
    source: str


class Forecast:
    """Looks up what had been predicted for a moment. Hindsight (executed actions) counts only where nothing else is."""

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        planned = [p for p in predictions if p.source != "executed"] or list(predictions)
        entries = sorted(
            (int(stamp_ns), number, frame)
            for number, p in enumerate(planned)
            for frame, stamp_ns in enumerate(p.stamps_ns)
        )
        self._planned, self._entries = planned, entries
        steps = [int(step) for p in planned for step in np.diff(np.append(p.context_ns, p.stamps_ns))]
        self._near_ns = 0.6 * float(np.median(steps)) if steps else 0.0

    def at(self, stamp_ns: int, ahead_s: float) -> Due | None:
        """The frame for ``stamp_ns`` (to within a tick) whose prediction was made nearest to ``ahead_s`` before."""
        first = bisect.bisect_left(self._entries, (round(stamp_ns - self._near_ns),))
        best: tuple[float, Due] | None = None
        for due_ns, number, frame in self._entries[first:]:
            if due_ns > stamp_ns + self._near_ns:
                break
            prediction = self._planned[number]
            horizon_s = (due_ns - prediction.context_ns) * 1e-9
            cost = abs(horizon_s - ahead_s) + 0.5 * abs(due_ns - stamp_ns) * 1e-9
            if best is None or cost < best[0]:
                best = cost, Due(prediction.frames[frame], horizon_s, prediction.source)
        return best[1] if best else None


def write_video(session: Session, path: Path) -> int:
    """Encode the session as H.264 mp4; returns the number of pictures. Raises DataError where nothing was observed."""
    if not session.observed:
        raise DataError("no camera picture was recorded: no video; look into logs/ of the demo's folder")
    partial = path.with_name(path.name + ".partial")
    start_ns = _start_ns(session)
    count = 0
    with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "21"})
        stream.width, stream.height = _size()
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _CLOCK
        stream.codec_context.thread_count = 1
        newest_ms = -1
        for stamp_ns, canvas in draw(session):
            now_ms = (stamp_ns - start_ns) // 1_000_000
            if now_ms <= newest_ms:
                continue
            frame = av.VideoFrame.from_ndarray(canvas, format="rgb24")
            frame.pts, frame.time_base, newest_ms = now_ms, _CLOCK, now_ms
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    partial.replace(path)
    return count


def draw(session: Session) -> Iterator[tuple[int, ImageArray]]:
    """Every picture of the video with its stamp, from the first prediction's context on."""
    forecast = Forecast(session.predictions)
    overlays = _Latest(session.overlays)
    judgements = sorted(session.judgements, key=lambda judgement: judgement.stamp_ns)
    judged_ns = [judgement.stamp_ns for judgement in judgements]
    start_ns = _start_ns(session)
    for picture in session.observed:
        at_ns = picture.stamp_ns
        if at_ns < start_ns:
            continue
        dues = [forecast.at(at_ns, ahead_s) for ahead_s in AHEAD_S]
        tiles: list[tuple[str, ImageArray | None]] = [("observed", picture.image)]
        for ahead_s, due in zip(AHEAD_S, dues, strict=True):
            if due is None:
                tiles.append((f"predicted {ahead_s:g} s earlier: none", None))
            else:
                tiles.append((f"predicted {due.ahead_s:.2f} s earlier ({due.source})", due.image))
        overlay = overlays.at(at_ns)
        tiles.append(("overlay: predicted blue, observed red", None if overlay is None else overlay.image))
        canvas = _row(tiles)
        index = bisect.bisect_right(judged_ns, at_ns) - 1
        _foot(canvas, (at_ns - start_ns) * 1e-9, session.twist_at(at_ns), judgements[index] if index >= 0 else None)
        yield at_ns, canvas


def _start_ns(session: Session) -> int:
    first_ns = session.observed[0].stamp_ns
    contexts = [prediction.context_ns for prediction in session.predictions]
    return max(first_ns, min(contexts)) if contexts else first_ns


class _Latest:
    """The newest picture at or before a moment, unless it is too old."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._pictures = sorted(pictures, key=lambda picture: picture.stamp_ns)
        self._stamps = [picture.stamp_ns for picture in self._pictures]

    def at(self, stamp_ns: int) -> Picture | None:
        index = bisect.bisect_right(self._stamps, stamp_ns) - 1
        if index < 0 or stamp_ns - self._stamps[index] > OLDEST_OVERLAY_S * 1e9:
            return None
        return self._pictures[index]


def _size() -> tuple[int, int]:
    columns = 2 + len(AHEAD_S)
    return columns * PANEL_WIDTH + (columns - 1) * GAP, HEADER + PANEL_HEIGHT + FOOTER


def _row(tiles: Sequence[tuple[str, ImageArray | None]]) -> ImageArray:
    width, height = _size()
    canvas = panels.page(height, width)
    for number, (label, image) in enumerate(tiles):
        left = number * (PANEL_WIDTH + GAP)
        panels.write(canvas, label, left + 6, HEADER - 8)
        if image is not None:
            canvas[HEADER : HEADER + PANEL_HEIGHT, left : left + PANEL_WIDTH] = panels.fit(
                image, PANEL_HEIGHT, PANEL_WIDTH
            )
    return canvas


def _foot(canvas: ImageArray, time_s: float, twist: np.ndarray, judgement: Judgement | None) -> None:
    line = HEADER + PANEL_HEIGHT + 22
    end = panels.write(canvas, f"{time_s:6.1f} s", 6, line)
    if np.isfinite(twist).all():
        end = panels.write(canvas, f"v {twist[0]:+.2f} m/s   turn {math.degrees(twist[2]):+4.0f} deg/s", end + 24, line)
        panels.turn_bar(canvas, float(twist[2]), end + 12, line - 11)
        end += 132
    if judgement is None:
        return
    scores = "  ".join(
        f"{score:.0f} at {horizon}" if math.isfinite(score) else f"- at {horizon}"
        for horizon, score in judgement.scs.items()
    )
    end = panels.write(canvas, f"SCS  {scores or '-'}", end + 40, line)
    color = STATE_COLORS.get(judgement.state, panels.INK)
    verdict = judgement.state if judgement.cause == "none" else f"{judgement.state}, {judgement.cause}"
    end = panels.write(canvas, verdict, end + 24, line, color=color)
    reason = judgement.reason if len(judgement.reason) <= MOST_REASON else judgement.reason[: MOST_REASON - 3] + "..."
    panels.write(canvas, reason, end + 16, line, size=0.42, color=panels.FAINT)

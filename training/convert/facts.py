"""What a report wants to know of a recording, gathered while it streams by: in bounded memory, however long it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import Embodiment
from egowm_core.files import fsync
from egowm_core.types import FloatArray, ImageArray

_BINS = 240
_HISTOGRAM_BINS = 48
_OVER_LIMITS = 1.25  # of the limits, that a histogram spans: what lies beyond is counted in its outermost bins


class Timeline:
    """Counts of messages over time, a row a topic; bins double in width whenever the recording outgrows them."""

    def __init__(self, topics: Iterable[str], *, bin_ns: int = 50_000_000) -> None:
        self._bin_ns = bin_ns
        self._start_ns: int | None = None
        self._counts = {name: np.zeros(_BINS, np.int64) for name in topics}
        self._used = 0

    def add(self, topic: str, stamp_ns: int) -> None:
        """Count one message; those before the first one counted are counted with it."""
        if self._start_ns is None:
            self._start_ns = stamp_ns
        at = max(0, stamp_ns - self._start_ns) // self._bin_ns
        while at >= _BINS:
            self._bin_ns *= 2
            for name, counts in self._counts.items():
                merged = counts.reshape(-1, 2).sum(axis=1)
                self._counts[name] = np.concatenate([merged, np.zeros(_BINS - len(merged), np.int64)])
            self._used = (self._used + 1) // 2
            at = max(0, stamp_ns - self._start_ns) // self._bin_ns
        self._counts[topic][at] += 1
        self._used = max(self._used, int(at) + 1)

    @property
    def start_ns(self) -> int | None:
        """Stamp of the first message."""
        return self._start_ns

    def facts(self, *, kept: str) -> dict[str, Any]:
        """The timeline of a report; the row ``kept`` is not a topic but what became of the images."""
        rows = {name: counts[: self._used].tolist() for name, counts in self._counts.items()}
        return {"bin_s": self._bin_ns * 1e-9, "kept": rows.pop(kept), "topics": rows}


class ActionHistogram:
    """How the actions of each channel are spread, against the channel's limits."""

    def __init__(self, embodiment: Embodiment) -> None:
        self._channels = embodiment.channels
        limits = embodiment.limits
        middle, half = limits.mean(axis=1), (limits[:, 1] - limits[:, 0]) / 2 * _OVER_LIMITS
        self._low, self._width = middle - half, 2 * half / _HISTOGRAM_BINS
        self._counts = np.zeros((len(self._channels), _HISTOGRAM_BINS), np.int64)

    def add(self, action: FloatArray) -> None:
        """Count one action (D,) in units."""
        at = np.clip((action - self._low) / self._width, 0, _HISTOGRAM_BINS - 1).astype(np.int64)
        self._counts[np.arange(len(at)), at] += 1

    def facts(self) -> dict[str, Any]:
        """Histograms by channel."""
        found: dict[str, Any] = {}
        for channel, low, width, counts in zip(self._channels, self._low, self._width, self._counts, strict=True):
            edges = np.round(low + width * np.arange(_HISTOGRAM_BINS + 1), 9).tolist()
            found[channel.name] = {
                "edges": edges,
                "counts": counts.tolist(),
                "limits": list(channel.limits),
                "unit": channel.unit,
            }
        return found


class FrameSampler:
    """``count`` frames spread evenly over a video of unknown length; never holds more than twice as many."""

    def __init__(self, count: int) -> None:
        self._count, self._stride, self._seen = count, 1, 0
        self._frames: list[ImageArray] = []

    def add(self, frame: ImageArray) -> None:
        """Offer the next frame."""
        if self._seen % self._stride == 0:
            if len(self._frames) == 2 * self._count:
                self._frames = self._frames[::2]
                self._stride *= 2
            if self._seen % self._stride == 0:
                self._frames.append(frame)
        self._seen += 1

    def frames(self) -> list[ImageArray]:
        """At most ``count`` of them, from the first to about the last."""
        if len(self._frames) <= self._count:
            return list(self._frames)
        at = np.linspace(0, len(self._frames) - 1, self._count).round().astype(int)
        return [self._frames[i] for i in at]


def save_strip(path: Path, frames: list[ImageArray], *, height: int = 96) -> None:
    """Frames side by side as a JPEG, written whole or not at all."""
    scaled: list[NDArray[Any]] = [
        cv2.resize(frame, (max(1, round(frame.shape[1] * height / frame.shape[0])), height), cv2.INTER_AREA)
        for frame in frames
    ]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(np.hstack(scaled), cv2.COLOR_RGB2BGR))
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(encoded.tobytes())
        fsync(file)
    partial.replace(path)

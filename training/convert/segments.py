"""Ticks into staged episodes: cut where motion, clock or curation breaks off, judged when they end, streamed to disk.

Holds a few ticks, never an episode. Knows one recording at a time, and nothing of how it was read.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.preprocess import Preprocess
from egowm_core.data.sync import Tick
from egowm_core.data.values import ImageValue, Stamped
from egowm_core.errors import DataError
from egowm_core.types import FloatArray
from training.convert.facts import FrameSampler
from training.convert.options import ConvertOptions
from training.curation.embedding import embed
from training.curation.exclusion import Exclusion
from training.curation.quality import EpisodeQuality
from training.curation.splitter import Placed, Splitter
from training.dataset.episode_writer import EpisodeWriter

TOO_SHORT = "segment too short"
TRUTH_UNDECODABLE = "truth undecodable"
_TRUTH_KEPT = 256  # truth images waiting for their tick
_TRUTH_AHEAD = 8  # ticks that wait for their truth
_EMBEDDED_FRAMES = 5
_STRIP_FRAMES = 8


class SegmentWriter:
    """Takes the ticks of a recording and writes its episodes as ``staging/000000``, ..."""

    def __init__(
        self,
        staging: Path,
        options: ConvertOptions,
        preprocess: Preprocess,
        *,
        structures: dict[str, dict[str, Any]] | None = None,
        on_kept: Callable[[int], None],
    ) -> None:
        """``structures``: what the ids of truth images mean, where the recording has such images.

        ``on_kept`` is told the stamp of every frame of an episode that is kept.
        """
        self._on_kept = on_kept
        self._staging, self._options, self._preprocess = staging, options, preprocess
        self._structures = structures
        self._splitter = Splitter(options.curation, options.embodiment)
        self._waiting: deque[Placed] = deque()
        self._truth: OrderedDict[int, ImageValue] = OrderedDict()
        self._episode: _OpenEpisode | None = None
        self._steps_ns: list[int] = []
        self._last_ns: int | None = None
        self._strip = FrameSampler(_STRIP_FRAMES)
        self._exclusions: list[Exclusion] = []
        self.reasons: Counter[str] = Counter()
        self.ticks = self.segments = self.kept = self.excluded = 0
        self.embeddings: list[NDArray[np.float32]] = []
        self.quality: list[dict[str, Any]] = []
        self.has_truth = structures is not None

    def add(self, tick: Tick) -> None:
        """Take the next tick of the synchronizer."""
        self.ticks += 1
        if tick.action_from_previous is None:
            self.segments += 1
        elif self._last_ns is not None and len(self._steps_ns) < 100_000:
            self._steps_ns.append(tick.stamp_ns - self._last_ns)
        self._last_ns = tick.stamp_ns
        self._waiting.extend(self._splitter.add(tick))
        while len(self._waiting) > (_TRUTH_AHEAD if self._structures is not None else 0):
            self._place(self._waiting.popleft())

    def add_truth(self, item: Stamped) -> None:
        """Take a truth image; it may come before or shortly after the tick of the same stamp."""
        if isinstance(item.value, ImageValue):
            self._truth[item.stamp_ns] = item.value
            if len(self._truth) > _TRUTH_KEPT:
                self._truth.popitem(last=False)

    def finish(self) -> None:
        """Write what is left."""
        self._waiting.extend(self._splitter.finish())
        while self._waiting:
            self._place(self._waiting.popleft())
        self._close()

    @property
    def exclusions(self) -> list[Exclusion]:
        """What curation left out, in order of time."""
        return sorted([*self._splitter.exclusions, *self._exclusions], key=lambda item: (item.start_ns, item.reason))

    @property
    def tick_rate_hz(self) -> float | None:
        """By the median interval; None without two ticks in a row."""
        return round(1e9 / float(np.median(self._steps_ns)), 4) if self._steps_ns else None

    @property
    def strip(self) -> list[NDArray[np.uint8]]:
        """Frames spread over the episodes."""
        return self._strip.frames()

    def _place(self, placed: Placed) -> None:
        episode = self._episode
        if placed.starts or (episode is not None and episode.length >= self._options.max_length):
            self._close()
        if self._episode is None:
            self._episode = _OpenEpisode(self._staging / f"{len(self.embeddings):06d}", self._options)
        labels = self._labels(placed.tick.stamp_ns)
        self._episode.add(placed.tick, labels)

    def _labels(self, stamp_ns: int) -> NDArray[np.uint16] | None:
        if (truth := self._truth.pop(stamp_ns, None)) is None:
            return None
        try:
            return self._preprocess.labels(truth.labels())
        except DataError:  # the frames are good without it: only this episode's truth is lost
            self.reasons[TRUTH_UNDECODABLE] += 1
            return None

    def _close(self) -> None:
        episode, self._episode = self._episode, None
        if episode is None:
            return
        if episode.length < self._options.min_length:
            self.reasons[TOO_SHORT] += episode.length
            episode.writer.discard()
            return
        if (excluded := episode.quality.judge(self._options.curation)) is not None:
            self._exclusions.append(excluded)
            episode.writer.discard()
            return
        facts = episode.writer.finish(self._structures)
        self.quality.append({"episode": len(self.embeddings), **episode.quality.summary()})
        scales = self._options.embodiment.scales.astype(np.float32)
        self.embeddings.append(embed(np.stack(episode.sampler.frames()), np.stack(episode.actions) / scales))
        for frame in episode.sampler.frames():
            self._strip.add(frame)
        for stamp_ns in episode.stamps_ns:
            self._on_kept(stamp_ns)
        self.kept += facts.length
        self.has_truth = self.has_truth and facts.has_truth


class _OpenEpisode:
    """An episode being written, with what judges it."""

    def __init__(self, directory: Path, options: ConvertOptions) -> None:
        self.writer = EpisodeWriter(directory, embodiment=options.embodiment, codec=options.codec)
        self.quality = EpisodeQuality(options.embodiment)
        self.sampler = FrameSampler(_EMBEDDED_FRAMES)
        self.actions: list[FloatArray] = []
        self.stamps_ns: list[int] = []

    def add(self, tick: Tick, labels: NDArray[np.uint16] | None) -> None:
        self.writer.add(tick, labels)
        self.quality.add(tick)
        self.sampler.add(tick.frame)
        if tick.action_from_previous is not None:
            self.actions.append(tick.action_from_previous)
        self.stamps_ns.append(tick.stamp_ns)

    @property
    def length(self) -> int:
        """Frames so far."""
        return len(self.stamps_ns)


def as_json(exclusions: list[Exclusion]) -> list[dict[str, Any]]:
    """Exclusions as plain values."""
    return [asdict(item) for item in exclusions]

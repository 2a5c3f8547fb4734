"""One episode to a directory of its own while its ticks arrive: frames straight to the encoder, labels to a file.

What it leaves is not a dataset yet, but all that ``training.dataset.writer`` needs to put the episode into one, without
looking at a frame again. Holds numbers, never frames. Knows nothing of other episodes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from egowm_core.data.state import state_names
from egowm_core.data.ticks import Tick
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from egowm_core.files import read_json, write_text
from egowm_core.types import FloatArray
from training.dataset.columns import values_of, vectors
from training.dataset.files import write_table
from training.dataset.layout import ACTION, DONE, STAMP, STATE, data_schema, exact_rate, image_key
from training.dataset.stats import ImageStats, Stats, feature_stats
from training.dataset.truth import LabelWriter
from training.dataset.video import VideoCodec, VideoWriter

FACTS, TABLE, VIDEO, LABELS, STRUCTURES = "episode.json", "table.parquet", "video.mp4", "truth.npz", "structures.json"


@dataclass(frozen=True)
class EpisodeFacts:
    """What ``episode.json`` says: frames, first and last stamp, statistics by feature."""

    length: int
    start_ns: int
    end_ns: int
    has_truth: bool
    stats: dict[str, Stats]

    @classmethod
    def load(cls, directory: Path) -> EpisodeFacts:
        """Of a finished episode. Raises DataError."""
        try:
            return cls(**read_json(directory / FACTS))
        except TypeError as error:
            raise DataError(
                f"{directory / FACTS} is not an episode's ({error}); convert the recording again"
            ) from error


class EpisodeWriter:
    """Takes the ticks of an unbroken segment, in order; ``finish`` makes ``directory`` appear, whole."""

    def __init__(self, directory: Path, *, embodiment: Embodiment, codec: VideoCodec) -> None:
        """Raises DataError when ``directory`` exists, ConfigError when the codec cannot encode the camera's frames."""
        if directory.exists():
            raise DataError(f"{directory} exists already; choose another name or remove it")
        self._directory, self._embodiment = directory, embodiment
        self._partial = directory.with_name(directory.name + ".partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._stamps_ns: list[int] = []
        self._actions: list[FloatArray] = []  # one fewer than stamps
        self._states: list[FloatArray] = []
        self._sizes = (embodiment.action_dim, len(state_names(embodiment)))
        self._images = ImageStats()
        self._labels: LabelWriter | None = None
        camera = embodiment.camera()
        self._video = VideoWriter(
            self._partial / VIDEO, rate_hz=embodiment.rate_hz, height=camera.height, width=camera.width, codec=codec
        )

    def add(self, tick: Tick, labels: NDArray[np.uint16] | None = None) -> None:
        """Take the next tick and, where the recording has it, the truth (H,W) of its frame.

        The action of the first tick leads from a frame outside and is left out. Truth is kept when all frames have it.

        Raises:
            DataError: a later tick without an action, a stamp that does not increase, a frame, action or state of
                another size, or one that is not finite.
        """
        if self._stamps_ns:
            if tick.action_from_previous is None:
                raise DataError(f"the tick at {tick.stamp_ns} starts a segment; finish this episode and open another")
            if tick.stamp_ns <= self._stamps_ns[-1]:
                raise DataError(f"tick stamp {tick.stamp_ns} is not after {self._stamps_ns[-1]}; add ticks in order")
        action = np.zeros(self._sizes[0], np.float32)
        if self._stamps_ns and tick.action_from_previous is not None:
            action = np.asarray(tick.action_from_previous, np.float32)
        state = np.asarray(tick.state, np.float32)
        for what, values, size in zip(("action", "state"), (action, state), self._sizes, strict=True):
            if values.shape != (size,) or not np.isfinite(values).all():
                raise DataError(
                    f"the {what} at {tick.stamp_ns} is {values.tolist()}, expected {size} finite numbers;"
                    f" check the recording against the embodiment"
                )
        self._video.add(tick.frame)
        self._images.add(tick.frame)
        if self._stamps_ns:
            self._actions.append(action)
        self._states.append(state)
        self._stamps_ns.append(int(tick.stamp_ns))
        self._add_labels(labels)

    def finish(self, structures: dict[str, dict[str, Any]] | None = None) -> EpisodeFacts:
        """Write everything and give the directory its name; ``structures`` tells what the labels mean.

        Raises:
            DataError: fewer than two frames.
        """
        if len(self._stamps_ns) < 2:
            self.discard()
            raise DataError(f"{self._directory.name}: an episode needs 2 or more frames, got {len(self._stamps_ns)}")
        has_truth = self._labels is not None and structures is not None
        if self._labels is not None:
            if has_truth:
                self._labels.close()
                write_text(self._partial / STRUCTURES, json.dumps(structures, indent=1))
            else:
                self._labels.discard()
        self._video.close()
        table = self._table()
        write_table(self._partial / TABLE, table)
        stats = {image_key(self._embodiment): self._images.stats()}
        stats |= {name: feature_stats(values_of(table[name])) for name in table.column_names}
        facts = EpisodeFacts(len(self._stamps_ns), self._stamps_ns[0], self._stamps_ns[-1], has_truth, stats)
        write_text(self._partial / FACTS, json.dumps(asdict(facts)))
        self._partial.rename(self._directory)
        return facts

    def discard(self) -> None:
        """Give up: nothing is left."""
        self._video.discard()
        if self._labels is not None:
            self._labels.discard()
        shutil.rmtree(self._partial, ignore_errors=True)

    def _add_labels(self, labels: NDArray[np.uint16] | None) -> None:
        if len(self._stamps_ns) == 1 and labels is not None:
            self._labels = LabelWriter(self._partial / LABELS)
        if self._labels is None:
            return
        if labels is None:
            self._labels.discard()
            self._labels = None
        else:
            self._labels.add(labels)

    def _table(self) -> pa.Table:
        """The columns of a data file but those that number the episode among others."""
        schema, length = data_schema(self._embodiment), len(self._stamps_ns)
        rate = exact_rate(self._embodiment.rate_hz)
        # the action of the last row leads out of the episode: no motion, or the last setting held
        held = np.array([channel.kind != "delta" for channel in self._embodiment.channels])
        actions = np.stack([*self._actions, np.where(held, self._actions[-1], 0).astype(np.float32)])
        columns = {
            ACTION: vectors(actions, schema.field(ACTION).type),
            STATE: vectors(np.stack(self._states), schema.field(STATE).type),
            STAMP: pa.array(self._stamps_ns, pa.int64()),
            DONE: pa.array([*[False] * (length - 1), True]),
            "timestamp": pa.array(np.array([float(i / rate) for i in range(length)], np.float32)),
            "frame_index": pa.array(np.arange(length, dtype=np.int64)),
        }
        return pa.table(columns)

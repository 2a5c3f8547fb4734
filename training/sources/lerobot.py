"""An episode of a LeRobot dataset (v2.x, v3.x; ``lerobot.datasets``) as a recording: pictures and vectors with stamps.

Topics are the dataset's features by their own names: cameras as images, ``observation.state`` and ``action`` as joint
states, and what the state's names make of it besides (``lerobot_vectors``). Rows are stamped 1 s + their timestamp, or
with ``stamp_ns`` where egowm-convert wrote the dataset. Reads rows and frames as they are asked for; knows no
embodiment but the one that a dataset of our own was made with, and no ticks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import SimpleNamespace, TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from egowm_core.data.bag import describe
from egowm_core.data.values import ImageValue, Stamped, Topic
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import DataError, EgowmError
from egowm_core.schema import nearest
from training.dataset.layout import EMBODIMENT, STAMP, truth_path
from training.sources.lerobot_files import unreadable
from training.sources.lerobot_meta import EpisodeFiles, LeRobotMeta, read_meta
from training.sources.lerobot_vectors import vectors
from training.sources.lerobot_video import read_pictures

_FIRST_NS = 1_000_000_000  # the stamp of time 0: no message is stamped 0
_BATCH = 32  # rows in memory at a time; a stored picture may be a megabyte
_IMAGE = "sensor_msgs/msg/CompressedImage"
_RESTORE = "restore it from where the dataset came from, or leave the episode out"
_MAX_IMAGE_BYTES = 64 << 20


@dataclass(frozen=True)
class _Rows:
    """The clock of an episode: ``times_s`` (T,) from its start as the videos have them, ``stamps_ns`` (T,) int64."""

    times_s: NDArray[np.float64]
    stamps_ns: NDArray[np.int64]
    tasks: tuple[int, ...]


class LeRobotEpisode:
    """One episode, opened as a context manager. Every failure to read is a DataError with file and remedy.

    ``notes`` tell of vectors without names, of cameras whose video is absent and, with the first episode that is
    here, of how many that meta/ lists are not.
    """

    damage: tuple[str, ...] = ()  # a damaged episode is refused as a whole: its pictures and rows belong together

    def __init__(self, path: str | Path, episode: int) -> None:
        self.path, self.episode = Path(path), episode
        self.notes: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.task = ""
        self._rows: _Rows | None = None

    @property
    def name(self) -> str:
        """Of dataset and episode."""
        return f"{self.path.resolve().name}__episode_{self.episode:06d}"

    def __enter__(self) -> LeRobotEpisode:
        self._meta = read_meta(self.path)
        self._files = self._meta.episode(self.episode)
        rows = self._read_rows()
        count = len(rows.times_s)
        features = list(self._meta.features.values())
        found, self.notes = vectors(features, count, measured_by=_own_embodiment(self._meta))
        self._vectors = {vector.topic.name: vector for vector in found}
        self._cameras = self._find_cameras(count)
        self.task = self._find_task(rows)
        if (self.path / truth_path(self.episode, ".npz")).is_file() and self._meta.is_own:
            self.notes.append("the simulator's truth of this episode is not carried over: it is read from bags only")
        if self._meta.first_present() == self.episode and (text := _absent(self._meta)):
            self.notes.append(text)
        self._rows = rows
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows = None

    @property
    def topics(self) -> dict[str, Topic]:
        """Topics by name, sorted."""
        self._open_rows()
        found = [*self._cameras.values(), *(vector.topic for vector in self._vectors.values())]
        return {topic.name: topic for topic in sorted(found, key=lambda topic: topic.name)}

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last row."""
        stamps = self._open_rows().stamps_ns
        return float(stamps[-1] - stamps[0]) * 1e-9

    def read(self, topics: Sequence[str]) -> Iterator[Stamped]:
        """Values row by row: vectors first, then pictures, each in the order of their names.

        Raises DataError on unknown topics, broken files, and videos whose frames are not those of the rows.
        """
        rows, known = self._open_rows(), self.topics
        for name in topics:
            if name not in known:
                raise DataError(
                    f"{self.name} of {self.path} has no topic {name!r}{nearest(name, known)};"
                    f" it has {describe(known.values())}"
                )
            self.skipped[name] = 0
        wanted = sorted(set(topics))
        columns = [self._vectors[name] for name in wanted if name in self._vectors]
        stored = [name for name in wanted if name in self._cameras and name not in self._files.videos]
        needed = list(dict.fromkeys([*(vector.column for vector in columns), *stored]))
        with ExitStack() as stack:
            films = {
                name: stack.enter_context(closing(self._film(name, rows)))
                for name in wanted
                if name in self._cameras and name in self._files.videos
            }
            number = 0
            for batch in _batches(self._files, needed):
                arrays = {v.column: self._matrix(batch, v.column, v.width).astype(np.float64) for v in columns}
                for at in range(batch.num_rows):
                    stamp_ns = int(rows.stamps_ns[number])
                    for vector in columns:
                        yield Stamped(vector.topic.name, stamp_ns, vector.build(arrays[vector.column][at]))
                    for name in stored:
                        if (image := self._stored(batch.column(name)[at].as_py(), name)) is not None:
                            yield Stamped(name, stamp_ns, image)
                    for name, film in films.items():
                        yield Stamped(name, stamp_ns, next(film))
                    number += 1
            for film in films.values():
                next(film, None)  # tells of frames after the last row

    def _film(self, name: str, rows: _Rows) -> Any:
        return read_pictures(self._files.videos[name], rows.times_s, 1.0 / self._meta.fps)

    def _read_rows(self) -> _Rows:
        own = STAMP in self._meta.features and self._meta.is_own
        wanted = ["timestamp", *([STAMP] if own else []), *(["task_index"] if self._meta.tasks else [])]
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in wanted}
        for batch in _batches(self._files, wanted, batch_size=8192):
            for name in wanted:
                parts[name].append(self._matrix(batch, name, 1)[:, 0])
        path, expected = self._files.data, self._files.length
        columns = {name: np.concatenate(found) if found else np.zeros(0) for name, found in parts.items()}
        times = columns["timestamp"].astype(np.float64)
        if len(times) != expected or not expected:
            raise DataError(
                f"{path} has {len(times)} rows of episode {self.episode}, meta/ says {expected}; {_RESTORE}"
            )
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any() or abs(times).max() > 1e9:
            bad = int(np.argmin(np.isfinite(times) & (np.diff(times, prepend=-np.inf) > 0)))
            raise DataError(
                f"{path}: the timestamp of row {bad} of episode {self.episode} is {times[bad]}, expected seconds that"
                f" increase from row to row; {_RESTORE}"
            )
        stamps = columns[STAMP] if own else _FIRST_NS + np.rint(times * 1e9)
        tasks = tuple(dict.fromkeys(columns.get("task_index", np.zeros(0)).tolist()))
        return _Rows(times, stamps.astype(np.int64), tasks)

    def _find_cameras(self, count: int) -> dict[str, Topic]:
        found: dict[str, Topic] = {}
        for feature in self._meta.features.values():
            if feature.dtype not in ("video", "image"):
                continue
            if feature.depth:
                self.notes.append(f"{feature.name} is a depth map and not offered as a picture")
            elif (piece := self._files.videos.get(feature.name)) is not None and not piece.path.is_file():
                missing = piece.path.relative_to(self.path).as_posix()  # notes end up in reports: no place of a machine
                self.notes.append(f"{feature.name} is not offered: {missing} is missing")
            else:
                found[feature.name] = Topic(feature.name, _IMAGE, count)
        return found

    def _find_task(self, rows: _Rows) -> str:
        texts = [self._meta.tasks[index] for index in rows.tasks if index in self._meta.tasks]
        texts = texts or list(self._files.tasks)
        if len(texts) > 1:
            self.notes.append(
                f"the episode has {len(texts)} tasks, {', '.join(map(repr, texts[:4]))}: the first is taken"
            )
        return texts[0] if texts else ""

    def _matrix(self, batch: pa.RecordBatch, name: str, width: int) -> NDArray[Any]:
        """The rows of a column of numbers, (n, width), in the type that they are stored in."""
        column: Any = batch.column(name)
        kind = column.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            column = column.flatten()
        found = column.type
        if not (pa.types.is_floating(found) or pa.types.is_integer(found)) or column.null_count:
            wrong = "has empty values" if column.null_count else f"is {kind}"
        elif len(column) != batch.num_rows * width:
            wrong = f"has {len(column)} values in {batch.num_rows} rows"
        else:
            return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(batch.num_rows, width)
        raise DataError(f"{self._files.data}: {name} {wrong}, expected {width} numbers in each row; {_RESTORE}")

    def _stored(self, value: Any, name: str) -> ImageValue | None:
        """A picture out of the table, or out of the file that it names; None, and counted, where there is neither."""
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None and isinstance(value, dict) and isinstance(value.get("path"), str):
            place = PurePosixPath(value["path"])
            if not place.is_absolute() and ".." not in place.parts:
                data = _file_bytes(self.path / place)
        if not isinstance(data, bytes):
            self.skipped[name] += 1
            return None
        return ImageValue(SimpleNamespace(format="image of a table", data=data))

    def _open_rows(self) -> _Rows:
        if self._rows is None:
            raise DataError(f"{self.name} is not open; use `with LeRobotEpisode(path, {self.episode}) as episode`")
        return self._rows


def _batches(files: EpisodeFiles, columns: Sequence[str], *, batch_size: int = _BATCH) -> Iterator[pa.RecordBatch]:
    """The rows of an episode, some at a time, from the row groups that can hold it. Raises DataError."""
    path, index = files.data, "episode_index"
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if missing := [name for name in (*columns, index) if name not in names]:
                raise DataError(f"{path} has no column {missing[0]!r}; {_RESTORE}")
            groups = _row_groups(file, files.index)
            for batch in file.iter_batches(batch_size, groups, columns=[*columns, index], use_threads=False):
                mine = batch.filter(pc.equal(batch.column(index), pa.scalar(files.index)))
                if mine.num_rows:
                    yield mine
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:  # broken schemas raise the latter two
        raise unreadable(path, error) from error


def _row_groups(file: pq.ParquetFile, episode: int) -> list[int]:
    """Row groups whose statistics do not rule out the episode."""
    place = file.schema.names.index("episode_index")
    groups = []
    for group in range(file.num_row_groups):
        stats: Any = file.metadata.row_group(group).column(place).statistics
        if stats is None or not stats.has_min_max or stats.min <= episode <= stats.max:
            groups.append(group)
    return groups


def _file_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.stat().st_size <= _MAX_IMAGE_BYTES else None
    except OSError:
        return None


def _own_embodiment(meta: LeRobotMeta) -> Embodiment | None:
    """What a dataset of our own was made for; None for others. Raises DataError."""
    if not meta.is_own:
        return None
    try:
        return load_embodiment(meta.root / EMBODIMENT)
    except EgowmError as error:
        raise DataError(f"{meta.root / EMBODIMENT}: {' '.join(str(error).split())[:300]}; restore it") from error


def _absent(meta: LeRobotMeta) -> str:
    missing = len(meta.indices) - len(meta.present())
    if not missing:
        return ""
    listed = f"the {len(meta.indices)} episodes that meta/ of {meta.root.name} lists"
    return f"{missing} of {listed} are not here: the others are read"

"""What a LeRobot dataset (v2.x or v3.x) says of itself: features, tasks, episodes, and where their files lie.

Reads meta/ only, and takes it for what it is, somebody else's: paths stay inside the dataset, and whatever is not as
the format has it is refused with the file named. Knows no row and no picture.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from egowm_core.errors import DataError
from egowm_core.files import read_json
from training.dataset.layout import EPISODES, INFO, SETTINGS, TASKS
from training.sources.lerobot_files import RESTORE, read_json_lines, read_table

_DEEPEST = 4  # lists in lists of names
_PLACEHOLDER = re.compile(r"\{(\w+)(?::0?(\d{1,2})d)?\}")
_FASTEST = 100_000.0  # frames a second


@dataclass(frozen=True)
class Feature:
    """A column or a video. ``names`` are those of its values, flattened; empty where the dataset gives none."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    depth: bool


@dataclass(frozen=True)
class Piece:
    """An episode's part of a video file, in seconds of the file; ``stop_s`` is None where the file is all its own."""

    path: Path
    start_s: float = 0.0
    stop_s: float | None = None


@dataclass(frozen=True)
class EpisodeFiles:
    """What meta/ says of an episode: its ``length`` in rows, its tasks, and the files; nothing of it is checked."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: dict[str, Piece]

    @property
    def is_present(self) -> bool:
        """Whether it can be read: its rows are here and, where it has videos, one of them."""
        here = self.data.is_file()
        return here and (not self.videos or any(piece.path.is_file() for piece in self.videos.values()))


class LeRobotMeta:
    """A dataset as its meta/ describes it; made by ``read_meta``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        info = read_json(root / INFO)
        self._info: dict[str, Any] = info if isinstance(info, dict) else {}
        version = self._info.get("codebase_version")
        if not re.fullmatch(r"v[23]\.\d+", str(version)):
            raise DataError(
                f"{root / INFO} has codebase_version {version!r}, expected v2.0, v2.1 or v3.x;"
                " bring the dataset to v3.0 with LeRobot's own converters"
            )
        self.packed = str(version).startswith("v3")  # several episodes a file
        self.fps = self._number("fps")
        if not 0 < self.fps <= _FASTEST:
            raise self._unfit("fps", self.fps, "a number of frames a second above 0")
        self.features = self._features()
        self._rows: dict[int, Mapping[str, Any]] = {}
        for row in self._episode_rows():
            self._rows[_whole(row, "episode_index", root)] = row
        self.indices = sorted(self._rows)
        self.tasks = dict(self._task_rows())

    @property
    def is_own(self) -> bool:
        """Whether egowm-convert made it."""
        return (self.root / SETTINGS).is_file()

    def present(self) -> list[int]:
        """Numbers of the episodes that can be read here, as it is now."""
        return [index for index in self.indices if self.episode(index).is_present]

    def first_present(self) -> int | None:
        """The first of them, without looking at all."""
        return next((index for index in self.indices if self.episode(index).is_present), None)

    def episode(self, index: int) -> EpisodeFiles:
        """An episode's files. Raises DataError when meta/ has no such episode, or no usable paths for it."""
        if index not in self._rows:
            known = f"{self.indices[0]} to {self.indices[-1]}" if self.indices else "none"
            raise DataError(f"{self.root} has no episode {index}; meta/ lists {known}: give one of them")
        row, root = self._rows[index], self.root
        numbers: dict[str, int | str] = {"episode_index": index, "episode_chunk": index // self._chunk_size}
        if self.packed:
            numbers["chunk_index"], numbers["file_index"] = (
                _whole(row, f"data/{name}", root) for name in ("chunk_index", "file_index")
            )
        data = self._file("data_path", numbers)
        videos = {}
        for key in self.video_keys:
            numbers["video_key"], cut = key, tuple[float, ...]()
            if self.packed:
                numbers["chunk_index"], numbers["file_index"] = (
                    _whole(row, f"videos/{key}/{name}", root) for name in ("chunk_index", "file_index")
                )
                cut = tuple(_seconds(row, f"videos/{key}/{name}", root) for name in ("from_timestamp", "to_timestamp"))
            videos[key] = Piece(self._file("video_path", numbers), *cut)
        tasks = row.get("tasks")
        texts = tuple(str(task) for task in tasks) if isinstance(tasks, list) else ()
        return EpisodeFiles(index, _whole(row, "length", root), texts, data, videos)

    @property
    def video_keys(self) -> list[str]:
        """Features that lie in video files."""
        return [feature.name for feature in self.features.values() if feature.dtype == "video"]

    def share(self, index: int, path: Path) -> float:
        """Which part of a file is this episode's, by rows."""
        return self.episode(index).length / max(1, self._rows_in[path])

    @cached_property
    def _rows_in(self) -> dict[Path, int]:
        counts: dict[Path, int] = {}
        for index in self.indices:
            episode = self.episode(index)
            for path in {episode.data, *(piece.path for piece in episode.videos.values())}:
                counts[path] = counts.get(path, 0) + episode.length
        return counts

    @cached_property
    def _chunk_size(self) -> int:
        size = self._info.get("chunks_size", 1000)
        if not isinstance(size, int) or size < 1:
            raise self._unfit("chunks_size", size, "a number of files above 0")
        return size

    def _file(self, key: str, values: Mapping[str, int | str]) -> Path:
        """A file by its template; what is not a plain placeholder, or leads out of the dataset, is refused."""
        template = self._info.get(key)
        if not isinstance(template, str) or any(m[1] not in values for m in _PLACEHOLDER.finditer(template)):
            raise self._unfit(key, template, f"a path with placeholders of {', '.join(values)}")
        text = posixpath.normpath(
            _PLACEHOLDER.sub(lambda found: str(values[found[1]]).zfill(int(found[2] or 0)), template)
        )
        if posixpath.isabs(text) or text.split("/")[0] == ".." or "\0" in text or "{" in text:
            raise self._unfit(key, template, "a path inside the dataset")
        return self.root / text

    def _features(self) -> dict[str, Feature]:
        listed = self._info.get("features")
        if not isinstance(listed, dict) or not all(isinstance(item, dict) for item in listed.values()):
            raise self._unfit("features", type(listed).__name__, "an object for each feature")
        found = {}
        for name, item in listed.items():
            shape = item.get("shape")
            if not isinstance(shape, list) or not all(isinstance(side, int) and side >= 0 for side in shape):
                raise self._unfit(f"features of {name!r} with shape", shape, "a list of sizes")
            info = item.get("info") or item.get("video_info") or {}
            depth = isinstance(info, dict) and any(info.get(k) is True for k in ("video.is_depth_map", "is_depth_map"))
            found[name] = Feature(name, str(item.get("dtype")), tuple(shape), _flat(item.get("names")), depth)
        return found

    def _episode_rows(self) -> Iterator[Mapping[str, Any]]:
        if not self.packed:
            yield from read_json_lines(self.root / "meta/episodes.jsonl")
            return
        files = sorted((self.root / EPISODES).glob("*/*.parquet"))
        if not files:
            raise DataError(f"{self.root / EPISODES} holds no parquet file; {RESTORE}")
        columns = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index"]
        for key in self.video_keys:
            columns += [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
            columns.append(f"videos/{key}/to_timestamp")
        for file in files:
            yield from read_table(file, columns).to_pylist()

    def _task_rows(self) -> Iterator[tuple[int, str]]:
        lines = self.root / "meta/tasks.jsonl"
        if (self.root / TASKS).is_file():
            table = read_table(self.root / TASKS)
            texts = [field.name for field in table.schema if pa.types.is_string(field.type) or field.name == "task"]
            if "task_index" not in table.schema.names or not texts:
                raise DataError(f"{self.root / TASKS} has no columns task and task_index; {RESTORE}")
            yield from zip(table["task_index"].to_pylist(), map(str, table[texts[0]].to_pylist()), strict=True)
        elif lines.is_file():
            for row in read_json_lines(lines):
                yield _whole(row, "task_index", self.root), str(row.get("task", ""))

    def _number(self, key: str) -> float:
        value = self._info.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._unfit(key, value, "a number")
        return float(value)

    def _unfit(self, key: str, value: object, expected: str) -> DataError:
        return DataError(f"{self.root / INFO}: {key} is {str(value)[:100]!r}, expected {expected}; {RESTORE}")


def is_dataset(path: Path) -> bool:
    """Whether a directory is, or was meant to be, a LeRobot dataset."""
    return (path / INFO).is_file()


def read_meta(root: Path) -> LeRobotMeta:
    """The meta/ of a dataset; remembered as long as its files are the same. Raises DataError."""
    try:
        files = sorted(file for file in (root / "meta").rglob("*") if file.is_file())
        state = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    except OSError as error:
        raise DataError(f"cannot read {root / 'meta'}: {error.strerror}; check its permissions") from error
    return _remembered(root, state)


@lru_cache(maxsize=2)
def _remembered(root: Path, state: object) -> LeRobotMeta:
    return LeRobotMeta(root)


def _whole(row: Mapping[str, Any], key: str, root: Path) -> int:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{root}/meta: an episode's or task's {key} is {value!r}, expected 0 or more; {RESTORE}")
    return value


def _seconds(row: Mapping[str, Any], key: str, root: Path) -> float:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise DataError(f"{root}/meta: an episode's {key} is {value!r}, expected seconds from 0 on; {RESTORE}")
    return float(value)


def _flat(names: Any, depth: int = 0) -> tuple[str, ...]:
    """Names in whichever way they are nested: a list, lists in a list, lists by kind, or places by name."""
    if isinstance(names, str):
        return (names,)
    if isinstance(names, dict) and names and all(isinstance(place, int) for place in names.values()):
        return tuple(str(name) for name in sorted(names, key=lambda name: names[name]))
    if isinstance(names, dict):
        names = list(names.values())
    if not isinstance(names, list) or depth >= _DEEPEST:
        return ()
    return tuple(name for item in names for name in _flat(item, depth + 1))

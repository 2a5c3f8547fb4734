"""Reading a dataset that `egowm-convert` made: its episodes, their frames, actions, states and origins.

Opening reads meta/ only; columns come when asked for, frames are decoded window by window. Datasets and episodes hold
paths and numbers, no open file, so they travel to worker processes. Knows nothing of how a dataset is written.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from egowm_core.data.normalize import NormStats
from egowm_core.data.window import Sample, take_sample, windows
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import DataError
from egowm_core.files import read_json
from egowm_core.types import FloatArray, ImageArray, StampArray
from training.dataset.columns import count_rows, matrix_of, read_table, values_of
from training.dataset.layout import (
    ACTION,
    CODEBASE_VERSION,
    DATASET_VERSION,
    EMBODIMENT,
    ENTRIES,
    EPISODES,
    INFO,
    NORM_STATS,
    SETTINGS,
    STAMP,
    STATE,
    Place,
    image_key,
    truth_path,
)
from training.dataset.truth import read_labels
from training.dataset.video import count_frames, read_frames


class Dataset:
    """A finished dataset. ``info`` is meta/info.json; ``entries`` are the converter's reports, a recording each."""

    def __init__(self, path: str | Path) -> None:
        """Reads meta/ and the reports.

        Raises:
            DataError: no dataset, an unfinished one, one of another version or another program's.
        """
        self.path = Path(path)
        _refuse_others(self.path)
        self.info = _object(self.path / INFO)
        if self.info.get("codebase_version") != CODEBASE_VERSION:
            raise DataError(
                f"{self.path} has LeRobot version {self.info.get('codebase_version')!r}, expected {CODEBASE_VERSION!r};"
                f" bring it over with egowm-convert {self.path} NEW"
            )
        self.embodiment: Embodiment = load_embodiment(self.path / EMBODIMENT)
        self.entries = [_object(file) for file in sorted((self.path / ENTRIES).glob("*.json"))]
        try:
            self.episodes: list[Episode] = self._open_episodes()
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.path}: meta/ and {ENTRIES} do not fit ({error!r}); run egowm-convert again"
            ) from error

    @cached_property
    def norm_stats(self) -> NormStats:
        """Statistics of all actions. Raises DataError."""
        try:
            return NormStats.from_json((self.path / NORM_STATS).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"cannot read {self.path / NORM_STATS}: {error}; run egowm-convert again") from error

    @property
    def rate_hz(self) -> float:
        """Frames a second."""
        return self.embodiment.rate_hz

    @property
    def num_frames(self) -> int:
        """Frames over all episodes."""
        return sum(len(episode) for episode in self.episodes)

    def fingerprint(self) -> str:
        """Of what the dataset holds, 64 hex digits: equal datasets agree wherever they lie, changed ones differ.

        From meta/ (which has each episode's statistics) and the sizes of the data and video files, so it is cheap.
        """
        digest = hashlib.sha256()
        for file in sorted([self.path / INFO, self.path / EMBODIMENT, *(self.path / EPISODES).glob("*/*.parquet")]):
            digest.update(file.relative_to(self.path).as_posix().encode() + b"\0" + file.read_bytes())
        for file in sorted({name for episode in self.episodes for name in (episode.data_path, episode.video_path)}):
            digest.update(f"{file.relative_to(self.path).as_posix()} {file.stat().st_size}\n".encode())
        return digest.hexdigest()

    def check(self) -> None:
        """Open every data and video file and compare its rows and frames with meta/. Raises DataError."""
        lengths: dict[tuple[Path, Path], int] = {}
        for episode in self.episodes:
            files = (episode.data_path, episode.video_path)
            lengths[files] = lengths.get(files, 0) + len(episode)
        for (data, video), expected in lengths.items():
            rows, frames = count_rows(data), count_frames(video)
            for file, count, what in ((data, rows, "rows"), (video, frames, "frames")):
                if count != expected:
                    raise DataError(
                        f"{file} has {count} {what}, meta/episodes says {expected}; convert the recordings again"
                    )

    def _open_episodes(self) -> list[Episode]:
        key = image_key(self.embodiment)
        rows = _episode_rows(self.path, key)
        frames = sum(row["length"] for row in rows)
        reported = sum(int(entry.get("episodes", 0)) for entry in self.entries)
        if (len(rows), frames) != (self.info.get("total_episodes"), self.info.get("total_frames")) or (
            reported != len(rows)
        ):
            raise DataError(
                f"{self.path} is unfinished: {reported} episodes converted, {len(rows)} in meta/episodes,"
                f" {self.info.get('total_episodes')} in meta/info.json; run the same egowm-convert again"
            )
        recordings = [str(entry["recording"]) for entry in self.entries for _ in range(int(entry["episodes"]))]
        episodes: list[Episode] = []
        in_file: dict[Place, int] = {}
        for number, (row, recording) in enumerate(zip(rows, recordings, strict=True)):
            if row["episode_index"] != number:
                raise DataError(
                    f"{self.path}: meta/episodes lists episode {row['episode_index']} at {number}; convert again"
                )
            data = Place(row["data/chunk_index"], row["data/file_index"])
            video = Place(row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"])
            episode = Episode(
                self.path,
                number,
                length=row["length"],
                recording=recording,
                task=row["tasks"][0] if row["tasks"] else "",
                data_path=self.path / data.data(),
                row_group=in_file.get(data, 0),
                video_path=self.path / video.video(key),
                first_frame=round(row[f"videos/{key}/from_timestamp"] * self.rate_hz),
            )
            in_file[data] = episode.row_group + 1
            for file in (episode.data_path, episode.video_path):
                if not file.is_file():
                    raise DataError(f"{file} is missing; restore it, or convert the recordings again")
            episodes.append(episode)
        if not episodes:
            raise DataError(f"{self.path} holds no episodes; make some with egowm-convert")
        return episodes


class Episode:
    """An unbroken piece of a recording: T frames at the dataset's rate and what moved the robot between them."""

    def __init__(
        self,
        root: Path,
        index: int,
        *,
        length: int,
        recording: str,
        task: str,
        data_path: Path,
        row_group: int,
        video_path: Path,
        first_frame: int,
    ) -> None:
        self.root, self.index, self.recording, self.task = root, index, recording, task
        self.data_path, self.row_group, self.video_path, self.first_frame = (
            data_path,
            row_group,
            video_path,
            first_frame,
        )
        self._length = length

    def __len__(self) -> int:
        """Number of frames T."""
        return self._length

    @cached_property
    def actions(self) -> FloatArray:
        """(T-1,D) float32 in units; row t moves frame t to frame t+1."""
        return matrix_of(self._columns[ACTION])[:-1]

    @cached_property
    def states(self) -> FloatArray:
        """(T,S) float32 in units, what was measured at each frame."""
        return matrix_of(self._columns[STATE])

    @cached_property
    def stamps_ns(self) -> StampArray:
        """(T,) int64, when each frame was recorded."""
        return np.asarray(values_of(self._columns[STAMP]), np.int64)

    def frames(self, start: int = 0, stop: int | None = None) -> ImageArray:
        """Frames start..stop as (n,H,W,3) uint8 RGB, decoded now. Raises DataError."""
        start, stop = self._window(start, stop)
        return read_frames(self.video_path, self.first_frame + start, self.first_frame + stop)

    def labels(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint16] | None:
        """(n,H,W) uint16 structure ids of frames start..stop (0 background), None where the recording had no truth."""
        start, stop = self._window(start, stop)
        path = self.root / truth_path(self.index, ".npz")
        return read_labels(path, start, stop, length=len(self)) if path.exists() else None

    @property
    def segmentation(self) -> NDArray[np.uint16] | None:
        """(T,H,W) uint16 structure ids, read now; ``labels`` reads a window only."""
        return self.labels()

    @cached_property
    def structures(self) -> dict[str, dict[str, Any]] | None:
        """Structure id (as text) to its name and whether it is static, where the recording had truth, else None."""
        path = self.root / truth_path(self.index, ".json")
        return read_json(path) if path.exists() else None

    def windows(self, context: int, horizon: int, stride: int = 1) -> NDArray[np.int64]:
        """Starts of all samples in this episode."""
        return windows(len(self), context, horizon, stride)

    def sample(self, start: int, *, context: int, horizon: int) -> Sample:
        """The sample that starts at a frame. Raises DataError when it reaches beyond the episode."""
        start, stop = self._window(start, start + context + horizon)
        return take_sample(
            self.frames(start, stop),
            self.stamps_ns[start:stop],
            self.actions[start : stop - 1],
            start=0,
            context=context,
            horizon=horizon,
        )

    def _window(self, start: int, stop: int | None) -> tuple[int, int]:
        stop = len(self) if stop is None else stop
        if not 0 <= start <= stop <= len(self):
            raise DataError(
                f"frames {start}..{stop} do not fit into the {len(self)} of episode {self.index};"
                " take starts from windows()"
            )
        return int(start), int(stop)

    @cached_property
    def _columns(self) -> pa.Table:
        table = read_table(self.data_path, [ACTION, STATE, STAMP, "episode_index"], row_group=self.row_group)
        numbers = np.unique(values_of(table["episode_index"])).tolist()
        if table.num_rows != len(self) or numbers != [self.index]:
            raise DataError(
                f"{self.data_path} has {table.num_rows} rows of episode {numbers}, meta/episodes says"
                f" {len(self)} of episode {self.index}; convert the recordings again"
            )
        return table


def _refuse_others(path: Path) -> None:
    if not path.is_dir():
        raise DataError(f"dataset directory {path} does not exist; make one with egowm-convert")
    if not (path / SETTINGS).is_file():
        if (path / INFO).is_file():
            raise DataError(f"{path} is another program's LeRobot dataset; bring it over with egowm-convert {path} NEW")
        if (path / "dataset.json").is_file():
            raise DataError(f"{path} was made by an older egowm-convert; convert the recordings again")
        raise DataError(f"{path} is not a dataset; make one with egowm-convert")
    version = _object(path / SETTINGS).get("version")
    if version != DATASET_VERSION:
        raise DataError(f"{path} is a dataset of version {version}, expected {DATASET_VERSION}; convert again")
    if not (path / INFO).is_file():
        raise DataError(f"{path} is unfinished: it has no {INFO}; run the same egowm-convert again")


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object; run egowm-convert again")
    return value


def _episode_rows(path: Path, key: str) -> list[dict[str, Any]]:
    columns = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index"]
    columns += [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    files = sorted((path / EPISODES).glob("*/*.parquet"))
    return [row for file in files for row in read_table(file, columns).to_pylist()]

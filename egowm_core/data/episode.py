"""Episodes on disk: a directory of plain .npy files and JSON, read with mmap, written whole or not at all.

A dataset is a directory of ``episode_000000/``, ... with ``dataset.json``, ``embodiment.yaml``, ``norm_stats.json``.
No pickle is ever read. Knows no recording format and no model.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.window import Sample, take_sample, windows
from egowm_core.errors import DataError
from egowm_core.files import fsync, read_json, write_text
from egowm_core.types import FloatArray, ImageArray, StampArray

EPISODE_VERSION = 1
EPISODE_PATTERN = "episode_[0-9]*"


@dataclass(frozen=True)
class EpisodeInfo:
    """What ``episode.json`` says."""

    embodiment: str
    rate_hz: float
    recording: str
    num_frames: int
    channels: tuple[str, ...]
    has_truth: bool
    version: int = EPISODE_VERSION


@dataclass(frozen=True)
class EpisodeData:
    """An episode in memory: ``frames`` (T,H,W,3), ``stamps_ns`` (T,), ``actions`` (T-1,D), ``segmentation`` (T,H,W).

    ``structures`` maps a segmentation id (as text) to {"name": ..., "static": ...}.
    """

    frames: ImageArray
    stamps_ns: StampArray
    actions: FloatArray
    segmentation: NDArray[np.uint16] | None = None
    structures: dict[str, dict[str, Any]] | None = field(default=None)

    def __post_init__(self) -> None:
        t = len(self.frames)
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8 or t < 2:
            raise DataError(
                f"an episode needs 2 or more frames (T,H,W,3) uint8, got {self.frames.shape} {self.frames.dtype}"
            )
        if self.stamps_ns.shape != (t,) or self.stamps_ns.dtype != np.int64 or np.any(np.diff(self.stamps_ns) <= 0):
            raise DataError(f"{t} frames need {t} strictly increasing int64 stamps, got shape {self.stamps_ns.shape}")
        if self.actions.ndim != 2 or len(self.actions) != t - 1 or self.actions.dtype != np.float32:
            raise DataError(
                f"{t} frames need actions ({t - 1},D) float32, got {self.actions.shape} {self.actions.dtype}"
            )
        if self.segmentation is not None and self.segmentation.shape != self.frames.shape[:3]:
            raise DataError(f"segmentation {self.segmentation.shape} does not fit frames {self.frames.shape}")


def write_episode(
    path: Path, data: EpisodeData, *, embodiment: str, rate_hz: float, recording: str, channels: tuple[str, ...]
) -> Path:
    """Write an episode directory beside ``path`` and rename it there. Raises DataError when ``path`` exists."""
    if path.exists():
        raise DataError(f"{path} exists already; choose another name or remove it")
    if len(channels) != data.actions.shape[1]:
        raise DataError(f"{data.actions.shape[1]} action columns, but channels {list(channels)}")
    info = EpisodeInfo(
        embodiment, float(rate_hz), recording, len(data.frames), tuple(channels), data.segmentation is not None
    )
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    arrays: dict[str, NDArray[Any]] = {"frames": data.frames, "stamps_ns": data.stamps_ns, "actions": data.actions}
    if data.segmentation is not None:
        arrays["segmentation"] = data.segmentation.astype(np.uint16, copy=False)
    for name, array in arrays.items():
        with (partial / f"{name}.npy").open("wb") as file:
            np.save(file, array, allow_pickle=False)
            fsync(file)
    if data.structures is not None:
        write_text(partial / "structures.json", json.dumps(data.structures, indent=1))
    write_text(partial / "episode.json", json.dumps(asdict(info), indent=1))
    partial.rename(path)
    return path


class Episode:
    """An episode directory opened for reading; arrays are memory-mapped on first use and read-only."""

    def __init__(self, path: str | Path) -> None:
        """Reads ``episode.json``. Raises DataError when it is absent, unreadable or of another version."""
        self.path = Path(path)
        raw = read_json(self.path / "episode.json")
        try:
            if raw["version"] != EPISODE_VERSION:
                raise DataError(
                    f"{self.path} has episode version {raw['version']}, expected {EPISODE_VERSION}; convert it again"
                )
            self.info = EpisodeInfo(**{**raw, "channels": tuple(raw["channels"])})
        except (KeyError, TypeError) as error:
            raise DataError(f"{self.path}/episode.json is incomplete ({error}); convert the recording again") from error

    def __len__(self) -> int:
        """Number of frames T."""
        return self.info.num_frames

    @cached_property
    def frames(self) -> ImageArray:
        """(T,H,W,3) uint8 RGB."""
        array = self._load("frames", np.uint8, 4)
        if len(array) != len(self):
            raise DataError(
                f"{self.path}: frames.npy has {len(array)} frames, episode.json says {len(self)}; convert again"
            )
        return array

    @cached_property
    def stamps_ns(self) -> StampArray:
        """(T,) int64."""
        return self._load("stamps_ns", np.int64, 1)

    @cached_property
    def actions(self) -> FloatArray:
        """(T-1,D) float32; row t moves frame t to frame t+1."""
        return self._load("actions", np.float32, 2)

    @cached_property
    def segmentation(self) -> NDArray[np.uint16] | None:
        """(T,H,W) uint16 structure ids (0 background) where the recording had truth, else None."""
        return self._load("segmentation", np.uint16, 3) if self.info.has_truth else None

    @cached_property
    def structures(self) -> dict[str, dict[str, Any]] | None:
        """Structure id to its name and whether it is static, where the recording had truth, else None."""
        path = self.path / "structures.json"
        return read_json(path) if path.exists() else None

    def windows(self, context: int, horizon: int, stride: int = 1) -> NDArray[np.int64]:
        """Starts of all samples in this episode."""
        return windows(len(self), context, horizon, stride)

    def sample(self, start: int, *, context: int, horizon: int) -> Sample:
        """The sample that starts at a frame; copies, so that the mapped file may be closed."""
        view = take_sample(self.frames, self.stamps_ns, self.actions, start=start, context=context, horizon=horizon)
        return Sample(*(np.array(getattr(view, name)) for name in Sample.__dataclass_fields__))

    def _load(self, name: str, dtype: type[np.generic], ndim: int) -> NDArray[Any]:
        path = self.path / f"{name}.npy"
        try:
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {error}; convert the recording again") from error
        if array.dtype != dtype or array.ndim != ndim:
            raise DataError(
                f"{path} is {array.shape} {array.dtype}, expected {ndim} axes of {dtype.__name__}; convert again"
            )
        return array


def list_episodes(dataset_dir: str | Path) -> list[Path]:
    """Complete episode directories of a dataset in order of number. Raises DataError when there are none."""
    folder = Path(dataset_dir)
    if not folder.is_dir():
        raise DataError(f"dataset directory {folder} does not exist; make one with egowm-convert")
    found = sorted(p for p in folder.glob(EPISODE_PATTERN) if p.suffix == "" and (p / "episode.json").is_file())
    if not found:
        raise DataError(f"{folder} holds no episodes; make some with egowm-convert")
    return found

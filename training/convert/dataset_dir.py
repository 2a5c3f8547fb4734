"""A dataset directory while it is written: which recordings are in, under which numbers, made how.

Knows files and reports; nothing of bags. One writer at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from egowm_core.data.episode import Episode, list_episodes
from egowm_core.data.normalize import NormStats
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, DataError
from egowm_core.files import read_json, write_text
from training.convert.recording import ConvertOptions, RecordingReport

DATASET_VERSION = 1


class DatasetDir:
    """``entries`` are the reports of the recordings inside, each with the number of its first episode."""

    def __init__(self, path: Path, options: ConvertOptions) -> None:
        """Opens or starts a dataset. Raises ConfigError or EmbodimentError when it was made in another way."""
        self.path, self._options = path, options
        self.staging = path / ".staging"
        self.entries: list[dict[str, Any]] = []
        if (path / "dataset.json").exists():
            self._resume()
        elif any(path.glob("episode_*")) and not self.staging.exists():
            raise DataError(f"{path} holds episodes but no dataset.json; choose an empty directory")
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir()

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, options: ConvertOptions) -> Iterator[DatasetDir]:
        """The dataset for writing, locked against other writers; statistics are brought up to date at the end."""
        path.mkdir(parents=True, exist_ok=True)
        with (path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise DataError(
                    f"another egowm-convert is writing {path}; wait for it or choose another one"
                ) from error
            dataset = cls(path, options)
            try:
                yield dataset
            finally:
                shutil.rmtree(dataset.staging, ignore_errors=True)
                dataset._write_stats()

    @property
    def recordings(self) -> dict[str, dict[str, Any]]:
        """Entries by recording name."""
        return {entry["recording"]: entry for entry in self.entries}

    def commit(self, staged: Path, report: RecordingReport) -> None:
        """Move staged episodes to the next free numbers and note the recording as done.

        Directories under those numbers that no entry owns are what an interrupted run left; they are replaced.
        """
        first = sum(entry["episodes"] for entry in self.entries)
        for i in range(report.episodes):
            target = self.path / f"episode_{first + i:06d}"
            if target.exists():
                shutil.rmtree(target)
            (staged / f"{i:06d}").rename(target)
        shutil.rmtree(staged, ignore_errors=True)
        self.entries.append({**asdict(report), "first_episode": first})
        self._write()

    def _resume(self) -> None:
        data = read_json(self.path / "dataset.json")
        load_embodiment(self.path / "embodiment.yaml").require_same(self._options.embodiment)
        settings = self._settings()
        for key, value in data["settings"].items():
            if settings.get(key) != value:
                raise ConfigError(
                    f"dataset {self.path} was made with {key} {value!r}, now it is {settings.get(key)!r};"
                    f" give the same or choose a new directory"
                )
        self.entries = data["recordings"]

    def _settings(self) -> dict[str, Any]:
        lag = self._options.image_lag_s
        return {
            "min_length": self._options.min_length,
            "max_length": self._options.max_length,
            "image_lag_s": "auto" if lag is None else lag,
        }

    def _write(self) -> None:
        embodiment = self._options.embodiment
        write_text(self.path / "embodiment.yaml", embodiment.to_yaml())
        data = {
            "version": DATASET_VERSION,
            "embodiment": embodiment.name,
            "rate_hz": embodiment.rate_hz,
            "channels": list(embodiment.channel_names),
            "num_episodes": sum(entry["episodes"] for entry in self.entries),
            "num_frames": sum(entry["kept"] for entry in self.entries),
            "settings": self._settings(),
            "recordings": self.entries,
        }
        write_text(self.path / "dataset.json", json.dumps(data, indent=1))

    def _write_stats(self) -> None:
        if not self.entries:
            return
        # up to date in any case: an interrupted run must not leave statistics of fewer episodes
        actions = np.concatenate([Episode(path).actions for path in list_episodes(self.path)])
        stats = NormStats.from_actions(actions, self._options.embodiment.channel_names)
        write_text(self.path / "norm_stats.json", stats.to_json())

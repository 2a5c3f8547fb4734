"""A dataset directory while it is written: what is in it, what is ready to go in, and the order of both.

A recording is worked on in ``.staging/NAME.partial``, renamed to ``.staging/NAME`` when it is complete, and committed
under the next number when its turn comes; its entry, written last, is what makes it part of the dataset. So a run may
be killed at any moment, and the next one goes on with nothing lost but the recordings it was in the middle of. One
writer at a time. Knows files and reports; nothing of recordings.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, DataError
from egowm_core.files import fsync, read_json, write_text
from training.convert.entry import RecordingReport
from training.convert.options import ConvertOptions
from training.curation.duplicates import DuplicateFilter
from training.dataset.episode_writer import EpisodeFacts
from training.dataset.layout import DATASET_VERSION, ENTRIES, SETTINGS
from training.dataset.writer import task_index, write_meta, write_recording

REPORT, EMBEDDINGS = "report.json", "embeddings.npy"
_ROWS, _EMBEDDINGS = "egowm/rows", "egowm/embeddings"


class DatasetDir:
    """``reports`` are those of the recordings inside, in the order of their numbers."""

    def __init__(self, path: Path, options: ConvertOptions) -> None:
        """Opens or starts a dataset. Raises ConfigError or EmbodimentError when it was made in another way."""
        self.path, self._options = path, options
        self.staging = path / ".staging"
        self.reports: list[RecordingReport] = []
        self._rows: list[dict[str, Any]] = []
        self._duplicates = DuplicateFilter(options.curation)
        if (path / SETTINGS).exists():
            self._resume()
        else:
            self._start()
        for left in self.staging.glob("*.partial"):
            shutil.rmtree(left, ignore_errors=True)

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, options: ConvertOptions) -> Iterator[DatasetDir]:
        """The dataset for writing, locked against other writers. Raises DataError when it cannot be written to."""
        _refuse_strangers(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = (path / ".lock").open("w")
        except OSError as error:
            raise DataError(f"cannot write to {path}: {error.strerror}; choose another directory") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise DataError(
                    f"another egowm-convert is writing {path}; wait for it or choose another one"
                ) from error
            yield cls(path, options)

    @property
    def recordings(self) -> dict[str, RecordingReport]:
        """Reports by recording name."""
        return {report.recording: report for report in self.reports}

    def staged(self, name: str, fingerprint: str) -> RecordingReport | None:
        """The report of a recording that an interrupted run had ready; if it has changed since, it is done again."""
        directory = self.staging / name
        if not (directory / REPORT).is_file():
            shutil.rmtree(directory, ignore_errors=True)
            return None
        report = RecordingReport.from_json(read_json(directory / REPORT))
        if report.fingerprint != fingerprint:
            shutil.rmtree(directory)
            return None
        return report

    def commit(self, report: RecordingReport) -> None:
        """Take in a staged recording under the next number, less those of its episodes that the dataset has already."""
        number, directory = len(self.reports), self.staging / report.recording
        embeddings = np.load(directory / EMBEDDINGS, allow_pickle=False)
        report.first_episode = sum(other.episodes for other in self.reports)
        kept = self._without_duplicates(directory, report, embeddings)
        rows = write_recording(
            self.path,
            file_index=number,
            first_episode=report.first_episode,
            first_frame=sum(other.kept for other in self.reports),
            staged=[directory / f"{i:06d}" for i in kept],
            embodiment=self._options.embodiment,
            task=report.task,
            task_index=task_index(report.task, self._rows),
        )
        self._keep_strip(directory, report)
        _save_array(self.path / _EMBEDDINGS / f"{number:06d}.npy", embeddings[kept])
        _save_json(self.path / _ROWS / f"{number:06d}.json", rows)
        _save_json(self.path / ENTRIES / f"{number:06d}.json", report.to_json())
        self.reports.append(report)
        self._rows += rows
        shutil.rmtree(directory)

    def finish(self) -> None:
        """Bring what readers start from (meta/, statistics) up to date with the recordings inside."""
        if not self._rows:
            return
        write_meta(self.path, self._rows, embodiment=self._options.embodiment, codec=self._options.codec)
        shutil.rmtree(self.staging, ignore_errors=True)

    def _without_duplicates(
        self, directory: Path, report: RecordingReport, embeddings: NDArray[np.float32]
    ) -> list[int]:
        kept: list[int] = []
        for i, embedding in enumerate(embeddings):
            found = self._duplicates.add(_episode_name(report, len(kept)), embedding)
            if found is None:
                kept.append(i)
                continue
            facts = EpisodeFacts.load(directory / f"{i:06d}")
            report.exclusions.append(
                {
                    "reason": f"near-duplicate of {found.of}",
                    "start_ns": facts.start_ns,
                    "end_ns": facts.end_ns,
                    "frames": facts.length,
                    "value": found.similarity,
                    "limit": found.limit,
                }
            )
            report.kept -= facts.length
            report.excluded_frames += facts.length
        report.episodes = len(kept)
        report.quality = [{**report.quality[i], "episode": number} for number, i in enumerate(kept)]
        return kept

    def _keep_strip(self, directory: Path, report: RecordingReport) -> None:
        if report.strip is None:
            return
        target = self.path / report.strip
        target.parent.mkdir(parents=True, exist_ok=True)
        if (directory / "strip.jpg").exists():  # otherwise an interrupted commit has moved it already
            (directory / "strip.jpg").replace(target)

    def _start(self) -> None:
        self.staging.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "embodiment.yaml", self._options.embodiment.to_yaml())
        (self.path / SETTINGS).parent.mkdir(exist_ok=True)
        contents = {"version": DATASET_VERSION, "settings": self._settings()}
        write_text(self.path / SETTINGS, json.dumps(contents, indent=1))

    def _settings(self) -> dict[str, Any]:
        """As they come back from JSON, and with what tells the embodiment apart."""
        settings = {**self._options.settings(), "embodiment": self._options.embodiment.to_dict()}
        found: dict[str, Any] = json.loads(json.dumps(settings))
        return found

    def _resume(self) -> None:
        self.staging.mkdir(exist_ok=True)
        data = read_json(self.path / SETTINGS)
        if data.get("version") != DATASET_VERSION:
            raise DataError(
                f"{self.path} is a dataset of version {data.get('version')}, expected {DATASET_VERSION};"
                " convert into a new directory"
            )
        entries = sorted((self.path / ENTRIES).glob("*.json"))
        if not entries and data["settings"] != self._settings():  # nothing came of the run that began it
            shutil.rmtree(self.staging)
            self._start()
            return
        load_embodiment(self.path / "embodiment.yaml").require_same(self._options.embodiment)
        wanted = self._settings()
        for key, value in data["settings"].items():
            if key != "embodiment" and wanted.get(key) != value:
                raise ConfigError(
                    f"dataset {self.path} was made with {key} {value!r}, now it is {wanted.get(key)!r};"
                    f" give the same or choose a new directory"
                )
        for number, file in enumerate(entries):
            if file.stem != f"{number:06d}":
                raise DataError(f"{self.path} lacks the entry of recording {number}; restore it, or convert anew")
            self.reports.append(RecordingReport.from_json(read_json(file)))
            self._rows += read_json(self.path / _ROWS / file.name)
            embeddings = np.load(self.path / _EMBEDDINGS / f"{file.stem}.npy", allow_pickle=False)
            for i, embedding in enumerate(embeddings):
                self._duplicates.add(_episode_name(self.reports[-1], i), embedding)


def _episode_name(report: RecordingReport, number: int) -> str:
    return f"episode {report.first_episode + number} ({report.recording})"


def _refuse_strangers(path: Path) -> None:
    """Never write among somebody else's files."""
    if not path.exists() or (path / SETTINGS).exists():
        return
    if not path.is_dir():
        raise DataError(f"{path} is a file; give a directory for the dataset")
    if (path / "meta" / "info.json").exists() or (path / "dataset.json").exists():
        raise DataError(f"{path} holds another dataset; choose a new directory (a dataset is read by giving it as IN)")
    others = sorted(item.name for item in path.iterdir() if item.name not in (".lock", ".staging", "embodiment.yaml"))
    if others:
        raise DataError(f"{path} is not empty ({others[0]!r}) and no dataset; choose a new or empty directory")


def _save_json(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(values, indent=1))


def _save_array(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        fsync(file)
    partial.replace(path)

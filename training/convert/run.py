"""A conversion from recordings to a finished dataset: what is to be done, by which engine, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from egowm_core.errors import DataError
from training.convert.engines import Job, Outcome, run
from training.convert.entry import RecordingReport
from training.convert.options import ConvertOptions
from training.convert.recording import convert_recording
from training.convert.staging import DatasetDir
from training.report.page import write_report
from training.sources.find import Source, find_sources

OnDone = Callable[[Source, Outcome[RecordingReport]], None]


def convert(
    inputs: Sequence[str | Path],
    out: str | Path,
    options: ConvertOptions,
    *,
    engine: str = "local",
    workers: int = 1,
    on_done: OnDone | None = None,
) -> dict[str, Any]:
    """Convert recordings into the dataset ``out``; returns ``{"rows", "failed", "skipped", "totals", "report"}``.

    Recordings that the dataset has are skipped by name, those that an interrupted run had ready are taken as they are.
    A recording that fails is listed under ``failed`` with its one line and stops nothing. Raises ConfigError or
    DataError when inputs or the existing dataset do not fit, or when the dataset cannot be written.
    """
    sources, failed = find_sources(inputs, besides=out), dict[str, str]()
    try:
        with DatasetDir.open(Path(out), options) as dataset:
            skipped, todo = _sorted_out(sources, dataset, failed)
            _work_off(dataset, todo, options, failed, engine=engine, workers=workers, on_done=on_done)
            reports = dataset.recordings
            entries = {name: report.to_json() for name, report in reports.items()}
            page = write_report(Path(out), list(entries.values()), failed)
    except OSError as error:
        raise DataError(
            f"cannot write to {out}: {error.strerror or error}; what was converted is safe:"
            " make room or permission for it and run the same command again"
        ) from error
    return {
        "rows": {source.name: entries[source.name] for source in sources if source.name in entries},
        "failed": failed,
        "skipped": skipped,
        "totals": {
            "recordings": len(reports),
            "episodes": sum(report.episodes for report in reports.values()),
            "frames": sum(report.kept for report in reports.values()),
        },
        "report": str(page),
    }


def _sorted_out(sources: list[Source], dataset: DatasetDir, failed: dict[str, str]) -> tuple[list[str], list[Source]]:
    """Names of what the dataset has, and what is to be done; another recording of a name in use goes to ``failed``."""
    inside, skipped, todo = dataset.recordings, list[str](), list[Source]()
    for source in sources:
        if (report := inside.get(source.name)) is None:
            todo.append(source)
        elif report.fingerprint == source.fingerprint():
            skipped.append(source.name)
        else:
            failed[source.name] = (
                f"{source.path} is another recording than the one converted as {source.name!r} before;"
                " rename it, or convert into a new directory"
            )
    return skipped, todo


def _work_off(
    dataset: DatasetDir,
    todo: list[Source],
    options: ConvertOptions,
    failed: dict[str, str],
    *,
    engine: str,
    workers: int,
    on_done: OnDone | None,
) -> None:
    """Convert what no earlier run has ready, and take everything in, in the order of ``todo``."""
    ready = {source.name: _ready(dataset, source) for source in todo}
    missing = [source for source in todo if ready[source.name] is None]
    jobs = [
        Job(str(source.path), convert_recording, (source, dataset.staging / source.name, options)) for source in missing
    ]
    outcomes = run(jobs, engine=engine, workers=workers)
    for source in todo:
        report = ready[source.name]
        outcome = next(outcomes) if report is None else Outcome(report)
        if outcome.result is None:
            failed[source.name] = outcome.error
        else:
            dataset.commit(outcome.result)
        if on_done is not None:
            on_done(source, outcome)
    dataset.finish()


def _ready(dataset: DatasetDir, source: Source) -> RecordingReport | None:
    try:
        return dataset.staged(source.name, source.fingerprint())
    except (OSError, DataError):  # not even its size can be read: converting it says why
        return None

"""egowm-convert: recordings into a dataset, in parallel, resumable, one bad bag never stopping the others.

Finds, names, numbers and tabulates; what happens inside one recording is ``training.convert.recording``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from egowm_core.data.bag import find_recordings
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, EgowmError
from egowm_core.files import write_text
from training.convert.dataset_dir import DatasetDir
from training.convert.recording import ConvertOptions, RecordingReport, convert_recording
from training.inspect import inspect_path, render


@dataclass(frozen=True)
class Outcome:
    """One recording's report, or the one-line reason why there is none."""

    report: RecordingReport | None
    error: str = ""


def convert(
    inputs: Sequence[str | Path],
    out: str | Path,
    options: ConvertOptions,
    *,
    workers: int = 1,
    on_done: Callable[[str, Outcome], None] | None = None,
) -> dict[str, Any]:
    """Convert recordings into the dataset ``out``; returns ``{"rows", "failed", "skipped", "totals"}``.

    Recordings that ``dataset.json`` lists already are skipped by name. Raises ConfigError or DataError when inputs or
    the existing dataset do not fit; a recording that fails is listed under ``failed`` and stops nothing.
    """
    recordings = name_recordings(inputs)
    with DatasetDir.open(Path(out), options) as dataset:
        skipped = [name for name in recordings if name in dataset.recordings]
        todo = {name: path for name, path in recordings.items() if name not in dataset.recordings}
        failed: dict[str, str] = {}
        for name, outcome in _outcomes(todo, dataset.staging, options, workers=workers):
            if outcome.report is None:
                failed[name] = outcome.error
            else:
                dataset.commit(dataset.staging / name, outcome.report)
            if on_done is not None:
                on_done(name, outcome)
        entries = dataset.recordings
    return {
        "rows": {name: entries[name] for name in recordings if name in entries},
        "failed": failed,
        "skipped": skipped,
        "totals": {
            "recordings": len(entries),
            "episodes": sum(entry["episodes"] for entry in entries.values()),
            "frames": sum(entry["kept"] for entry in entries.values()),
        },
    }


def name_recordings(inputs: Sequence[str | Path]) -> dict[str, Path]:
    """Recordings of all inputs by unique name, in order of name; equal names get their parents' names in front."""
    paths = sorted({path.resolve() for item in inputs for path in find_recordings(item)})
    names = {path: (path.stem if path.is_file() else path.name) for path in paths}
    depth = 0
    while len(set(names.values())) < len(names) and depth < 16:
        depth += 1
        taken = list(names.values())
        for path, name in names.items():
            if taken.count(name) > 1:
                names[path] = "__".join([*path.parts[-1 - depth : -1], path.stem if path.is_file() else path.name])
    return {name: path for path, name in sorted(names.items(), key=lambda item: item[1])}


def _outcomes(
    todo: dict[str, Path], staging: Path, options: ConvertOptions, *, workers: int
) -> Iterator[tuple[str, Outcome]]:
    """Outcomes in the order of ``todo``, whatever the number of workers."""
    if workers <= 1 or len(todo) <= 1:
        for name, path in todo.items():
            yield name, _attempt(path, name, staging / name, options)
        return
    with _pool(min(workers, len(todo))) as pool:
        futures = {name: _submit(pool, path, name, staging / name, options) for name, path in todo.items()}
        for name, future in futures.items():
            try:
                outcome = future.result()
            except BrokenProcessPool:  # a worker died with all its neighbours: each gets a process of its own
                outcome = _attempt_alone(todo[name], name, staging / name, options)
            yield name, outcome


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,))


def _submit(pool: ProcessPoolExecutor, *job: Any) -> Future[Outcome]:
    try:
        return pool.submit(_attempt, *job)
    except BrokenProcessPool as error:
        future: Future[Outcome] = Future()
        future.set_exception(error)
        return future


def _attempt_alone(path: Path, name: str, staging: Path, options: ConvertOptions) -> Outcome:
    with _pool(1) as pool:
        try:
            return pool.submit(_attempt, path, name, staging, options).result()
        except BrokenProcessPool:
            return Outcome(None, f"{path}: the converting process died (out of memory?); try it alone on more memory")


def _attempt(path: Path, name: str, staging: Path, options: ConvertOptions) -> Outcome:
    shutil.rmtree(staging, ignore_errors=True)
    try:
        return Outcome(convert_recording(path, name, staging, options))
    except EgowmError as error:
        return Outcome(None, str(error))
    except (OSError, MemoryError) as error:
        return Outcome(None, f"{path}: {type(error).__name__}: {error}; check disk space, memory and permissions")


def table(result: dict[str, Any]) -> str:
    """The report as aligned text: recording, frames in, ticks, kept, segments/episodes, drops by reason."""
    head = ("recording", "frames in", "ticks", "kept", "seg/epi", "Hz", "lag", "drops and breaks by reason")
    lines = [head]
    for name, row in result["rows"].items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in row["reasons"].items()) or "none"
        rate = "-" if row["tick_rate_hz"] is None else f"{row['tick_rate_hz']:.2f}"
        lag = "-" if row["lag_frames"] is None else f"{row['lag_frames']} ({row['lag_confidence']:.2f})"
        counts = (str(row[key]) for key in ("frames_in", "ticks", "kept"))
        lines.append((name, *counts, f"{row['segments']}/{row['episodes']}", rate, lag, reasons))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    align = ["<", ">", ">", ">", ">", ">", ">", "<"]
    return "\n".join(
        "  ".join(f"{cell:{a}{w}}" for cell, a, w in zip(line, align, widths, strict=True)).rstrip() for line in lines
    )


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-convert",
        usage="%(prog)s [options] IN... OUT",
        description="Recordings into a dataset of episodes. Run it again to resume or to add recordings.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="IN... OUT",
        help="bag directories, .mcap/.db3/.bag files or folders of them; last the dataset directory",
    )
    parser.add_argument("--inspect", action="store_true", help="only look at the recordings (all paths are inputs)")
    parser.add_argument("--embodiment", default="base_3dof", help="built-in name or YAML file (default base_3dof)")
    parser.add_argument("--image-topic", help="when a recording has several cameras")
    parser.add_argument("--odom-topic", help="when it has several; a Twist topic named here is integrated")
    parser.add_argument("--rate-hz", type=float, help="tick at this rate instead of the embodiment's")
    parser.add_argument("--min-length", type=int, default=9, help="frames of the shortest episode kept (default 9)")
    parser.add_argument(
        "--image-lag-s",
        default="auto",
        metavar="auto|SECONDS",
        help="how late the camera is against odometry; auto estimates it per recording and corrects it where the"
        " estimate convinces (default auto)",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 when all went well, 1 when a recording failed, 2 when the command makes no sense."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if len(args.paths) < 2 and not args.inspect:
        parser.error("give at least one recording and then the dataset directory: IN... OUT")
    try:
        if args.inspect:
            result = {"inspected": [inspect_path(path) for path in args.paths], "failed": {}}
            print("\n".join(render(facts) for facts in result["inspected"]))
        else:
            result = _run(args)
            _print(result, args.paths[-1])
        if args.json is not None:
            write_text(args.json, json.dumps(result, indent=1))
    except EgowmError as error:
        print(f"egowm-convert: {error}", file=sys.stderr)
        return 2
    return 1 if result["failed"] else 0


def _run(args: argparse.Namespace) -> dict[str, Any]:
    embodiment = load_embodiment(args.embodiment)
    if args.rate_hz is not None:
        embodiment = embodiment.with_rate(args.rate_hz)
    options = ConvertOptions(
        embodiment=embodiment,
        image_topic=args.image_topic,
        odom_topic=args.odom_topic,
        min_length=args.min_length,
        image_lag_s=None if args.image_lag_s == "auto" else _seconds(args.image_lag_s),
    )
    *inputs, out = args.paths
    with _progress(len(name_recordings(inputs))) as on_done:
        return convert(inputs, out, options, workers=args.workers, on_done=on_done)


def _print(result: dict[str, Any], out: str) -> None:
    if result["rows"]:
        print(table(result))
    for name, row in result["rows"].items():
        for warning in row["warnings"] if name not in result["skipped"] else ():
            print(f"warning: {name}: {warning}", file=sys.stderr)
    if result["skipped"]:
        print(f"{len(result['skipped'])} recordings were converted before and skipped")
    totals = result["totals"]
    print(f"{out}: {totals['recordings']} recordings, {totals['episodes']} episodes, {totals['frames']} frames")
    for name, message in result["failed"].items():
        print(f"FAILED {name}: {message}", file=sys.stderr)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--image-lag-s {text!r} is neither auto nor a number of seconds") from error


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[str, Outcome], None]]:
    try:
        from tqdm import tqdm
    except ImportError:  # the bar is a convenience of the `train` extra
        yield lambda name, outcome: None
        return
    with tqdm(total=total, unit="bag", desc="convert", disable=not sys.stderr.isatty()) as bar:

        def advance(name: str, outcome: Outcome) -> None:
            bar.set_postfix_str(name if outcome.report else f"{name} FAILED")
            bar.update()

        yield advance


if __name__ == "__main__":
    sys.exit(main())

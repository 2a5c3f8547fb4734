"""egowm-convert: recordings into a dataset, in parallel, resumable, one bad bag never stopping the others."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import ConfigError, DataError, EgowmError
from egowm_core.faces import FaceBlur
from egowm_core.files import write_text
from training.convert.engines import ENGINES, Outcome
from training.convert.entry import RecordingReport
from training.convert.options import ConvertOptions
from training.convert.run import convert
from training.curation.config import load_curation
from training.dataset.video import CODECS, VideoCodec
from training.inspect import inspect_path, is_healthy, render
from training.report.summary import summary_lines
from training.sources.find import Source, find_sources


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-convert",
        usage="%(prog)s [options] IN... OUT",
        description="Recordings into a dataset in the LeRobot v3.0 layout, with a report of what was wrong with them"
        " (OUT/report/index.html). Interrupt it at any time; run it again to go on, or to add recordings.",
        epilog="example: egowm-convert bags/ data/rooms --embodiment base_3dof --lag correct",
    )
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        metavar="IN... OUT",
        help="bags (ROS 1, ROS 2 sqlite3 or mcap), LeRobot datasets (v2.1, v3), or folders of them; last the dataset",
    )
    add("--inspect", action="store_true", help="only look at the recordings (all paths are inputs)")
    add("--embodiment", default="base_3dof", help="built-in name or YAML file (default base_3dof)")
    what = parser.add_argument_group("what to read")
    what.add_argument("--image-topic", help="when a recording has several cameras")
    what.add_argument("--motion-topic", help="when it has several; a Twist topic named here is integrated")
    what.add_argument("--rate-hz", type=float, help="tick at this rate instead of the embodiment's")
    what.add_argument("--size", metavar="HxW", help="pictures of this size instead of the embodiment's, e.g. 480x640")
    what.add_argument("--task", default="", help="what the robot does, in words (for recordings that don't say)")
    how = parser.add_argument_group("what to keep")
    how.add_argument("--min-length", type=int, default=9, help="frames of the shortest episode kept (default 9)")
    how.add_argument("--max-length", type=int, default=2048, help="frames of the longest episode (default 2048)")
    how.add_argument("--max-image-gap-s", type=float, help="longest gap between images (default two periods)")
    how.add_argument("--max-motion-gap-s", type=float, help="longest gap in the motion (default two periods)")
    how.add_argument(
        "--lag",
        default="report",
        metavar="report|correct|SECONDS",
        help="how late the camera is against the motion: report it and warn, correct it recording by recording where"
        " the estimate convinces, or take so many seconds off (default report)",
    )
    how.add_argument("--curate", default="standard", help="none, standard or a YAML file (default standard)")
    how.add_argument(
        "--blur-faces",
        nargs="?",
        const="builtin",
        default="",
        metavar="MODEL",
        help="blur faces before anything is written; MODEL: a detector's file in place of the built-in one",
    )
    how.add_argument("--codec", choices=CODECS, default="h264", help="of the videos (default h264)")
    how.add_argument("--crf", type=int, help="quality of the videos, lower is better (default: the codec's own)")
    work = parser.add_argument_group("how to work")
    work.add_argument("--workers", type=int, default=2, help="recordings at the same time (default 2)")
    work.add_argument("--engine", choices=ENGINES, default="local", help="processes here, or a Ray cluster's")
    work.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 all went well, 1 a recording failed or is damaged, 2 nonsense was asked for, 130 interrupted."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if len(args.paths) < 2 and not args.inspect:
        parser.error("give at least one recording and then the dataset directory: IN... OUT")
    try:
        with _terminated_as_interrupted():
            if args.inspect:
                looked = [inspect_path(path) for path in args.paths]
                sick = {str(item["path"]): "see above" for item in looked if not is_healthy(item)}
                result = {"inspected": looked, "failed": sick}
                print("\n".join(render(item) for item in looked))
            else:
                result = _run(args)
                _print(result, args.paths[-1])
            if args.json is not None:
                write_text(args.json, json.dumps(result, indent=1))
    except EgowmError as error:
        print(f"egowm-convert: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("egowm-convert: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 1 if result["failed"] or _damaged(result) else 0


def _damaged(result: dict[str, Any]) -> bool:
    """Whether any of the recordings at hand was converted in part only."""
    return any(row["damage"] for row in result.get("rows", {}).values())


def options_of(args: argparse.Namespace) -> ConvertOptions:
    """The options that a command line asks for. Raises ConfigError."""
    if args.blur_faces:
        FaceBlur(args.blur_faces)  # an absent detector is told before any recording is opened
    codec = VideoCodec(args.codec) if args.crf is None else VideoCodec(args.codec, crf=args.crf)
    return ConvertOptions(
        embodiment=_embodiment(args),
        image_topic=args.image_topic,
        motion_topic=args.motion_topic,
        task=args.task,
        min_length=args.min_length,
        max_length=args.max_length,
        max_image_gap_s=args.max_image_gap_s,
        max_motion_gap_s=args.max_motion_gap_s,
        lag=args.lag if args.lag in ("report", "correct") else _seconds(args.lag),
        curation=load_curation(args.curate),
        codec=codec,
        blur_faces=args.blur_faces,
    )


def _embodiment(args: argparse.Namespace) -> Embodiment:
    embodiment = load_embodiment(args.embodiment)
    if args.rate_hz is not None:
        embodiment = embodiment.with_rate(args.rate_hz)
    if args.size is not None:
        height, cross, width = args.size.partition("x")
        if not (cross and height.isdigit() and width.isdigit()):
            raise ConfigError(f"--size {args.size!r} is not HEIGHTxWIDTH in pixels, such as 480x640")
        embodiment = embodiment.with_camera_size(int(height), int(width))
    return embodiment


def _run(args: argparse.Namespace) -> dict[str, Any]:
    *inputs, out = args.paths
    options = options_of(args)
    with _progress(find_sources(inputs, besides=out)) as on_done:
        return convert(inputs, out, options, engine=args.engine, workers=args.workers, on_done=on_done)


def _print(result: dict[str, Any], out: str) -> None:
    print("\n".join(summary_lines(list(result["rows"].values()), result["failed"])))
    if result["skipped"]:
        print(f"{len(result['skipped'])} recordings were converted before and skipped")
    totals = result["totals"]
    print(f"{out}: {totals['recordings']} recordings, {totals['episodes']} episodes, {totals['frames']} frames")
    print(f"report: {result['report']}")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--lag {text!r} is none of report, correct and a number of seconds") from error


@contextlib.contextmanager
def _progress(sources: list[Source]) -> Iterator[Callable[[Source, Outcome[RecordingReport]], None]]:
    """A bar over the bytes of all recordings, so that its ETA means something when they differ in size."""
    sizes = {source.name: _size(source) for source in sources}
    total, quiet = sum(sizes.values()), not sys.stderr.isatty()
    with tqdm(total=total, unit="B", unit_scale=True, desc="convert", disable=quiet, smoothing=0.1) as bar:

        def advance(source: Source, outcome: Outcome[RecordingReport]) -> None:
            bar.set_postfix_str(source.name if outcome.result else f"{source.name} FAILED")
            bar.update(sizes[source.name])

        yield advance


def _size(source: Source) -> int:
    try:
        return source.size_bytes()
    except (OSError, DataError):
        return 0


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM (a scheduler's, a container's) ends a conversion like Ctrl-C does: tidily."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever is, decides
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())

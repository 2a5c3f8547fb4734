"""`egowm-watch RECORDING...`: the drift monitor over recordings, offline; `--learn OUT`: a baseline of them."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from egowm_core.drift import DriftBaseline, DriftLimits, Evidence
from egowm_core.errors import ConfigError, EgowmError, ScoreError
from egowm_core.files import without_nan, write_text
from egowm_core.given_baseline import LEARN, given_baseline
from egowm_core.loading import load_world_model
from egowm_core.types import NANOSECONDS_PER_SECOND
from egowm_core.world_model import WorldModel
from training.score.cli import parse_horizons
from training.sources.find import Source, find_sources
from training.watch.figures import Watched
from training.watch.learn import (
    Lesson,
    check_place,
    heard_again,
    learn_baseline,
    put_baseline,
)
from training.watch.report import figures, make_room, strips_folder, write_report
from training.watch.run import WatchOptions, judged, watch

CHECKPOINT = "checkpoint"
log = logging.getLogger("egowm.watch")

_EPILOG = """examples:
  egowm-watch drives/ --checkpoint embedded:base_3dof --out out/watch
  egowm-watch --learn runs/model good_drives/          puts drift_baseline.json into the checkpoint runs/model
  egowm-watch drives/ --checkpoint runs/model --baseline checkpoint --out out/watch --json out/watch.json

Recordings are bags, LeRobot datasets, or folders of them. Each is watched from its beginning, as a robot would be.
Exit status: 0 fine (whatever the alarms), 1 a recording could not be watched or another error, 2 usage."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-watch",
        description="Watch recordings for drift, offline: what the model predicts from executed actions against what"
        " the camera then saw, with the detector, states and causes of the drift monitor node.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    defaults = DriftLimits()
    add("recordings", nargs="+", metavar="RECORDING", help="bags, LeRobot datasets, or folders of them")
    add("--checkpoint", metavar="C", help="checkpoint directory, embedded:NAME or hub id")
    add(
        "--baseline",
        default=LEARN,
        metavar="learn|checkpoint|FILE.json",
        help="what is usual: learned from each recording's first minute, the checkpoint's own, or a file"
        " (default learn)",
    )
    add(
        "--learn",
        metavar="OUT",
        help="learn one baseline from the recordings, all without fault, into FILE.json or a checkpoint directory",
    )
    add("--every", type=int, default=2, help="ticks between comparisons (default 2)")
    add("--horizons", default="2,4,8", help="frames to score, from 1; the longest is predicted (default 2,4,8)")
    add("--image-topic", help="when a recording has several cameras")
    add("--motion-topic", help="when it has several; a Twist topic named here is integrated")
    add("--image-lag-s", type=float, default=0.0, help="how late the camera is against the motion (default 0)")
    add("--max-structures", type=int, default=8, help="structures to follow at most, as in the node (default 8)")
    add(
        "--learn-ticks",
        type=int,
        default=defaults.learn_ticks,
        help=f"ticks to learn from where no baseline is given (default {defaults.learn_ticks})",
    )
    add("--error-at", type=float, default=defaults.error_at, help=f"alarms of ERROR (default {defaults.error_at})")
    add("--warn-below", type=float, help="WARN below this SCS of the longest horizon, whatever is usual")
    add("--error-below", type=float, help="ERROR below this SCS of the longest horizon, whatever is usual")
    add("--seed", type=int, default=0, help="of the model's noise and of the intervals (default 0)")
    add("--threads", type=int, default=0, help="CPU threads (0: PyTorch's choice)")
    add("--device", default="cpu", help="of the model: cpu or cuda (default cpu)")
    add("--out", type=Path, metavar="DIR", help="write pages, strips and JSON")
    add("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options = _options(arguments)
        checkpoint = _checkpoint(arguments)
    except (ValueError, ConfigError, ScoreError) as error:
        print(f"egowm-watch: {error}", file=sys.stderr)
        return 2
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        if arguments.learn is not None:
            return _learn(arguments, options, checkpoint)
        return _watch(arguments, options, checkpoint)
    except (EgowmError, OSError) as error:
        print(f"egowm-watch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("egowm-watch: interrupted; nothing of it is complete", file=sys.stderr)
        return 130


def _options(arguments: argparse.Namespace) -> WatchOptions:
    if arguments.every < 1:
        raise ValueError(f"--every {arguments.every}: at least 1")
    return WatchOptions(
        horizons=parse_horizons(arguments.horizons),
        every=arguments.every,
        image_topic=arguments.image_topic,
        motion_topic=arguments.motion_topic,
        image_lag_s=arguments.image_lag_s,
        max_structures=arguments.max_structures,
        seed=arguments.seed,
        limits=DriftLimits(
            learn_ticks=arguments.learn_ticks,
            error_at=arguments.error_at,
            warn_below=arguments.warn_below,
            error_below=arguments.error_below,
        ),
    )


def _checkpoint(arguments: argparse.Namespace) -> str:
    """The checkpoint that was given, or that the baseline goes into: a baseline is of one model alone."""
    given, place = arguments.checkpoint, arguments.learn
    if place is not None and arguments.baseline != LEARN:
        raise ValueError("--learn makes a baseline, so --baseline cannot be given with it")
    into = place if place is not None and Path(place).is_dir() else None
    if given is None:
        if into is None:
            raise ValueError("--checkpoint is missing: a directory, embedded:NAME or a hub id")
        return str(into)
    if into is not None and not (Path(given).is_dir() and Path(given).samefile(into)):
        raise ValueError(f"--checkpoint {given} is not {into}: a baseline goes beside the very model it was made with")
    return str(given)


def _watch(arguments: argparse.Namespace, options: WatchOptions, checkpoint: str) -> int:
    sources = find_sources(arguments.recordings, besides=arguments.out)
    model = load_world_model(checkpoint, device=arguments.device)
    named = checkpoint if arguments.baseline == CHECKPOINT else arguments.baseline
    baseline = given_baseline(named, channels=model.embodiment.action_dim)
    names = [source.name for source in sources]
    if arguments.out is not None:
        make_room(arguments.out)
    watched: list[Watched] = []
    failed: dict[str, str] = {}
    for source in sources:
        strips = None if arguments.out is None else strips_folder(arguments.out, names, source.name)
        try:
            watched.append(_watch_one(source, model, options, baseline, strips))
        except EgowmError as error:
            failed[source.name] = str(error)
            print(f"egowm-watch: {source.name}: {error}", file=sys.stderr)
    found = figures(watched, failed, _settings(arguments, options, checkpoint), seed=options.seed)
    print(format_table(found, options.horizons))
    for one in watched:
        for line in one.warnings:
            print(f"warning: {one.name}: {line}", file=sys.stderr)
    if arguments.out is not None:
        log.info("report: %s", write_report(arguments.out, watched, names, found, error_at=options.limits.error_at))
    _write_json(arguments.json, found)
    return 1 if failed else 0


def _watch_one(
    source: Source, model: WorldModel, options: WatchOptions, baseline: DriftBaseline | None, strips: Path | None
) -> Watched:
    with source.open() as recording, _bar(source.name, recording.duration_s) as bar:
        return watch(recording, model, options, baseline=baseline, name=source.name, strips=strips, progress=bar.update)


def _learn(arguments: argparse.Namespace, options: WatchOptions, checkpoint: str) -> int:
    place = check_place(arguments.learn)
    sources = find_sources(arguments.recordings)
    model = load_world_model(checkpoint, device=arguments.device)
    lessons = []
    for source in sources:
        evidence: list[Evidence] = []
        with source.open() as recording, _bar(source.name, recording.duration_s) as bar:
            newest_ns: int | None = None
            for comparison, one in judged(recording, model, options):
                since_ns = comparison.context_stamp_ns if newest_ns is None else newest_ns
                newest_ns = comparison.newest_stamp_ns
                bar.update(max(0.0, (newest_ns - since_ns) / NANOSECONDS_PER_SECOND))
                evidence.append(one)
        lessons.append(Lesson(source.name, evidence))
    baseline = learn_baseline(lessons, model)
    written = put_baseline(place, baseline)
    again = heard_again(lessons, model, baseline, options.limits)
    print(f"learned from {baseline.ticks} ticks of {len(lessons)} recordings: {written}")
    for horizon, level in baseline.scs.items():
        words = f"{level.still:.1f} at rest, {level.per_px:.2f} less for each px moved, +-{level.spread:.1f}"
        print(f"  SCS over {horizon} frames: {words}")
    print(f"  alarms on these recordings themselves: {again['alarms']} in {again['minutes']:.1f} min")
    if again["alarms"]:
        causes = ", ".join(f"{cause} {item['alarms']}" for cause, item in again["causes"].items())
        print(f"warning: they ought to be without fault, but raise: {causes}; watch them with it", file=sys.stderr)
    settings = _settings(arguments, options, checkpoint)
    _write_json(arguments.json, {"settings": settings, "rows": {}, "again": again, "baseline": baseline.to_json()})
    return 0


def _bar(name: str, seconds: float) -> Any:
    return tqdm(total=round(seconds, 1), desc=name, unit="s", bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}")


def _settings(arguments: argparse.Namespace, options: WatchOptions, checkpoint: str) -> dict[str, Any]:
    """What decides the figures, without the machine's own paths."""
    own = arguments.baseline in (LEARN, CHECKPOINT)
    return {
        "checkpoint": checkpoint if ":" in checkpoint else Path(checkpoint).name,
        "baseline": arguments.baseline if own else Path(arguments.baseline).name,
        "horizons": list(options.horizons),
        "every": options.every,
        "image_topic": options.image_topic,
        "motion_topic": options.motion_topic,
        "image_lag_s": options.image_lag_s,
        "max_structures": options.max_structures,
        "learn_ticks": options.limits.learn_ticks,
        "error_at": options.limits.error_at,
        "warn_below": options.limits.warn_below,
        "error_below": options.limits.error_below,
        "seed": options.seed,
    }


def format_table(found: dict[str, Any], horizons: Sequence[int]) -> str:
    """Markdown: a line a recording."""
    lines = [
        f"| recording | SCS {'/'.join(map(str, horizons))} | minutes | alarms | per 10 min | causes | undefined |",
        "|" + " --- |" * 7,
    ]
    for name in found["rows"]:
        one, intervals = found["recordings"][name], found["intervals"][name]["scs"]
        scs = " / ".join(_cell(intervals[str(h)]) for h in horizons)
        causes = ", ".join(f"{cause} {item['alarms']}" for cause, item in one["causes"].items()) or "-"
        rate = _number(one["alarms_per_10_min"])
        lines.append(
            f"| {name} | {scs} | {one['minutes']:.1f} | {one['alarms']} | {rate} | {causes} | {one['undefined']:.0%} |"
        )
    return "\n".join(lines)


def _cell(around: dict[str, float]) -> str:
    mean = _number(around["mean"])
    return f"{mean} ({around['low']:.1f} to {around['high']:.1f})" if math.isfinite(around["low"]) else mean


def _number(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"


def _write_json(path: Path | None, data: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(without_nan(data), indent=1))


if __name__ == "__main__":
    sys.exit(main())

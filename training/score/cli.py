"""`egowm-score PREDICTED OBSERVED`: the SCS and companions of videos, or of recorded rollouts and a recording."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np

from egowm_core.errors import EgowmError
from egowm_core.files import without_nan, write_text
from egowm_core.metrics import METRICS
from egowm_core.schema import nearest
from egowm_core.scs import Tracker
from egowm_core.scs.sam2 import Sam2Tracker
from egowm_core.scs.trackers import TRACKERS, tracker_for
from egowm_core.types import ImageArray
from training.score.annotation import PointArray, Segmenter
from training.score.clip import BoolArray
from training.score.inputs import PROPOSE, Asked, load_clips
from training.score.measure import ALWAYS, Measured, Measures, measure
from training.score.pairs import SAME_CONTEXT_DB, Notes, PairOptions
from training.score.report import TITLES, Report, write_report
from training.score.rollouts import SOURCES
from training.score.summary import Intervals, Table, differences, summarise

log = logging.getLogger("egowm.score")

_EPILOG = f"""examples:
  egowm-score predicted.mp4 observed.mp4
  egowm-score predicted/ observed/ --horizons 2,4,8,16 --metrics lpips,fvd --report out/report
  egowm-score drive/ drive/ --sources executed        a bag with /world_model/rollout and the camera
  egowm-score p.mp4 o.mp4 --structures marked.json    structures marked with egowm-annotate

PREDICTED and OBSERVED are two videos, two folders of pictures, two folders of videos of the same names, or two bags
(or the same one twice). Videos begin with the context frame that both share: their first frames must be alike (PSNR
over {SAME_CONTEXT_DB:.0f} dB), or --context gives that frame and both begin after it. Frames pair by number, those of
rollouts by the time that each predicts. Exit status: 0 fine, 1 error or damaged input, 2 usage."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-score",
        description="Score predicted videos against observed ones: SCS over structures tracked through both, PSNR, SSIM"
        " and other metrics by horizon, with bootstrap intervals over clips.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("predicted", type=Path, help="predicted video, folder or bag")
    parser.add_argument("observed", type=Path, help="observed video, folder or bag")
    parser.add_argument(
        "--context",
        default="first",
        metavar="first|IMAGE",
        help="the frame before the first judged one (default first)",
    )
    parser.add_argument(
        "--structures",
        default=PROPOSE,
        metavar="propose|FILE|DIR",
        help="what is followed: proposed on the context frame, or marked in a JSON of egowm-annotate, a label PNG, or a"
        " folder of such files named like the clips",
    )
    parser.add_argument("--all-structures", action="store_true", help="also proposed ones that move or are the robot's")
    parser.add_argument("--own-body", type=Path, metavar="MASK.png", help="white where the robot sees itself")
    parser.add_argument("--tracker", default="flow", help=f"{TRACKERS} (default flow)")
    parser.add_argument("--horizons", default="2,4,8", help="frames to report, from 1 (default 2,4,8)")
    parser.add_argument(
        "--metrics", default=",".join(ALWAYS), help=f"of {','.join(METRICS)} (PSNR and SSIM always are)"
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="weights of the metrics' networks")
    parser.add_argument("--device", default="cpu", help="of networks: cpu or cuda (default cpu)")
    parser.add_argument("--cut", action="store_true", help="of videos of different lengths, judge what both have")
    parser.add_argument("--resize", action="store_true", help="of different sizes, bring the larger to the smaller")
    parser.add_argument("--ignore-rate", action="store_true", help="pair frames by number though rates differ")
    parser.add_argument("--sources", default=",".join(SOURCES), help="rollouts to score (default all)")
    parser.add_argument("--clips", type=int, default=64, help="rollouts of a source, at most (default 64)")
    parser.add_argument("--rollout-topic", help="where a bag has several topics of rollouts")
    parser.add_argument("--image-topic", help="where a bag has several cameras")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a page, strips and all clips as mp4")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        horizons = parse_horizons(arguments.horizons)
        metrics = parse_names(arguments.metrics, METRICS, "--metrics")
        sources = parse_names(arguments.sources, SOURCES, "--sources")
        if arguments.clips < 1:
            raise ValueError(f"--clips {arguments.clips}: expected at least 1")
    except ValueError as error:
        print(f"egowm-score: {error}", file=sys.stderr)
        return 2
    try:
        return _score(arguments, horizons, metrics, sources)
    except (EgowmError, OSError) as error:
        print(f"egowm-score: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("egowm-score: interrupted; nothing was written", file=sys.stderr)
        return 130


def parse_horizons(text: str) -> tuple[int, ...]:
    """ "2,4,8" as numbers in order. Raises ValueError in words."""
    try:
        horizons = tuple(sorted({int(item) for item in text.split(",")}))
    except ValueError:
        raise ValueError(f"--horizons {text!r}: expected whole numbers, e.g. 2,4,8") from None
    if horizons[0] < 1:
        raise ValueError(f"--horizons {text!r}: frames count from 1")
    return horizons


def parse_names(text: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Names with commas between them. Raises ValueError with the nearest of ``known``."""
    names = tuple(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))
    for name in names:
        if name not in known:
            raise ValueError(f"{option} {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return names


def _score(
    arguments: argparse.Namespace, horizons: tuple[int, ...], metrics: tuple[str, ...], sources: tuple[str, ...]
) -> int:
    tracker, segmenter = make_tracker(arguments.tracker, device=arguments.device)
    measures = Measures(
        horizons=horizons,
        metrics=metrics,
        passive=not arguments.all_structures,
        tracker=tracker,
        weights_dir=arguments.weights,
        device=arguments.device,
    )
    notes = Notes()
    options = PairOptions(
        context=None if arguments.context == "first" else Path(arguments.context),
        cut=arguments.cut,
        resize=arguments.resize,
        ignore_rate=arguments.ignore_rate,
        horizon=horizons[-1],
    )
    asked = Asked(
        predicted=arguments.predicted,
        observed=arguments.observed,
        options=options,
        horizon=horizons[-1],
        clips=arguments.clips,
        sources=sources,
        rollout_topic=arguments.rollout_topic,
        image_topic=arguments.image_topic,
        structures=arguments.structures,
        own_body=arguments.own_body,
        segmenter=segmenter,
    )
    clips = load_clips(asked, notes)
    longest = max(len(clip) for clip in clips)
    if longest < horizons[-1]:
        notes.warnings.append(f"no clip has {horizons[-1]} frames after the context, the longest has {longest}")
    measured = measure(clips, measures)
    table, intervals = summarise(measured, horizons, seed=arguments.seed)
    settings = {
        "predicted": arguments.predicted.name,
        "observed": arguments.observed.name,
        "clips": len(clips),
        "horizons": list(horizons),
        "context": "first" if options.context is None else options.context.name,
        "structures": arguments.structures if arguments.structures == PROPOSE else Path(arguments.structures).name,
        "passive_only": measures.passive and arguments.structures == PROPOSE,
        "tracker": arguments.tracker.partition(":")[0],
        "metrics": list(dict.fromkeys((*ALWAYS, *metrics))),
    }
    print(format_scores(table, intervals, horizons))
    _tell(measured, notes)
    warnings = [*notes.damage, *notes.warnings]
    if arguments.json:
        figures = {"settings": settings, "rows": table, "intervals": intervals}
        write_json(arguments.json, {**figures, **told(measured, warnings, horizons)})
    if arguments.report:
        title = f"{arguments.predicted.name} against {arguments.observed.name}"
        report = Report(title, settings, clips, measured, measures, table, intervals, warnings)
        log.info("report: %s", write_report(arguments.report, report))
    return 1 if notes.damage else 0


def make_tracker(name: str, *, device: str = "cpu") -> tuple[Tracker, Segmenter | None]:
    """The tracker that a name stands for, and what makes masks of clicked points with it.

    Raises:
        ScoreError: no such tracker, or its weights are absent.
    """
    tracker = tracker_for(name, device=device)
    if not isinstance(tracker, Sam2Tracker):
        return tracker, None

    def segment(image: ImageArray, points: PointArray) -> BoolArray:
        return np.asarray(tracker.track_points([points], np.stack([image, image]))[0, 0])

    return tracker, segment


def told(measured: Measured, warnings: list[str], horizons: tuple[int, ...]) -> dict[str, Any]:
    """What belongs to the figures: how the first row differs from the others, what is not available, what to know."""
    return {
        "differences": differences(measured, horizons),
        "unavailable": measured.unavailable,
        "warnings": [*warnings, *measured.warnings],
    }


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Figures as JSON, whole or not at all; what could not be judged is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(without_nan(figures), indent=1))


def format_scores(table: Table, intervals: Intervals, horizons: tuple[int, ...]) -> str:
    """Markdown: one line a row and metric, one column a horizon, with the interval where there are clips for one."""
    lines = ["| row | metric | " + " | ".join(map(str, horizons)) + " |", "|" + " --- |" * (len(horizons) + 2)]
    for row, metrics in table.items():
        for metric in [name for name in TITLES if name in metrics]:
            digits = 4 if metric == "mse" else 3 if metric in ("ssim", "lpips", "dreamsim") or "iou" in metric else 1
            cells = []
            for horizon in map(str, horizons):
                around = intervals.get(row, {}).get(metric, {}).get(horizon)
                cell = f"{metrics[metric][horizon]:.{digits}f}"
                if around is not None and around["low"] == around["low"]:
                    cell += f" ({around['low']:.{digits}f} to {around['high']:.{digits}f})"
                cells.append(cell.replace("nan", "-"))
            lines.append(f"| {row} | {TITLES[metric]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _tell(measured: Measured, notes: Notes) -> None:
    for name, why in measured.unavailable.items():
        print(f"not available: {name}: {why}", file=sys.stderr)
    for line in (*notes.damage, *notes.warnings, *measured.warnings):
        print(f"warning: {line}", file=sys.stderr)
    excluded = {score.clip: score.excluded for score in measured.scores}
    counts: dict[str, int] = {}
    for items in excluded.values():
        for item in items:
            counts[item.reason.value] = counts.get(item.reason.value, 0) + 1
    if counts:
        log.info("structures not judged: %s", ", ".join(f"{n} {why}" for why, n in counts.items()))
    if measured.scores and not any(score.num_structures for score in measured.scores):
        print("warning: no clip has a structure to judge: every SCS is undefined; see --structures", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

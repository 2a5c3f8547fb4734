"""``egowm-drift-bench OUT``: how well the drift monitor finds faults, and how often it cries wolf, in simulated rooms.

Drives with one fault each, drives without, and drives to learn from, in rooms of their own; each is recorded, replayed
through the world model and judged by the node's own detector. Run it again to continue; with the same OUT, another
baseline is tried within seconds. Knows drives and figures; the detector is the core's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from egowm_core.drift import DriftBaseline
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError, EgowmError
from egowm_core.files import without_nan, write_text
from egowm_core.given_baseline import LEARN, given_baseline
from egowm_core.loading import load_world_model
from egowm_core.world_model import WorldModel
from egowm_sim.drift_figures import Verdicts, detect, fault_figures, free_figures, learn
from egowm_sim.drift_runs import SEVERITIES, Run, Watched, plan_runs, watch
from egowm_sim.processes import in_processes

CHECKPOINT = "checkpoint"
_model: tuple[str, WorldModel] | None = None  # one per process


def _watch(run: Run, checkpoint: str, folder: Path, every: int) -> Watched:
    global _model  # noqa: PLW0603 loading takes longer than a drive
    if _model is None or _model[0] != checkpoint:
        import cv2
        import torch

        os.environ.setdefault("LP_NUM_THREADS", "0")
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        _model = (checkpoint, load_world_model(checkpoint))
    return watch(run, _model[1], folder, every=every)


def watch_all(runs: Sequence[Run], checkpoint: str, folder: Path, *, every: int, workers: int) -> Iterator[Watched]:
    """Watch every run, several at a time; in the order in which they are done."""
    yield from in_processes(partial(_watch, checkpoint=checkpoint, folder=folder, every=every), runs, workers)


def figures(watched: Sequence[Watched], embodiment: Embodiment, baseline: DriftBaseline) -> dict[str, Any]:
    """{"rows": {fault: {...}}, "free": {...}} of all watched drives but those to learn from."""
    scales, tick_s = embodiment.scales, 1.0 / embodiment.rate_hz

    def judged(prefix: str) -> list[Verdicts]:
        return [detect(one, baseline, scales, tick_s) for one in watched if one.run.name.startswith(prefix)]

    free = judged("free_")
    rows = {str(kind): fault_figures(verdicts, free) for kind in SEVERITIES if (verdicts := judged(f"{kind}_"))}
    return {"rows": rows, "free": free_figures(free)}


def format_table(result: dict[str, Any]) -> str:
    """Markdown: one line a fault."""
    lines = [
        "| fault | drives (shown) | AUROC (95 %) | median delay, s | found | right reason | told as |",
        "|" + " --- |" * 7,
    ]
    for name, row in result["rows"].items():
        told = ", ".join(f"{cause} {count}" for cause, count in row["reasons"].items())
        delay = "-" if not math.isfinite(row["delay_s"]) else f"{row['delay_s']:.1f}"
        lines.append(
            f"| {name} | {row['drives']} ({row['shown']}) | {row['auroc']:.3f} ({row['auroc_low']:.3f} to"
            f" {row['auroc_high']:.3f}) | {delay} | {row['detected']} | {row['reason_right']:.0%} | {told} |"
        )
    free = result["free"]
    causes = ", ".join(f"{cause} {count}" for cause, count in free["causes"].items()) or "none"
    return "\n".join(lines) + (
        f"\n\nWithout fault: {free['alarms']} alarms in {free['minutes']:.1f} minutes,"
        f" {free['false_alarms_per_10_min']:.2f} per 10 minutes ({causes})."
    )


def _baseline(choice: str, checkpoint: str, watched: Sequence[Watched], embodiment: Embodiment) -> DriftBaseline:
    given = given_baseline(checkpoint if choice == CHECKPOINT else choice, channels=len(embodiment.channels))
    if given is not None:
        return given
    lessons = [one for one in watched if one.run.name.startswith("learn_")]
    return learn(lessons, embodiment.scales, 1.0 / embodiment.rate_hz)


def build_parser() -> argparse.ArgumentParser:
    """The command line of egowm-drift-bench."""
    parser = argparse.ArgumentParser(
        prog="egowm-drift-bench",
        description="Score the drift monitor's fault detection in simulated rooms: AUROC, delay and reason per fault,"
        " false alarms without. Run it again to continue.",
        epilog="example: egowm-drift-bench out/drift --workers 2 --json out/drift.json (about 25 minutes on two cores)",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the evidence of each drive")
    parser.add_argument("--checkpoint", default="embedded:base_3dof", help="world model (default %(default)s)")
    parser.add_argument("--per-fault", type=int, default=10, metavar="N", help="drives a fault (default %(default)s)")
    parser.add_argument(
        "--free-minutes", type=float, default=32.0, metavar="MIN", help="minutes without fault (default %(default)s)"
    )
    parser.add_argument(
        "--learn-minutes", type=float, default=10.0, metavar="MIN", help="minutes to learn from (default %(default)s)"
    )
    parser.add_argument(
        "--baseline",
        default=CHECKPOINT,
        metavar="checkpoint|learn|FILE",
        help="what is usual: the checkpoint's, learned from drives of its own, or a file's (default %(default)s)",
    )
    parser.add_argument("--save-baseline", type=Path, metavar="FILE", help="write the baseline that was used")
    parser.add_argument(
        "--every", type=int, default=2, metavar="TICKS", help="between comparisons (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=960_000, help="of the first room (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 when everything was measured, 1 on an error, 130 when interrupted."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.per_fault < 1 or args.workers < 1 or args.every < 1 or args.free_minutes <= 0 or args.seed < 0:
        parser.error("--per-fault, --workers, --every and --free-minutes must be positive, --seed 0 or more")
    if args.baseline == LEARN and args.learn_minutes <= 0:
        parser.error("--learn-minutes must be positive to learn a baseline")
    from tqdm import tqdm

    try:
        runs = plan_runs(
            free_minutes=args.free_minutes,
            per_fault=args.per_fault,
            learn_minutes=args.learn_minutes if args.baseline == LEARN else 0.0,
            seed=args.seed,
        )
        embodiment = load_world_model(args.checkpoint).embodiment
        if embodiment.integrate != "se2" or len(embodiment.channels) != 3:
            raise ConfigError(f"{args.checkpoint} is for {embodiment.name}; the bench drives a mobile base (base_3dof)")
        bar = tqdm(
            watch_all(runs, args.checkpoint, args.out, every=args.every, workers=args.workers),
            total=len(runs),
            desc="watching",
            unit="drive",
        )
        watched = sorted(bar, key=lambda one: one.run.name)
        baseline = _baseline(args.baseline, args.checkpoint, watched, embodiment)
        if args.save_baseline:
            baseline.save(args.save_baseline)
        result = figures(watched, embodiment, baseline)
        settings = {
            name: getattr(args, name)
            for name in ("checkpoint", "per_fault", "free_minutes", "every", "seed", "baseline")
        }
        if args.json:
            write_text(args.json, json.dumps({"settings": settings, **without_nan(result)}, indent=1))
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except (EgowmError, OSError) as error:
        print(f"egowm-drift-bench: {error}", file=sys.stderr)
        return 1
    print(format_table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

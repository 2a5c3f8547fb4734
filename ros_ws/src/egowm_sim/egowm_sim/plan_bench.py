"""``egowm-plan-bench OUT``: does imagining help the robot to get where a picture was taken? In rooms never trained on.

Each task is a goal picture 1 to 3 m further on a drivable way; planners drive to it in lockstep simulation, each from
the same start and with the same draws. Success is to end within 0.4 m, about the robot's width, and 25 degrees, where
two thirds of the view are the goal's. Episodes are kept line by line in OUT/episodes.jsonl: run it again to continue.
Knows tasks, planners and figures; decides nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from egowm_core.errors import ConfigError, DataError, EgowmError
from egowm_core.files import without_nan, write_text
from egowm_core.loading import load_world_model
from egowm_core.planning import COST_KINDS
from egowm_core.world_model import WorldModel
from egowm_sim.futures import Stage
from egowm_sim.plan_bench_figures import differences, format_table, row_figures
from egowm_sim.plan_bench_goals import find_task
from egowm_sim.plan_bench_picture import draw_runs
from egowm_sim.plan_bench_robot import Course
from egowm_sim.plan_bench_runs import ROWS, PlanSettings, run_task
from egowm_sim.processes import in_processes

FIRST_SEED = 980_000  # rooms that nothing was trained, chosen or tuned on
SIZE = (240, 320)  # px of the robot's camera, as in the recordings that models are trained on
_TRIED = 4  # times as many rooms as tasks: a drive may have no stretch that fits
_NO_TASK = "no task"
_model: tuple[str, WorldModel] | None = None  # one per process


def _run_room(job: tuple[int, tuple[str, ...]], *, checkpoint: str, settings: PlanSettings) -> list[dict[str, Any]]:
    """Episodes of one room, perhaps in a worker process; one that says so where it has no task."""
    global _model  # noqa: PLW0603 loading takes longer than a drive
    if _model is None or _model[0] != checkpoint:
        import cv2
        import torch

        os.environ.setdefault("LP_NUM_THREADS", "0")
        torch.set_num_threads(1)  # a process a core is faster than threads
        cv2.setNumThreads(1)
        _model = (checkpoint, load_world_model(checkpoint))
    (seed, rows), model = job, _model[1]
    with Stage(seed=seed, height=SIZE[0], width=SIZE[1]) as stage:
        task = find_task(stage)
    if task is None:
        return [{"row": _NO_TASK, "seed": seed}]
    with Course(seed=seed, height=SIZE[0], width=SIZE[1], tick_s=1 / model.embodiment.rate_hz) as course:
        return [run_task(row, task, course, model, settings) for row in rows]


class Episodes:
    """What was run so far, in a file of one JSON object a line; the first line says with which settings.

    Raises:
        DataError: the file is of other settings, or cannot be read.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path = path
        self.known: list[dict[str, Any]] = []
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if lines:
            head = _parsed(lines[0])
            if head is None or head.get("settings") != settings:
                raise DataError(f"{path} is of a run with other settings; give another OUT, or remove it")
            self.known = [one for line in lines[1:] if (one := _parsed(line)) is not None]  # the last may be torn
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "\n".join(json.dumps(one) for one in ({"settings": settings}, *self.known)))

    def add(self, episodes: Sequence[dict[str, Any]]) -> None:
        """Keep what was run."""
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(without_nan(one)) + "\n" for one in episodes)
        self.known += episodes

    def missing(self, seed: int, rows: Sequence[str]) -> tuple[str, ...]:
        """Which of ``rows`` are to be run in the room of ``seed``."""
        done = {one["row"] for one in self.known if one["seed"] == seed}
        return () if _NO_TASK in done else tuple(row for row in rows if row not in done)

    def tasks(self, first: int, rows: Sequence[str]) -> list[int]:
        """Rooms from ``first`` on of which all ``rows`` are known, in order."""
        seeds = sorted({int(one["seed"]) for one in self.known if one["row"] != _NO_TASK and one["seed"] >= first})
        return [seed for seed in seeds if not self.missing(seed, rows)]

    def by_row(self, rows: Sequence[str], seeds: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
        """Episodes of ``seeds`` by row, in the order of the rooms."""
        wanted, ordered = set(seeds), sorted(self.known, key=lambda one: int(one["seed"]))
        return {row: [one for one in ordered if one["row"] == row and one["seed"] in wanted] for row in rows}


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and ("settings" in found or {"row", "seed"} <= set(found)) else None


def run_bench(
    episodes: Episodes, *, rows: Sequence[str], goals: int, seed: int, checkpoint: str, settings: PlanSettings,
    workers: int,
) -> Iterator[int]:  # fmt: skip
    """Run what is missing until ``goals`` tasks from room ``seed`` on are complete; yields how many are.

    Raises:
        DataError: too few rooms have a task.
    """
    run = partial(_run_room, checkpoint=checkpoint, settings=settings)
    following = seed
    while (complete := len(episodes.tasks(seed, rows))) < goals:
        if following >= seed + _TRIED * goals:
            raise DataError(f"{complete} of {goals} tasks found in {_TRIED * goals} rooms; ask for fewer --goals")
        stretch = range(following, following + goals - complete)
        following = stretch.stop
        jobs = [(room, missing) for room in stretch if (missing := episodes.missing(room, rows))]
        with closing(in_processes(run, jobs, workers)) as results:
            for found in results:
                episodes.add(found)
                yield len(episodes.tasks(seed, rows))


def build_parser() -> argparse.ArgumentParser:
    """The command line of egowm-plan-bench."""
    defaults = PlanSettings()
    parser = argparse.ArgumentParser(
        prog="egowm-plan-bench",
        description="Drive to goal pictures in simulated rooms by planning over imagined futures, and by its rivals:"
        " success, path length and bumps with 95%% intervals. Run it again to continue.",
        epilog="example: egowm-plan-bench out/plan --workers 2 --json out/plan.json (about 20 minutes on two cores)",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for episodes.jsonl and runs.png")
    parser.add_argument("--checkpoint", default="embedded:base_3dof", help="world model (default %(default)s)")
    parser.add_argument("--goals", type=int, default=50, metavar="N", help="tasks, one a room (default %(default)s)")
    parser.add_argument(
        "--planners", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=f"of {', '.join(ROWS)}"
    )
    parser.add_argument("--cost", choices=COST_KINDS, default=defaults.cost, help="to the goal (default %(default)s)")
    for name, text in (
        ("candidates", "tried in an iteration"), ("iterations", "of a plan"), ("horizon", "ticks a plan looks ahead"),
        ("execute", "ticks between plans"), ("budget_ticks", "ticks to get there"),
    ):  # fmt: skip
        option = f"--{name.replace('_', '-')}"
        help_text = f"{text} (default %(default)s)"
        parser.add_argument(option, type=int, default=getattr(defaults, name), metavar="N", help=help_text)
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first room (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 when everything was measured, 1 on an error, 130 when interrupted."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if min(args.goals, args.workers, args.budget_ticks) < 1 or args.seed < 0:
        parser.error("--goals, --workers and --budget-ticks must be positive, --seed 0 or more")
    from tqdm import tqdm

    settings = PlanSettings(
        cost=args.cost, candidates=args.candidates, iterations=args.iterations, horizon=args.horizon,
        execute=args.execute, budget_ticks=args.budget_ticks, elites=min(PlanSettings.elites, args.candidates),
        reached_below=PlanSettings.reached_below if args.cost == PlanSettings.cost else 0.0,
    )  # fmt: skip
    rows = [row for row in ROWS if row in args.planners]
    try:
        embodiment = load_world_model(args.checkpoint).embodiment
        if embodiment.channel_names != ("dx", "dy", "dyaw"):
            raise ConfigError(f"{args.checkpoint} is for {embodiment.name}; the bench drives a mobile base (base_3dof)")
        kept = {"checkpoint": args.checkpoint, **settings.record()}
        episodes = Episodes(args.out / "episodes.jsonl", kept)
        with tqdm(total=args.goals, desc="driving", unit="task") as bar:
            for complete in run_bench(
                episodes, rows=rows, goals=args.goals, seed=args.seed, checkpoint=args.checkpoint, settings=settings,
                workers=args.workers,
            ):  # fmt: skip
                bar.update(complete - bar.n)
        grouped = episodes.by_row(rows, episodes.tasks(args.seed, rows)[: args.goals])
        figures = {name: row_figures(group) for name, group in grouped.items()}
        draw_runs(grouped, args.out / "runs.png")
        if args.json:
            result = {"settings": {**kept, "goals": args.goals, "seed": args.seed}, "rows": figures}
            result["model_minus"] = differences(grouped)
            write_text(args.json, json.dumps(without_nan(result), indent=1))
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except (EgowmError, OSError) as error:
        print(f"egowm-plan-bench: {error}", file=sys.stderr)
        return 1
    print(format_table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`egowm-policy-eval OUT`: policies judged inside a world model, beside the simulator's own verdict on the same tasks.

First rooms to learn the verifier from, then rooms to judge in; each room goes to OUT/rooms when it is done, so that an
interrupted run continues when run again. Figures go to OUT/policy_eval.json, a table to OUT/policy_eval.md, pictures to
OUT/policy_eval.png and OUT/strips.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from egowm_core.errors import ConfigError, DataError, EgowmError
from egowm_core.files import read_json, without_nan, write_text
from egowm_core.schema import nearest
from egowm_sim.policy_eval.episodes import Settings, loaded, try_room
from egowm_sim.policy_eval.policies import POLICIES
from egowm_sim.processes import in_processes

FIRST_SEED = 985_000  # far from the rooms that models were trained on
LEARN_SEEDS = 900  # how far before the judged rooms those lie that the verifier learns from


def _room_file(out: Path, seed: int) -> Path:
    return out / "rooms" / f"room_{seed:06d}.json"


def _try_and_write(job: tuple[int, bool], *, out: Path, settings: Settings) -> int:
    """One room, perhaps in a worker process; returns its seed."""
    seed, learn = job
    room = {"settings": settings.record(), **try_room(seed, settings, learn=learn, strips=out / "strips")}
    write_text(_room_file(out, seed), json.dumps(without_nan(room)))
    return seed


def _one_thread() -> None:
    """In a worker process: a process a core is faster than threads."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _read(out: Path, job: tuple[int, bool], settings: Settings) -> dict[str, Any] | None:
    """The room's record, or None if there is none yet. Raises DataError when it is damaged or another run's."""
    file = _room_file(out, job[0])
    if not file.is_file():
        return None
    room = read_json(file)
    if not isinstance(room, dict) or (room.get("settings"), room.get("learn")) != (settings.record(), job[1]):
        raise DataError(f"{file} is of a run with other settings; give another OUT, or remove {file.parent}")
    return room


def try_rooms(
    out: Path, settings: Settings, *, learn_rooms: int, rooms: int, seed: int, workers: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records of the rooms to learn from and of those to judge in, from OUT/rooms where they are there.

    Raises:
        DataError: OUT holds another run's rooms.
        EgowmError: as ``try_room``.
    """
    from tqdm import tqdm

    jobs = [(seed - LEARN_SEEDS + number, True) for number in range(learn_rooms)]
    jobs += [(seed + number, False) for number in range(rooms)]
    (out / "rooms").mkdir(parents=True, exist_ok=True)
    todo = [job for job in jobs if _read(out, job, settings) is None]
    work = partial(_try_and_write, out=out, settings=settings)
    with (
        tqdm(total=len(jobs), initial=len(jobs) - len(todo), unit="room", desc="driving") as bar,
        closing(in_processes(work, todo, max(1, min(workers, len(todo))), begin=_one_thread)) as done,
    ):
        for _ in done:
            bar.update()
    records = [room for job in jobs if (room := _read(out, job, settings)) is not None]
    return [room for room in records if room["learn"]], [room for room in records if not room["learn"]]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-policy-eval",
        description="Judge policies inside a world model: drive to a goal picture, in predictions alone, judged by a "
        "verifier that looks at the last picture; beside the simulator's verdict on the same tasks. Run it again to "
        "continue.",
        epilog="example: egowm-policy-eval out/policy_eval --workers 2 --json out/policy_eval.json",
    )
    defaults = Settings()
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="directory for rooms, figures and pictures")
    add("--checkpoint", default=defaults.checkpoint, help="world model (default %(default)s)")
    add("--rooms", type=int, default=20, metavar="N", help="rooms to judge in (default %(default)s)")
    add("--learn-rooms", type=int, default=8, metavar="N", help="others, for the verifier (default %(default)s)")
    add("--tasks", type=int, default=defaults.tasks, metavar="N", help="a room, at most (default %(default)s)")
    add("--ticks", type=int, default=defaults.ticks, metavar="N", help="of a task (default %(default)s)")
    add("--policies", default=",".join(POLICIES), help="two or more of %(default)s (default all)")
    add("--num-denoising-steps", type=int, metavar="N", help="in place of the checkpoint's")
    add("--seed", type=int, default=FIRST_SEED, metavar="S", help="first room to judge in (default %(default)s)")
    add("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the figures to FILE, too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 when all figures are there, 1 on an error, 130 when interrupted."""
    parser = build_parser()
    args = parser.parse_args(argv)
    counts = (args.rooms, args.learn_rooms, args.tasks, args.ticks, args.workers, args.num_denoising_steps or 1)
    if min(counts) < 1 or args.seed < LEARN_SEEDS or args.learn_rooms > LEARN_SEEDS:
        parser.error(
            f"--rooms, --learn-rooms, --tasks, --ticks, --workers and --num-denoising-steps are 1 or more, --seed "
            f"{LEARN_SEEDS} or more"
        )
    os.environ.setdefault("LP_NUM_THREADS", "0")  # software OpenGL paints in the calling thread: processes do the rest
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        _run(args)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except (EgowmError, OSError) as error:
        print(f"egowm-policy-eval: {error}", file=sys.stderr)
        return 1
    return 0


def _run(args: argparse.Namespace) -> None:
    from egowm_sim.policy_eval.arena import check_base
    from egowm_sim.policy_eval.figures import all_figures, examples, table, verdicts
    from egowm_sim.policy_eval.pictures import plot_rates
    from egowm_sim.policy_eval.verifier import learn_verifier

    policies = tuple(dict.fromkeys(name.strip() for name in args.policies.split(",") if name.strip()))
    for name in policies:
        if name not in POLICIES:
            raise ConfigError(f"--policies {name!r}{nearest(name, POLICIES)}; there are: {', '.join(POLICIES)}")
    if len(policies) < 2:
        raise ConfigError(f"--policies names {len(policies)}; two or more are ranked")
    check_base(loaded(args.checkpoint).embodiment)
    settings = Settings(args.checkpoint, args.tasks, args.ticks, policies, args.num_denoising_steps)
    learnt, judged = try_rooms(
        args.out, settings, learn_rooms=args.learn_rooms, rooms=args.rooms, seed=args.seed, workers=args.workers
    )
    if not any(room["tasks"] for room in judged):
        raise DataError(f"none of {len(judged)} rooms has a place for a task; give more --rooms or another --seed")
    verifier = learn_verifier(examples(learnt))
    figures = all_figures(verdicts(judged, verifier, policies), verifier)
    report = {"settings": {**settings.record(), "seed": args.seed, "learn_rooms": args.learn_rooms}, **figures}
    text = json.dumps(without_nan(report), indent=1)
    for file in (args.out / "policy_eval.json", *([args.json] if args.json else [])):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    write_text(args.out / "policy_eval.md", table(figures))
    plot_rates(args.out / "policy_eval.png", figures)
    print(table(figures))


if __name__ == "__main__":
    sys.exit(main())

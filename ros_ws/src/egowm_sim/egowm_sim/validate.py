"""SCS against the simulator's truth: ``egowm-scs-validate OUT``.

Rendered futures stand in for predictions and so have true masks on both sides. Room by room they are judged
(``agreement``) and kept in OUT/rooms; an interrupted run continues when run again. Then figures
(``agreement_figures``) go to OUT/validation.json, tables to OUT/validation.md, plots to OUT/scs_agreement.png and
OUT/scs_claim.png.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from egowm_core.errors import DataError, EgowmError
from egowm_core.files import read_json, without_nan, write_text
from egowm_sim.agreement import HORIZON, HORIZONS, RoomSettings, judge_room
from egowm_sim.processes import in_processes

FIRST_SEED = 40_000  # far from the rooms that datasets are recorded in
ROOMS_TRIED = 2  # times as many as needed: a room may have too few clips that move


def _room_file(out: Path, seed: int) -> Path:
    return out / "rooms" / f"room_{seed:06d}.json"


def _judge_and_write(seed: int, *, out: Path, settings: RoomSettings, weights_dir: Path | None) -> int:
    """One room, perhaps in a worker process; returns how many clips it gave."""
    room = {"settings": settings.record(), **judge_room(seed, settings, weights_dir=weights_dir)}
    write_text(_room_file(out, seed), json.dumps(without_nan(room)))
    return len(room["clips"])


def _one_thread() -> None:
    """In a worker process: a process a core is faster than threads."""
    import cv2

    cv2.setNumThreads(1)


def _read(out: Path, seed: int, settings: RoomSettings) -> dict[str, Any] | None:
    """The room's record, or None if there is none yet.

    Raises:
        DataError: it is damaged or of a run with other settings.
    """
    file = _room_file(out, seed)
    if not file.is_file():
        return None
    room = read_json(file)
    if not isinstance(room, dict) or room.get("settings") != settings.record():
        raise DataError(f"{file} is of a run with other settings; give another OUT, or remove {file.parent}")
    return room


def judge_rooms(
    out: Path, *, clips: int, seed: int, settings: RoomSettings, workers: int, weights_dir: Path | None = None
) -> list[dict[str, Any]]:
    """Records of rooms from ``seed`` on, enough for at least ``clips`` clips, from OUT/rooms where they are there.

    Raises:
        DataError: OUT holds another run's rooms, or the rooms give too few clips.
        EgowmError: as ``judge_room``.
    """
    from tqdm import tqdm

    judge = partial(_judge_and_write, out=out, settings=settings, weights_dir=weights_dir)
    (out / "rooms").mkdir(parents=True, exist_ok=True)
    rooms: list[dict[str, Any]] = []
    following = seed
    with tqdm(total=clips, unit="clip", desc="judging") as bar:
        while (found := sum(len(room["clips"]) for room in rooms)) < clips:
            wanted = math.ceil((clips - found) / settings.clips)
            if following + wanted - seed > ROOMS_TRIED * math.ceil(clips / settings.clips) + 4:
                raise DataError(
                    f"{found} clips in {following - seed} rooms, {clips} were asked for; lower --clips or change --seed"
                )
            seeds = range(following, following + wanted)
            there = [room for number in seeds if (room := _read(out, number, settings)) is not None]
            bar.update(sum(len(room["clips"]) for room in there))
            todo = [number for number in seeds if not _room_file(out, number).is_file()]
            with closing(in_processes(judge, todo, min(workers, max(len(todo), 1)), begin=_one_thread)) as judged:
                for count in judged:
                    bar.update(count)
            rooms += [room for number in seeds if (room := _read(out, number, settings)) is not None]
            following += wanted
    return rooms


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from egowm_sim.record import picture_size

    parser = argparse.ArgumentParser(
        prog="egowm-scs-validate",
        description="Compare the SCS by tracking with the SCS by true masks over simulated futures with graded action "
        "errors and picture degradations, and with PSNR and SSIM. Run it again to continue an interrupted run.",
        epilog="example: egowm-scs-validate out/validation --clips 240 --workers 2",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for rooms, figures and plots")
    parser.add_argument("--clips", type=int, default=240, metavar="N", help="at least so many (default %(default)s)")
    parser.add_argument(
        "--clips-per-room", type=int, default=RoomSettings().clips, metavar="N", help="at most (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=FIRST_SEED, metavar="S", help="first room (default %(default)s)")
    parser.add_argument(
        "--size", type=picture_size, default=(96, 128), metavar="HxW", help="picture size (default 96x128)"
    )
    parser.add_argument("--tracker", default="flow", help="flow, flow:PRESET or sam2:DIRECTORY (default %(default)s)")
    parser.add_argument(
        "--metrics", default="psnr,ssim", help="companions of the SCS, also lpips, dreamsim (default %(default)s)"
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="where the weights of such metrics are")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    return parser


def _usable_metrics(asked: str, weights_dir: Path | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """Metrics that can be computed, and why the others cannot.

    Raises:
        ScoreError: no such metric, or one without a value a frame.
    """
    from egowm_core.errors import ScoreError
    from egowm_core.metrics import FRAME_METRICS, available

    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",") if name.strip()))
    for name in names:
        if name not in FRAME_METRICS:
            raise ScoreError(f"--metrics {name!r}: expected some of {', '.join(FRAME_METRICS)}")
    missing = {name: str(why) for name in names if (why := available(name, weights_dir=weights_dir)) is not None}
    always = ("psnr", "ssim")
    return (*always, *(name for name in names if name not in missing and name not in always)), missing


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 when all figures are there, 1 on an error, 130 when interrupted."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if min(args.clips, args.clips_per_room, args.workers) < 1 or args.seed < 0:
        parser.error(
            f"--clips {args.clips}, --clips-per-room {args.clips_per_room} and --workers {args.workers} must be 1 or "
            f"more, --seed {args.seed} 0 or more"
        )
    from egowm_sim.agreement_figures import all_figures, judged_futures
    from egowm_sim.agreement_plots import plot_agreement, plot_claim
    from egowm_sim.agreement_words import summary, tables

    os.environ.setdefault("LP_NUM_THREADS", "0")  # software OpenGL paints in the calling thread: processes do the rest
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        metrics, missing = _usable_metrics(args.metrics, args.weights)
        for why in missing.values():
            print(why, file=sys.stderr)
        settings = RoomSettings(
            clips=args.clips_per_room, height=args.size[0], width=args.size[1], tracker=args.tracker, metrics=metrics
        )
        rooms = judge_rooms(
            args.out,
            clips=args.clips,
            seed=args.seed,
            settings=settings,
            workers=args.workers,
            weights_dir=args.weights,
        )
        figures = all_figures(rooms, HORIZONS)
        report = {
            "settings": {**settings.record(), "seed": args.seed, "asked_clips": args.clips},
            "not_available": missing,
            **figures,
        }
        text = json.dumps(without_nan(report), indent=1)
        for file in (args.out / "validation.json", *([args.json] if args.json else [])):
            write_text(file, text)
        write_text(args.out / "validation.md", tables(figures, horizon=HORIZON))
        plot_agreement(args.out / "scs_agreement.png", judged_futures(rooms), figures, horizon=HORIZON)
        plot_claim(args.out / "scs_claim.png", figures, horizon=HORIZON)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except (EgowmError, OSError) as error:
        print(f"egowm-scs-validate: {error}", file=sys.stderr)
        return 1
    print(summary(figures, horizon=HORIZON))
    return 0


if __name__ == "__main__":
    sys.exit(main())

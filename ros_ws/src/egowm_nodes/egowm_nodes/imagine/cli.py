"""``egowm-imagine``: asks a running world model "what if", and shows the answers as a table and a strip each.

Knows options, files and pictures; the asking is the client's.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from egowm_core.data.images import decode_compressed
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import DataError, EgowmError
from egowm_core.files import without_nan, write_text
from egowm_core.types import ImageArray
from egowm_nodes.imagine.candidates import Named, fan, read_candidates
from egowm_nodes.pictures import strip_frames

_STEP_S = 0.5  # between the frames of a strip
_BAND, _GAP = 16, 2  # px: of labels, between frames
_INK, _PAPER = (235, 235, 235), 24
_MOST_GOAL_BYTES = 64 << 20


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="egowm-imagine",
        description="Asks a running world model what its camera would see under each of some candidate action"
        " sequences, from what it sees now. Takes the ROS domain of the environment.",
        epilog="Example: egowm-imagine --fan 5 --goal kitchen.png --out out/what_if. A file of candidates: YAML such as"
        " {straight: [[0.1, 0, 0]], turn: [[0.1, 0, 0.1]]}, or CSV with the columns candidate,dx,dy,dyaw; where rows"
        " are missing, the last is held. Exit status: 0 with an answer, 1 without one, 2 for wrong options.",
    )
    source = made.add_mutually_exclusive_group()
    source.add_argument(
        "--fan", type=int, default=5, metavar="N", help="N turns from left to right (default: %(default)s)"
    )
    source.add_argument("--candidates", type=Path, metavar="FILE", help="YAML or CSV with candidates")
    made.add_argument("--goal", type=Path, metavar="PICTURE", help="PNG or JPEG that the camera should see: ranks them")
    made.add_argument("--embodiment", default="base_3dof", metavar="NAME", help="the model's (default: %(default)s)")
    made.add_argument("--server", default="world_model", metavar="NODE", help="default: %(default)s")
    made.add_argument("--horizon", type=int, default=8, metavar="N", help="frames to predict (default: %(default)s)")
    made.add_argument("--rate-hz", type=float, default=0.0, metavar="HZ", help="the model's tick rate, where not usual")
    made.add_argument("--num-denoising-steps", type=int, default=0, metavar="N", help="default: as the node does")
    made.add_argument("--seed", type=int, default=0, help="of the sampler's noise (default: %(default)s)")
    made.add_argument("--timeout", type=float, default=60.0, metavar="S", help="for the answer (default: %(default)g)")
    made.add_argument("--out", type=Path, metavar="DIR", help="write a strip of pictures for each candidate there")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return made


def read_goal_picture(path: Path) -> ImageArray:
    """(H,W,3) uint8 RGB. Raises DataError for what is no picture."""
    try:
        if path.stat().st_size > _MOST_GOAL_BYTES:
            raise DataError(f"{path} is over {_MOST_GOAL_BYTES} bytes; give a PNG or JPEG")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}; give a PNG or JPEG") from error
    return decode_compressed(data, path.suffix)


def strip(images: ImageArray, rate_hz: float, goal: ImageArray | None) -> ImageArray:
    """Frames (T,H,W,3) half a second apart under their times, and the goal at the end; uint8 RGB."""
    numbers = strip_frames(len(images), rate_hz, _STEP_S)
    shown = [(f"+{number / rate_hz:.2f} s", images[number - 1]) for number in numbers]
    height, width = images.shape[1:3]
    if goal is not None:
        shown.append(("goal", cv2.resize(goal, (width, height), interpolation=cv2.INTER_AREA)))
    canvas = np.full((height + _BAND, len(shown) * (width + _GAP) - _GAP, 3), _PAPER, np.uint8)
    for place, (text, image) in enumerate(shown):
        left = place * (width + _GAP)
        canvas[_BAND:, left : left + width] = image
        cv2.putText(canvas, text, (left + 3, _BAND - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
    return canvas


def ask(args: argparse.Namespace, robot: Embodiment, candidates: Named, goal: ImageArray | None) -> dict[str, Any]:
    """The figures, strips written; raises EgowmError."""
    from tqdm import tqdm

    from egowm_nodes.imagine.client import ImagineClient, Seen

    began_s = time.monotonic()
    first_s: float | None = None
    with (
        ImagineClient(robot, server=args.server, rate_hz=args.rate_hz) as client,
        tqdm(total=100, unit="%", desc="imagine", disable=not sys.stderr.isatty(), leave=False) as bar,
    ):

        def seen(frame: Seen) -> None:
            nonlocal first_s
            if first_s is None:
                first_s = time.monotonic() - began_s
            bar.update(max(0, round(100 * frame.progress) - bar.n))

        answer = client.imagine(
            np.stack(list(candidates.values())),
            goal_image=goal,
            horizon=args.horizon,
            num_denoising_steps=args.num_denoising_steps,
            seed=args.seed,
            timeout_s=args.timeout,
            on_frame=seen,
        )
    took_s = time.monotonic() - began_s
    horizon, rows = str(args.horizon), {}
    for index, name in enumerate(candidates):
        rows[name] = {} if answer.costs is None else {
            "cost": {horizon: float(answer.costs[index])},
            "rank": {horizon: answer.ranking.index(index) + 1},
        }  # fmt: skip
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
            safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:80]
            picture = strip(answer.rollouts[index].frames.images, args.rate_hz or robot.rate_hz, goal)
            _write_png(args.out / f"{index:02d}-{safe}.png", picture)
    return {
        "rows": rows,
        "seconds": took_s,
        "first_frame_s": first_s,
        "candidates_per_s": len(candidates) / took_s,
        "num_denoising_steps": answer.rollouts[0].num_denoising_steps,
        "seed": args.seed,
    }


def _write_png(path: Path, image: ImageArray) -> None:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes())
    partial.replace(path)


def tell(found: dict[str, Any]) -> None:
    """The table, best first."""
    rows = found["rows"]
    width = max(len(name) for name in rows)

    def rank(name: str) -> float:
        return min(rows[name].get("rank", {"": 0}).values())

    for name in sorted(rows, key=rank):
        cost = next(iter(rows[name].get("cost", {}).values()), None)
        print(f"{name:{width}}" + ("" if cost is None else f"  cost {cost:.4f}"))
    print(f"{len(rows)} candidates in {found['seconds']:.2f} s, {found['candidates_per_s']:.2f} a second")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; see ``--help`` for the exit status."""
    made = parser()
    args = made.parse_args(argv)
    if not 1 <= args.horizon <= 65_535 or not 0 < args.timeout < 86_400:
        made.error(f"--horizon {args.horizon} must be 1 or more, and --timeout {args.timeout:g} a time in seconds")
    if not 0 <= args.num_denoising_steps <= 256 or not 0 <= args.seed < 2**64:
        made.error("--num-denoising-steps must lie in 0..256, and --seed in 0..2^64-1")
    try:
        robot = load_embodiment(args.embodiment)
        goal = None if args.goal is None else read_goal_picture(args.goal)
        if args.candidates is None:
            candidates = fan(robot, args.horizon, args.fan)
        else:
            candidates = read_candidates(args.candidates, robot, args.horizon)
    except EgowmError as error:
        print(f"egowm-imagine: {error}", file=sys.stderr)
        return 2
    try:
        found = ask(args, robot, candidates, goal)
        if args.json is not None:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            write_text(args.json, json.dumps(without_nan(found), indent=1))
    except EgowmError as error:
        print(f"egowm-imagine: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"egowm-imagine: cannot write: {error}; name another folder or file", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    tell(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())

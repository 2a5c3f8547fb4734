"""`python -m egowm_core.scs.bench`: how fast the score is, stage by stage and preset by preset, in one run.

Ratios within a run are what to read: a shared machine moves all of them together. Each figure is the best of several
passes on one thread of OpenCV. Frames are those of one video after its context; a comparison tracks two. Knows no model
and no recording: the video is a textured room with things in it, seen by a camera that slides past.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from egowm_core.files import write_text
from egowm_core.scs.passive import select_passive
from egowm_core.scs.points import LucasKanadePoints, grid_points
from egowm_core.scs.score import track_and_score
from egowm_core.scs.structures import propose_structures
from egowm_core.scs.tracking import BoolArray, DenseFlowTracker
from egowm_core.types import ImageArray

PRESETS = ("ultrafast", "fast", "medium")

Table = dict[str, dict[str, dict[str, float]]]


def sliding_room(
    height: int, width: int, frames: int, structures: int, *, seed: int = 0
) -> tuple[ImageArray, BoolArray]:
    """A video (T+1,H,W,3) of ``frames`` after the first, and ``structures`` true masks (N,H,W) of the first."""
    rng = np.random.default_rng(seed)
    step = max(1, width // 80)
    wide = width + step * frames
    wall = np.zeros((height, wide, 3), np.float32)
    for sigma in (2, 6, 15):
        noise = cv2.GaussianBlur(rng.normal(size=wall.shape).astype(np.float32), (0, 0), sigma * height / 96)
        wall += 22 * noise / noise.std()
    wall += 128
    columns = max(1, -(-structures // 2))
    masks = np.zeros((structures, height, width), np.bool_)
    for n in range(structures):
        top = round(height * (0.12 if n % 2 else 0.58))
        left = round(width * (0.06 + 0.88 * (n // 2) / columns))
        cell = (slice(top, top + height // 4), slice(left, left + round(0.6 * width / columns)))
        wall[cell] += rng.uniform(-70, 70, 3).astype(np.float32)
        masks[(n, *cell)] = True
    room = np.clip(wall, 0, 255).astype(np.uint8)
    return np.stack([room[:, step * t : step * t + width] for t in range(frames + 1)]), masks


def measure(height: int, width: int, *, frames: int = 8, structures: int = 8, passes: int = 3) -> Table:
    """{row: {metric: {horizon: value}}}: ``frames_per_s`` and ``share_of_medium`` (time) at the number of frames."""
    images, masks = sliding_room(height, width, frames, structures)
    predicted = np.concatenate([images[:1], np.roll(images[1:], 1, axis=1)])
    points, _ = grid_points(masks, spacing_px=height / 24)
    stages: dict[str, Callable[[], object]] = {}

    def track(tracker: DenseFlowTracker) -> Callable[[], object]:
        return lambda: tracker.track(masks, images)

    def compare(tracker: DenseFlowTracker) -> Callable[[], object]:
        def run() -> object:
            chosen = propose_structures(images[0], max_structures=structures)
            given = chosen if len(chosen) == structures else masks
            return track_and_score(
                predicted[1:], images[1:], context=images[0], structures=given, horizons=[frames], tracker=tracker
            )

        return run

    for preset in PRESETS:
        tracker = DenseFlowTracker(preset=preset)
        stages[f"score {preset}"] = compare(tracker)
        stages[f"track {preset}"] = track(tracker)
    stages["track medium, light as it is"] = track(DenseFlowTracker(even_light=False))
    stages["propose"] = lambda: propose_structures(images[0], max_structures=structures)
    stages["points"] = lambda: LucasKanadePoints().track(points, images)
    stages["passive"] = lambda: select_passive(masks, images)
    taken: dict[str, float] = {}
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for _ in tqdm(range(passes), desc="measuring", unit="pass"):
            for name, run in stages.items():  # one after the other in each pass: a slow spell hits all alike
                begun = time.perf_counter()
                run()
                taken[name] = min(taken.get(name, float("inf")), time.perf_counter() - begun)
    finally:
        cv2.setNumThreads(threads)
    return {
        name: {
            "frames_per_s": {str(frames): round(frames / seconds, 2)},
            "share_of_medium": {str(frames): round(seconds / taken["score medium"], 4)},
        }
        for name, seconds in taken.items()
    }


def format_table(table: Table) -> str:
    """Markdown: one line a stage."""
    lines = ["| stage | frames/s | time, of a whole comparison (medium) |", "| --- | --- | --- |"]
    for name, metrics in table.items():
        speed, share = (next(iter(metrics[metric].values())) for metric in ("frames_per_s", "share_of_medium"))
        lines.append(f"| {name} | {speed:.1f} | {100 * share:.0f} % |")
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m egowm_core.scs.bench",
        description="Speed of the Structural Consistency Score: propose, track both videos, score; on one thread.",
        epilog="example: python -m egowm_core.scs.bench --size 240x320 --structures 8 --json out/scs_bench.json",
    )
    parser.add_argument("--size", default="240x320", help="HEIGHTxWIDTH in pixels (default 240x320)")
    parser.add_argument("--frames", type=int, default=8, help="frames after the context (default 8)")
    parser.add_argument("--structures", type=int, default=8, help="how many, up to 16 (default 8)")
    parser.add_argument("--passes", type=int, default=3, help="the best of so many (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        height, width = (int(part) for part in arguments.size.lower().split("x"))
    except ValueError:
        parser.error(f"--size {arguments.size!r}: expected HEIGHTxWIDTH, for example 240x320")
    limits = {"frames": 1000, "structures": 16, "passes": 100}
    for name, most in limits.items():
        if not 1 <= getattr(arguments, name) <= most:
            parser.error(f"--{name} {getattr(arguments, name)}: expected 1 to {most}")
    if not (32 <= height <= 2160 and 32 <= width <= 3840):
        parser.error(f"--size {arguments.size}: expected 32x32 to 2160x3840")
    settings = {"height": height, "width": width, **{name: getattr(arguments, name) for name in limits}}
    table = measure(height, width, frames=arguments.frames, structures=arguments.structures, passes=arguments.passes)
    print(format_table(table))
    if arguments.json:
        try:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            write_text(arguments.json, json.dumps({"settings": settings, "rows": table}, indent=1))
        except OSError as error:
            print(f"scs.bench: cannot write {arguments.json}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`egowm-few-steps CHECKPOINT@STEPS...`: checkpoints at several numbers of denoising steps, on the same clips.

Each row of the table is a checkpoint at a number of steps; below, what each differs by from the first, paired, with 95%
intervals of resampled recordings (clips of one room share it). ``sharpness`` is the gradient energy of a frame over the
observed frame's, in dB. SCS is the mean over frames 1 to the horizon, the rest is of that frame alone. ``seconds`` is
the median over clips of one rollout of so many frames, alone in its batch.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from egowm_core.errors import ConfigError, EgowmError
from egowm_core.files import without_nan, write_text
from egowm_core.loading import load_world_model
from egowm_core.scs.confidence import Interval, bootstrap_difference
from egowm_core.types import FloatArray, ImageArray
from egowm_core.world_model import WorldModel
from training.evaluate import as_scored
from training.held_out import EvaluationClip, choose_clips
from training.pictures import save_strips
from training.score.clip import Clip
from training.score.measure import BEST_PSNR_DB, ClipScore, Measures, measure

FRAME_MEASURES = ("psnr", "ssim", "sharpness")
_DIGITS = {"ssim": 3, "seconds": 3}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Values = dict[str, list[FloatArray]]
"""{measure: one array a recording}: IoUs in 0..1 (N,T) of SCS, else values (clips,1) over 100."""


def parse_rows(given: Sequence[str]) -> dict[str, tuple[str, int]]:
    """``CHECKPOINT@1,2,4`` into {row: (checkpoint, num_denoising_steps)}, in order.

    Raises:
        ConfigError: no numbers of steps, or not all at least 1; or two checkpoints of one name.
    """
    rows: dict[str, tuple[str, int]] = {}
    for text in given:
        checkpoint, _, steps = text.rpartition("@")
        numbers = [int(part) if part.isdigit() else 0 for part in steps.split(",")]
        if not checkpoint or min(numbers) < 1:
            raise ConfigError(f"{text!r} is no row; give CHECKPOINT@STEPS, such as embedded:base_3dof@1,2,4")
        path = Path(checkpoint)
        name = path.parent.name if path.name == "checkpoint" else path.name
        for number in numbers:
            if rows.setdefault(f"{name}@{number}", (checkpoint, number))[0] != checkpoint:
                other = rows[f"{name}@{number}"][0]
                raise ConfigError(f"{other} and {checkpoint} would both be row {name}@{number}; rename a directory")
    return rows


def sharpness(predicted: ImageArray, observed: ImageArray) -> float:
    """Gradient energy of a frame (H,W,3) over another's in dB: blur is below 0, noise and invented detail above."""
    energies = [
        sum(float(np.square(np.diff(frame.astype(np.float32) @ _LUMA, axis=axis)).mean()) for axis in (0, 1))
        for frame in (predicted, observed)
    ]
    return 10 * math.log10(max(energies[0], 1e-3) / max(energies[1], 1e-3))


def predict(
    model: WorldModel, clips: Sequence[EvaluationClip], *, num_denoising_steps: int, seed: int
) -> tuple[list[ImageArray], list[float]]:
    """What the model predicts for each clip (T,H,W,3), one by one, and the seconds it took."""
    images, seconds = [], []
    for number, clip in enumerate(clips):
        begun = time.perf_counter()
        predicted = model.predict(
            clip.context[None],
            clip.actions[None],
            state=None if clip.state is None else clip.state[None],
            seed=seed + number,
            num_denoising_steps=num_denoising_steps,
        )
        seconds.append(time.perf_counter() - begun)
        images.append(predicted.images[0])
    return images, seconds


def by_recording(scores: Sequence[ClipScore], clips: Sequence[Clip], recordings: Sequence[str], horizon: int) -> Values:
    """The values of a row, those of a recording together."""
    found: Values = {}
    for recording in dict.fromkeys(recordings):
        own = [score for score in scores if recordings[score.clip] == recording]
        for kind in ("scs_true", "scs"):
            ious = [score.iou[kind][:, :horizon] for score in own if kind in score.iou]
            if any(kind in score.iou for score in scores):
                found.setdefault(kind, []).append(np.concatenate(ious) if ious else np.zeros((0, horizon), np.float32))
        last = horizon - 1
        for name in FRAME_MEASURES:
            values = [
                sharpness(clips[score.clip].predicted[score.row][last], clips[score.clip].observed[last])
                if name == "sharpness"
                else min(float(score.series[name][last]), BEST_PSNR_DB)
                for score in own
            ]
            found.setdefault(name, []).append(np.asarray(np.array(values)[:, None] / 100, np.float32))
    return found


def differences(first: Values, row: Values, horizon: int) -> dict[str, Interval]:
    """Measure by measure, ``row`` minus ``first`` with its interval, by resampled recordings."""
    return {
        name: next(iter(bootstrap_difference(row[name], first[name], [horizon if "scs" in name else 1]).values()))
        for name in first
    }


def mean(name: str, values: Values) -> float:
    """Of a measure of a row, over everything that is judged; NaN where that is nothing."""
    judged = np.concatenate([value[np.isfinite(value)] for value in values[name]])
    return 100 * float(judged.mean(dtype=np.float64)) if judged.size else float("nan")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-few-steps",
        description="Checkpoints at several numbers of denoising steps beside each other, on the same held-out clips.",
        epilog="example: egowm-few-steps embedded:base_3dof@1,2,4,8 runs/student_base_3dof/checkpoint@1,2"
        " --dataset data/rooms_heldout",
    )
    parser.add_argument("rows", nargs="+", metavar="CHECKPOINT@STEPS", help="such as embedded:base_3dof@1,2,4,8")
    parser.add_argument("--dataset", type=Path, required=True, help="held-out dataset made by egowm-convert")
    parser.add_argument("--clips", type=int, default=96, help="how many clips (default 96)")
    parser.add_argument("--horizon", type=int, default=8, help="the frame to report (default 8)")
    parser.add_argument("--min-motion", type=float, default=1.5, help="leave out stiller clips (default 1.5)")
    parser.add_argument("--seed", type=int, default=0, help="which clips, and which noise (default 0)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: PyTorch's choice)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--strips", type=Path, metavar="DIR", help="also save pictures of clips")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        _compare(arguments)
    except (EgowmError, OSError) as error:
        print(f"egowm-few-steps: {error}", file=sys.stderr)
        return 1
    return 0


def _compare(arguments: argparse.Namespace) -> None:
    rows, horizon = parse_rows(arguments.rows), arguments.horizon
    models = {name: load_world_model(name, device=arguments.device) for name in {name for name, _ in rows.values()}}
    first = models[next(iter(rows.values()))[0]]
    clips = choose_clips(
        arguments.dataset,
        first,
        count=arguments.clips,
        horizon=horizon,
        min_motion=arguments.min_motion,
        seed=arguments.seed,
    )
    predicted: dict[str, list[ImageArray]] = {}
    seconds: dict[str, float] = {}
    for row, (checkpoint, steps) in tqdm(rows.items(), desc="predicting", unit="row"):
        made = predict(models[checkpoint], clips, num_denoising_steps=steps, seed=arguments.seed)
        predicted[row], seconds[row] = made[0], float(np.median(made[1]))
    if arguments.strips:
        save_strips(arguments.strips, clips, predicted, names=list(rows))
    scored = as_scored(clips, predicted)
    measured = measure(scored, Measures((horizon,)))
    recordings = [clip.name.rpartition(" from frame ")[0] for clip in clips]
    values = {row: by_recording(measured.of(row), scored, recordings, horizon) for row in rows}
    reference = next(iter(rows))
    names = list(values[reference])
    table = {row: {name: mean(name, values[row]) for name in names} | {"seconds": seconds[row]} for row in rows}
    gains = {row: differences(values[reference], values[row], horizon) for row in rows if row != reference}
    print(_markdown(table, gains, reference))
    if arguments.json:
        figures = {
            "settings": {"clips": len(clips), "horizon": horizon, "seed": arguments.seed, "reference": reference},
            "rows": table,
            "differences": {row: {name: asdict(item) for name, item in found.items()} for row, found in gains.items()},
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.json, json.dumps(without_nan(figures), indent=1))


def _markdown(table: dict[str, dict[str, float]], gains: dict[str, dict[str, Interval]], reference: str) -> str:
    names = [*next(iter(table.values()))]
    lines = ["| row | " + " | ".join(names) + " |", "|" + " --- |" * (len(names) + 1)]
    for row, values in table.items():
        cells = [f"{values[name]:.{_DIGITS.get(name, 1)}f}" for name in names]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    for row, found in gains.items():
        cells = []
        for name in names[:-1]:
            item, digits = found[name], _DIGITS.get(name, 1)
            cells.append(f"{item.mean:+.{digits}f} ({item.low:.{digits}f} to {item.high:.{digits}f})")
        lines.append(f"| {row} minus {reference} | " + " | ".join(cells) + " | |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

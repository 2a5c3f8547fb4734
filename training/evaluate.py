"""`egowm-evaluate CHECKPOINT --dataset DIR`: the table of model, wrong actions and baselines, on unseen recordings.

PSNR and SSIM are of the frame at the horizon; SCS is the mean over frames 1..horizon, as in the paper, and ``scs_at``
of that frame alone. ``scs_true``: the simulator's masks choose the structures and follow them through the observed
video; through the predicted one they are tracked from the context frame. ``scs``: wholly by tracking. Intervals are
of resampled clips. Measuring and the report are ``training.score``'s.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from egowm_core.checkpoint import load_checkpoint, publish
from egowm_core.errors import CheckpointError, EgowmError
from egowm_core.files import write_text
from egowm_core.loading import load_world_model
from egowm_core.metrics import METRICS
from egowm_core.types import ImageArray
from egowm_core.world_model import WorldModel
from training.held_out import EvaluationClip, choose_clips, of_another_room
from training.pictures import save_strips
from training.predictors import Given, reconstruct, stack_states, table_rows
from training.score.cli import parse_horizons, parse_names, told
from training.score.clip import Clip
from training.score.measure import ALWAYS, Measures, measure
from training.score.report import Report, write_report
from training.score.summary import Table, summarise

log = logging.getLogger("egowm.evaluate")

_SCORES = "## Scores on recordings never trained on"
_PRINTED = ("scs_true", "scs_true_at", "scs", "scs_at", "psnr", "ssim", "lpips", "dreamsim", "fid", "fvd")


def evaluate(
    model: WorldModel,
    clips: list[EvaluationClip],
    *,
    horizons: tuple[int, ...],
    num_denoising_steps: int | None = None,
    seed: int = 0,
    strips: Path | None = None,
    batch_size: int = 8,
) -> Table:
    """The table as {row: {metric: {horizon: value}}}; NaN where nothing could be judged."""
    predicted = predict_rows(model, clips, num_denoising_steps=num_denoising_steps, seed=seed, batch_size=batch_size)
    if strips is not None:
        save_strips(strips, clips, predicted)
    return summarise(measure(as_scored(clips, predicted), Measures(horizons)), horizons)[0]


def predict_rows(
    model: WorldModel,
    clips: list[EvaluationClip],
    *,
    num_denoising_steps: int | None = None,
    seed: int = 0,
    batch_size: int = 8,
) -> dict[str, list[ImageArray]]:
    """What each row of the table predicts for each clip (T,H,W,3); the autoencoder's ceiling is the last row."""
    rows = table_rows(model, num_denoising_steps=num_denoising_steps, seed=seed)
    predicted: dict[str, list[ImageArray]] = {name: [] for name in (*rows, "autoencoder")}
    for start in tqdm(range(0, len(clips), batch_size), desc="predicting", unit="batch"):
        batch = clips[start : start + batch_size]
        given = Given(
            np.stack([clip.context for clip in batch]),
            np.stack([clip.actions for clip in batch]),
            np.stack([clip.actions for clip in of_another_room(clips, start, len(batch))]),
            stack_states([clip.state for clip in batch]),
        )
        for name, predictor in rows.items():
            predicted[name] += list(predictor(given))
        predicted["autoencoder"] += list(reconstruct(model, np.stack([clip.observed for clip in batch])))
    return predicted


def as_scored(
    clips: Sequence[EvaluationClip], predicted: Mapping[str, Sequence[ImageArray]], *, rate_hz: float | None = None
) -> list[Clip]:
    """The clips as ``training.score`` measures them, each with what the rows predicted for it."""
    return [
        Clip(
            clip.name or f"clip {number + 1}",
            clip.context[-1],
            clip.observed,
            {name: frames[number] for name, frames in predicted.items()},
            true_structures=None if clip.masks is None else clip.masks[:, 0],
            observed_masks=None if clip.masks is None else clip.masks[:, 1:],
            rate_hz=rate_hz,
        )
        for number, clip in enumerate(clips)
    ]


def mean_scores(
    predicted: list[ImageArray], clips: list[EvaluationClip], horizons: tuple[int, ...], *, tracked: bool = True
) -> dict[str, dict[str, float]]:
    """{metric: {horizon: value}} of a row; without ``tracked``, SCS only by the simulator's truth (half the time)."""
    measured = measure(as_scored(clips, {"row": predicted}), Measures(horizons, tracked=tracked))
    return summarise(measured, horizons)[0]["row"]


def format_table(table: Table, horizons: tuple[int, ...]) -> str:
    """Markdown: one line a row, one column a metric and horizon."""
    metrics = [name for name in _PRINTED if name in next(iter(table.values()))]
    header = "| row | " + " | ".join(f"{metric} {'/'.join(map(str, horizons))}" for metric in metrics) + " |"
    lines = [header, "|" + " --- |" * (len(metrics) + 1)]
    for name, scores in table.items():
        cells = []
        for metric in metrics:
            digits = 3 if metric in ("ssim", "lpips", "dreamsim") else 1
            cells.append(" / ".join(f"{scores[metric][str(horizon)]:.{digits}f}" for horizon in horizons))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_card(directory: Path, scores: str) -> None:
    """Put ``scores`` (Markdown) at the end of the model card of a checkpoint directory, in place of older ones.

    Every other file of the directory stays as it is: weights, exported graphs, the drift monitor's baseline.

    Raises:
        CheckpointError: not a checkpoint directory, or one with folders in it, whose files no hash is recorded of.
    """
    card = load_checkpoint(directory).card.split(_SCORES)[0].rstrip() + f"\n\n{_SCORES}\n\n{scores}"
    if folders := sorted(path.name for path in directory.iterdir() if path.is_dir()):
        raise CheckpointError(f"{directory} has a folder {folders[0]!r}: a checkpoint is files alone; move it away")
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(directory, partial)
    (partial / "README.md").write_text(card, encoding="utf-8")
    publish(partial, directory)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-evaluate",
        description="Score a checkpoint on recordings that it was not trained on, beside wrong actions and baselines.",
        epilog="example: egowm-evaluate embedded:base_3dof --dataset data/rooms_heldout --json out/evaluation.json",
    )
    parser.add_argument("checkpoint", help="checkpoint directory, embedded:NAME or hub id")
    parser.add_argument("--dataset", type=Path, required=True, help="dataset made by egowm-convert")
    parser.add_argument("--clips", type=int, default=64, help="how many clips (default 64)")
    parser.add_argument("--horizons", default="2,4,8", help="frames to report, from 1 (default 2,4,8)")
    parser.add_argument("--num-denoising-steps", type=int, help="in place of the checkpoint's")
    parser.add_argument(
        "--min-motion", type=float, default=1.5, help="leave out stiller clips (default 1.5; 0 keeps all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which clips, and which noise (default 0)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: PyTorch's choice)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--strips", type=Path, metavar="DIR", help="also save pictures of clips, observed and predicted"
    )
    parser.add_argument(
        "--metrics", default=",".join(ALWAYS), help=f"of {','.join(METRICS)} (PSNR and SSIM always are)"
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="weights of the metrics' networks")
    parser.add_argument(
        "--passive",
        action="store_true",
        help="leave out proposed structures that move by themselves or are the robot's",
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a page, strips and all clips as mp4")
    parser.add_argument("--write-card", action="store_true", help="put the table into the checkpoint's model card")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        horizons = parse_horizons(arguments.horizons)
        metrics = parse_names(arguments.metrics, METRICS, "--metrics")
    except ValueError as error:
        print(f"egowm-evaluate: {error}", file=sys.stderr)
        return 2
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        _evaluate(arguments, horizons, metrics)
    except (EgowmError, OSError) as error:
        print(f"egowm-evaluate: {error}", file=sys.stderr)
        return 1
    return 0


def _evaluate(arguments: argparse.Namespace, horizons: tuple[int, ...], metrics: tuple[str, ...]) -> None:
    model = load_world_model(arguments.checkpoint, device=arguments.device)
    clips = choose_clips(
        arguments.dataset,
        model,
        count=arguments.clips,
        horizon=horizons[-1],
        min_motion=arguments.min_motion,
        seed=arguments.seed,
    )
    predicted = predict_rows(model, clips, num_denoising_steps=arguments.num_denoising_steps, seed=arguments.seed)
    if arguments.strips:
        save_strips(arguments.strips, clips, predicted)
    measures = Measures(
        horizons, metrics, passive=arguments.passive, weights_dir=arguments.weights, device=arguments.device
    )
    scored = as_scored(clips, predicted, rate_hz=model.embodiment.rate_hz)
    measured = measure(scored, measures)
    table, intervals = summarise(measured, horizons, seed=arguments.seed)
    printed = format_table(table, horizons)
    print(printed)
    for name, why in measured.unavailable.items():
        print(f"not available: {name}: {why}", file=sys.stderr)
    steps = arguments.num_denoising_steps or model.num_denoising_steps
    settings: dict[str, Any] = {
        "checkpoint": str(arguments.checkpoint),
        "clips": len(clips),
        "seed": arguments.seed,
        "num_denoising_steps": steps,
    }
    if arguments.write_card:
        write_card(Path(arguments.checkpoint), f"{len(clips)} clips, {steps} denoising steps.\n\n{printed}\n")
    if arguments.json:
        figures = {"settings": settings, "rows": table, "intervals": intervals, **told(measured, [], horizons)}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.json, json.dumps(figures, indent=1))
    if arguments.report:
        named = {**settings, "checkpoint": Path(arguments.checkpoint).name, "passive_only": arguments.passive}
        named |= {"dataset": arguments.dataset.name, "horizons": list(horizons), "min_motion": arguments.min_motion}
        title = f"{named['checkpoint']} on {named['dataset']}"
        report = Report(title, named, scored, measured, measures, table, intervals)
        log.info("report: %s", write_report(arguments.report, report))


if __name__ == "__main__":
    sys.exit(main())

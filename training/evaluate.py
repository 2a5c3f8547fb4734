"""`egowm-evaluate CHECKPOINT --dataset DIR`: the table of model, wrong actions and baselines, on unseen recordings.

PSNR and SSIM are of the frame at the horizon; SCS is the mean over frames 1..horizon, as in the paper, and ``scs_at``
of that frame alone. ``scs_true``: the simulator's masks choose the structures and follow them through the observed
video; through the predicted one they are tracked from the context frame. ``scs``: wholly by tracking.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from egowm_core.checkpoint import load_checkpoint, save_checkpoint
from egowm_core.data.normalize import normalize
from egowm_core.errors import DataError, EgowmError
from egowm_core.loading import load_world_model
from egowm_core.scs import choose_ids, frame_scs, masks_of, psnr, score, ssim
from egowm_core.types import FloatArray, ImageArray
from egowm_core.world_model import WorldModel
from training.dataset.reader import Dataset, Episode
from training.pictures import save_strips
from training.predictors import Given, reconstruct, stack_states, table_rows

log = logging.getLogger("egowm.evaluate")

_SCORES = "## Scores on recordings never trained on"

Table = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class EvaluationClip:
    """One clip: ``context`` (K,H,W,3), ``observed`` (T,H,W,3), ``actions`` (T,D) in units.

    ``masks`` (N,1+T,H,W) of the truth, and ``state`` (S,) in units at the last context frame, where there are any.
    """

    context: ImageArray
    observed: ImageArray
    actions: FloatArray
    masks: NDArray[np.bool_] | None = None
    state: FloatArray | None = None


def choose_clips(
    dataset: Path,
    model: WorldModel,
    *,
    count: int,
    horizon: int,
    min_motion: float,
    seed: int,
    context: int | None = None,
) -> list[EvaluationClip]:
    """``count`` clips drawn evenly over the episodes, each moving at least ``min_motion`` (channel scales a chunk).

    ``context`` frames come with each (the model's own number unless given).

    Raises:
        DataError: not a dataset, or fewer such clips than asked for.
        EmbodimentError: a dataset of another robot.
    """
    context = context or model.context_frames
    data = Dataset(dataset)
    data.embodiment.require_same(model.embodiment)
    rng = np.random.default_rng(seed)
    episodes = data.episodes
    pools = []
    for episode in episodes:
        moved = np.abs(normalize(episode.actions, model.embodiment)).sum(axis=1)
        starts = [
            int(start)
            for start in episode.windows(context, horizon)
            if moved[start + context - 1 :][:horizon].sum() >= min_motion * horizon / 8
        ]
        pools.append(list(rng.permutation(starts)))
    clips: list[EvaluationClip] = []
    while len(clips) < count and any(pools):
        for episode, pool in zip(episodes, pools, strict=True):
            if pool and len(clips) < count:
                clips.append(_clip(episode, int(pool.pop()), context, horizon, stateful=bool(data.embodiment.states)))
    if len(clips) < count:
        raise DataError(
            f"{dataset}: {len(clips)} clips move enough, {count} were asked for; lower --clips or record more"
        )
    return clips


def _clip(episode: Episode, start: int, context: int, horizon: int, *, stateful: bool) -> EvaluationClip:
    sample = episode.sample(start, context=context, horizon=horizon)
    now = start + context - 1
    masks = None
    if (labels := episode.labels(now, now + 1 + horizon)) is not None:
        static = {int(key) for key, value in (episode.structures or {}).items() if value.get("static", True)}
        masks = masks_of(labels, choose_ids(labels[0], allowed=static))
    state = episode.states[now] if stateful else None
    return EvaluationClip(sample.context_images, sample.future_images, sample.actions, masks, state)


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
    table = {
        name: mean_scores(frames, clips, horizons)
        for name, frames in tqdm(predicted.items(), desc="scoring", unit="row")
    }
    if strips is not None:
        save_strips(strips, clips, predicted)
    return table


def of_another_room(clips: list[EvaluationClip], start: int, count: int) -> list[EvaluationClip]:
    """For the clips from ``start`` on, others whose actions are wrong for them."""
    return [clips[(start + i + len(clips) // 2) % len(clips)] for i in range(count)]


def mean_scores(
    predicted: list[ImageArray], clips: list[EvaluationClip], horizons: tuple[int, ...], *, tracked: bool = True
) -> dict[str, dict[str, float]]:
    """{metric: {horizon: value}} of a row; without ``tracked``, SCS only by the simulator's truth (half the time)."""
    values: dict[str, dict[int, list[float]]] = {}

    def add(metric: str, horizon: int, value: float) -> None:
        values.setdefault(metric, {}).setdefault(horizon, []).append(value)

    for frames, clip in zip(predicted, clips, strict=True):
        context = clip.context[-1]
        per_frame = {"psnr": np.minimum(psnr(frames, clip.observed), 60.0), "ssim": ssim(frames, clip.observed)}
        scored = {"scs": score(frames, clip.observed, context=context, horizons=horizons)} if tracked else {}
        if clip.masks is not None and len(clip.masks):
            scored["scs_true"] = score(
                frames,
                clip.observed,
                context=context,
                structures=clip.masks[:, 0],
                observed_masks=clip.masks[:, 1:],
                horizons=horizons,
            )
        for horizon in horizons:
            for metric, series in per_frame.items():
                add(metric, horizon, float(series[horizon - 1]))
            for metric, result in scored.items():
                add(metric, horizon, result.scs[horizon])
                add(f"{metric}_at", horizon, float(frame_scs(result.iou)[horizon - 1]))
    return {
        metric: {str(horizon): _nanmean(items) for horizon, items in by_horizon.items()}
        for metric, by_horizon in sorted(values.items())
    }


def _nanmean(items: list[float]) -> float:
    kept = [item for item in items if np.isfinite(item)]
    return round(float(np.mean(kept)), 3) if kept else float("nan")


def format_table(table: Table, horizons: tuple[int, ...]) -> str:
    """Markdown: one line a row, one column a metric and horizon."""
    metrics = [
        m for m in ("scs_true", "scs_true_at", "scs", "scs_at", "psnr", "ssim") if m in next(iter(table.values()))
    ]
    header = "| row | " + " | ".join(f"{metric} {'/'.join(map(str, horizons))}" for metric in metrics) + " |"
    lines = [header, "|" + " --- |" * (len(metrics) + 1)]
    for name, scores in table.items():
        cells = []
        for metric in metrics:
            digits = 3 if metric == "ssim" else 1
            cells.append(" / ".join(f"{scores[metric][str(horizon)]:.{digits}f}" for horizon in horizons))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_card(directory: Path, scores: str) -> None:
    """Put ``scores`` (Markdown) at the end of the model card of a checkpoint directory, in place of older ones.

    Raises:
        CheckpointError: not a checkpoint directory.
    """
    checkpoint = load_checkpoint(directory)
    card = checkpoint.card.split(_SCORES)[0].rstrip() + f"\n\n{_SCORES}\n\n{scores}"
    save_checkpoint(directory, replace(checkpoint, card=card))


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
    parser.add_argument("--write-card", action="store_true", help="put the table into the checkpoint's model card")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        horizons = tuple(sorted(int(item) for item in arguments.horizons.split(",")))
        if horizons[0] < 1:
            raise ValueError("horizons start at 1")
    except ValueError as error:
        print(f"egowm-evaluate: --horizons {arguments.horizons!r}: {error}; expected e.g. 2,4,8", file=sys.stderr)
        return 2
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        model = load_world_model(arguments.checkpoint, device=arguments.device)
        clips = choose_clips(
            arguments.dataset,
            model,
            count=arguments.clips,
            horizon=horizons[-1],
            min_motion=arguments.min_motion,
            seed=arguments.seed,
        )
        table = evaluate(
            model,
            clips,
            horizons=horizons,
            num_denoising_steps=arguments.num_denoising_steps,
            seed=arguments.seed,
            strips=arguments.strips,
        )
    except EgowmError as error:
        print(f"egowm-evaluate: {error}", file=sys.stderr)
        return 1
    printed = format_table(table, horizons)
    print(printed)
    if arguments.write_card:
        steps = arguments.num_denoising_steps or model.num_denoising_steps
        write_card(Path(arguments.checkpoint), f"{len(clips)} clips, {steps} denoising steps.\n\n{printed}\n")
    if arguments.json:
        settings: dict[str, Any] = {
            "checkpoint": str(arguments.checkpoint),
            "clips": len(clips),
            "seed": arguments.seed,
        }
        settings["num_denoising_steps"] = arguments.num_denoising_steps or model.num_denoising_steps
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"settings": settings, "rows": table}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

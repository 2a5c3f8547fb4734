"""The rows of a comparison: each model's scores on the same clips, and the time that a long rollout takes it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from egowm_core.types import ImageArray
from egowm_core.world_model import WorldModel
from training.evaluate import mean_scores
from training.held_out import choose_clips, of_another_room
from training.pictures import save_strips
from training.predictors import reconstruct, stack_states
from training.score.summary import Table
from training.variants import Row

_METRICS = ("scs_true", "psnr")


def evaluate_rows(
    models: list[tuple[Row, WorldModel]],
    dataset: Path,
    *,
    clips: int,
    horizons: tuple[int, ...],
    seed: int,
    context: int,
    min_motion: float = 1.5,
    strips: Path | None = None,
    batch_size: int = 8,
) -> Table:
    """{row: {metric: {horizon: value}}} on the same clips for all, each beginning with ``context`` frames.

    ``NAME_wrong_actions`` is given another room's. ``scs_true`` as `egowm-evaluate` computes it, ``psnr`` of the
    frame at the horizon, and ``parameters`` of the denoiser in millions under the horizon "all".

    Raises:
        DataError: fewer clips than asked for.
    """
    chosen = choose_clips(
        dataset, models[0][1], count=clips, horizon=horizons[-1], min_motion=min_motion, seed=seed, context=context
    )
    predicted: dict[str, list[ImageArray]] = {}
    given = [clip.context for clip in chosen]
    states = [clip.state for clip in chosen]
    actions = [clip.actions for clip in chosen]
    wrong = [clip.actions for clip in of_another_room(chosen, 0, len(chosen))]
    for row, model in tqdm(models, desc="predicting", unit="row"):
        for name, moves in ((row.name, actions), (f"{row.name}_wrong_actions", wrong)):
            batches = [slice(start, start + batch_size) for start in range(0, len(chosen), batch_size)]
            frames = [
                model.predict(np.stack(given[b]), np.stack(moves[b]), state=stack_states(states[b]), seed=seed).images
                for b in batches
            ]
            predicted[name] = [clip for batch in frames for clip in batch]
    predicted["copy_last"] = [np.repeat(clip.context[-1:], horizons[-1], axis=0) for clip in chosen]
    predicted["autoencoder"] = [reconstruct(models[0][1], clip.observed[None])[0] for clip in chosen]
    table = {
        name: mean_scores(frames, chosen, horizons, tracked=False)
        for name, frames in tqdm(predicted.items(), desc="scoring", unit="row")
    }
    for row, model in models:
        table[row.name]["parameters"] = {"all": round(_parameters(model) / 1e6, 2)}
    if strips is not None:
        names = [row.name for row, _ in models]
        save_strips(strips, chosen, predicted, names=[*names, "copy_last", "autoencoder"])
    return table


def format_rows(table: Table, horizons: tuple[int, ...]) -> str:
    """Markdown: one line a row, and how much wrong actions cost it at each horizon (dB)."""
    at = "/".join(map(str, horizons))
    lines = [f"| row | M parameters | SCS, true masks {at} | PSNR {at} | PSNR lost by wrong actions {at} |"]
    lines.append("|" + " --- |" * 5)
    for name, scores in table.items():
        if name.endswith("_wrong_actions"):
            continue
        cells = [f"{scores['parameters']['all']:.1f}" if "parameters" in scores else ""]
        cells += [
            " / ".join(f"{scores[metric][str(horizon)]:.1f}" for horizon in horizons) if metric in scores else ""
            for metric in _METRICS
        ]
        wrong = table.get(f"{name}_wrong_actions")
        lost = [scores["psnr"][str(h)] - wrong["psnr"][str(h)] for h in horizons] if wrong else []
        lines.append(f"| {name} | " + " | ".join(cells) + " | " + " / ".join(f"{value:.1f}" for value in lost) + " |")
    return "\n".join(lines)


def time_rows(
    models: list[tuple[Row, WorldModel]], *, horizon: int, repeats: int, reference: str
) -> dict[str, dict[str, float]]:
    """{row: {p50, p99, ratio}}: seconds of a rollout of ``horizon`` frames, and how many times the reference row's.

    Rows take turns, so that a busy moment of the machine falls on all of them.
    """
    times: dict[str, list[float]] = {row.name: [] for row, _ in models}
    rng = np.random.default_rng(0)
    for repeat in tqdm(range(repeats + 1), desc="timing", unit="round"):
        for row, model in models:
            camera = model.embodiment.camera()
            size = (1, model.context_frames, camera.height, camera.width, 3)
            context = rng.integers(0, 255, size, dtype=np.uint8)
            low, high = 0.5 * model.embodiment.limits.T
            actions = rng.uniform(low, high, size=(1, horizon, model.embodiment.action_dim))
            state = np.zeros((1, len(model.embodiment.states)), np.float32) if model.embodiment.states else None
            begun = time.perf_counter()
            model.predict(context, actions, state=state)
            if repeat:  # the first round builds kernels
                times[row.name].append(time.perf_counter() - begun)
    medians = {name: float(np.median(series)) for name, series in times.items()}
    return {
        name: {
            "p50": medians[name],
            "p99": float(np.quantile(series, 0.99)),
            "ratio": medians[name] / medians[reference],
        }
        for name, series in times.items()
    }


def _parameters(model: WorldModel) -> int:
    module = model.denoiser
    return sum(p.numel() for p in module.parameters()) if hasattr(module, "parameters") else 0

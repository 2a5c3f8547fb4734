"""The validation curve of a run: the latest frame's error with true and with wrong actions, beside copying."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egowm_core.diffusion.denoiser import per_frame
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.conditioning import WARPS, encode_context
from egowm_core.models.registry import TrainedAutoencoder
from egowm_core.models.vae import to_unit_range
from training.clips import ClipBatch, ClipDataset
from training.config import TrainConfig


@torch.no_grad()
def append_curve(
    path: Path, config: TrainConfig, vae: TrainedAutoencoder, denoiser: BackboneDenoiser, data: ClipDataset, step: int
) -> None:
    """Add a row to ``path``: one-step prediction error of the last latent frame, by true and by another clip's actions.

    A model of whole chunks predicts it from noise in all frames; a causal one from noise in the last frame alone, the
    earlier ones given (``copy`` is then the frame before, otherwise the context). As many clips are looked at together
    as a training step does.
    """
    run = config.denoiser_run
    rng = np.random.default_rng(config.seed)
    numbers = rng.choice(len(data), size=min(run.validation_clips, len(data)), replace=False)
    wrong = data.batch(np.roll(numbers, -1), images=False).actions
    generator = torch.Generator().manual_seed(config.seed)
    was_training = denoiser.training
    denoiser.eval()
    sums: dict[str, float] = {}
    for start in range(0, len(numbers), run.batch_size):
        part = slice(start, start + run.batch_size)
        batch = data.batch(numbers[part])
        with torch.autocast(config.device.partition(":")[0], dtype=torch.bfloat16, enabled=config.bf16):
            errors = _errors(config, vae, denoiser, data, batch, wrong[part], generator)
        for name, values in errors.items():
            sums[name] = sums.get(name, 0.0) + float(values.sum())
    denoiser.train(was_training)
    row = {"step": step, "time_s": round(time.time(), 1)}
    row |= {name: round(total / len(numbers), 5) for name, total in sums.items()}
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _errors(
    config: TrainConfig,
    vae: TrainedAutoencoder,
    denoiser: BackboneDenoiser,
    data: ClipDataset,
    batch: ClipBatch,
    wrong: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Of each clip (B,), by name of the column."""
    images = batch.images.to(config.device)
    clip = vae.encode(to_unit_range(images)).float()
    split = clip.shape[1] - data.horizon // vae.temporal_factor
    future, before = clip[:, split:], clip[:, split - 1]
    sigma = future.new_full(future.shape[:2], config.sampling.sigma_max)
    if denoiser.config.causal:
        sigma[:, :-1] = denoiser.config.history_sigma
        before = clip[:, -2]
    noisy = _noised(future, sigma, generator)
    errors: dict[str, Tensor] = {}
    for warp in WARPS:
        if not config.denoiser_run.warp_shares.get(warp):
            continue
        for name, given in (("true", batch.actions), ("wrong", wrong)):
            actions = given.to(config.device)
            known = encode_context(
                vae,
                images[:, : data.context],
                actions,
                embodiment=data.embodiment,
                warps=[warp] * len(actions),
                latents=clip[:, :split],
            )
            predicted = denoiser.denoise(noisy, sigma, known, actions)
            errors[f"{warp}_{name}"] = (predicted - future)[:, -1].square().mean(dim=(1, 2, 3))
    errors["copy"] = (before - future[:, -1]).square().mean(dim=(1, 2, 3))
    return errors


def _noised(future: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Clean where the level is a history's, else nothing but noise."""
    top = sigma == sigma.max()
    noise = per_frame(sigma) * torch.randn(future.shape, generator=generator).to(future)
    return torch.where(per_frame(top), noise, future)

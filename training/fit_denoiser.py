"""Stage two: the action-conditioned denoiser, on latents of the frozen autoencoder."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from egowm_core.diffusion.denoiser import Context
from egowm_core.diffusion.losses import edm_loss
from egowm_core.diffusion.sigmas import lognormal_sigmas
from egowm_core.models.conditioning import WARPS, encode_context
from egowm_core.models.registry import build_denoiser
from egowm_core.models.svd import SVDDenoiser
from egowm_core.models.vae import FrameAutoencoder, to_unit_range
from training.clips import ClipDataset
from training.config import DenoiserRun, TrainConfig
from training.fit_autoencoder import encode_frames
from training.state import load_state, save_state
from training.timing import Every, cosine_rate

log = logging.getLogger("egowm.train")

_CURVE_EVERY = 500  # steps between two points of the validation curve


def fit_denoiser(
    config: TrainConfig,
    vae: FrameAutoencoder,
    data: ClipDataset,
    validation: ClipDataset,
    directory: Path,
    *,
    only_load: bool = False,
) -> SVDDenoiser:
    """Train, resuming from ``directory`` when a state is there; returns the averaged (EMA) model.

    ``directory/curve.csv`` follows the error on held-out clips with true and with wrong actions: their gap is what
    the model makes of its actions.
    """
    run = config.denoiser_run
    torch.manual_seed(config.seed)
    denoiser = build_denoiser(config.denoiser, data.embodiment)
    optimizer = torch.optim.AdamW(_groups(denoiser, run), betas=(0.9, 0.99), weight_decay=run.weight_decay)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    ema = {name: value.detach().clone() for name, value in denoiser.state_dict().items()}
    path = directory / "denoiser.safetensors"
    first = load_state(path, module=denoiser, optimizer=optimizer, ema=ema)
    if only_load:
        denoiser.load_state_dict(ema)
        return denoiser.eval().requires_grad_(False)
    latents = encode_frames(vae, data)
    likelihood = _draw_likelihood(data, run.min_motion)
    due = Every(config.save_every_s)
    bar = tqdm(range(first, run.steps), initial=first, total=run.steps, desc="denoiser", unit="step")
    smoothed = 0.0
    for step in bar:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = cosine_rate(step, run.steps, run.warmup_steps) * rate
        rng = np.random.default_rng([config.seed, 2, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        numbers = rng.choice(len(data), size=run.batch_size, p=likelihood)
        batch = data.batch(numbers)
        clip = latents[batch.frame_index].float()
        context, future = clip[:, : data.context], clip[:, data.context :]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bf16):
            with torch.no_grad():
                known = encode_context(
                    vae,
                    batch.images[:, : data.context],
                    batch.actions,
                    embodiment=data.embodiment,
                    warps=rng.choice(
                        list(run.warp_shares), size=run.batch_size, p=list(run.warp_shares.values())
                    ).tolist(),
                    latents=context,
                )
            loss = _loss(denoiser, future, known, batch.actions, run, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), run.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _average(ema, denoiser, decay=min(run.ema_decay, (step + 1) / (step + 10)))
        smoothed = 0.98 * smoothed + 0.02 * float(loss.detach()) if step > first else float(loss.detach())
        if step % 10 == 0:
            bar.set_postfix(loss=f"{smoothed:.4f}")
        if due() or step + 1 == run.steps:
            save_state(path, step=step + 1, module=denoiser, optimizer=optimizer, ema=ema)
        if (step + 1) % _CURVE_EVERY == 0 or step + 1 == run.steps:
            _append_curve(directory / "curve.csv", config, vae, denoiser, validation, step + 1)
    denoiser.load_state_dict(ema)
    return denoiser.eval().requires_grad_(False)


def _loss(
    denoiser: SVDDenoiser,
    future: Tensor,
    context: Context,
    actions: Tensor,
    run: DenoiserRun,
    generator: torch.Generator,
) -> Tensor:
    sigma = lognormal_sigmas(
        len(future), future.shape[1], mean=run.sigma_log_mean, std=run.sigma_log_std, generator=generator
    )
    return edm_loss(
        denoiser,
        future,
        sigma=sigma,
        context=context,
        action=actions,
        preconditioning=denoiser.preconditioning,
        generator=generator,
    )


def _groups(denoiser: SVDDenoiser, run: DenoiserRun) -> list[dict[str, object]]:
    """Two learning rates: the action path's may be a multiple of the backbone's."""
    encoder = denoiser.action_encoder
    action = set() if encoder is None else set(encoder.parameters())
    backbone = [p for p in denoiser.parameters() if p not in action]
    groups: list[dict[str, object]] = [{"params": backbone, "lr": run.learning_rate}]
    if encoder is not None:
        rate = run.learning_rate * run.action_learning_rate_scale
        groups.append({"params": list(encoder.parameters()), "lr": rate})
    return groups


def _draw_likelihood(data: ClipDataset, min_motion: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Clips are drawn alike, but the still ones a fifth as often."""
    weight = np.where(data.motion() < min_motion, 0.2, 1.0)
    return np.asarray(weight / weight.sum())


@torch.no_grad()
def _average(ema: dict[str, Tensor], module: torch.nn.Module, *, decay: float) -> None:
    for name, value in module.state_dict().items():
        if value.dtype.is_floating_point:
            ema[name].lerp_(value, 1 - decay)
        else:
            ema[name].copy_(value)


@torch.no_grad()
def _append_curve(
    path: Path, config: TrainConfig, vae: FrameAutoencoder, denoiser: SVDDenoiser, data: ClipDataset, step: int
) -> None:
    """One-step prediction error of the last latent frame: true actions, another clip's, and the context copied."""
    rng = np.random.default_rng(config.seed)
    batch = data.batch(rng.choice(len(data), size=min(config.denoiser_run.validation_clips, len(data)), replace=False))
    generator = torch.Generator().manual_seed(config.seed)
    sigma = torch.full(batch.actions.shape[:2], config.sampling.sigma_max)
    row: dict[str, float] = {"step": step, "time_s": round(time.time(), 1)}
    modes = [warp for warp in WARPS if config.denoiser_run.warp_shares.get(warp)]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bf16):
        frames = to_unit_range(batch.images)
        clip = vae.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).float()
        future = clip[:, data.context :]
        noisy = future * 0 + config.sampling.sigma_max * torch.randn(future.shape, generator=generator)
        for warp in modes:
            for name, order in (("true", slice(None)), ("wrong", [*range(1, len(future)), 0])):
                actions = batch.actions[order]
                known = encode_context(
                    vae,
                    batch.images[:, : data.context],
                    actions,
                    embodiment=data.embodiment,
                    warps=[warp] * len(actions),
                )
                predicted = denoiser.denoise(noisy, sigma, known, actions)
                row[f"{warp}_{name}"] = float((predicted - future)[:, -1].square().mean())
        row["copy"] = float((clip[:, data.context - 1] - future[:, -1]).square().mean())
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow({key: round(value, 5) for key, value in row.items()})

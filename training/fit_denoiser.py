"""Stage two: the action-conditioned denoiser, on latents of the frozen autoencoder."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from egowm_core.diffusion.denoiser import Context
from egowm_core.diffusion.losses import denoising_loss
from egowm_core.diffusion.sigmas import lognormal_sigmas
from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.registry import TrainedAutoencoder
from training.clips import ClipDataset
from training.config import DenoiserRun, TrainConfig
from training.curve import append_curve
from training.draws import ClipLatents
from training.initial import initial_denoiser
from training.lora import add_lora, merge_lora
from training.state import load_state, save_state
from training.timing import Every, cosine_rate

log = logging.getLogger("egowm.train")

_CURVE_EVERY = 500  # steps between two points of the validation curve


def fit_denoiser(
    config: TrainConfig,
    vae: TrainedAutoencoder,
    data: ClipDataset,
    validation: ClipDataset,
    directory: Path,
    *,
    only_load: bool = False,
) -> BackboneDenoiser:
    """Train, resuming from ``directory`` when a state is there; returns the averaged (EMA) model.

    ``directory/curve.csv`` follows the error on held-out clips with true and with wrong actions: their gap is what
    the model makes of its actions.

    Raises:
        ConfigError: settings that do not fit the backbone, the autoencoder or the dataset.
        CheckpointError: ``only_load``, but nothing was trained yet.
    """
    run, device = config.denoiser_run, torch.device(config.device)
    denoiser = initial_denoiser(config, data.embodiment).to(device)
    _check_run(run, denoiser, vae)
    if run.lora_rank:
        add_lora(denoiser, rank=run.lora_rank)
    if run.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    denoiser.train()
    trained = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning_rates(denoiser, run), betas=(0.9, 0.99), weight_decay=run.weight_decay)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    ema = {name: value.detach().clone() for name, value in denoiser.state_dict().items()}
    path = directory / "denoiser.safetensors"
    first = load_state(path, module=denoiser, optimizer=optimizer, ema=ema)
    if only_load:
        if not path.exists():
            raise CheckpointError(f"{directory}: no denoiser yet; run --stage denoiser first")
        return _finished(denoiser, ema, run)
    source = ClipLatents(config, vae, data, directory, causal=denoiser.config.causal)
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
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
            with torch.no_grad():
                known, future, actions = source.draw(numbers, rng)
            loss = training_loss(denoiser, future, known, actions, run, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, run.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _average(ema, denoiser, decay=min(run.ema_decay, (step + 1) / (step + 10)))
        smoothed = 0.98 * smoothed + 0.02 * float(loss.detach()) if step > first else float(loss.detach())
        if step % 10 == 0:
            bar.set_postfix(loss=f"{smoothed:.4f}")
        if due() or step + 1 == run.steps:
            save_state(path, step=step + 1, module=denoiser, optimizer=optimizer, ema=ema)
        if (step + 1) % _CURVE_EVERY == 0 or step + 1 == run.steps:
            append_curve(directory / "curve.csv", config, vae, denoiser, validation, step + 1)
    return _finished(denoiser, ema, run)


def training_loss(
    denoiser: BackboneDenoiser,
    future: Tensor,
    context: Context,
    actions: Tensor,
    run: DenoiserRun,
    generator: torch.Generator,
) -> Tensor:
    """The backbone's own objective on ``future`` (B,T,C,h,w), a scalar; noise levels and noise from ``generator``."""
    sigma = lognormal_sigmas(
        len(future),
        future.shape[1],
        mean=run.sigma_log_mean,
        std=run.sigma_log_std,
        generator=generator,
        per_frame=run.diffusion_forcing,
    )
    return denoising_loss(
        denoiser,
        future,
        sigma=sigma.to(future.device),
        context=context,
        action=actions,
        preconditioning=denoiser.preconditioning,
        generator=generator,
    )


def learning_rates(denoiser: BackboneDenoiser, run: DenoiserRun) -> list[dict[str, object]]:
    """Optimizer groups of what is trained: the action path (Z_a, Z_s) may learn faster than the rest (EgoWM: 10x)."""
    paths = [module for module in (denoiser.action_encoder, denoiser.state_encoder) if module is not None]
    action = [parameter for module in paths for parameter in module.parameters()]
    of_action = set(action)
    rest = [p for p in denoiser.parameters() if p.requires_grad and p not in of_action]
    groups: list[dict[str, object]] = [{"params": rest, "lr": run.learning_rate}] if rest else []
    if action:
        groups.append({"params": action, "lr": run.learning_rate * run.action_learning_rate_scale})
    return groups


def _check_run(run: DenoiserRun, denoiser: BackboneDenoiser, vae: TrainedAutoencoder) -> None:
    if set(run.warp_shares) != {"none"} and not (denoiser.config.context_warp and vae.temporal_factor == 1):
        raise ConfigError(
            f"denoiser_run.warp_shares {run.warp_shares} need denoiser.context_warp true and an autoencoder of single "
            "frames; leave warp_shares out"
        )
    if run.lora_rank and (not run.init_from or run.from_scratch):
        raise ConfigError(f"lora_rank {run.lora_rank} updates pretrained weights; name them by init_from, or use 0")
    if denoiser.state_encoder is not None:
        raise ConfigError(
            "this embodiment has states, so the model would be conditioned on the initial one (Z_s), but datasets hold "
            "none; set denoiser.action.state_dim to 0"
        )
    if run.action_dropout and denoiser.action_encoder is None:
        raise ConfigError(f"action_dropout {run.action_dropout}: a passive model has no actions to drop; set it to 0")


def _finished(denoiser: BackboneDenoiser, ema: dict[str, Tensor], run: DenoiserRun) -> BackboneDenoiser:
    denoiser.load_state_dict(ema)
    if run.lora_rank:
        merge_lora(denoiser)
    return denoiser.eval().requires_grad_(False)


def _draw_likelihood(data: ClipDataset, min_motion: float) -> NDArray[np.float64]:
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

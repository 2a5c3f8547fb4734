"""Stage one: the frame autoencoder, on single frames of the dataset in short runs of one scene."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from egowm_core.models.registry import TrainedAutoencoder
from egowm_core.models.vae import FrameAutoencoder, to_unit_range, vae_config_from_dict
from training.clips import ClipDataset
from training.config import TrainConfig
from training.state import load_state, save_state
from training.timing import Every, cosine_rate

log = logging.getLogger("egowm.train")

_STATE = "autoencoder.safetensors"
_RUN_LENGTH = 4  # consecutive frames decoded together, so that the temporal decoder sees motion
_AT_A_TIME = 8  # runs that are reconstructed together


def fit_autoencoder(config: TrainConfig, data: ClipDataset, directory: Path) -> FrameAutoencoder:
    """Train, resuming from ``directory`` when a state is there; returns the autoencoder in evaluation mode."""
    run = config.autoencoder_run
    torch.manual_seed(config.seed)
    vae = FrameAutoencoder(vae_config_from_dict(config.vae))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=run.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    path = directory / _STATE
    first = load_state(path, module=vae, optimizer=optimizer, ema=None)
    if first == 0:
        kept = vae.fit_basis(_frames(data, np.random.default_rng(config.seed), run.basis_frames, length=1)[:, 0])
        log.info("linear shortcut keeps %.1f%% of the variance of frames", 100 * kept)
        save_state(path, step=0, module=vae, optimizer=optimizer, ema=None)
    due = Every(config.save_every_s)
    bar = tqdm(range(first, run.steps), initial=first, total=run.steps, desc="autoencoder", unit="step")
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(step, run.steps, run.warmup_steps) * run.learning_rate
        frames = _frames(data, np.random.default_rng([config.seed, 1, step]), run.batch_size, length=_RUN_LENGTH)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bf16):
            latents = vae.encode(frames)
            noisy = latents + 0.03 * torch.randn(latents.shape)  # so that decoding tolerates imperfect latents
            decoded = vae.decode(noisy)
        error = decoded.float() - frames
        loss = error.square().mean() + 0.05 * error.abs().mean() + 1e-4 * latents.float().square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0:
            bar.set_postfix(psnr=f"{-10 * math.log10(float(error.detach().square().mean()) / 4):.2f}")
        if due() or step + 1 == run.steps:
            save_state(path, step=step + 1, module=vae, optimizer=optimizer, ema=None)
    return vae.eval().requires_grad_(False)


def load_autoencoder(config: TrainConfig, directory: Path) -> tuple[FrameAutoencoder, int] | None:
    """The autoencoder as far as it has come, and its step; None when there is none."""
    path = directory / _STATE
    if not path.exists():
        return None
    vae = FrameAutoencoder(vae_config_from_dict(config.vae))
    step = load_state(path, module=vae, optimizer=None, ema=None)
    return vae.eval().requires_grad_(False), step


def _frames(data: ClipDataset, rng: np.random.Generator, count: int, *, length: int) -> Tensor:
    """``count`` runs of ``length`` consecutive frames, (count,length,3,H,W) in [-1,1]."""
    clips = data.index[rng.integers(len(data.index), size=count)]
    images = np.stack([data.episodes[e].frames[start : start + length] for e, start in clips])
    return to_unit_range(torch.from_numpy(images))


@torch.inference_mode()
def reconstruction_psnr(vae: TrainedAutoencoder, data: ClipDataset, *, seed: int = 0, count: int = 64) -> float:
    """PSNR in dB of decoding what was encoded, over ``count`` short runs of held-out frames."""
    device = next(vae.parameters()).device
    length = _RUN_LENGTH if vae.temporal_factor == 1 else 1 + vae.temporal_factor
    rng = np.random.default_rng(seed)
    errors: list[float] = []
    for start in range(0, count, _AT_A_TIME):
        frames = _frames(data, rng, min(_AT_A_TIME, count - start), length=length).to(device)
        decoded = vae.decode(vae.encode(frames)).clamp(-1, 1)
        errors += functional.mse_loss(decoded, frames, reduction="none").mean(dim=(1, 2, 3, 4)).tolist()
    return -10 * math.log10(float(np.mean(errors)) / 4)

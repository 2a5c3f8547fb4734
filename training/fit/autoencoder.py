"""Stage one: the frame autoencoder, on single frames of the datasets in short runs of one scene.

It is small: one process fits it, others wait for the result. Knows no denoiser.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from egowm_core.models.registry import TrainedAutoencoder
from egowm_core.models.vae import FrameAutoencoder, to_unit_range, vae_config_from_dict
from egowm_core.types import ImageArray
from training.config import TrainConfig
from training.fit.clips import ClipDataset
from training.fit.draws import FrameRuns, random_runs
from training.fit.loader import ahead, number_of_workers
from training.fit.mixture import Mixture
from training.fit.state import TrainingState
from training.fit.timing import Every, cosine_rate

log = logging.getLogger("egowm.train")

STATE = "autoencoder.safetensors"
_RUN_LENGTH = 4  # consecutive frames decoded together, so that the temporal decoder sees motion
_AT_A_TIME = 8  # runs that are reconstructed together


def fit_autoencoder(
    config: TrainConfig, mixture: Mixture, directory: Path, *, device: torch.device, bf16: bool
) -> FrameAutoencoder:
    """Train, resuming from ``directory`` when a state is there; returns the autoencoder in evaluation mode."""
    run = config.autoencoder_run
    torch.manual_seed(config.seed)
    vae = FrameAutoencoder(vae_config_from_dict(config.vae)).to(device)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=run.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    path, state = directory / STATE, TrainingState(vae, optimizer, None)
    began = path.exists()
    first = state.load(path)
    if not began:
        frames = _basis_frames(mixture, np.random.default_rng(config.seed), run.basis_frames)
        kept = vae.fit_basis(to_unit_range(torch.from_numpy(frames)).to(device))
        log.info("linear shortcut keeps %.1f%% of the variance of frames", 100 * kept)
        state.save(path, step=0)
    due = Every(config.save_every_s)
    bar = tqdm(initial=first, total=run.steps, desc="autoencoder", unit="step")
    clip = mixture.sources[0].training
    length = min(_RUN_LENGTH, clip.context + clip.horizon)
    runs = FrameRuns(mixture, seed=config.seed, count=run.batch_size, length=length)
    workers = number_of_workers(config.workers, decoding=True)
    for step, images in enumerate(ahead(runs, first, run.steps, workers=workers), start=first):
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(step, run.steps, run.warmup_steps) * run.learning_rate
        target = to_unit_range(images.to(device))
        generator = torch.Generator().manual_seed(int(np.random.default_rng([config.seed, 5, step]).integers(2**62)))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            latents = vae.encode(target)
            noise = torch.randn(latents.shape, generator=generator).to(device)
            decoded = vae.decode(latents + 0.03 * noise)  # so that decoding tolerates imperfect latents
        error = decoded.float() - target
        loss = error.square().mean() + 0.05 * error.abs().mean() + 1e-4 * latents.float().square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        bar.update()
        if step % 20 == 0:
            bar.set_postfix(psnr=f"{-10 * math.log10(float(error.detach().square().mean()) / 4):.2f}")
        if due() or step + 1 == run.steps:
            state.save(path, step=step + 1)
    bar.close()
    return vae.eval().requires_grad_(False)


def load_autoencoder(config: TrainConfig, directory: Path) -> tuple[FrameAutoencoder, int] | None:
    """The autoencoder as far as it has come, and its step; None when there is none."""
    path = directory / STATE
    if not path.exists():
        return None
    vae = FrameAutoencoder(vae_config_from_dict(config.vae))
    step = TrainingState(vae, None, None).load(path)
    return vae.eval().requires_grad_(False), step


@torch.inference_mode()
def reconstruction_psnr(vae: TrainedAutoencoder, data: ClipDataset, *, seed: int = 0, count: int = 64) -> float:
    """PSNR in dB of decoding what was encoded, over ``count`` short runs of held-out frames."""
    device = next(vae.parameters()).device
    length = _RUN_LENGTH if vae.temporal_factor == 1 else 1 + vae.temporal_factor
    length = min(length, data.context + data.horizon)
    rng = np.random.default_rng(seed)
    errors: list[float] = []
    for start in range(0, count, _AT_A_TIME):
        frames = to_unit_range(random_runs(data, rng, min(_AT_A_TIME, count - start), length).to(device))
        decoded = vae.decode(vae.encode(frames)).clamp(-1, 1)
        errors += functional.mse_loss(decoded, frames, reduction="none").mean(dim=(1, 2, 3, 4)).tolist()
    return -10 * math.log10(float(np.mean(errors)) / 4)


def _basis_frames(mixture: Mixture, rng: np.random.Generator, count: int) -> ImageArray:
    """``count`` single frames over all datasets, (count,H,W,3) uint8."""
    sources = mixture.sources
    counts = [count] if len(sources) == 1 else rng.multinomial(count, mixture.likelihood).tolist()
    runs = [random_runs(s.training, rng, n, 1)[:, 0].numpy() for s, n in zip(sources, counts, strict=True) if n]
    return np.concatenate(runs)

"""From a finished run to a self-contained checkpoint directory with a model card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from egowm_core.checkpoint import Checkpoint, save_checkpoint
from egowm_core.data.normalize import NormStats
from egowm_core.embodiment import Embodiment
from egowm_core.models.svd import SVDDenoiser
from egowm_core.models.vae import FrameAutoencoder
from training.config import TrainConfig


def export_checkpoint(
    directory: Path,
    config: TrainConfig,
    vae: FrameAutoencoder,
    denoiser: SVDDenoiser,
    embodiment: Embodiment,
    stats: NormStats,
    figures: dict[str, float],
) -> None:
    """Write the checkpoint; weights are stored as float16 (training keeps float32)."""
    weights: dict[str, Tensor] = {}
    for prefix, module in (("vae", vae), ("denoiser", denoiser)):
        for name, value in module.state_dict().items():
            weights[f"{prefix}.{name}"] = value.to(torch.float16) if value.dtype == torch.float32 else value
    contents = {
        "format": 1,
        "name": config.name,
        "vae": asdict(vae.config),
        "denoiser": {"backbone": config.denoiser.get("backbone", "svd"), **asdict(denoiser.config)},
        "sampling": asdict(config.sampling),
    }
    save_checkpoint(directory, Checkpoint(weights, contents, embodiment, stats, model_card(config, weights, figures)))


def model_card(config: TrainConfig, weights: dict[str, Tensor], figures: dict[str, float]) -> str:
    """What the model was trained on and how; `egowm-evaluate --write-card` adds its measured scores."""
    parameters = sum(value.numel() for value in weights.values()) / 1e6
    rows = "\n".join(f"- {name}: {value:.6g}" for name, value in figures.items())
    run = config.denoiser_run
    return f"""# {config.name}

An action-conditioned video world model for this embodiment (`embodiment.yaml`), {parameters:.1f} M parameters, stored
as float16. Load it with `egowm_core.load_world_model`.

## Training

{config.notes}
- seed {config.seed}
- autoencoder {config.autoencoder_run.steps} steps of {config.autoencoder_run.batch_size * 4} frames;
  denoiser {run.steps} steps of {run.batch_size} clips, learning rate {run.learning_rate:g}
- what geometry compensated before the network, by share of clips: {run.warp_shares}
{rows}
"""

"""From a finished run to a self-contained checkpoint directory with a model card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from egowm_core.checkpoint import Checkpoint, save_checkpoint
from egowm_core.data.normalize import NormStats
from egowm_core.embodiment import Embodiment
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.registry import TrainedAutoencoder, autoencoder_fields, denoiser_config
from training.config import TrainConfig
from training.fit.initial import merged_denoiser_config


def export_checkpoint(
    directory: Path,
    config: TrainConfig,
    vae: TrainedAutoencoder,
    denoiser: BackboneDenoiser,
    embodiment: Embodiment,
    stats: NormStats,
    figures: dict[str, float],
) -> None:
    """Write the checkpoint; weights are stored as float16 where its range holds them (training keeps float32)."""
    weights: dict[str, Tensor] = {}
    for prefix, module in (("vae", vae), ("denoiser", denoiser)):
        for name, value in module.state_dict().items():
            weights[f"{prefix}.{name}"] = _halved(value)
    backbone, _ = denoiser_config(merged_denoiser_config(config))
    contents = {
        "format": 1,
        "name": config.name,
        "vae": autoencoder_fields(vae),
        "denoiser": {"backbone": backbone, **asdict(denoiser.config)},
        "sampling": asdict(config.sampling),
    }
    save_checkpoint(directory, Checkpoint(weights, contents, embodiment, stats, model_card(config, weights, figures)))


def _halved(value: Tensor) -> Tensor:
    if value.dtype != torch.float32 or value.abs().max() > torch.finfo(torch.float16).max:
        return value
    return value.to(torch.float16)


def model_card(config: TrainConfig, weights: dict[str, Tensor], figures: dict[str, float]) -> str:
    """What the model was trained on and how; `egowm-evaluate --write-card` adds its measured scores."""
    parameters = sum(value.numel() for value in weights.values()) / 1e6
    rows = "\n".join(f"- {name}: {value:.6g}" for name, value in figures.items())
    run = config.denoiser_run
    shared = "" if len(config.sources) == 1 else f"\n- one backbone trained on {len(config.sources)} datasets together"
    return f"""# {config.name}

An action-conditioned video world model for this embodiment (`embodiment.yaml`), {parameters:.1f} M parameters, stored
as float16. Load it with `egowm_core.load_world_model`.

## Training

{config.notes}
- seed {config.seed}{shared}
- {_origin(config)}
- denoiser {run.steps} steps of {run.batch_size} clips, learning rate {run.learning_rate:g}, of the action path
  {run.learning_rate * run.action_learning_rate_scale:g}
- what geometry compensated before the network, by share of clips: {run.warp_shares}
{rows}
"""


def _origin(config: TrainConfig) -> str:
    """What came from elsewhere; directories by their names alone."""
    run = config.denoiser_run
    autoencoder = f"autoencoder {config.autoencoder_run.steps} steps of {config.autoencoder_run.batch_size * 4} frames"
    if not run.init_from:
        return autoencoder
    path = Path(run.init_from)
    parent = f"{path.parent.name}/{path.name}" if path.is_dir() else run.init_from
    taken = "architecture" if run.from_scratch else "weights"
    own = "" if config.vae or config.autoencoder_from else ", its autoencoder as it was"
    updates = f", updated by rank {run.lora_rank} (LoRA)" if run.lora_rank else ""
    start = f"{taken} of {parent} to start from{updates}"
    if config.student is not None:
        start += f", tuned as a few-step student (consistency tuning, {config.student.stages} stages)"
    return f"{start}{own}" if own else f"{start}; {autoencoder}"

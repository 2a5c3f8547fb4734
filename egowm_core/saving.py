"""From a world model in memory to a checkpoint directory: the inverse of ``loading.py``, to the bit.

Knows no training: runs that keep more than the model are exported by the training package.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from egowm_core.checkpoint import HASHES, Checkpoint, save_checkpoint
from egowm_core.data.normalize import NormStats
from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.registry import autoencoder_fields
from egowm_core.models.stock_autoencoder import StockAutoencoder
from egowm_core.models.vae import FrameAutoencoder
from egowm_core.world_model import WorldModel

STORED = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""By name: the precisions that weights may be stored in."""


def save_world_model(
    model: WorldModel,
    directory: str | Path,
    *,
    card: str,
    norm_stats: NormStats | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write ``model`` so that ``load_world_model`` predicts the same bits; ``card`` is the README's text.

    ``norm_stats`` replaces the model's own. ``dtype`` bfloat16 or float16 halves every tensor that it holds exactly (of
    weights that were rounded to it before); the others stay as they are, so nothing is ever lost in saving.

    Raises:
        CheckpointError: ``directory`` holds something that is no checkpoint.
        ConfigError: the model is an exported graph, whose weights are not at hand.
    """
    target = Path(directory)
    check_replaceable(target)
    denoiser, vae = model.denoiser, model.vae
    if not isinstance(denoiser, nn.Module) or not isinstance(vae, FrameAutoencoder | StockAutoencoder):
        raise ConfigError(
            f"{model.name} runs {type(denoiser).__name__} and {type(vae).__name__}, not modules with weights; save the "
            "model that they were exported from"
        )
    weights = {
        f"{prefix}.{name}": _stored(value, dtype)
        for prefix, module in (("vae", vae), ("denoiser", denoiser))
        for name, value in module.state_dict().items()
    }
    config = {
        **model.config,
        "vae": autoencoder_fields(vae),
        "denoiser": {"backbone": model.config["denoiser"].get("backbone", "svd"), **asdict(denoiser.config)},
        "sampling": {**asdict(model.plan), "warp": model.warp},
    }
    stats = norm_stats or model.norm_stats
    save_checkpoint(target, Checkpoint(weights, config, model.embodiment, stats, card))


def check_replaceable(directory: Path) -> None:
    """That writing a checkpoint to ``directory`` destroys nothing but a checkpoint.

    Raises:
        CheckpointError: it is a file, or holds other things.
    """
    if directory.is_dir() and (not any(directory.iterdir()) or (directory / HASHES).is_file()):
        return
    if directory.exists():
        raise CheckpointError(f"{directory} exists and is no checkpoint; choose another directory or remove it")


def _stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    if not value.is_floating_point() or value.element_size() <= dtype.itemsize:
        return value
    rounded = value.to(dtype)
    return rounded if torch.equal(rounded.to(value.dtype), value) else value

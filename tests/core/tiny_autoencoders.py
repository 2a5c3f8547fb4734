"""Stock video autoencoders in small with random weights, wrapped and bare, and clips for them."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from egowm_core.models.autoencoders import KLTemporalVideoAutoencoder, LTXVideoAutoencoder, WanVideoAutoencoder
from egowm_core.models.stock_autoencoder import StockAutoencoder
from tests.fixtures.tiny_pipelines import PARTS

WRAPPERS = {
    "svd": KLTemporalVideoAutoencoder,
    "cosmos": WanVideoAutoencoder,
    "wan": WanVideoAutoencoder,
    "ltx": LTXVideoAutoencoder,
}
BACKBONES = tuple(WRAPPERS)
SIZE = 16


def tiny_network(backbone: str, **changes: Any) -> Any:
    """The stock module with random weights; its statistics, if they are weights, are not trivial."""
    torch.manual_seed(0)
    name, config = PARTS[backbone]["vae"]
    network = getattr(diffusers, name)(**(config | changes)).eval()
    if backbone == "ltx":
        network.latents_mean.normal_()
        network.latents_std.uniform_(0.5, 2.0)
    return network


def tiny_autoencoder(backbone: str, **options: Any) -> StockAutoencoder:
    return WRAPPERS[backbone](tiny_network(backbone), **options)


def video(frames: int, *, batch: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, frames, 3, SIZE, SIZE, generator=generator) * 2 - 1

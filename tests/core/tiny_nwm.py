"""The baseline in small, fresh or as if trained, and inputs for it."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor, nn

from egowm_core.diffusion.denoiser import Context
from egowm_core.embodiment import load_embodiment
from egowm_core.models.nwm import NWMConfig, NWMDenoiser
from egowm_core.models.registry import build_denoiser

TINY = NWMConfig(latent_channels=4, latent_height=4, latent_width=6, hidden_dim=32, depth=2, num_heads=2)
BATCH, ACTIONS = 2, 3


def tiny(config: NWMConfig = TINY, *, awake: bool = False, seed: int = 0) -> NWMDenoiser:
    """A fresh denoiser; ``awake`` gives its zero-initialised layers random weights, as if trained."""
    torch.manual_seed(seed)
    denoiser = build_denoiser({"backbone": "nwm", **asdict(config)}, load_embodiment("base_3dof")).eval()
    assert isinstance(denoiser, NWMDenoiser)
    if awake:
        network = denoiser.transformer
        for layer in (*(block.modulation for block in network.blocks), network.modulation, network.output):
            nn.init.normal_(layer.weight, std=0.1)
        if denoiser.action_encoder is not None:
            nn.init.normal_(denoiser.action_encoder.mlp[-1].weight, std=0.3)
    return denoiser


def inputs(config: NWMConfig = TINY, *, frames: int = 4, seed: int = 1) -> tuple[Tensor, Tensor, Context, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = (config.latent_channels, config.latent_height, config.latent_width)
    noisy = torch.randn(BATCH, 1, *size, generator=generator)
    context = Context(torch.randn(BATCH, frames, *size, generator=generator))
    return noisy, torch.tensor([[0.3], [1.5]]), context, torch.randn(BATCH, 1, ACTIONS, generator=generator)

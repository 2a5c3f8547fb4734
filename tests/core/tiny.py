"""Real classes with small numbers, for tests of the core."""

from __future__ import annotations

import torch

from egowm_core.diffusion.denoiser import Context
from egowm_core.embodiment import load_embodiment
from egowm_core.models.registry import build_denoiser
from egowm_core.models.svd import SVDDenoiser

# 128 channels: with diffusers' 32 normalisation groups, a group of one channel would cancel any per-channel embedding.
TINY_DENOISER = {
    "backbone": "svd",
    "latent_channels": 4,
    "latent_height": 8,
    "latent_width": 8,
    "block_out_channels": [128, 128],
    "attention_levels": [False, True],
    "layers_per_block": 1,
    "num_attention_heads": 2,
    "cross_attention_dim": 16,
    "horizon": 4,
}
BATCH, HORIZON, CHANNELS, SIZE = 2, 4, 4, 8


def tiny_denoiser(*, context_warp: bool = False, awake: bool = False, seed: int = 0) -> SVDDenoiser:
    """A fresh denoiser; ``awake`` gives its zero-initialised layers random weights, as if trained."""
    torch.manual_seed(seed)
    denoiser = build_denoiser({**TINY_DENOISER, "context_warp": context_warp}, load_embodiment("base_3dof")).eval()
    if awake:
        assert denoiser.action_encoder is not None
        for layer in (denoiser.unet.conv_out, denoiser.action_encoder.mlp[-1]):
            torch.nn.init.normal_(layer.weight, std=0.3)
    return denoiser


def tiny_inputs(
    *, context_warp: bool = False, seed: int = 1
) -> tuple[torch.Tensor, torch.Tensor, Context, torch.Tensor]:
    """Noisy latents, per-frame sigma, context and actions."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    compensated = noise(BATCH, HORIZON, CHANNELS, SIZE, SIZE) if context_warp else None
    visible = torch.ones(BATCH, HORIZON, 2, SIZE, SIZE) if context_warp else None
    context = Context(noise(BATCH, 1, CHANNELS, SIZE, SIZE), compensated, visible)
    sigma = torch.full((BATCH, 1), 1.5).expand(BATCH, HORIZON)
    return noise(BATCH, HORIZON, CHANNELS, SIZE, SIZE), sigma, context, noise(BATCH, HORIZON, 3) * 0.5

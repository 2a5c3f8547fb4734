"""Real classes with small numbers, for tests of the core."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from egowm_core.diffusion.denoiser import Context
from egowm_core.embodiment import load_embodiment
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.registry import build_denoiser
from egowm_core.models.svd import SVDDenoiser

BATCH, HORIZON, CHANNELS, SIZE = 2, 4, 4, 8
WIDTH = 12  # of latents; not their height, so that one taken for the other shows
_LATENTS = {"latent_channels": CHANNELS, "latent_height": SIZE, "latent_width": WIDTH, "horizon": HORIZON}

# 128 channels: with diffusers' 32 normalisation groups, a group of one channel would cancel any per-channel embedding.
TINY_DENOISER = {
    **_LATENTS,
    "backbone": "svd",
    "block_out_channels": [128, 128],
    "attention_levels": [False, True],
    "layers_per_block": 1,
    "num_attention_heads": 2,
    "cross_attention_dim": 16,
}
_TINY_TRANSFORMER = {
    **_LATENTS,
    "num_attention_heads": 2,
    "attention_head_dim": 64,
    "num_layers": 2,
    "cross_attention_dim": 16,
}
_SCRATCH = {"context_as_channels": True, "residual": True, "coordinates": True, "preconditioning": "edm"}

BACKBONES: dict[str, dict[str, Any]] = {
    "svd": TINY_DENOISER,
    **{name: {**_TINY_TRANSFORMER, "backbone": name} for name in ("cosmos", "wan", "ltx")},
}
VARIANTS: dict[str, dict[str, Any]] = {
    **BACKBONES,
    **{f"{name}-causal": {**config, "causal": True, "context_frames": 2} for name, config in BACKBONES.items()},
    "cosmos-scratch": {**BACKBONES["cosmos"], **_SCRATCH},  # as models without pretrained weights are trained
    "wan-scratch-causal": {**BACKBONES["wan"], **_SCRATCH, "causal": True, "context_frames": 2},
}
"""Configurations by name, for tests of what all adapters have in common."""
NWM = {
    **_LATENTS,
    "backbone": "nwm",
    "horizon": 1,
    "context_frames": 2,
    "hidden_dim": 128,
    "depth": 2,
    "num_heads": 2,
}
"""The baseline, for what does not need several frames at once."""


def tiny(
    variant: str, *, embodiment: str = "base_3dof", seed: int = 0, awake: bool = True, **changes: Any
) -> BackboneDenoiser:
    """A denoiser of one of ``VARIANTS``; ``awake`` gives its zero-initialised layers random weights, as if trained."""
    torch.manual_seed(seed)
    denoiser = build_denoiser(
        {**(NWM if variant == "nwm" else VARIANTS[variant]), **changes}, load_embodiment(embodiment)
    ).eval()
    return wake(denoiser) if awake else denoiser


def wake(denoiser: BackboneDenoiser) -> BackboneDenoiser:
    """Random weights for the layers that start from zero."""
    for layer in denoiser.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.3 if isinstance(denoiser, SVDDenoiser) else 0.1)
    return denoiser


def tiny_denoiser(*, context_warp: bool = False, awake: bool = False, seed: int = 0) -> SVDDenoiser:
    """The SVD variant, with compensated context if asked for."""
    denoiser = tiny("svd", context_warp=context_warp, awake=awake, seed=seed)
    assert isinstance(denoiser, SVDDenoiser)
    return denoiser


def tiny_inputs(
    *,
    context_warp: bool = False,
    seed: int = 1,
    context_frames: int = 1,
    horizon: int = HORIZON,
    ticks: int = HORIZON,
    action_dim: int = 3,
) -> tuple[Tensor, Tensor, Context, Tensor]:
    """Noisy latents, per-frame sigma, context and actions (of ``ticks`` rows)."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    compensated = noise(BATCH, horizon, CHANNELS, SIZE, WIDTH) if context_warp else None
    visible = torch.ones(BATCH, horizon, 2, SIZE, WIDTH) if context_warp else None
    context = Context(noise(BATCH, context_frames, CHANNELS, SIZE, WIDTH), compensated, visible)
    sigma = torch.full((BATCH, 1), 1.5).expand(BATCH, horizon)
    return noise(BATCH, horizon, CHANNELS, SIZE, WIDTH), sigma, context, noise(BATCH, ticks, action_dim) * 0.5


def inputs_for(denoiser: BackboneDenoiser, *, seed: int = 1) -> tuple[Tensor, Tensor, Context, Tensor]:
    """As :func:`tiny_inputs`, with the context frames and actions that this denoiser takes."""
    config = denoiser.config
    action_dim = 3 if denoiser.action_encoder is None else denoiser.action_encoder.action_dim
    return tiny_inputs(
        seed=seed,
        context_frames=config.context_frames,
        horizon=config.horizon,
        ticks=config.horizon * config.temporal_factor,
        action_dim=action_dim,
    )

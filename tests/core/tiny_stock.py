"""Stock diffusers modules by their own interfaces: what adapters must agree with."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    CosmosTransformer3DModel,
    LTXVideoTransformer3DModel,
    UNetSpatioTemporalConditionModel,
    WanTransformer3DModel,
)
from torch import Tensor

from egowm_core.models.adapter import BackboneDenoiser
from tests.core.tiny import BATCH, CHANNELS, SIZE, WIDTH

FRAMES = 5  # of one call
_HEADS = {"num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 2}

STOCK: dict[str, tuple[Any, dict[str, Any]]] = {
    "svd": (
        UNetSpatioTemporalConditionModel,
        {
            "in_channels": 2 * CHANNELS,
            "out_channels": CHANNELS,
            "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            "block_out_channels": (32, 32),
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 24,
            "layers_per_block": 1,
            "cross_attention_dim": 24,
            "num_attention_heads": 2,
        },
    ),
    "cosmos": (
        CosmosTransformer3DModel,
        {"in_channels": CHANNELS + 1, "out_channels": CHANNELS, "text_embed_dim": 24, "adaln_lora_dim": 8, **_HEADS},
    ),
    "wan": (
        WanTransformer3DModel,
        {"in_channels": CHANNELS, "out_channels": None, "text_dim": 24, "ffn_dim": 64, **_HEADS},
    ),
    "ltx": (
        LTXVideoTransformer3DModel,
        {
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "caption_channels": 24,
            "cross_attention_dim": 48,
            **_HEADS,
        },
    ),
}
"""Small modules laid out as published ones: class and arguments."""


def network_inputs(denoiser: BackboneDenoiser) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs of ``network`` but the embedding: latents, noise levels (all the same), tokens, which frames are known."""
    generator = torch.Generator().manual_seed(3)
    config = denoiser.config
    inputs = torch.randn(BATCH, FRAMES, config.input_channels, SIZE, WIDTH, generator=generator)
    tokens = torch.randn(BATCH, 3, config.token_dim, generator=generator)
    return inputs, torch.full((BATCH, FRAMES), 0.3), tokens, torch.arange(FRAMES).expand(BATCH, -1) < 1


def run(denoiser: BackboneDenoiser, embedding: Tensor | None) -> Tensor:
    inputs, noise, tokens, known = network_inputs(denoiser)
    return denoiser.network(inputs, noise, embedding, tokens, known)


def stock_call(denoiser: BackboneDenoiser) -> Tensor:
    """The same by the stock module's own interface."""
    inputs, noise, tokens, known = network_inputs(denoiser)
    stock: Any = denoiser.stock
    frames = inputs.transpose(1, 2)
    if isinstance(stock, UNetSpatioTemporalConditionModel):
        return stock(inputs, noise[:, 0], tokens, torch.zeros(BATCH, 3)).sample
    if isinstance(stock, CosmosTransformer3DModel):
        mask = known[:, None, :, None, None].float().repeat(1, 1, 1, SIZE, WIDTH)
        level = noise[:, None, :, None, None]
        return stock(frames, level, tokens, condition_mask=mask).sample.transpose(1, 2)
    rows, columns = SIZE // 2, WIDTH // 2  # of patches
    level = noise.repeat_interleave(rows * columns, dim=1)
    if isinstance(stock, WanTransformer3DModel):
        return stock(frames, level, tokens).sample.transpose(1, 2)
    patches = inputs.unflatten(3, (rows, 2)).unflatten(5, (columns, 2))  # B N C h p w q
    packed = patches.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)
    scale = (8 / 25, 32.0, 32.0)
    out = stock(packed, tokens, level, torch.ones(BATCH, 3), FRAMES, rows, columns, scale).sample
    out = out.unflatten(1, (FRAMES, rows, columns)).unflatten(-1, (-1, 2, 2))
    return out.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4)

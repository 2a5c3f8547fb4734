"""Stock networks in small that can be made causal, each with one way to call it, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    CosmosTransformer3DModel,
    LTXVideoTransformer3DModel,
    UNetSpatioTemporalConditionModel,
    WanTransformer3DModel,
)
from torch import Tensor, nn

from egowm_core.models.causal import TRANSFERS, causalise_decoder, causalise_unet
from egowm_core.models.causal_attention import causalise_cosmos, causalise_ltx, causalise_wan
from egowm_core.models.frame_cache import CausalControl

BATCH, CHANNELS, SIZE, WINDOW = 2, 4, 8, 3


@dataclass
class Backbone:
    """A stock network, its surgery, and one way to call it: latents (B,T,C,h,w), noise (B,T) -> (B,T,C,h,w)."""

    network: Any
    causalise: Callable[[], CausalControl]
    call: Callable[[Tensor, Tensor], Tensor]


def awake(network: nn.Module) -> nn.Module:
    """Random weights where initialisation leaves zeros, and temporal branches that weigh as much as spatial ones."""
    for name, parameter in network.named_parameters():
        if name.endswith("mix_factor"):
            nn.init.zeros_(parameter)
        elif parameter.abs().max() == 0:
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def unet_backbone(transfer: str = "extrapolative") -> Backbone:
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        sample_size=None,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=16,
        num_attention_heads=2,
    )
    awake(unet)
    tokens = torch.randn(BATCH, 2, 16)

    def call(latents: Tensor, noise: Tensor) -> Tensor:
        batch = latents.shape[0]
        return unet(latents, torch.full((batch,), 0.2), tokens[:batch], torch.zeros(batch, 3)).sample

    return Backbone(unet, lambda: causalise_unet(unet, transfer=transfer, window=WINDOW), call)


def decoder_backbone(transfer: str = "extrapolative") -> Backbone:
    torch.manual_seed(0)
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=CHANNELS
    )
    awake(vae)

    def call(latents: Tensor, noise: Tensor) -> Tensor:
        batch, frames = latents.shape[:2]
        return vae.decode(latents.flatten(0, 1), num_frames=frames).sample.unflatten(0, (batch, frames))

    return Backbone(vae, lambda: causalise_decoder(vae, transfer=transfer), call)


def cosmos_backbone() -> Backbone:
    torch.manual_seed(0)
    transformer = CosmosTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=24,
        num_layers=2,
        text_embed_dim=16,
        adaln_lora_dim=8,
        max_size=(16, 8, 8),
        concat_padding_mask=False,
        extra_pos_embed_type="learnable",
    )
    awake(transformer)
    token = torch.randn(1, 2, 16)

    def call(latents: Tensor, noise: Tensor) -> Tensor:
        tokens = token.expand(latents.shape[0], -1, -1)
        output = transformer(latents.transpose(1, 2), noise[:, None, :, None, None], tokens)
        return output.sample.transpose(1, 2)

    return Backbone(transformer, lambda: causalise_cosmos(transformer, window=WINDOW), call)


def wan_backbone() -> Backbone:
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    awake(transformer)
    tokens = torch.randn(BATCH, 2, 16)

    def call(latents: Tensor, noise: Tensor) -> Tensor:
        timestep = noise.repeat_interleave((SIZE // 2) ** 2, dim=1)
        return transformer(latents.transpose(1, 2), timestep, tokens).sample.transpose(1, 2)

    return Backbone(transformer, lambda: causalise_wan(transformer, window=WINDOW), call)


def ltx_backbone() -> Backbone:
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=16,
        num_layers=2,
    )
    awake(transformer)
    tokens, seen = torch.randn(BATCH, 2, 16), torch.ones(BATCH, 2)

    def call(latents: Tensor, noise: Tensor) -> Tensor:
        frames = latents.shape[1]
        hidden = latents.movedim(2, -1).flatten(1, 3)
        timestep = noise.repeat_interleave(SIZE * SIZE, dim=1)
        output = transformer(hidden, tokens, timestep, seen, num_frames=frames, height=SIZE, width=SIZE).sample
        return output.unflatten(1, (frames, SIZE, SIZE)).movedim(-1, 2)

    return Backbone(transformer, lambda: causalise_ltx(transformer, window=WINDOW), call)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    **{f"unet-{transfer}": lambda transfer=transfer: unet_backbone(transfer) for transfer in TRANSFERS},
    **{f"decoder-{transfer}": lambda transfer=transfer: decoder_backbone(transfer) for transfer in TRANSFERS},
    "cosmos": cosmos_backbone,
    "wan": wan_backbone,
    "ltx": ltx_backbone,
}
CACHED = ["unet-extrapolative", "unet-shift", "decoder-extrapolative", "cosmos"]


def video(frames: int, *, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """Latents and a noise level per frame."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, frames, CHANNELS, SIZE, SIZE, generator=generator)
    return latents, torch.rand(batch, frames, generator=generator)

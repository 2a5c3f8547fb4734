"""Adapter: Stable Video Diffusion's UNet (stock ``UNetSpatioTemporalConditionModel``).

The action embedding is added to ``temb`` of every down, mid and up block by hooks (``inject.py``); per-frame noise
levels use the same road, since the stock module knows one level a clip. The causal form is made by ``causal.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from egowm_core.models.action_encoder import ActionEncoder, StateEncoder
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.causal import causalise_unet
from egowm_core.models.inject import TimestepEmbeddingInjector

_ADDED_TIME_IDS = 3  # SVD's micro-conditioning: fps, motion bucket, noise augmentation; constant here
_STOCK_TIME_IDS = (6.0, 127.0, 0.02)  # what the stock pipeline gives by default


@dataclass(frozen=True)
class SVDConfig(AdapterConfig):
    """Architecture of a UNet made for egowm. A pretrained SVD brings its own (``stock``)."""

    block_out_channels: list[int] = field(default_factory=lambda: [128, 256])
    layers_per_block: int = 2
    num_attention_heads: int = 4
    attention_levels: list[bool] = field(default_factory=lambda: [True, True])  # finest first
    cross_attention_dim: int = 64

    @property
    def token_dim(self) -> int:
        return int(self.stock.get("cross_attention_dim", self.cross_attention_dim))


class SVDDenoiser(BackboneDenoiser):
    """UNet of SVD behind the contract of :class:`egowm_core.diffusion.denoiser.Denoiser`."""

    config: SVDConfig

    def __init__(
        self,
        config: SVDConfig,
        action_encoder: ActionEncoder | None,
        state_encoder: StateEncoder | None = None,
        *,
        stock: UNetSpatioTemporalConditionModel | None = None,
    ) -> None:
        super().__init__(config, action_encoder, state_encoder)
        if stock is None:
            stock = UNetSpatioTemporalConditionModel.from_config(config.stock) if config.stock else _build(config)
        self.unet = stock
        if config.causal:
            self.control = causalise_unet(self.unet, transfer=config.transfer, window=config.attention_window)
        self.injector = TimestepEmbeddingInjector([*self.unet.down_blocks, self.unet.mid_block, *self.unet.up_blocks])

    @property
    def stock(self) -> nn.Module:
        module: nn.Module = self.unet
        return module

    @staticmethod
    def width(config: SVDConfig) -> int:
        """Of the timestep embedding; diffusers makes it four times the first level's."""
        return 4 * int(config.stock["block_out_channels"][0] if config.stock else config.block_out_channels[0])

    def network(self, inputs: Tensor, noise: Tensor, embedding: Tensor | None, tokens: Tensor, known: Tensor) -> Tensor:
        offset = self._noise_offset(noise)
        if embedding is not None:
            offset = embedding if offset is None else offset + embedding
        ids = _STOCK_TIME_IDS if self.config.stock else (0.0,) * _ADDED_TIME_IDS
        added_time_ids = inputs.new_tensor(ids).expand(inputs.shape[0], -1)
        with self.injector.adding(offset):
            dtype = self.unet.dtype
            predicted: Tensor = self.unet(
                inputs.to(dtype), noise[:, 0], tokens.to(dtype), added_time_ids, return_dict=False
            )[0]
        return predicted

    def _noise_offset(self, noise: Tensor) -> Tensor | None:
        """Per-frame noise levels (B,N): what to add to the embedding of the first frame's, which the UNet makes."""
        if noise.stride(1) == 0 or noise.shape[1] == 1:
            return None
        if not torch.compiler.is_exporting() and torch.equal(noise, noise[:, :1].expand_as(noise)):
            return None
        features = self.unet.time_proj(noise.flatten()).to(self.unet.dtype)
        embedded = self.unet.time_embedding(features).unflatten(0, noise.shape)
        offset: Tensor = embedded - embedded[:, :1]
        return offset


def _build(config: SVDConfig) -> UNetSpatioTemporalConditionModel:
    levels = config.attention_levels
    unet = UNetSpatioTemporalConditionModel(
        sample_size=None,
        in_channels=config.input_channels,
        out_channels=config.latent_channels,
        down_block_types=tuple(f"{'CrossAttn' * a}DownBlockSpatioTemporal" for a in levels),
        up_block_types=tuple(f"{'CrossAttn' * a}UpBlockSpatioTemporal" for a in reversed(levels)),
        block_out_channels=tuple(config.block_out_channels),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=32 * _ADDED_TIME_IDS,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        num_attention_heads=config.num_attention_heads,
        num_frames=config.horizon,
    )
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    return unet

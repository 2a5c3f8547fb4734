"""Adapter: Stable Video Diffusion's UNet (stock ``UNetSpatioTemporalConditionModel``) as an action-following denoiser.

Context latents are concatenated to the noisy ones on the channel axis, as SVD does with its image; the action
embedding enters through the timestep embedding (``inject.py``). Per-frame noise levels use the same road.
Knows nothing of pixels, robots, samplers or losses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from egowm_core.diffusion.denoiser import Context, EDMPreconditioning, per_frame
from egowm_core.models.action_encoder import ActionEncoder
from egowm_core.models.inject import TimestepEmbeddingInjector

_ADDED_TIME_IDS = 3  # SVD's micro-conditioning: fps, motion bucket, noise augmentation; constant here
_GEOMETRY_CHANNELS = 2  # column and row of each latent cell
_VISIBLE_CHANNELS = 2  # see Context.visible


@dataclass(frozen=True)
class SVDConfig:
    """Architecture of a UNet made for egowm. A pretrained SVD brings its own."""

    latent_channels: int = 16
    latent_height: int = 12
    latent_width: int = 16
    block_out_channels: list[int] = field(default_factory=lambda: [128, 256])
    layers_per_block: int = 2
    num_attention_heads: int = 4
    attention_levels: list[bool] = field(default_factory=lambda: [True, True])  # finest first
    cross_attention_dim: int = 64
    context_frames: int = 1
    horizon: int = 8
    context_warp: bool = False  # the geometrically compensated context as a further input and the conditional mean
    residual: bool = True  # denoise the difference to the context (or to the compensated context)
    sigma_data: float = 1.0
    output_sign: float = 1.0  # -1 for checkpoints trained with v-prediction, as SVD's are


class SVDDenoiser(nn.Module):
    """Implements :class:`egowm_core.diffusion.denoiser.Denoiser`."""

    def __init__(self, config: SVDConfig, action_encoder: ActionEncoder | None) -> None:
        super().__init__()
        self.config = config
        self.preconditioning = EDMPreconditioning(config.sigma_data)
        channels = config.latent_channels
        in_channels = channels * (1 + config.context_frames) + _GEOMETRY_CHANNELS
        if config.context_warp:
            in_channels += channels + _VISIBLE_CHANNELS
        self.unet = UNetSpatioTemporalConditionModel(
            sample_size=None,
            in_channels=in_channels,
            out_channels=channels,
            down_block_types=tuple(f"{'CrossAttn' * a}DownBlockSpatioTemporal" for a in config.attention_levels),
            up_block_types=tuple(f"{'CrossAttn' * a}UpBlockSpatioTemporal" for a in reversed(config.attention_levels)),
            block_out_channels=tuple(config.block_out_channels),
            addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=32 * _ADDED_TIME_IDS,
            layers_per_block=config.layers_per_block,
            cross_attention_dim=config.cross_attention_dim,
            num_attention_heads=config.num_attention_heads,
            num_frames=config.horizon,
        )
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)
        self.context_token = nn.Linear(channels, config.cross_attention_dim)
        self.action_encoder = action_encoder
        self.injector = TimestepEmbeddingInjector([*self.unet.down_blocks, self.unet.mid_block, *self.unet.up_blocks])

    @property
    def embedding_dim(self) -> int:
        """Width of the timestep embedding, hence of the action embedding."""
        return timestep_embedding_dim(self.config)

    def denoise(self, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor) -> Tensor:
        """See :class:`Denoiser`: ``noisy`` (B,T,C,h,w), ``sigma`` (B,T), ``action`` (B,T,D) -> (B,T,C,h,w)."""
        # What the future would be if nothing moved (or only turned): EDM for data centred on it.
        mean = self._compensated(noisy, context)[0] if self.config.residual else torch.zeros_like(noisy)
        centred = noisy - mean
        scale = self.preconditioning
        inputs = torch.cat([per_frame(scale.c_in(sigma)) * centred, self._conditioning(noisy, context)], dim=2)
        noise = scale.c_noise(sigma)
        offset = self._noise_offset(noise) + self._action_embedding(noise, action)
        tokens = self.context_token(context.latents[:, -1].mean(dim=(-2, -1)))[:, None]
        added_time_ids = inputs.new_zeros(inputs.shape[0], _ADDED_TIME_IDS)
        with self.injector.adding(offset):
            predicted = self.unet(inputs, noise[:, 0], tokens, added_time_ids, return_dict=False)[0]
        denoised: Tensor = (
            mean
            + per_frame(scale.c_skip(sigma)) * centred
            + self.config.output_sign * per_frame(scale.c_out(sigma)) * predicted.float()
        )
        return denoised

    def _compensated(self, noisy: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """The compensated context and where it is known; where it is absent, the plain context, known nowhere."""
        if self.config.context_warp and context.compensated is not None and context.visible is not None:
            return context.compensated, context.visible
        plain = context.latents[:, -1:].expand_as(noisy)
        return plain, torch.zeros_like(noisy[:, :, :_VISIBLE_CHANNELS])

    def _conditioning(self, noisy: Tensor, context: Context) -> Tensor:
        """Channels beside the noisy latents: context frames, where each cell is, the compensated context if used."""
        batch, horizon, _, height, width = noisy.shape
        known = [context.latents.flatten(1, 2)[:, None].expand(-1, horizon, -1, -1, -1)]
        rows = torch.linspace(-1, 1, height, device=noisy.device)[:, None].expand(height, width)
        columns = torch.linspace(-1, 1, width, device=noisy.device)[None, :].expand(height, width)
        known.append(torch.stack([columns, rows]).expand(batch, horizon, -1, -1, -1))
        if self.config.context_warp:
            known += self._compensated(noisy, context)
        return torch.cat(known, dim=2)

    def _noise_offset(self, noise: Tensor) -> Tensor:
        """Per-frame noise levels (B,T): what to add to the embedding of the first frame's, which the UNet makes."""
        if noise.stride(1) == 0 or torch.equal(noise, noise[:, :1].expand_as(noise)):
            return noise.new_zeros(*noise.shape, self.embedding_dim)
        features = self.unet.time_proj(noise.flatten())
        embedded = self.unet.time_embedding(features).unflatten(0, noise.shape)
        offset: Tensor = embedded - embedded[:, :1]
        return offset

    def _action_embedding(self, noise: Tensor, action: Tensor) -> Tensor:
        if self.action_encoder is None:  # the passive model
            return noise.new_zeros(*noise.shape, self.embedding_dim)
        embedding: Tensor = self.action_encoder(action)
        return embedding


def timestep_embedding_dim(config: SVDConfig) -> int:
    """Diffusers makes it four times the first width."""
    return 4 * config.block_out_channels[0]

"""The frame autoencoder: diffusers' AutoencoderKLTemporalDecoder around a linear patch shortcut.

Training an autoencoder from nothing takes long; a principal component basis of image patches reconstructs well at
once. So the linear basis is the shortcut and the network learns what it misses, starting from zero (residual
autoencoding, as in DC-AE, arXiv 2410.10733). With no basis given, it is the plain diffusers model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor, nn
from torch.nn import functional

from egowm_core.errors import ConfigError
from egowm_core.models.causal import causalise_decoder
from egowm_core.models.frame_cache import CausalControl, FrameCache
from egowm_core.schema import read_fields


@dataclass(frozen=True)
class VAEConfig:
    """``patch`` pixels are folded into channels before the network; ``downscale`` is pixels per latent cell."""

    latent_channels: int = 16
    patch: int = 4
    block_out_channels: list[int] = field(default_factory=lambda: [64, 128])
    layers_per_block: int = 1
    linear_encoder: bool = False  # encode by the shortcut alone: one matrix product; only the decoder is a network
    causal: bool = False  # the temporal decoder sees no later frame, so that it can decode a stream

    @property
    def downscale(self) -> int:
        return self.patch << (len(self.block_out_channels) - 1)


class FrameAutoencoder(nn.Module):
    """Frames in [-1, 1] to latents of about unit variance and back."""

    basis: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        channels = 3 * config.patch**2
        self.network = AutoencoderKLTemporalDecoder(
            in_channels=channels,
            out_channels=channels,
            down_block_types=tuple("DownEncoderBlock2D" for _ in config.block_out_channels),
            block_out_channels=tuple(config.block_out_channels),
            layers_per_block=config.layers_per_block,
            latent_channels=config.latent_channels,
        )
        for layer in (self.network.quant_conv, self.network.decoder.conv_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.network.decoder.time_conv_out.bias)
        if config.linear_encoder:
            self.network.encoder, self.network.quant_conv = nn.Identity(), nn.Identity()
        self.control = causalise_decoder(self.network, transfer="hold") if config.causal else None
        pixels = 3 * config.downscale**2
        self.register_buffer("basis", torch.zeros(config.latent_channels, pixels))
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("scale", torch.ones(config.latent_channels))

    @torch.no_grad()
    def fit_basis(self, frames: Tensor) -> float:
        """Set the shortcut from ``frames`` (N,3,H,W); returns the share of variance that it keeps.

        Each latent channel is divided by the square root of its deviation: half-way between equal variances (noise in
        fine detail would weigh as much as structure) and pixel variances (fine detail would drown in noise).
        """
        patches = functional.pixel_unshuffle(frames, self.config.downscale).permute(0, 2, 3, 1).flatten(0, 2).double()
        mean = patches.mean(dim=0)
        covariance = torch.cov((patches - mean).T)
        eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
        kept = eigenvalues.flip(0)[: self.config.latent_channels]
        deviation = kept.clamp(min=1e-8).sqrt()
        scale = deviation.sqrt()
        scale = scale * (deviation / scale).square().mean().sqrt()  # mean variance of 1
        self.basis.copy_(eigenvectors.T.flip(0)[: self.config.latent_channels])
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        return float(kept.sum() / eigenvalues.sum())

    @property
    def temporal_factor(self) -> int:
        """Frames a latent stands for: each has its own."""
        return 1

    @property
    def downscale(self) -> int:
        """Pixels per latent cell."""
        return self.config.downscale

    @property
    def latent_channels(self) -> int:
        """C of the latents."""
        return self.config.latent_channels

    @property
    def can_stream(self) -> bool:
        """Whether :meth:`decode_next` is possible: the decoder is causal."""
        return self.control is not None

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B,T,3,H,W) in [-1,1] -> latents (B,T,C,h,w), the mode of the posterior."""
        latents: Tensor = self._encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return latents

    def _encode(self, frames: Tensor) -> Tensor:
        patches = functional.pixel_unshuffle(frames, self.config.downscale)
        linear = torch.einsum("cp,nphw->nchw", self.basis, patches - self.mean[:, None, None])
        latents: Tensor = linear / self.scale[:, None, None]
        if self.config.linear_encoder:
            return latents
        detail = self.network.encode(functional.pixel_unshuffle(frames, self.config.patch)).latent_dist.mode()
        return torch.add(latents, detail)

    def decode(self, latents: Tensor, *, context: Tensor | None = None) -> Tensor:
        """Latents (B,T,C,h,w) -> frames (B,T,3,H,W), about [-1,1]; not clamped. ``context`` is not needed here."""
        batch, horizon = latents.shape[:2]
        flat = latents.flatten(0, 1)
        patches = torch.einsum("cp,nchw->nphw", self.basis, flat * self.scale[:, None, None])
        linear = functional.pixel_shuffle(patches + self.mean[:, None, None], self.config.downscale)
        detail = self.network.decode(flat, num_frames=horizon).sample
        frames: Tensor = linear + functional.pixel_shuffle(detail, self.config.patch)
        return torch.unflatten(frames, 0, (batch, horizon))

    def start_stream(self) -> FrameCache:
        """A cache for :meth:`decode_next`.

        Raises:
            ConfigError: the decoder is not causal.
        """
        self._control()
        return FrameCache()

    def decode_next(self, latents: Tensor, cache: FrameCache) -> Tensor:
        """The next frames of a stream (B,n,C,h,w) -> (B,n,3,H,W), as :meth:`decode` would give them in the whole."""
        with self._control().streaming(cache, commit=True):
            return self.decode(latents)

    def _control(self) -> CausalControl:
        if self.control is None:
            raise ConfigError("only a causal decoder decodes frame by frame; train one with `vae: {causal: true}`")
        return self.control


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 (...,H,W,3) -> float32 (...,3,H,W) in [-1,1]."""
    return images.movedim(-1, -3).float() / 127.5 - 1.0


def to_uint8(frames: Tensor) -> Tensor:
    """(...,3,H,W) in [-1,1] -> uint8 (...,H,W,3)."""
    return ((frames.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)


def vae_config_from_dict(values: dict[str, Any]) -> VAEConfig:
    """From a checkpoint's or a training run's configuration."""
    return VAEConfig(**read_fields(VAEConfig, values, "vae"))

"""Wan's video autoencoder, which Cosmos-Predict2 uses too, as :class:`VideoAutoencoder`; streams latent by latent.

Knows nothing of robots, denoisers or where weights come from.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify
from torch import Tensor, nn

from egowm_core.errors import ConfigError
from egowm_core.models.stock_autoencoder import StockAutoencoder, VideoDecoder

_WAN_TEMPORAL_FACTOR = 4  # the stock encoder reads four frames at a time, whatever its configuration says


class WanDecoderCache:
    """What the decoder's causal convolutions keep of the latents before, one entry each; ``empty`` before the first."""

    def __init__(self, num_convolutions: int) -> None:
        self.features: list[Any] = [None] * num_convolutions
        self.empty = True


class WanVideoAutoencoder(StockAutoencoder):
    """Wan's causal autoencoder, which Cosmos-Predict2 uses too; latents are (z - mean) / std * ``sigma_data``."""

    kind = "wan"
    stock_class = AutoencoderKLWan
    options = ("sigma_data",)

    def __init__(self, network: Any, *, sigma_data: float = 1.0, tiny_decoder: VideoDecoder | None = None) -> None:
        """``sigma_data`` is the deviation of the normalised latents: 1.0 for Wan and Cosmos-Predict2."""
        super().__init__(network)
        if self.temporal_factor != _WAN_TEMPORAL_FACTOR:
            given = list(network.config.temperal_downsample)
            raise ConfigError(
                f"temperal_downsample {given} compresses time by {self.temporal_factor}; AutoencoderKLWan reads "
                f"{_WAN_TEMPORAL_FACTOR} frames at a time: set exactly two of them to true"
            )
        self.sigma_data = sigma_data
        self.tiny_decoder = self._check_video_decoder(tiny_decoder)

    @property
    def temporal_factor(self) -> int:
        """Frames per latent after the first."""
        return 1 << int(sum(self.network.config.temperal_downsample))

    @property
    def downscale(self) -> int:
        """Pixels per latent cell: halvings, times the patches of Wan 2.2."""
        config = self.network.config
        return int(config.patch_size or 1) << (len(config.dim_mult) - 1)

    @property
    def latent_channels(self) -> int:
        """C of the latents."""
        return int(self.network.config.z_dim)

    def normalise(self, latents: Tensor) -> Tensor:
        """See :meth:`StockAutoencoder.normalise`."""
        mean, std = self._statistics(latents)
        return (latents - mean) / std * self.sigma_data

    def denormalise(self, latents: Tensor) -> Tensor:
        """See :meth:`StockAutoencoder.denormalise`."""
        mean, std = self._statistics(latents)
        return latents * std / self.sigma_data + mean

    @property
    def can_stream(self) -> bool:
        """Whether :meth:`decode_next` is possible: with the stock decoder, untiled."""
        return self.tiny_decoder is None and not self.network.use_tiling

    def start_stream(self) -> WanDecoderCache:
        """A cache for :meth:`decode_next`.

        Raises:
            ConfigError: a tiny decoder or tiles, which keep nothing.
        """
        if not self.can_stream:
            raise ConfigError("only Wan's own decoder, without tiling, decodes latent by latent; decode whole clips")
        return WanDecoderCache(_num_convolutions(self.network.decoder))

    def decode_next(self, latents: Tensor, cache: WanDecoderCache) -> Tensor:
        """The next latents of a stream (B,n,C,h,w) -> their frames, as :meth:`decode` would give them in the whole.

        Each latent is decoded once: the stock decoder goes through a clip latent by latent anyway, and keeps of those
        before what its causal convolutions need.
        """
        network = self.network
        inputs = network.post_quant_conv(self.denormalise(latents.float()).to(network.dtype).movedim(1, 2))
        parts = []
        for part in inputs.split(1, dim=2):
            parts.append(network.decoder(part, feat_cache=cache.features, feat_idx=[0], first_chunk=cache.empty))
            cache.empty = False
        frames = torch.cat(parts, dim=2)
        if network.config.patch_size is not None:
            frames = unpatchify(frames, patch_size=network.config.patch_size)
        return frames.clamp(-1.0, 1.0).movedim(2, 1).to(latents.dtype)

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        config = self.network.config
        mean, std = latents.new_tensor(config.latents_mean), latents.new_tensor(config.latents_std)
        return mean[:, None, None], std[:, None, None]


def _num_convolutions(decoder: nn.Module) -> int:
    return sum(isinstance(module, WanCausalConv3d) for module in decoder.modules())

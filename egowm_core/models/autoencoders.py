"""Pretrained backbones' video autoencoders: stock diffusers modules as :class:`VideoAutoencoder`.

Each class wraps the stock module as ``network`` and adds what the stock pipelines do around it: the posterior's mode,
normalisation, and how decoding is called. Each can be described as a plain mapping and built again from it. Knows
nothing of robots, denoisers or where weights come from.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, AutoencoderKLTemporalDecoder, AutoencoderTiny
from torch import Tensor, nn

from egowm_core.errors import ConfigError
from egowm_core.models.components import load_component
from egowm_core.models.stock_autoencoder import LOOK_BACK, StockAutoencoder, VideoAutoencoder, VideoDecoder
from egowm_core.models.wan_autoencoder import WanVideoAutoencoder
from egowm_core.schema import nearest

__all__ = [
    "KLTemporalVideoAutoencoder",
    "LTXVideoAutoencoder",
    "VideoAutoencoder",
    "VideoDecoder",
    "WanVideoAutoencoder",
    "autoencoder_config",
    "autoencoder_from_config",
]


class KLTemporalVideoAutoencoder(StockAutoencoder):
    """SVD's autoencoder: pictures in, one latent each; a decoder that looks ``decode_chunk_size`` frames around.

    ``tiny_decoder`` (AutoencoderTiny, or a module whose ``decode`` takes normalised latents (N,C,h,w)) replaces the
    decoder by one without time. SVD conditions on *unscaled* context latents: divide by ``scaling_factor`` for that.
    """

    kind = "svd"
    stock_class = AutoencoderKLTemporalDecoder
    options = ("decode_chunk_size",)

    def __init__(self, network: Any, *, decode_chunk_size: int = 8, tiny_decoder: nn.Module | None = None) -> None:
        """``decode_chunk_size``: frames that pass through the network at a time, in either direction."""
        super().__init__(network)
        if decode_chunk_size < 1:
            raise ConfigError(f"decode_chunk_size is {decode_chunk_size}; expected at least 1 frame")
        self.decode_chunk_size = decode_chunk_size
        self._use_tiny_decoder(tiny_decoder)

    @property
    def temporal_factor(self) -> int:
        """One latent per frame."""
        return 1

    @property
    def downscale(self) -> int:
        """Each block but the last halves the picture."""
        return 1 << (len(self.network.config.block_out_channels) - 1)

    @property
    def look_back(self) -> int:
        """See ``LOOK_BACK``; a tiny decoder's frames are each on their own."""
        return LOOK_BACK if self.tiny_decoder is None else 0

    @property
    def scaling_factor(self) -> float:
        """Normalised latents are the network's times this."""
        return float(self.network.config.scaling_factor)

    def normalise(self, latents: Tensor) -> Tensor:
        """See :meth:`StockAutoencoder.normalise`."""
        return latents * self.scaling_factor

    def denormalise(self, latents: Tensor) -> Tensor:
        """See :meth:`StockAutoencoder.denormalise`."""
        return 1 / self.scaling_factor * latents

    def decode(self, latents: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See :meth:`VideoAutoencoder.decode`; ``context`` is not needed, as a latent holds its whole frame."""
        return super().decode(latents)

    def load_tiny_decoder(self, source: str | Path, *, revision: str | None = None) -> None:
        """Decode with the AutoencoderTiny (TAESD) in the directory, or of the hub id, ``source``."""
        self._use_tiny_decoder(load_component(source, AutoencoderTiny, revision=revision).to(self.network.device))

    def _use_tiny_decoder(self, decoder: nn.Module | None) -> None:
        channels = getattr(getattr(decoder, "config", None), "latent_channels", self.latent_channels)
        if decoder is not None and (not hasattr(decoder, "decode") or channels != self.latent_channels):
            raise ConfigError(
                f"tiny_decoder {type(decoder).__name__} with {channels} latent channels; expected a module with a "
                f"decode method for {self.latent_channels} channels, such as AutoencoderTiny"
            )
        self.tiny_decoder = decoder

    def _encode(self, frames: Tensor) -> Tensor:
        pictures = frames.flatten(0, 1).split(self.decode_chunk_size)
        latents = torch.cat([self.network.encode(part).latent_dist.mode() for part in pictures])
        return torch.unflatten(latents, 0, frames.shape[:2])

    def _decode(self, latents: Tensor) -> Tensor:
        chunks = []
        for part in latents.split(self.decode_chunk_size, dim=1):
            length = part.shape[1]
            clips = part.split(max(1, self.decode_chunk_size // length))  # clips never mix in time
            decoded = [self.network.decode(clip.flatten(0, 1), num_frames=length).sample for clip in clips]
            chunks.append(torch.cat(decoded).unflatten(0, (-1, length)))
        return torch.cat(chunks, dim=1)

    def _decode_all(self, latents: Tensor) -> Tensor:
        if self.tiny_decoder is None:
            return super()._decode_all(latents)
        dtype = next(self.tiny_decoder.parameters(), latents).dtype
        scale = float(getattr(getattr(self.tiny_decoder, "config", None), "scaling_factor", 1.0))
        parts = (latents.flatten(0, 1) / scale).to(dtype).split(self.decode_chunk_size)
        decoded = [self.tiny_decoder.decode(part) for part in parts]
        frames = torch.cat([getattr(part, "sample", part) for part in decoded])
        return torch.unflatten(frames, 0, latents.shape[:2])


class LTXVideoAutoencoder(StockAutoencoder):
    """LTX's autoencoder: causal encoder; the decoder of published weights sees the next latents too.

    Decoders trained with ``timestep_conditioning`` finish denoising themselves: they are told ``decode_timestep`` and
    given latents mixed with noise, ``decode_noise_scale`` of it, from ``decode_seed``, so that decoding is a function.
    """

    kind = "ltx"
    stock_class = AutoencoderKLLTXVideo
    options = ("decode_timestep", "decode_noise_scale", "decode_seed")

    def __init__(
        self,
        network: Any,
        *,
        decode_timestep: float = 0.0,
        decode_noise_scale: float | None = None,
        decode_seed: int = 0,
        tiny_decoder: VideoDecoder | None = None,
    ) -> None:
        super().__init__(network)
        self.decode_timestep = decode_timestep
        self.decode_noise_scale = decode_timestep if decode_noise_scale is None else decode_noise_scale
        self.decode_seed = decode_seed
        self.tiny_decoder = self._check_video_decoder(tiny_decoder)

    @property
    def temporal_factor(self) -> int:
        """Frames per latent after the first."""
        return int(self.network.temporal_compression_ratio)

    @property
    def downscale(self) -> int:
        """Pixels per latent cell."""
        return int(self.network.spatial_compression_ratio)

    def normalise(self, latents: Tensor) -> Tensor:
        """See :meth:`StockAutoencoder.normalise`."""
        mean, std = self._statistics(latents)
        return (latents - mean) * float(self.network.config.scaling_factor) / std

    def denormalise(self, latents: Tensor) -> Tensor:
        """See :meth:`StockAutoencoder.denormalise`."""
        mean, std = self._statistics(latents)
        return latents * std / float(self.network.config.scaling_factor) + mean

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self.network.latents_mean, self.network.latents_std
        return mean.to(latents)[:, None, None], std.to(latents)[:, None, None]

    def _decode(self, latents: Tensor) -> Tensor:
        if not self.network.config.timestep_conditioning:
            return super()._decode(latents)
        generator = torch.Generator().manual_seed(self.decode_seed)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        mixed = (1 - self.decode_noise_scale) * latents + self.decode_noise_scale * noise
        timestep = latents.new_full((len(latents),), self.decode_timestep)
        frames: Tensor = self.network.decode(mixed.movedim(1, 2), timestep).sample
        return frames.movedim(2, 1)


_KINDS: dict[str, type[StockAutoencoder]] = {
    kind.kind: kind for kind in (KLTemporalVideoAutoencoder, WanVideoAutoencoder, LTXVideoAutoencoder)
}


def autoencoder_config(autoencoder: nn.Module) -> dict[str, Any]:
    """``{"kind", "config", ...options}`` in plain types; with the state dict, all that a checkpoint needs.

    Raises:
        ConfigError: not one of the classes here, or a tiny decoder that no configuration describes.
    """
    if not isinstance(autoencoder, StockAutoencoder):
        raise ConfigError(
            f"no autoencoder of a pretrained backbone: {type(autoencoder).__name__}; kinds: {list(_KINDS)}"
        )
    values = {"kind": autoencoder.kind, "config": _stock_config(autoencoder.network)}
    values |= {name: getattr(autoencoder, name) for name in autoencoder.options}
    tiny = autoencoder.tiny_decoder
    if isinstance(tiny, AutoencoderTiny):
        values["tiny_decoder"] = _stock_config(tiny)
    elif tiny is not None:
        raise ConfigError(
            f"tiny_decoder {type(tiny).__name__} has no configuration to save; set it to None first and give it again "
            "after loading, or use diffusers' AutoencoderTiny"
        )
    return values


def autoencoder_from_config(config: Mapping[str, Any]) -> StockAutoencoder:
    """The autoencoder that :func:`autoencoder_config` described, with fresh weights: load its state dict next.

    Raises:
        ConfigError: an unknown kind or key; the nearest known name is given.
    """
    values = dict(config)
    kind = values.pop("kind", None)
    if kind not in _KINDS:
        raise ConfigError(f"autoencoder kind {kind!r}{nearest(str(kind), _KINDS)}; there are: {', '.join(_KINDS)}")
    wrapper = _KINDS[kind]
    stock, tiny = values.pop("config", None), values.pop("tiny_decoder", None)
    for key in values:
        if key not in wrapper.options:
            known = (*wrapper.options, "config", "tiny_decoder")
            raise ConfigError(f"autoencoder ({kind}) has an unknown key {key!r}{nearest(key, known)}; known: {known}")
    if tiny is not None:
        values["tiny_decoder"] = _build_stock(AutoencoderTiny, tiny)
    return wrapper(_build_stock(wrapper.stock_class, stock), **values)


def _stock_config(network: Any) -> dict[str, Any]:
    """What the stock class's constructor takes, tuples as lists."""
    known = inspect.signature(type(network).__init__).parameters
    return {key: _plain(value) for key, value in network.config.items() if key in known}


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _build_stock(stock_class: type[Any], values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"the configuration of {stock_class.__name__} is {values!r}; expected a mapping")
    known = [name for name in inspect.signature(stock_class.__init__).parameters if name != "self"]
    for key in values:
        if key not in known:
            raise ConfigError(
                f"{stock_class.__name__} of the installed diffusers knows no {key!r}{nearest(key, known)}; correct "
                "it or install the diffusers that wrote it"
            )
    return stock_class(**values).eval()

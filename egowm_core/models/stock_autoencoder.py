"""What a world model needs of a video autoencoder, and what the wrappers of stock diffusers modules share.

A clip of 1 + n * temporal_factor frames has 1 + n latents: the first stands for the first frame alone, every later
one for ``temporal_factor`` frames. Latents are normalised to about unit variance. Knows no particular autoencoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from egowm_core.errors import ConfigError, RolloutError
from egowm_core.models.components import load_component

LOOK_BACK = 3
"""Latents before the next ones of a stream that a decoder without memory is given again, for its temporal layers."""

VideoDecoder = Callable[[Tensor], Tensor]
"""Normalised latents (B,T',C,h,w) -> frames (B,1+(T'-1)*temporal_factor,3,H,W) in [-1,1]."""


class VideoAutoencoder(Protocol):
    """What world models need of an autoencoder."""

    @property
    def temporal_factor(self) -> int:
        """Frames that a latent stands for: 1 per frame, 4 for Wan and Cosmos, 8 for LTX."""

    @property
    def downscale(self) -> int:
        """Pixels per latent cell, in each direction."""

    @property
    def latent_channels(self) -> int:
        """C of the latents."""

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B,T,3,H,W) in [-1,1] -> normalised latents (B,T',C,h,w), T = 1 + (T' - 1) * temporal_factor."""

    def decode(self, latents: Tensor, *, context: Tensor | None = None) -> Tensor:
        """Latents (B,T',C,h,w) -> frames (B,T,3,H,W), about [-1,1].

        ``context`` (B,K,C,h,w), K >= 1, are the latents just before; then T = T' * temporal_factor. Without it the
        latents begin a clip and T = 1 + (T' - 1) * temporal_factor. Exact where ``context`` begins at the clip's start.
        """


class StockAutoencoder(nn.Module, ABC):
    """What the stock autoencoders share; subclasses say how to normalise and how to call the network."""

    kind: ClassVar[str]
    stock_class: ClassVar[type[Any]]
    options: ClassVar[tuple[str, ...]] = ()  # attributes beside the network's own configuration

    def __init__(self, network: Any) -> None:
        super().__init__()
        if not isinstance(network, self.stock_class):
            expected = self.stock_class.__name__
            raise ConfigError(f"{type(self).__name__} wraps {expected}, got {type(network).__name__}; give {expected}")
        self.network: Any = network
        self.tiny_decoder: Any = None

    @property
    @abstractmethod
    def temporal_factor(self) -> int:
        """Frames per latent after the first."""

    @property
    @abstractmethod
    def downscale(self) -> int:
        """Pixels per latent cell."""

    @property
    def latent_channels(self) -> int:
        """C of the latents."""
        return int(self.network.config.latent_channels)

    @abstractmethod
    def normalise(self, latents: Tensor) -> Tensor:
        """The network's latents (B,T',C,h,w) to about unit variance, as the stock pipeline does."""

    @abstractmethod
    def denormalise(self, latents: Tensor) -> Tensor:
        """Inverse of :meth:`normalise`."""

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B,T,3,H,W) in [-1,1] -> normalised latents (B,T',C,h,w): the posterior's mode, in frames' dtype.

        Raises:
            RolloutError: a number of frames other than 1 + n * temporal_factor, or sides not divisible by downscale.
        """
        factor, cell = self.temporal_factor, self.downscale
        if frames.ndim != 5 or frames.shape[2] != 3 or frames.shape[3] % cell or frames.shape[4] % cell:
            raise RolloutError(
                f"frames have shape {tuple(frames.shape)}; expected (B,T,3,H,W) with H and W divisible by {cell}; "
                "resize or crop them"
            )
        if frames.shape[1] < 1 or (frames.shape[1] - 1) % factor:
            raise RolloutError(
                f"{frames.shape[1]} frames make no whole number of latents: this autoencoder takes 1 + n * {factor} "
                "frames (the first latent is the first frame alone); drop the rest"
            )
        return self.normalise(self._encode(frames.to(self.network.dtype)).float()).to(frames.dtype)

    def decode(self, latents: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See :meth:`VideoAutoencoder.decode`; in latents' dtype."""
        given = 0 if context is None else context.shape[1]
        sequence = latents if context is None or given == 0 else torch.cat([context, latents], dim=1)
        frames = self._decode_all(sequence)
        total = 1 + (sequence.shape[1] - 1) * self.temporal_factor
        if frames.shape[1] != total:
            raise RolloutError(f"the decoder made {frames.shape[1]} frames of {sequence.shape[1]} latents, not {total}")
        before = 1 + (given - 1) * self.temporal_factor if given else 0
        return frames[:, before:].to(latents.dtype)

    def _decode_all(self, latents: Tensor) -> Tensor:
        """Latents from the start of a clip (B,T',C,h,w) -> all their frames."""
        if self.tiny_decoder is not None:
            frames: Tensor = self.tiny_decoder(latents)
            return frames
        return self._decode(self.denormalise(latents.float()).to(self.network.dtype))

    def _encode(self, frames: Tensor) -> Tensor:
        """By default a network of (B,C,T,H,W): frames (B,T,3,H,W) -> its own latents (B,T',C,h,w)."""
        latents: Tensor = self.network.encode(frames.movedim(1, 2)).latent_dist.mode()
        return latents.movedim(2, 1)

    def _decode(self, latents: Tensor) -> Tensor:
        frames: Tensor = self.network.decode(latents.movedim(1, 2)).sample
        return frames.movedim(2, 1)

    def _check_video_decoder(self, decoder: Any) -> VideoDecoder | None:
        """Refuse per-frame decoders where a latent is more than one frame."""
        if decoder is None or (callable(decoder) and not hasattr(decoder, "decode")):
            checked: VideoDecoder | None = decoder
            return checked
        raise ConfigError(
            f"{type(decoder).__name__} decodes a picture per latent, but a latent of {self.stock_class.__name__} is "
            f"{self.temporal_factor} frames; give a callable video decoder: latents (B,T',C,h,w) -> frames of the clip"
        )

    def load_tiny_decoder(self, source: str | Path, *, revision: str | None = None) -> None:
        """Refused here: see :class:`KLTemporalVideoAutoencoder`, whose latents are one frame each."""
        self._check_video_decoder(load_component(source, AutoencoderTiny, revision=revision))

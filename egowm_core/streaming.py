"""Latents of a stream to pictures, frame by frame, with as few frames decoded again as the decoder allows."""

from __future__ import annotations

import torch
from torch import Tensor

from egowm_core.models.autoencoders import VideoAutoencoder
from egowm_core.models.vae import FrameAutoencoder

_LOOK_BACK = 3  # latent frames that a decoder without cache is given again, for its temporal layers


class FrameDecoder:
    """Decodes what a stream yields. A causal frame autoencoder keeps its states; others get a few frames again."""

    def __init__(self, vae: VideoAutoencoder, context: Tensor) -> None:
        """``context`` (B,K,C,h,w): latents of the frames before the stream."""
        self._vae = vae
        self._past = context[:, -_LOOK_BACK:]
        self._cache = vae.start_stream() if isinstance(vae, FrameAutoencoder) and vae.control is not None else None
        if self._cache is not None and isinstance(vae, FrameAutoencoder):
            vae.decode_next(context, self._cache)

    def next(self, latents: Tensor) -> Tensor:
        """The stream's next latents (B,n,C,h,w) -> frames (B,n * temporal_factor,3,H,W)."""
        if self._cache is not None and isinstance(self._vae, FrameAutoencoder):
            return self._vae.decode_next(latents, self._cache)
        if self._vae.temporal_factor == 1:
            frames = self._vae.decode(torch.cat([self._past, latents], dim=1))[:, -latents.shape[1] :]
        else:
            frames = self._vae.decode(latents, context=self._past)
        self._past = torch.cat([self._past, latents], dim=1)[:, -_LOOK_BACK:]
        return frames

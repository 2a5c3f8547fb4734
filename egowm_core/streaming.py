"""Latents of a stream to pictures, frame by frame, with as few frames decoded again as the decoder allows."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor

from egowm_core.models.stock_autoencoder import LOOK_BACK, VideoAutoencoder


class StreamingAutoencoder(VideoAutoencoder, Protocol):
    """An autoencoder, torch module or exported graph, whose decoder may be causal and keep states, of its own kind."""

    @property
    def can_stream(self) -> bool:
        """Whether it is, and does."""

    def start_stream(self) -> Any: ...

    def decode_next(self, latents: Tensor, cache: Any) -> Tensor: ...


class FrameDecoder:
    """Decodes what a stream yields. A causal decoder keeps its states; others get a few frames again.

    Nothing is computed before the first frames are asked for: all of it in the thread, or CUDA stream, that asks.
    """

    def __init__(self, vae: VideoAutoencoder, context: Tensor) -> None:
        """``context`` (B,K,C,h,w): latents of the frames before the stream."""
        self._vae = vae
        self._context = context
        self._look_back = int(getattr(vae, "look_back", LOOK_BACK))
        self._past = self._newest(context)
        self._causal = cast(StreamingAutoencoder, vae) if getattr(vae, "can_stream", False) else None
        self._cache: Any = None

    def next(self, latents: Tensor) -> Tensor:
        """The stream's next latents (B,n,C,h,w) -> frames (B,n * temporal_factor,3,H,W)."""
        if self._causal is not None:
            if self._cache is None:
                self._cache = self._causal.start_stream()
                self._causal.decode_next(self._context, self._cache)
            return self._causal.decode_next(latents, self._cache)
        if self._vae.temporal_factor == 1:
            frames = self._vae.decode(torch.cat([self._past, latents], dim=1))[:, -latents.shape[1] :]
        else:
            frames = self._vae.decode(latents, context=self._past)
        self._past = self._newest(torch.cat([self._past, latents], dim=1))
        return frames

    def _newest(self, latents: Tensor) -> Tensor:
        return latents[:, max(0, latents.shape[1] - self._look_back) :]

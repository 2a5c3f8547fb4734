"""What one training step is shown: context, future latents and actions of a batch of clips, with actions dropped.

Pictures are read only where something needs them. Knows no denoiser and no loss.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egowm_core.diffusion.denoiser import Context
from egowm_core.models.conditioning import encode_context
from egowm_core.models.registry import TrainedAutoencoder
from egowm_core.models.vae import to_unit_range
from training.clips import ClipBatch, ClipDataset
from training.config import TrainConfig
from training.latents import encode_frames


class ClipLatents:
    """Draws batches in latent space: from the store where a latent is one frame, encoded on the way otherwise."""

    def __init__(
        self, config: TrainConfig, vae: TrainedAutoencoder, data: ClipDataset, directory: Path, *, causal: bool
    ) -> None:
        """``causal``: actions are dropped frame by frame; otherwise a clip's all together, as guidance does later."""
        self._run, self._vae, self._data, self._causal = config.denoiser_run, vae, data, causal
        self._device = next(vae.parameters()).device
        self._warped = set(config.denoiser_run.warp_shares) != {"none"}
        store = Path(config.autoencoder_from or directory)
        self._latents = encode_frames(vae, data, store) if vae.temporal_factor == 1 else None

    def draw(self, numbers: NDArray[np.int64], rng: np.random.Generator) -> tuple[Context, Tensor, Tensor]:
        """Context (K latent frames), future latents (B,T,C,h,w) and normalised actions of the clips ``numbers``."""
        data, factor = self._data, self._vae.temporal_factor
        batch = data.batch(numbers, images=self._warped or self._latents is None)
        images, actions = batch.images.to(self._device), batch.actions.to(self._device)
        clip = self._clip(batch, images)
        split = clip.shape[1] - data.horizon // factor
        context = Context(clip[:, :split])
        if self._warped:
            shares = self._run.warp_shares
            warps = rng.choice(list(shares), size=len(numbers), p=list(shares.values())).tolist()
            context = encode_context(
                self._vae,
                images[:, : data.context],
                actions,
                embodiment=data.embodiment,
                warps=warps,
                latents=clip[:, :split],
            )
        if self._run.action_dropout:
            drawn = rng.random((len(numbers), data.horizon // factor if self._causal else 1))
            kept = torch.from_numpy(drawn >= self._run.action_dropout).expand(-1, data.horizon // factor)
            context = replace(context, action_known=kept.to(self._device))
        return context, clip[:, split:], actions

    def _clip(self, batch: ClipBatch, images: Tensor) -> Tensor:
        if self._latents is not None:
            return self._latents[batch.frame_index].to(self._device).float()
        return self._vae.encode(to_unit_range(images)).float()

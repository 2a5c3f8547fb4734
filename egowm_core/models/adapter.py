"""What all backbone adapters share: from sigma space to one call of a stock video diffusion network, and back.

An adapter subclass names its stock module and how to call it (``network``); everything else is here: preconditioning
per frame, how the context enters (as channels, as leading frames, or both), the conditional mean, the embeddings of
actions (Z_a) and initial state (Z_s) that are added to the timestep embedding (EgoWM, arXiv 2601.15284), and streaming
of causal models. Knows nothing of pixels, robots, samplers or losses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from egowm_core.diffusion.denoiser import Context, Denoiser, per_frame
from egowm_core.diffusion.preconditioning import PRECONDITIONINGS
from egowm_core.errors import ConfigError
from egowm_core.models.action_encoder import ActionEncoder, StateEncoder
from egowm_core.models.adapter_config import VISIBLE_CHANNELS, AdapterConfig
from egowm_core.models.frame_cache import CausalControl, FrameCache


class WorldDenoiser(Denoiser, Protocol):
    """What a world model needs of a denoiser, be it a torch module or an exported graph."""

    @property
    def config(self) -> AdapterConfig:
        """What it was built from."""

    @property
    def can_cache(self) -> bool:
        """Whether the three below are there to be called; see :class:`BackboneDenoiser`."""

    def start_stream(self, context: Context) -> FrameCache: ...

    def denoise_next(
        self, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor, cache: FrameCache
    ) -> Tensor: ...

    def commit(self, frames: Tensor, context: Context, action: Tensor, cache: FrameCache) -> None: ...


class BackboneDenoiser(nn.Module, ABC):
    """Implements :class:`egowm_core.diffusion.denoiser.Denoiser`; subclasses bring the network."""

    control: CausalControl | None = None
    null_tokens: Tensor

    def __init__(
        self, config: AdapterConfig, action_encoder: ActionEncoder | None, state_encoder: StateEncoder | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.preconditioning = PRECONDITIONINGS[config.preconditioning](config.sigma_data)
        if config.context_token and not config.causal:
            self.context_token = nn.Linear(config.latent_channels, config.token_dim)
        else:
            self.register_buffer("null_tokens", torch.zeros(1, config.num_tokens, config.token_dim))
        self.action_encoder = action_encoder
        self.state_encoder = state_encoder

    @property
    def can_cache(self) -> bool:
        """Whether a stream keeps keys and values instead of evaluating its history again."""
        return self.control is not None and self.control.can_cache

    @property
    @abstractmethod
    def stock(self) -> nn.Module:
        """The stock diffusers module."""

    @staticmethod
    @abstractmethod
    def width(config: Any) -> int:
        """E of this configuration: the width of what is added to the timestep embedding."""

    @property
    def embedding_dim(self) -> int:
        """E, the width of what is added to the timestep embedding."""
        return self.width(self.config)

    @abstractmethod
    def network(self, inputs: Tensor, noise: Tensor, embedding: Tensor | None, tokens: Tensor, known: Tensor) -> Tensor:
        """One call of the stock module on N frames in time.

        ``inputs`` (B,N,``config.input_channels``,h,w); ``noise`` (B,N) is c_noise of each frame's level; ``embedding``
        (B,N,E) is added to its timestep embedding; ``tokens`` (B,M,X) are cross-attended; ``known`` (B,N) bool marks
        context frames. Returns (B,N,C,h,w).
        """

    def denoise(self, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor) -> Tensor:
        """See :class:`Denoiser`: ``noisy`` (B,T,C,h,w), ``sigma`` (B,T), ``action`` (B,T * temporal_factor,D)."""
        config = self.config
        batch, horizon = noisy.shape[:2]
        embedding = self._embedding(action, context)
        if not (config.causal or config.context_as_frames):
            mean, visible = self._compensated(noisy, context)
            beside = self._beside(noisy, context, mean, visible)
            known = torch.zeros(batch, horizon, dtype=torch.bool, device=noisy.device)
            return self._evaluate(noisy, sigma, mean, beside, embedding, self._tokens(context), known)
        lead = context.latents.shape[1]
        frames = torch.cat([context.latents.to(noisy.dtype), noisy], dim=1)
        levels = torch.cat([sigma.new_full((batch, lead), config.history_sigma), sigma], dim=1)
        known = (torch.arange(lead + horizon, device=noisy.device) < lead).expand(batch, -1)
        if embedding is not None:  # what moved the context frames is not known
            embedding = torch.cat([embedding.new_zeros(batch, lead, embedding.shape[-1]), embedding], dim=1)
        if config.causal:
            mean = self._previous(frames, levels, frames.new_zeros(frames[:, :1].shape))
            beside = self._beside_causal(mean)
        else:
            future, visible = self._compensated(noisy, context)
            mean = torch.cat([torch.zeros_like(context.latents).to(noisy.dtype), future], dim=1)
            visible = torch.cat([visible.new_zeros(batch, lead, *visible.shape[2:]), visible], dim=1)
            beside = self._beside(frames, context, mean, visible)
        return self._evaluate(frames, levels, mean, beside, embedding, self._tokens(context), known)[:, lead:]

    def start_stream(self, context: Context) -> FrameCache:
        """Commit the context frames of a causal model; what comes next is one frame after another.

        Raises:
            ConfigError: the model is not causal, or its backbone cannot keep keys and values.
        """
        cache = FrameCache()
        frames = context.latents
        # What moved the context frames is not known; nor do they carry Z_s: as in denoise.
        embedding = None if self.action_encoder is None else frames.new_zeros(*frames.shape[:2], self.embedding_dim)
        self._advance(frames, frames.new_zeros(frames[:, :1].shape), embedding, context, cache, known=True)
        return cache

    def denoise_next(
        self,
        noisy: Tensor,
        sigma: Tensor,
        context: Context,
        action: Tensor,
        cache: FrameCache,
        *,
        known: Tensor | None = None,
    ) -> Tensor:
        """The next frames (usually one) of a stream: as :meth:`denoise` on the whole of it, at the cost of the new.

        ``context.latents`` (B,>=1,C,h,w) ends with the frame before; ``noisy`` (B,n,C,h,w); the cache stays as it is.
        ``known`` (B,n) bool: frames that are context themselves (in an exported graph, which begins its streams so).
        """
        before = self._shrink(context.latents[:, -1:], self._history_levels(context.latents[:, -1:]))
        mean = self._previous(noisy, sigma, before)
        embedding = self._embedding(action, context)
        if known is None:
            known = torch.zeros(noisy.shape[:2], dtype=torch.bool, device=noisy.device)
        elif embedding is not None:
            embedding = torch.where(known[..., None], 0.0, embedding)
        with self._control().streaming(cache, commit=False):
            return self._evaluate(
                noisy, sigma, mean, self._beside_causal(mean), embedding, self._tokens(context), known
            )

    def commit(self, frames: Tensor, context: Context, action: Tensor, cache: FrameCache) -> None:
        """Make the clean ``frames`` (B,n,C,h,w) that ``action`` (B,n,D) led to part of the stream's history."""
        before = self._shrink(context.latents[:, -1:], self._history_levels(context.latents[:, -1:]))
        self._advance(frames, before, self._embedding(action, context), context, cache, known=False)

    def enable_gradient_checkpointing(self) -> None:
        """Trade time for memory in training."""
        self.stock.enable_gradient_checkpointing()  # type: ignore[operator]

    def _advance(
        self,
        frames: Tensor,
        before: Tensor,
        embedding: Tensor | None,
        context: Context,
        cache: FrameCache,
        *,
        known: bool,
    ) -> None:
        levels = self._history_levels(frames)
        mean = self._previous(frames, levels, before)
        mask = torch.full(frames.shape[:2], known, device=frames.device)
        with self._control().streaming(cache, commit=True):
            self._evaluate(frames, levels, mean, self._beside_causal(mean), embedding, self._tokens(context), mask)

    def _evaluate(
        self,
        frames: Tensor,
        sigma: Tensor,
        mean: Tensor,
        beside: list[Tensor],
        embedding: Tensor | None,
        tokens: Tensor,
        known: Tensor,
    ) -> Tensor:
        """Preconditioning about the conditional mean around one call of the network; N frames in, N estimates out."""
        scale = self.preconditioning
        if not self.config.residual:
            mean = torch.zeros_like(frames)
        centred = frames - mean
        inputs = torch.cat([per_frame(scale.c_in(sigma)) * centred, *beside], dim=2)
        uniform = sigma.stride(1) == 0  # one level a clip stays visible as such, so that an adapter need not compare
        noise = scale.c_noise(sigma[:, :1]).expand_as(sigma) if uniform else scale.c_noise(sigma)
        predicted = self.network(inputs, noise, embedding, tokens, known)
        denoised: Tensor = (
            mean + per_frame(scale.c_skip(sigma)) * centred + per_frame(scale.c_out(sigma)) * predicted.float()
        )
        return denoised

    def _embedding(self, action: Tensor, context: Context) -> Tensor | None:
        """Z_a + Z_s, (B,T,E); None for the passive model."""
        if self.action_encoder is None:
            return None
        embedding: Tensor = self.action_encoder(action, context.action_known)
        if self.state_encoder is None:
            return embedding
        if context.state is None:
            raise ConfigError(
                "this model is conditioned on the robot's initial state (Z_s), and none was given; pass the context "
                "with state (B,S)"
            )
        state: Tensor = self.state_encoder(context.state)
        return embedding + state

    def _tokens(self, context: Context) -> Tensor:
        if self.config.context_token and not self.config.causal:
            tokens: Tensor = self.context_token(context.latents[:, -1].mean(dim=(-2, -1)))[:, None]
            return tokens
        return self.null_tokens.expand(context.latents.shape[0], -1, -1)

    def _compensated(self, noisy: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """The compensated context and where it is known; where it is absent, the plain context, known nowhere."""
        if self.config.context_warp and context.compensated is not None and context.visible is not None:
            return context.compensated, context.visible
        plain = context.latents[:, -1:].expand_as(noisy)
        return plain, noisy.new_zeros(*noisy.shape[:2], VISIBLE_CHANNELS, *noisy.shape[3:])

    def _beside(self, frames: Tensor, context: Context, mean: Tensor, visible: Tensor) -> list[Tensor]:
        """What stands beside the noisy latents on the channel axis."""
        beside: list[Tensor] = []
        if self.config.context_as_channels:
            channels = context.latents.flatten(1, 2)[:, None].expand(-1, frames.shape[1], -1, -1, -1)
            beside.append(self.config.context_scale * channels)
        if self.config.coordinates:
            beside.append(_coordinates(frames))
        if self.config.context_warp:
            beside += [mean, visible]
        return beside

    def _beside_causal(self, previous: Tensor) -> list[Tensor]:
        beside = [self.config.context_scale * previous] if self.config.context_as_channels else []
        return [*beside, _coordinates(previous)] if self.config.coordinates else beside

    def _previous(self, frames: Tensor, sigma: Tensor, before: Tensor) -> Tensor:
        """For each frame the best guess from the one before it alone: shrunk by how noisy that is."""
        return torch.cat([before, self._shrink(frames, sigma)[:, :-1]], dim=1)

    @staticmethod
    def _shrink(frames: Tensor, sigma: Tensor) -> Tensor:
        """Posterior mean of unit-variance data given its noisy value."""
        return frames / (1.0 + per_frame(sigma).square())

    def _history_levels(self, frames: Tensor) -> Tensor:
        return frames.new_full(frames.shape[:2], self.config.history_sigma)

    def _control(self) -> CausalControl:
        if self.control is None:
            raise ConfigError("only a causal model streams frame by frame; train one with `causal: true`")
        return self.control


def _coordinates(frames: Tensor) -> Tensor:
    """Column and row of each latent cell in -1..1, (B,N,2,h,w)."""
    batch, count, _, height, width = frames.shape
    rows = torch.linspace(-1, 1, height, device=frames.device)[:, None].expand(height, width)
    columns = torch.linspace(-1, 1, width, device=frames.device)[None, :].expand(height, width)
    return torch.stack([columns, rows]).expand(batch, count, -1, -1, -1)

"""Rollouts in latent space: how a denoiser is sampled, chunk by chunk or, for causal models, frame by frame.

Knows no pixels and no robot: latents, normalised actions and noise in, latents out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from egowm_core.diffusion.denoiser import Context, Denoiser
from egowm_core.diffusion.guidance import guide
from egowm_core.diffusion.paired import Evaluation, paired
from egowm_core.diffusion.samplers import SAMPLERS, BoundDenoiser
from egowm_core.diffusion.sigmas import SCHEDULES
from egowm_core.errors import ConfigError
from egowm_core.models.adapter import WorldDenoiser
from egowm_core.schema import nearest
from egowm_core.stopping import Stop, never, refuse_stopped


@dataclass(frozen=True)
class SamplingPlan:
    """How noise becomes a prediction. ``guidance_scale`` 0 is off: one evaluation a denoising step, not two."""

    sampler: str = "euler"
    schedule: str = "karras"
    num_denoising_steps: int = 4
    sigma_min: float = 0.05
    sigma_max: float = 20.0
    guidance_scale: float = 0.0
    guidance_rescale: float = 0.7

    def __post_init__(self) -> None:
        for key, value, known in (("sampler", self.sampler, SAMPLERS), ("schedule", self.schedule, SCHEDULES)):
            if value not in known:
                raise ConfigError(f"sampling: {key} {value!r}{nearest(value, known)}; there are: {', '.join(known)}")
        if self.num_denoising_steps < 1 or not 0 < self.sigma_min < self.sigma_max:
            raise ConfigError(
                f"sampling: num_denoising_steps {self.num_denoising_steps} must be at least 1 and 0 < sigma_min "
                f"{self.sigma_min} < sigma_max {self.sigma_max}"
            )
        if self.guidance_scale < 0 or not 0 <= self.guidance_rescale <= 1:
            raise ConfigError(
                f"sampling: guidance_scale {self.guidance_scale} must be 0 or more and guidance_rescale "
                f"{self.guidance_rescale} lie in 0..1"
            )

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> SamplingPlan:
        """From a checkpoint's ``sampling`` section; what concerns geometry there is not for this class."""
        return cls(**{key: value for key, value in values.items() if key != "warp"})

    def sigmas(self) -> Tensor:
        """Noise levels (num_denoising_steps + 1,), the last one 0."""
        return SCHEDULES[self.schedule](self.num_denoising_steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    def sample(self, denoise: BoundDenoiser, noise: Tensor, *, stop: Stop = never) -> Tensor:
        """Integrate from unit ``noise`` (B,T,C,h,w) to clean latents.

        Raises:
            Stopped: ``stop()`` said so before a denoising step.
        """
        sigmas = self.sigmas()

        def asked(noisy: Tensor, sigma: Tensor) -> Tensor:
            refuse_stopped(stop)
            return denoise(noisy, sigma)

        return SAMPLERS[self.sampler](asked, noise * sigmas[0], sigmas)

    def guided(self, conditional: BoundDenoiser, unconditional: BoundDenoiser) -> BoundDenoiser:
        """``conditional``, guided away from ``unconditional`` where guidance is on."""
        if self.guidance_scale == 0:
            return conditional

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            return guide(
                conditional(noisy, sigma),
                unconditional(noisy, sigma),
                scale=self.guidance_scale,
                rescale=self.guidance_rescale,
            )

        return denoise


def sample_chunk(
    denoiser: Denoiser, context: Context, action: Tensor, noise: Tensor, plan: SamplingPlan, *, stop: Stop = never
) -> Tensor:
    """One chunk (B,T,C,h,w) at once, from unit ``noise`` of its shape; guidance drops all of its actions.

    Raises:
        Stopped: ``stop()`` said so before a denoising step.
    """
    return plan.sample(_guided(denoiser.denoise, context, action, plan, action.is_cuda), noise, stop=stop)


def _guided(
    evaluate: Evaluation, context: Context, action: Tensor, plan: SamplingPlan, together: bool
) -> BoundDenoiser:
    """``evaluate`` bound to its arguments and guided as ``plan`` says; ``together``: in one batch of twice the size,
    by which a CPU gains nothing."""
    if plan.guidance_scale and together:
        return paired(evaluate, context, action, scale=plan.guidance_scale, rescale=plan.guidance_rescale)
    dropped = replace(context, action_known=torch.zeros(action.shape[:2], dtype=torch.bool, device=action.device))
    return plan.guided(
        lambda noisy, sigma: evaluate(noisy, sigma, context, action),
        lambda noisy, sigma: evaluate(noisy, sigma, dropped, action),
    )


class LatentStream:
    """A causal model's future, frame by frame, without end. History is clean and stands at the model's history_sigma.

    With ``cache`` each frame costs one frame's work; without, the whole sequence is evaluated again, and gives the same
    numbers up to rounding (the reference). Where a backbone keeps no cache (``ConfigError`` otherwise), give
    ``cache=False`` and a bound: ``history`` frames are then kept, older ones forgotten. ``stop``: see ``sample_chunk``.
    """

    def __init__(
        self,
        denoiser: WorldDenoiser,
        context: Context,
        plan: SamplingPlan,
        *,
        cache: bool = True,
        history: int | None = None,
        stop: Stop = never,
    ) -> None:
        if not denoiser.config.causal:
            raise ConfigError("only a causal model streams frame by frame; train one with `causal: true`")
        if history is not None and history <= denoiser.config.context_frames:
            raise ConfigError(
                f"history {history} must exceed the model's {denoiser.config.context_frames} context frames"
            )
        self._denoiser, self._context, self._plan, self._history = denoiser, context, plan, history
        self._stop = stop
        self._cache = denoiser.start_stream(context) if cache else None
        self._frames = context.latents[:, :0]
        self._actions: Tensor | None = None
        self._ticks = 1  # actions of one latent frame

    @property
    def num_kept(self) -> int:
        """Frames that are kept to be evaluated again, the context included; without a bound it grows."""
        return int(self._context.latents.shape[1] + self._frames.shape[1])

    def step(self, action: Tensor, noise: Tensor) -> Tensor:
        """The next frame (B,1,C,h,w), from its normalised ``action`` (B,1,D) and unit ``noise`` of its shape.

        A latent frame of a temporal autoencoder takes ``action`` (B,temporal_factor,D).
        """
        self._ticks = action.shape[1]
        return self._cached(action, noise) if self._cache is not None else self._uncached(action, noise)

    def _cached(self, action: Tensor, noise: Tensor) -> Tensor:
        denoiser, cache, context = self._denoiser, self._cache, self._context
        assert cache is not None

        def evaluate(noisy: Tensor, sigma: Tensor, context: Context, action: Tensor) -> Tensor:
            return denoiser.denoise_next(noisy, sigma, context, action, cache)

        together = action.is_cuda and isinstance(denoiser, torch.nn.Module)  # a graph's memory has a batch of its own
        frame = self._plan.sample(_guided(evaluate, context, action, self._plan, together), noise, stop=self._stop)
        denoiser.commit(frame, context, action, cache)
        self._context = replace(context, latents=frame)
        return frame

    def _uncached(self, action: Tensor, noise: Tensor) -> Tensor:
        past = self._frames
        actions = action if self._actions is None else torch.cat([self._actions, action], dim=1)
        known = torch.ones(actions.shape[:2], dtype=torch.bool, device=action.device)
        newest_dropped = known.clone()
        newest_dropped[:, -action.shape[1] :] = False

        def bound(action_known: Tensor) -> BoundDenoiser:
            context = replace(self._context, action_known=action_known)

            def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
                sequence = torch.cat([past, noisy], dim=1)
                levels = torch.cat([sigma.new_full(past.shape[:2], self._denoiser.config.history_sigma), sigma], dim=1)
                return self._denoiser.denoise(sequence, levels, context, actions)[:, -1:]

            return denoise

        frame = self._plan.sample(self._plan.guided(bound(known), bound(newest_dropped)), noise, stop=self._stop)
        self._frames, self._actions = torch.cat([past, frame], dim=1), actions
        self._forget()
        return frame

    def _forget(self) -> None:
        """Beyond ``history`` frames the context moves on, its oldest frame is dropped."""
        if self._history is None or self._context.latents.shape[1] + self._frames.shape[1] <= self._history:
            return
        moved = torch.cat([self._context.latents[:, 1:], self._frames[:, :1]], dim=1)
        self._context = replace(self._context, latents=moved)
        self._frames = self._frames[:, 1:]
        if self._actions is not None:
            self._actions = self._actions[:, self._ticks :]

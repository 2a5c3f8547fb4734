"""What each training step is shown, as a function of (seed, step) alone: clips, noise levels, noise, dropped actions.

Every process draws for the whole batch of a step and takes its own slices of it, so that the number of processes and of
passes a step is cut into changes nothing but rounding. Frames are decoded only where something needs them. Runs in the
workers of a loader as well as in the process itself. Knows no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egowm_core.diffusion.denoiser import Context
from egowm_core.diffusion.sigmas import lognormal_sigmas
from egowm_core.embodiment import Embodiment
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.conditioning import encode_context
from egowm_core.models.registry import TrainedAutoencoder
from egowm_core.models.vae import to_unit_range
from training.config import DenoiserRun, Student
from training.fit.clips import ClipDataset
from training.fit.consistency import lower_levels
from training.fit.mixture import Mixture, clip_likelihood


@dataclass(frozen=True)
class Draw:
    """Clips of one pass, n of one dataset, on the CPU until :meth:`to`.

    ``latents`` (n,K+T,C,h,w) where they are stored, else None; ``images`` (n,N,H,W,3) uint8, N as many as needed;
    ``actions`` (n,T,D), ``state`` (n,S) or None, ``action_known`` (n,T) or None as :class:`Context` has them; ``sigma``
    (n,1) or one a frame (n,T), ``noise`` (n,T,C,h,w) of unit variance, ``lower`` (n,1) the noise level of a student's
    target or None. T of latents and noise counts latent frames.
    """

    source: int
    latents: Tensor | None
    images: Tensor
    actions: Tensor
    state: Tensor | None
    action_known: Tensor | None
    warps: tuple[str, ...] | None
    sigma: Tensor
    noise: Tensor
    lower: Tensor | None = None

    def to(self, device: torch.device) -> Draw:
        """The same on ``device``."""
        return self._each(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> Draw:
        """The same in page-locked memory (the loader's protocol): copies to a GPU then overlap its work."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Draw:
        values: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        changed: dict[str, Any] = {name: change(v) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **changed)


@dataclass(frozen=True)
class Share:
    """Which part of a step's batch is this process's: ``process`` of ``processes``, in ``passes`` passes."""

    process: int = 0
    processes: int = 1
    passes: int = 1

    def slices(self, batch_size: int) -> list[slice]:
        """One for each pass; ``batch_size`` is divisible (``checks.py`` sees to it)."""
        size = batch_size // (self.processes * self.passes)
        starts = [(number * self.processes + self.process) * size for number in range(self.passes)]
        return [slice(start, start + size) for start in starts]


class StepDraws:
    """``draws[step]`` is the list of a step's draws, one a pass. Picklable."""

    def __init__(
        self,
        mixture: Mixture,
        run: DenoiserRun,
        denoiser: AdapterConfig,
        stores: Sequence[NDArray[np.float16] | None],
        *,
        seed: int,
        share: Share = Share(),
        student: Student | None = None,
    ) -> None:
        """``stores``: latents of all training frames (N,C,h,w) of each source, or None to encode clips on the way."""
        self._student = student
        self._mixture, self._run, self._denoiser, self._stores = mixture, run, denoiser, stores
        self._seed, self._share = seed, share
        self._likelihood = [clip_likelihood(source.training, run.min_motion) for source in mixture.sources]
        self._warped = set(run.warp_shares) != {"none"}

    @property
    def needs_images(self) -> bool:
        """Whether frames are decoded for a step."""
        return self._warped or any(store is None for store in self._stores)

    def __getitem__(self, step: int) -> list[Draw]:
        run, batch_size = self._run, self._run.batch_size
        source = self._mixture.choose((self._seed, 3, step))
        data = self._mixture.sources[source].training
        rng = np.random.default_rng([self._seed, 2, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        numbers = rng.choice(len(data), size=batch_size, p=self._likelihood[source])
        warps: NDArray[np.str_] | None = None
        if self._warped:
            warps = rng.choice(list(run.warp_shares), size=batch_size, p=list(run.warp_shares.values()))
        known = self._known(rng)
        sigma = self._sigma(generator)
        lower: Tensor | None = None
        if self._student is not None:
            lower = lower_levels(sigma, self._student, step=step, steps=run.steps)
        shape = (self._denoiser.latent_channels, self._denoiser.latent_height, self._denoiser.latent_width)
        noise = torch.randn(batch_size, self._denoiser.horizon, *shape, generator=generator)
        return [
            self._draw(
                source,
                data,
                numbers[part],
                known if known is None else known[part],
                None if warps is None else tuple(warps[part].tolist()),
                sigma[part],
                noise[part],
                None if lower is None else lower[part],
            )
            for part in self._share.slices(batch_size)
        ]

    def _draw(
        self,
        source: int,
        data: ClipDataset,
        numbers: NDArray[np.int64],
        known: Tensor | None,
        warps: tuple[str, ...] | None,
        sigma: Tensor,
        noise: Tensor,
        lower: Tensor | None,
    ) -> Draw:
        store = self._stores[source]
        images = None if store is None else data.context if self._warped else 0
        batch = data.batch(numbers, images=images)
        latents = None if store is None else torch.from_numpy(np.asarray(store[batch.frame_index], np.float32))
        return Draw(source, latents, batch.images, batch.actions, batch.state, known, warps, sigma, noise, lower)

    def _known(self, rng: np.random.Generator) -> Tensor | None:
        """Which actions are not dropped: of a causal model frame by frame, else a clip's together, as guidance does."""
        if not self._run.action_dropout:
            return None
        horizon = self._denoiser.horizon
        drawn = rng.random((self._run.batch_size, horizon if self._denoiser.causal else 1))
        return torch.from_numpy(drawn >= self._run.action_dropout).expand(-1, horizon)

    def _sigma(self, generator: torch.Generator) -> Tensor:
        run = self._run
        levels = lognormal_sigmas(
            run.batch_size,
            self._denoiser.horizon,
            mean=run.sigma_log_mean,
            std=run.sigma_log_std,
            generator=generator,
            per_frame=run.diffusion_forcing,
        )
        return levels if run.diffusion_forcing else levels[:, :1]


class FrameRuns:
    """``runs[step]`` is ``count`` short runs of consecutive frames (count,length,H,W,3) uint8. Picklable."""

    def __init__(self, mixture: Mixture, *, seed: int, count: int, length: int) -> None:
        self._mixture, self._seed, self._count, self._length = mixture, seed, count, length

    def __getitem__(self, step: int) -> Tensor:
        source = self._mixture.sources[self._mixture.choose((self._seed, 4, step))]
        return random_runs(source.training, np.random.default_rng([self._seed, 1, step]), self._count, self._length)


def random_runs(data: ClipDataset, rng: np.random.Generator, count: int, length: int) -> Tensor:
    """``count`` runs of ``length`` consecutive frames at the starts of random clips, (count,length,H,W,3) uint8."""
    numbers = rng.integers(len(data), size=count)
    return torch.from_numpy(np.stack([data.images(int(number), length) for number in numbers]))


@torch.no_grad()
def in_latent_space(
    draw: Draw, vae: TrainedAutoencoder, embodiment: Embodiment, *, horizon: int
) -> tuple[Context, Tensor]:
    """Context (K latent frames) and future (n,T,C,h,w) of a draw; ``horizon`` T in latent frames."""
    clip = vae.encode(to_unit_range(draw.images)).float() if draw.latents is None else draw.latents
    split = clip.shape[1] - horizon
    context = Context(clip[:, :split])
    if draw.warps is not None:
        frames = 1 + (split - 1) * vae.temporal_factor
        context = encode_context(
            vae,
            draw.images[:, :frames],
            draw.actions,
            embodiment=embodiment,
            warps=draw.warps,
            latents=clip[:, :split],
            state=draw.state,
        )
    return replace(context, state=draw.state, action_known=draw.action_known), clip[:, split:]

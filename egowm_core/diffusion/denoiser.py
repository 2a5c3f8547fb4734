"""The one denoiser interface, and EDM preconditioning behind it.

Every backbone adapter answers ``denoise(noisy, sigma, context, action)`` in sigma space: ``noisy = clean + sigma *
noise`` with a noise level per frame. Samplers and losses see nothing else, so they never ask which backbone it is.
Equations: Karras et al. 2022 (EDM), arXiv 2206.00364, table 1, generalised to data with a known conditional mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What is known before the future.

    ``latents`` (B,K,C,H,W): latents of the K context frames, newest last.
    ``compensated`` (B,T,C,H,W) or None: the newest context frame as it would look from each future pose by geometry
    alone, with ``visible`` (B,T,2,H,W) in 0..1: where that is known, and the same where the floor plane was assumed for
    it (zeros: only rotation is compensated). Only models configured for it use it.
    """

    latents: Tensor
    compensated: Tensor | None = None
    visible: Tensor | None = None

    def repeat(self, batch_size: int) -> Context:
        """The same context for ``batch_size`` rollouts; the batch axis must be 1."""

        def expand(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.expand(batch_size, *value.shape[1:])

        return replace(
            self,
            latents=self.latents.expand(batch_size, *self.latents.shape[1:]),
            compensated=expand(self.compensated),
            visible=expand(self.visible),
        )


class Denoiser(Protocol):
    """A world model's denoiser: noisy future latents in, clean estimate out."""

    def denoise(self, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor) -> Tensor:
        """``noisy`` (B,T,C,H,W), ``sigma`` (B,T) > 0, ``action`` (B,T,D) normalised -> clean (B,T,C,H,W)."""
        ...


@dataclass(frozen=True)
class EDMPreconditioning:
    """c_skip, c_out, c_in, c_noise for data of standard deviation ``sigma_data`` about its conditional mean."""

    sigma_data: float = 1.0

    def c_skip(self, sigma: Tensor) -> Tensor:
        return self.sigma_data**2 / (sigma**2 + self.sigma_data**2)

    def c_out(self, sigma: Tensor) -> Tensor:
        return sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()

    def c_in(self, sigma: Tensor) -> Tensor:
        return 1.0 / (sigma**2 + self.sigma_data**2).sqrt()

    def c_noise(self, sigma: Tensor) -> Tensor:
        """What the network is told of the noise level: ln(sigma) / 4, as in SVD."""
        return sigma.log() / 4.0

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """lambda(sigma) = (sigma^2 + sd^2) / (sigma sd)^2: unit loss at initialisation for every sigma."""
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2


def per_frame(value: Tensor) -> Tensor:
    """(B,T) -> (B,T,1,1,1), to multiply latents."""
    return value[:, :, None, None, None]

"""Samplers, one function each: integrate dx/dsigma = (x - denoised) / sigma from sigmas[0] down to 0.

``denoise`` maps (noisy (B,T,C,H,W), sigma (B,T)) to the clean estimate; context and actions are already bound to it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

BoundDenoiser = Callable[[Tensor, Tensor], Tensor]
Sampler = Callable[[BoundDenoiser, Tensor, Tensor], Tensor]


def _levels(sigma: Tensor, noisy: Tensor) -> Tensor:
    return sigma.to(noisy.device).expand(noisy.shape[0], noisy.shape[1])


def sample_euler(denoise: BoundDenoiser, noisy: Tensor, sigmas: Tensor) -> Tensor:
    """First-order Euler steps. ``noisy`` has standard deviation sigmas[0]; ``sigmas`` (S+1,) ends in 0."""
    for sigma, next_sigma in pairwise(sigmas):
        denoised = denoise(noisy, _levels(sigma, noisy))
        slope = (noisy - denoised) / sigma
        noisy = denoised if next_sigma == 0 else noisy + slope * (next_sigma - sigma)
    return noisy


def sample_heun(denoise: BoundDenoiser, noisy: Tensor, sigmas: Tensor) -> Tensor:
    """Second-order Heun steps (EDM, algorithm 1 without churn): two evaluations a step but the last."""
    for sigma, next_sigma in pairwise(sigmas):
        denoised = denoise(noisy, _levels(sigma, noisy))
        slope = (noisy - denoised) / sigma
        if next_sigma == 0:
            noisy = denoised
            continue
        ahead = noisy + slope * (next_sigma - sigma)
        slope_ahead = (ahead - denoise(ahead, _levels(next_sigma, ahead))) / next_sigma
        noisy = noisy + (slope + slope_ahead) / 2 * (next_sigma - sigma)
    return noisy


SAMPLERS: dict[str, Sampler] = {"euler": sample_euler, "heun": sample_heun}

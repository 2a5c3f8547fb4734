"""Samplers, one function each: from noise of standard deviation sigmas[0] down to 0.

Euler and Heun integrate dx/dsigma = (x - denoised) / sigma; the consistency sampler takes each estimate for the end of
that path, as students tuned for it are meant to be.

``denoise`` maps (noisy (B,T,C,H,W), sigma (B,T)) to the clean estimate; context and actions are already bound to it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
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


def sample_consistency(denoise: BoundDenoiser, noisy: Tensor, sigmas: Tensor) -> Tensor:
    """Multistep consistency sampling (Song et al., arXiv 2303.01469, algorithm 1): estimate, noise anew, estimate.

    What is added anew is a function of each clip's first noise alone: a clip is the same in any batch, and alternatives
    that share their noise go on sharing it. In one step the same as Euler's.
    """
    denoised = denoise(noisy, _levels(sigmas[0], noisy))
    generators = [_generator(clip) for clip in noisy] if len(sigmas) > 2 else []
    for sigma in sigmas[1:-1]:
        drawn = [torch.randn(noisy.shape[1:], generator=generator) for generator in generators]
        renoised = denoised + sigma.to(denoised) * torch.stack(drawn).to(denoised)
        denoised = denoise(renoised, _levels(sigma, renoised))
    return denoised


def _generator(clip: Tensor) -> torch.Generator:
    """Seeded by the bits of a clip's first value."""
    bits = clip.flatten()[:1].float().cpu().view(torch.int32)
    return torch.Generator().manual_seed(int(bits))


SAMPLERS: dict[str, Sampler] = {"euler": sample_euler, "heun": sample_heun, "consistency": sample_consistency}

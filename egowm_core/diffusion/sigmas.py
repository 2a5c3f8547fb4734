"""Noise levels: schedules for sampling, distributions for training."""

from __future__ import annotations

import torch
from torch import Tensor


def karras_sigmas(num_denoising_steps: int, *, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Decreasing noise levels (num_denoising_steps + 1,), the last one 0 (EDM, equation 5).

    Raises:
        ValueError: fewer than one step, or not 0 < sigma_min < sigma_max.
    """
    _check(num_denoising_steps, sigma_min, sigma_max)
    if num_denoising_steps == 1:
        return torch.tensor([sigma_max, 0.0])
    ramp = torch.linspace(0, 1, num_denoising_steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


def lognormal_sigmas(
    batch_size: int, num_frames: int, *, mean: float, std: float, generator: torch.Generator, per_frame: bool = False
) -> Tensor:
    """Training noise levels (B,T) with ln sigma ~ N(mean, std^2); one a clip, or one a frame (diffusion forcing).

    Since t = sigma / (1 + sigma) has logit ln sigma, this is also flow matching's logit-normal draw of t.
    """
    columns = num_frames if per_frame else 1
    log_sigma = torch.randn(batch_size, columns, generator=generator) * std + mean
    return log_sigma.exp().expand(batch_size, num_frames)


def flow_sigmas(num_denoising_steps: int, *, sigma_min: float, sigma_max: float) -> Tensor:
    """Decreasing levels (num_denoising_steps + 1,), evenly spaced in t = sigma / (1 + sigma), the last one 0.

    Raises:
        ValueError: fewer than one step, or not 0 < sigma_min < sigma_max.
    """
    _check(num_denoising_steps, sigma_min, sigma_max)
    if num_denoising_steps == 1:
        return torch.tensor([sigma_max, 0.0])
    high, low = (level / (1.0 + level) for level in (sigma_max, sigma_min))
    t = torch.linspace(high, low, num_denoising_steps, dtype=torch.float64)
    sigmas = t / (1.0 - t)
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


def _check(num_denoising_steps: int, sigma_min: float, sigma_max: float) -> None:
    if num_denoising_steps < 1:
        raise ValueError(f"num_denoising_steps is {num_denoising_steps}; at least 1 is needed")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"expected 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")


SCHEDULES = {"karras": karras_sigmas, "flow": flow_sigmas}

"""Consistency tuning: a trained denoiser becomes its own few-step student (ECT, Geng et al., arXiv 2406.14548).

On the path x_s = clean + s * noise of one noise, the student's estimate f(x_t) is drawn to its own, held fixed, at the
lower level r (equations 10 to 12 there):

    L = E[ w(t, r) d(f(x_t), stopgrad f(x_r)) ],   w = 1 / (t - r),   d = sqrt(mean (a - b)^2 + c^2) - c

    r / t = max(0, 1 - n(t) / q^stage),   n(t) = 1 + k sigmoid(-b t),   stage = 1, 2, ...

Where r is 0 the target is the clean future itself, since f(x_0) = x_0 by the preconditioning; so the run begins close
to ordinary denoising, and ends with r near t. The mean in place of the sum is a constant factor. Knows no backbone and
no data; the configuration is ``training.config.Student``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from egowm_core.diffusion.denoiser import Context, Denoiser, per_frame
from training.config import Student


def lower_levels(sigma: Tensor, student: Student, *, step: int, steps: int) -> Tensor:
    """The targets' noise levels r, of the shape of ``sigma`` (t), in step ``step`` of ``steps``; 0 means clean."""
    stage = 1 + min(step * student.stages // steps, student.stages - 1)
    gap = (1.0 + student.k * torch.sigmoid(-student.b * sigma)) / student.q**stage
    return sigma * (1.0 - gap).clamp(min=0.0)


def consistency_loss(
    denoiser: Denoiser,
    clean: Tensor,
    *,
    sigma: Tensor,
    lower: Tensor,
    context: Context,
    action: Tensor,
    noise: Tensor,
    huber: float,
) -> Tensor:
    """The loss above, a scalar: no gradient reaches the target.

    ``clean`` and unit ``noise`` (B,T,C,h,w); ``sigma`` and ``lower`` (B,1), one level a clip, 0 <= lower <= sigma;
    ``action`` (B,T,D); ``huber`` is c, in units of the latents. Where both levels are the same the loss is 0.
    """
    noise = noise.to(clean)
    frames = clean.shape[:2]

    def estimate(level: Tensor) -> Tensor:
        levels = level.expand(frames)
        return denoiser.denoise(clean + per_frame(levels) * noise, levels, context, action).float()

    # The student first: autocast keeps the weights it has cast, and those cast without gradient would stay without.
    estimated = estimate(sigma)
    with torch.no_grad():
        is_clean = lower == 0
        # Evaluated even where nothing is taken from it: processes with sharded weights must all take the same passes.
        target = torch.where(per_frame(is_clean), clean, estimate(torch.where(is_clean, sigma, lower)))
    distance = ((estimated - target).square().mean(dim=(1, 2, 3, 4)) + huber**2).sqrt() - huber
    gap = (sigma - lower)[:, 0]
    return (distance * torch.where(gap > 0, 1.0 / gap, 0.0)).mean()

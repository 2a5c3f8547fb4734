"""Training objectives in sigma space. Knows no backbone and no data format."""

from __future__ import annotations

import torch
from torch import Tensor

from egowm_core.diffusion.denoiser import Context, Denoiser, EDMPreconditioning, per_frame


def edm_loss(
    denoiser: Denoiser,
    clean: Tensor,
    *,
    sigma: Tensor,
    context: Context,
    action: Tensor,
    preconditioning: EDMPreconditioning,
    generator: torch.Generator,
    weight: Tensor | None = None,
) -> Tensor:
    """Weighted denoising error (EDM, equation 8), a scalar.

    ``clean`` (B,T,C,H,W), ``sigma`` (B,T), ``action`` (B,T,D); ``weight`` broadcastable to ``clean`` or None.
    """
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    noisy = clean + per_frame(sigma) * noise
    error = (denoiser.denoise(noisy, sigma, context, action).float() - clean).square()
    error = error * per_frame(preconditioning.loss_weight(sigma))
    return (error if weight is None else error * weight).mean()

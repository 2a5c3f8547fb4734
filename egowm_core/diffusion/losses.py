"""Training objectives in sigma space. Knows no backbone and no data format.

One function serves them all, because a family's objective is a weight on the error of its clean estimate: EDM's
lambda(sigma), flow matching's 1 / t^2 (``preconditioning.loss_weight``). Diffusion forcing (arXiv 2407.01392) is the
same with a noise level drawn for each frame (``sigmas.py``).
"""

from __future__ import annotations

from torch import Tensor

from egowm_core.diffusion.denoiser import Context, Denoiser, per_frame
from egowm_core.diffusion.preconditioning import Preconditioning


def denoising_loss(
    denoiser: Denoiser,
    clean: Tensor,
    *,
    sigma: Tensor,
    context: Context,
    action: Tensor,
    preconditioning: Preconditioning,
    noise: Tensor,
) -> Tensor:
    """Weighted denoising error (EDM, equation 8; for flow preconditioning the velocity's error), a scalar.

    ``clean`` and unit ``noise`` (B,T,C,h,w), ``sigma`` (B,T), ``action`` (B,T,D). The noise is given, so that
    several processes can each take their share of one draw.
    """
    noisy = clean + per_frame(sigma) * noise.to(clean)
    error = (denoiser.denoise(noisy, sigma, context, action).float() - clean).square()
    return (error * per_frame(preconditioning.loss_weight(sigma))).mean()

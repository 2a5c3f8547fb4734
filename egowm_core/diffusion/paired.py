"""Guidance in one evaluation: with and without the actions as one batch of twice the size.

On a GPU two small batches leave it idle where one larger would not; the work is the same. Knows no backbone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from egowm_core.diffusion.denoiser import Context
from egowm_core.diffusion.guidance import guide
from egowm_core.diffusion.samplers import BoundDenoiser

Evaluation = Callable[[Tensor, Tensor, Context, Tensor], Tensor]
"""A denoiser's ``denoise``: (noisy, sigma, context, action) -> clean estimate."""


def paired(evaluate: Evaluation, context: Context, action: Tensor, *, scale: float, rescale: float) -> BoundDenoiser:
    """The guided estimate by ``evaluate`` for ``context`` and ``action`` (B,T,D), all of whose actions it drops.

    The same as :func:`egowm_core.diffusion.guidance.guide` of two evaluations, up to rounding: in another batch size
    kernels may add up in another order.
    """
    known = context.action_known
    if known is None:
        known = torch.ones(action.shape[:2], dtype=torch.bool, device=action.device)
    twice = _doubled(replace(context, action_known=None))
    both = replace(twice, action_known=torch.cat([known, torch.zeros_like(known)]))
    actions = torch.cat([action, action])

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        # One level a clip stays visible as such (see the adapters): a copy of all frames' levels would hide it.
        uniform = sigma.stride(1) == 0
        levels = torch.cat([sigma[:, :1]] * 2).expand(-1, sigma.shape[1]) if uniform else torch.cat([sigma, sigma])
        conditional, unconditional = evaluate(torch.cat([noisy, noisy]), levels, both, actions).chunk(2)
        return guide(conditional, unconditional, scale=scale, rescale=rescale)

    return denoise


def _doubled(context: Context) -> Context:
    """Every batch axis twice."""
    given = {item.name: getattr(context, item.name) for item in fields(context)}
    return replace(context, **{name: torch.cat([value, value]) for name, value in given.items() if value is not None})

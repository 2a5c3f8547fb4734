"""Action guidance: exaggerate what the actions change (Vid2World, arXiv 2505.14357, causal action guidance).

eps = (1 + w) eps_cond - w eps_uncond; the clean estimate is affine in eps at a given noisy input, so it is combined
alike. Knows neither backbone nor which actions were dropped for the unconditional estimate.
"""

from __future__ import annotations

from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, *, scale: float, rescale: float) -> Tensor:
    """Guided clean estimate (B,T,C,h,w) from two: with the actions, and without.

    ``rescale`` in 0..1 pulls each frame's deviation back towards that of the conditional estimate, which guidance
    inflates (Lin et al., arXiv 2305.08891, section 3.4; here in the space of clean estimates: at high noise, rescaling
    eps would amplify noise).
    """
    guided = conditional + scale * (conditional - unconditional)
    if rescale == 0:
        return guided
    axes = (2, 3, 4)
    mean = guided.mean(dim=axes, keepdim=True)
    spread = guided.std(dim=axes, keepdim=True).clamp(min=1e-6)
    ratio = conditional.std(dim=axes, keepdim=True) / spread
    return mean + (guided - mean) * (rescale * ratio + (1.0 - rescale))

"""What the action encoder's MLP is given: features of the normalised scalars of one tick.

Each kind is a small module over the last axis with its output width in ``num_features``. It knows no robot, no time
and no backbone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from egowm_core.errors import ConfigError
from egowm_core.schema import nearest

FEATURES = ("fourier", "learned_fourier", "sinusoid", "linear", "table")
"""Fixed octaves; a trained frequency matrix; timestep-style sinusoids; plain scalars; a table of discrete actions."""

SINUSOID_INPUT_SCALE = 8 * math.pi
"""Default for ``sinusoid``: its fastest frequency, 1, then has a period of a quarter of a unit, as the fourth doubling
of ``fourier`` has. At scale 1 a whole range of [-1, 1] moves only the fastest pair, and by a third of its period."""

_LEARNED_INIT_STD = math.pi  # rad per unit: actions that differ by the whole range start out unrelated, near ones alike


class FourierFeatures(nn.Module):
    """The scalars (...,S) with sine and cosine at octaves whose lowest period, 4 / ``input_scale``, spans [-1, 1]."""

    frequencies: Tensor

    def __init__(self, num_scalars: int, num_frequencies: int, input_scale: float) -> None:
        super().__init__()
        frequencies = input_scale * (math.pi / 2 * 2.0 ** torch.arange(num_frequencies))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.num_features = num_scalars * (1 + 2 * num_frequencies)

    def forward(self, scalars: Tensor) -> Tensor:
        """(...,S) -> (...,S (1 + 2 F))."""
        angles = (scalars[..., None] * self.frequencies).flatten(-2)
        return torch.cat([scalars, angles.sin(), angles.cos()], dim=-1)


class LearnedFourierFeatures(nn.Module):
    """The scalars with sine and cosine of F*S trained directions in their space: sin(W x), cos(W x), W (F*S,S).

    Joint rather than per scalar, so that features of several channels together (a turn while driving) are at hand.
    W starts as independent Gaussians of a fixed width: a change of one channel shows alike in a robot of 3 channels
    and in one of 26.
    """

    def __init__(self, num_scalars: int, num_frequencies: int, input_scale: float) -> None:
        super().__init__()
        directions = num_scalars * num_frequencies
        self.frequencies = nn.Parameter(torch.randn(directions, num_scalars) * (_LEARNED_INIT_STD * input_scale))
        self.num_features = num_scalars + 2 * directions

    def forward(self, scalars: Tensor) -> Tensor:
        """(...,S) -> (...,S (1 + 2 F))."""
        # Not a matrix product: autocast would round the angles to bfloat16, up to 0.05 rad at 10 rad.
        angles = (scalars[..., None, :] * self.frequencies).sum(-1)
        return torch.cat([scalars, angles.sin(), angles.cos()], dim=-1)


class SinusoidFeatures(nn.Module):
    """Sine and cosine of each scalar at F frequencies spaced geometrically from 1 to 1e-4, as of a diffusion timestep.

    The published recipe for SVD. Timesteps run to 1000, actions to 1: what matters is ``input_scale``.
    """

    frequencies: Tensor

    def __init__(self, num_scalars: int, num_frequencies: int, input_scale: float) -> None:
        super().__init__()
        frequencies = input_scale * torch.logspace(0, -4, num_frequencies)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.num_features = num_scalars * 2 * num_frequencies

    def forward(self, scalars: Tensor) -> Tensor:
        """(...,S) -> (...,2 S F)."""
        angles = (scalars[..., None] * self.frequencies).flatten(-2)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class LinearFeatures(nn.Module):
    """The scalars themselves (Cosmos' recipe)."""

    def __init__(self, num_scalars: int, input_scale: float) -> None:
        super().__init__()
        self.input_scale = input_scale
        self.num_features = num_scalars

    def forward(self, scalars: Tensor) -> Tensor:
        """(...,S) -> (...,S)."""
        return scalars * self.input_scale


class TableIndex(nn.Module):
    """A discrete action as the row of an embedding table, which replaces the MLP's first layer (Vid2World)."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.num_actions = num_actions

    def forward(self, scalars: Tensor) -> Tensor:
        """(...,1) -> (...) int64 in 0..num_actions-1: rounded and clamped, for a graph cannot raise."""
        return scalars[..., 0].round().clamp(0, self.num_actions - 1).long()


ScalarFeatures = FourierFeatures | LearnedFourierFeatures | SinusoidFeatures | LinearFeatures


def build_features(
    name: str, *, num_scalars: int, num_frequencies: int, input_scale: float | None = None
) -> ScalarFeatures:
    """The continuous features of this name; ``input_scale`` multiplies the scalars, None is the kind's own default.

    Raises:
        ConfigError: an unknown name (the nearest is given), or ``table``, which has no features but rows.
    """
    if name == "sinusoid":
        scale = SINUSOID_INPUT_SCALE if input_scale is None else input_scale
        return SinusoidFeatures(num_scalars, num_frequencies, scale)
    scale = 1.0 if input_scale is None else input_scale
    if name == "fourier":
        return FourierFeatures(num_scalars, num_frequencies, scale)
    if name == "learned_fourier":
        return LearnedFourierFeatures(num_scalars, num_frequencies, scale)
    if name == "linear":
        return LinearFeatures(num_scalars, scale)
    continuous = [kind for kind in FEATURES if kind != "table"]
    raise ConfigError(f"no continuous features {name!r}{nearest(name, continuous)}; there are: {', '.join(continuous)}")

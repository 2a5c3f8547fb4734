"""Actions to embeddings of the width of a backbone's timestep embedding.

Inputs are normalised per-tick actions (about [-1, 1] each). What a frame looks like depends on where the robot is by
then, so the encoder sees, for each frame, both its own tick and the motion composed since the context frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def integrate(action: Tensor, *, kind: str, scale: Tensor) -> Tensor:
    """Per-tick physical motion since the context frame, from normalised ``action`` (B,T,D), in physical units.

    ``kind`` 'se2': channels are dx, dy, dyaw in the previous body frame, composed on SE(2); 'sum': running sums.
    ``scale`` (D,) is the embodiment's per-channel scale.
    """
    physical = action * scale
    if kind == "sum":
        return physical.cumsum(dim=1)
    if kind != "se2" or action.shape[-1] != 3:
        raise ValueError(f"integrate is 'sum' or 'se2' (3 channels), got {kind!r} with {action.shape[-1]} channels")
    yaw = physical[..., 2].cumsum(dim=1)
    heading = yaw - physical[..., 2]  # before each tick
    dx = heading.cos() * physical[..., 0] - heading.sin() * physical[..., 1]
    dy = heading.sin() * physical[..., 0] + heading.cos() * physical[..., 1]
    return torch.stack([dx.cumsum(dim=1), dy.cumsum(dim=1), yaw], dim=-1)


class ActionEncoder(nn.Module):
    """Sine-cosine features of each action scalar and a small MLP (EgoWM's SVD recipe), zero-initialised at the end.

    Args:
        action_dim: D.
        embedding_dim: E, the width of the backbone's timestep embedding.
        scale: per-channel scale of the embodiment (D,), to compose motion in physical units.
        integrate_kind: 'se2' or 'sum'.
        horizon: frames per chunk; composed motion is divided by ``scale * horizon`` to stay in about [-1, 1].
        num_frequencies: octaves of the features. Their lowest period spans the input range: sinusoids at the usual
            timestep frequencies would be nearly constant over [-1, 1].
    """

    scale: Tensor
    frequencies: Tensor

    def __init__(
        self,
        *,
        action_dim: int,
        embedding_dim: int,
        scale: list[float],
        integrate_kind: str,
        horizon: int,
        num_frequencies: int = 5,
        hidden_dim: int = 256,
    ) -> None:
        super().__init__()
        self.integrate_kind = integrate_kind
        self.horizon = horizon
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        frequencies = math.pi / 2 * 2.0 ** torch.arange(num_frequencies)
        self.register_buffer("frequencies", frequencies, persistent=False)
        num_features = 2 * action_dim * (1 + 2 * num_frequencies)
        self.mlp = nn.Sequential(
            nn.Linear(num_features, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, embedding_dim),
        )
        output = self.mlp[-1]
        assert isinstance(output, nn.Linear)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)

    def forward(self, action: Tensor) -> Tensor:
        """Normalised actions (B,T,D) -> embeddings (B,T,E)."""
        action = action.float()
        composed = integrate(action, kind=self.integrate_kind, scale=self.scale) / (self.scale * self.horizon)
        scalars = torch.cat([action, composed], dim=-1)
        angles = (scalars[..., None] * self.frequencies).flatten(-2)
        features = torch.cat([scalars, angles.sin(), angles.cos()], dim=-1)
        embedding: Tensor = self.mlp(features)
        return embedding

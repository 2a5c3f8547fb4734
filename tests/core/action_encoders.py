"""Small action encoders and actions for them, for tests of the action path."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from egowm_core.models.action_encoder import ActionEncoder, ActionEncoderConfig

WIDTH, HORIZON = 16, 8
SE3 = ("se3", 6)


def encoder(
    kind: str = "se2", channels: int = 3, *, awake: bool = True, scale: float = 0.15, **options
) -> ActionEncoder:
    """A small encoder; ``awake`` gives the zero-initialised layer random weights, as if trained."""
    torch.manual_seed(0)
    made = ActionEncoder(
        action_dim=channels,
        embedding_dim=WIDTH,
        scale=[scale] * channels,
        integrate_kind=kind,
        horizon=HORIZON,
        config=ActionEncoderConfig(hidden_dim=32, **options),
    )
    if awake:
        nn.init.normal_(made.mlp[-1].weight, std=0.3)
    return made.eval()


def table(**options) -> ActionEncoder:
    return encoder("sum", 1, scale=1.0, features="table", motion="tick", num_actions=5, **options)


def actions(channels: int = 3, *, ticks: int = HORIZON, seed: int = 1) -> Tensor:
    return torch.rand(2, ticks, channels, generator=torch.Generator().manual_seed(seed)) * 2 - 1

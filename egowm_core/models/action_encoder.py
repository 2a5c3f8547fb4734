"""Actions (and the initial state) to embeddings of the width of a backbone's timestep embedding: Z_a and Z_s.

Inputs are normalised per-tick actions (about [-1, 1] each). What a frame looks like depends on where the robot is by
then, so by default the encoder sees, for each frame, both its own tick and the motion composed since the context frame.
Knows no backbone: who adds the embedding to what is the adapter's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from egowm_core.embodiment import INTEGRATIONS
from egowm_core.errors import ConfigError, EmbodimentError
from egowm_core.models.action_features import FEATURES, ScalarFeatures, TableIndex, build_features
from egowm_core.models.se3 import compose_se3
from egowm_core.schema import nearest

MOTIONS = ("composed", "tick")
"""Own tick and motion since the context frame; or own tick alone, which is the same wherever a stream began."""

_CHANNELS = {"se2": 3, "se3": 6}


@dataclass(frozen=True, kw_only=True)
class ActionEncoderConfig:
    """How actions become embeddings. Raises ConfigError for values that do not fit together.

    Attributes:
        features: one of ``FEATURES``: ``fourier`` octaves, ``learned_fourier``, the published ``sinusoid``, ``linear``
            (plain scalars), ``table`` (one channel of integers 0..num_actions-1; needs motion ``tick``).
        motion: one of ``MOTIONS``. Causal models that stream want ``tick``: composed motion has an origin and grows.
        num_frequencies: F, per scalar; ``linear`` and ``table`` have none.
        hidden_dim: width of the MLP.
        input_scale: multiplies the scalars before the features. None: 1, and ``SINUSOID_INPUT_SCALE`` (8 pi) for
            ``sinusoid``, which at 1 is nearly constant over [-1, 1].
        num_actions: rows of the table.
        temporal_downsample: ticks per latent frame, a power of two (4 for a VAE that compresses time by 4).
        state_dim: S, channels of the initial state that becomes Z_s; 0 for none.
    """

    features: str = "fourier"
    motion: str = "composed"
    num_frequencies: int = 5
    hidden_dim: int = 256
    input_scale: float | None = None
    num_actions: int = 0
    temporal_downsample: int = 1
    state_dim: int = 0

    def __post_init__(self) -> None:
        for what, value, known in (("features", self.features, FEATURES), ("motion", self.motion, MOTIONS)):
            if value not in known:
                raise ConfigError(f"{what} {value!r} is not one of {', '.join(known)}{nearest(value, known)}")
        for what, count, least in (
            ("num_frequencies", self.num_frequencies, 1),
            ("hidden_dim", self.hidden_dim, 1),
            ("state_dim", self.state_dim, 0),
        ):
            if count < least:
                raise ConfigError(f"{what} {count} must be at least {least}")
        if self.input_scale is not None and not (math.isfinite(self.input_scale) and self.input_scale > 0):
            raise ConfigError(f"input_scale {self.input_scale} must be a positive number; leave it out for the default")
        if self.temporal_downsample < 1 or self.temporal_downsample & (self.temporal_downsample - 1):
            raise ConfigError(f"temporal_downsample {self.temporal_downsample} must be a power of two: 1, 2, 4, ...")
        if self.features == "table":
            self._check_table()
        elif self.num_actions:
            raise ConfigError(f"num_actions {self.num_actions} belongs to features 'table', not {self.features!r}")

    def _check_table(self) -> None:
        if self.num_actions < 2:
            raise ConfigError(f"features 'table' needs num_actions of at least 2, got {self.num_actions}")
        if self.motion != "tick":
            raise ConfigError(f"features 'table' needs motion 'tick', got {self.motion!r}: choices do not compose")
        if self.input_scale is not None:
            raise ConfigError(f"input_scale {self.input_scale} has no meaning for features 'table'; leave it out")


def integrate(action: Tensor, *, kind: str, scale: Tensor) -> Tensor:
    """Per-tick physical motion since the context frame, from normalised ``action`` (B,T,D), in physical units.

    ``kind`` 'se2': channels are dx, dy, dyaw in the previous body frame, composed on SE(2). 'se3': dx, dy, dz and a
    rotation vector (droll, dpitch, dyaw: its components about x, y, z, rad) in the previous body or camera frame,
    composed on SE(3) through the exponential map; the pose is again a translation and a rotation vector, of at most
    pi rad: it jumps at half a turn, where 'se2' counts turns. 'sum': running sums.
    ``scale`` (D,) is the embodiment's per-channel scale.
    """
    physical = action * scale
    if kind == "sum":
        return physical.cumsum(dim=1)
    if action.shape[-1] != _CHANNELS.get(kind):
        raise ValueError(
            f"integrate is 'sum', 'se2' (3 channels) or 'se3' (6 channels),"
            f" got {kind!r} with {action.shape[-1]} channels"
        )
    if kind == "se3":
        return compose_se3(physical)
    yaw = physical[..., 2].cumsum(dim=1)
    heading = yaw - physical[..., 2]  # before each tick
    dx = heading.cos() * physical[..., 0] - heading.sin() * physical[..., 1]
    dy = heading.sin() * physical[..., 0] + heading.cos() * physical[..., 1]
    return torch.stack([dx.cumsum(dim=1), dy.cumsum(dim=1), yaw], dim=-1)


class ActionEncoder(nn.Module):
    """Features of each action scalar and a small MLP, zero-initialised at the end: Z_a of P = F(Z_t + Z_a + Z_s).

    Args:
        action_dim: D.
        embedding_dim: E, the width of the backbone's timestep embedding.
        scale: per-channel scale of the embodiment (D,), to compose motion in physical units.
        integrate_kind: one of ``INTEGRATIONS``: 'se2', 'se3' or 'sum'.
        horizon: ticks per chunk; composed motion is divided by ``scale * horizon`` to stay in about [-1, 1].
        config: features, motion, widths and ticks per latent frame.

    With ``temporal_downsample`` d, log2(d) strided convolutions (kernel 2, stride 2, so that they never overlap) sit
    before the last layer: latent frame i has the ticks i d .. i d + d - 1 and, of composed motion, what came before.

    Raises:
        ConfigError: D does not fit ``scale``, ``integrate_kind`` or the table, or ``integrate_kind`` is unknown.
    """

    scale: Tensor

    def __init__(
        self,
        *,
        action_dim: int,
        embedding_dim: int,
        scale: Sequence[float],
        integrate_kind: str,
        horizon: int,
        config: ActionEncoderConfig = ActionEncoderConfig(),
    ) -> None:
        super().__init__()
        _check_robot(action_dim, scale, integrate_kind, config)
        self.action_dim = action_dim
        self.config = config
        self.integrate_kind = integrate_kind
        self.horizon = horizon
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        self.features: ScalarFeatures | TableIndex
        if config.features == "table":
            self.features = TableIndex(config.num_actions)
            first: nn.Module = nn.Embedding(config.num_actions, config.hidden_dim)
        else:
            num_scalars = action_dim * (2 if config.motion == "composed" else 1)
            self.features = _features(config.features, num_scalars, config)
            first = nn.Linear(self.features.num_features, config.hidden_dim)
        self.mlp = _mlp(first, config.hidden_dim, embedding_dim)
        levels = config.temporal_downsample.bit_length() - 1
        self.downsample = nn.ModuleList(
            nn.Conv1d(config.hidden_dim, config.hidden_dim, kernel_size=2, stride=2) for _ in range(levels)
        )

    def forward(self, action: Tensor, known: Tensor | None = None) -> Tensor:
        """Normalised actions (B,T,D) -> embeddings (B,T/d,E), d the temporal downsampling.

        ``known`` bool, per tick (B,T) or per latent frame (B,T/d): False drops the action, whatever it holds. The
        embedding of a latent frame without a known tick is exactly 0; where only some are known, the others add
        nothing. In composed motion a dropped tick counts as no motion.

        Raises:
            EmbodimentError: another D, a T that d does not divide, or ``known`` of another shape.
        """
        known = self._checked_known(action, known)
        action = action.float()
        if known is not None:
            action = torch.where(known[..., None], action, 0.0)  # not a product: what was dropped may be NaN
        features = self.features(self._scalars(action))
        if features.is_floating_point():
            features = features.to(next(self.mlp.parameters()).dtype)
        hidden: Tensor = self.mlp[:-1](features)
        group = self.config.temporal_downsample
        if group > 1 and known is not None:
            hidden = torch.where(known[..., None], hidden, 0.0)
            known = known.unflatten(1, (-1, group)).any(dim=-1)
        for conv in self.downsample:
            hidden = functional.silu(conv(hidden.transpose(1, 2))).transpose(1, 2)
        embedding: Tensor = self.mlp[-1](hidden)
        return embedding if known is None else torch.where(known[..., None], embedding, 0.0)

    def check_actions(self, action: Tensor, known: Tensor | None = None) -> None:
        """What a traced forward cannot refuse: call it where actions come in. Shapes as in ``forward``.

        Raises:
            EmbodimentError: wrong shapes, values that are not finite, or for a table not integers of its range.
        """
        known = self._checked_known(action, known)
        values = action if known is None else action[known]
        if not torch.isfinite(values).all():
            raise EmbodimentError("actions hold values that are not finite; mark them as not known or check the source")
        if self.config.features != "table":
            return
        choices, last = values * self.scale.to(values.device), self.config.num_actions - 1
        wrong = (choices != choices.round()) | (choices < 0) | (choices > last)
        if wrong.any():
            value = float(choices[wrong].flatten()[0])
            raise EmbodimentError(f"action {value:g} is not a whole number in 0..{last}; give the index of the choice")

    def _scalars(self, action: Tensor) -> Tensor:
        if self.config.features == "table":
            return action * self.scale
        if self.config.motion == "tick":
            return action
        composed = integrate(action, kind=self.integrate_kind, scale=self.scale) / (self.scale * self.horizon)
        return torch.cat([action, composed], dim=-1)

    def _checked_known(self, action: Tensor, known: Tensor | None) -> Tensor | None:
        """``known`` per tick (B,T), after checking shapes alone: they are static in an exported graph."""
        group = self.config.temporal_downsample
        if action.ndim != 3 or action.shape[-1] != self.action_dim:
            raise EmbodimentError(f"actions are (B,T,{self.action_dim}), got {tuple(action.shape)}")
        if known is not None and known.dtype != torch.bool:
            raise EmbodimentError(f"known must be bool, got {known.dtype}; give False where an action is dropped")
        batch, ticks = action.shape[:2]
        if ticks % group:
            raise EmbodimentError(
                f"{ticks} ticks do not fill latent frames of {group}; give a multiple of {group}"
                f" or set temporal_downsample to the VAE's temporal compression"
            )
        if known is None or known.shape == (batch, ticks):
            return known
        if known.shape == (batch, ticks // group):
            return known.repeat_interleave(group, dim=1)
        raise EmbodimentError(
            f"known is (B,T) {(batch, ticks)} or per latent frame {(batch, ticks // group)}, got {tuple(known.shape)}"
        )


class StateEncoder(nn.Module):
    """The robot's normalised initial state to Z_s: the same features and MLP, zero-initialised at the end.

    It tells of the body parts outside the camera's view. With a table of actions, states are still continuous: fourier.

    Raises:
        ConfigError: ``state_dim`` is not positive, or not the one of ``config`` where that names one.
    """

    def __init__(
        self,
        *,
        state_dim: int,
        embedding_dim: int,
        config: ActionEncoderConfig = ActionEncoderConfig(),
    ) -> None:
        super().__init__()
        if state_dim < 1 or config.state_dim not in (0, state_dim):
            raise ConfigError(
                f"state_dim {state_dim} must be the number of state channels, at least 1"
                f" (the configuration says {config.state_dim}); without states build no StateEncoder"
            )
        self.state_dim = state_dim
        self.features = _features("fourier" if config.features == "table" else config.features, state_dim, config)
        first = nn.Linear(self.features.num_features, config.hidden_dim)
        self.mlp = _mlp(first, config.hidden_dim, embedding_dim)

    def forward(self, state: Tensor) -> Tensor:
        """State (B,S) over its scales -> (B,1,E), the same for every frame. Raises EmbodimentError on another S."""
        if state.ndim != 2 or state.shape[-1] != self.state_dim:
            raise EmbodimentError(f"states are (B,{self.state_dim}), got {tuple(state.shape)}")
        features: Tensor = self.features(state.float()).to(next(self.mlp.parameters()).dtype)
        embedding: Tensor = self.mlp(features)
        return embedding[:, None]


def _check_robot(action_dim: int, scale: Sequence[float], integrate_kind: str, config: ActionEncoderConfig) -> None:
    if len(scale) != action_dim:
        raise ConfigError(f"scale has {len(scale)} values for {action_dim} action channels; give one per channel")
    if integrate_kind not in INTEGRATIONS:
        hint = nearest(integrate_kind, INTEGRATIONS)
        raise ConfigError(f"integrate {integrate_kind!r} is not one of {', '.join(INTEGRATIONS)}{hint}")
    if action_dim != _CHANNELS.get(integrate_kind, action_dim):
        raise ConfigError(
            f"integrate {integrate_kind} needs {_CHANNELS[integrate_kind]} channels, got {action_dim}; use sum"
        )
    if config.features == "table" and action_dim != 1:
        raise ConfigError(f"features 'table' takes one action channel, got {action_dim}; number the combinations")


def _features(name: str, num_scalars: int, config: ActionEncoderConfig) -> ScalarFeatures:
    return build_features(
        name, num_scalars=num_scalars, num_frequencies=config.num_frequencies, input_scale=config.input_scale
    )


def _mlp(first: nn.Module, hidden_dim: int, embedding_dim: int) -> nn.Sequential:
    middle, output = nn.Linear(hidden_dim, hidden_dim), nn.Linear(hidden_dim, embedding_dim)
    nn.init.zeros_(output.weight)
    nn.init.zeros_(output.bias)
    return nn.Sequential(first, nn.SiLU(), middle, nn.SiLU(), output)

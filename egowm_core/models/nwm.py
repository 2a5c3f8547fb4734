"""The baseline of every table: a conditional diffusion transformer (CDiT) that predicts one next frame from four.

Written from the description in Navigation World Models (Bar et al. 2024, arXiv 2412.03572, section 3.2). A longer
future is made frame by frame, each prediction becoming the newest context frame. What the paper leaves to DDPM (noise
levels, what is predicted) is as for the other adapters, and so is denoising the difference to the newest context frame:
a comparison is then about architecture. Knows nothing of pixels, robots, samplers or losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps, get_2d_sincos_pos_embed
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from egowm_core.diffusion.denoiser import Context
from egowm_core.errors import ConfigError, RolloutError
from egowm_core.models.action_encoder import ActionEncoder, StateEncoder
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.adapter_config import AdapterConfig

# c_noise = ln(sigma) / 4 spans about 3; unscaled sinusoids (frequencies 1 to 1e-4) would hardly tell levels apart.
_NOISE_SCALE = 100
_SHIFTS = 1  # rows of the table of time shifts k = 1, 2, ...; the next tick is the only one that is predicted
_BLOCK_MODULATIONS = 11  # (shift, scale, gate) of self-attention, cross-attention, MLP; (shift, scale) of the context


@dataclass(frozen=True)
class NWMConfig(AdapterConfig):
    """Architecture of the CDiT. ``horizon`` is 1 and has no other value; it is stated for whoever reads it.

    Raises:
        ConfigError: values that make no model, or options of other backbones (causal, stock, context as channels).
    """

    context_frames: int = 4
    horizon: int = 1
    context_as_channels: bool = False
    context_as_frames: bool = True
    coordinates: bool = False
    context_token: bool = False
    patch: int = 2  # latent cells per token side
    hidden_dim: int = 256
    depth: int = 6
    num_heads: int = 4
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("latent_channels", "latent_height", "latent_width", "patch", "hidden_dim", "depth", "num_heads"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; at least 1 is needed")
        _require(self.mlp_ratio > 0, f"mlp_ratio is {self.mlp_ratio}; it must be above 0")
        _require(self.sigma_data > 0, f"sigma_data is {self.sigma_data}; it must be above 0")
        _require(
            self.horizon == 1,
            f"horizon is {self.horizon}; this model predicts 1 frame a call, longer rollouts chain it",
        )
        _require(
            self.latent_height % self.patch == 0 and self.latent_width % self.patch == 0,
            f"latents of {self.latent_height} x {self.latent_width} cells are not divisible by patch {self.patch}; "
            "choose a patch that divides both",
        )
        _require(
            self.hidden_dim % self.num_heads == 0,
            f"hidden_dim {self.hidden_dim} is not divisible by num_heads {self.num_heads}; choose heads that divide it",
        )
        _require(
            self.hidden_dim % 4 == 0,
            f"hidden_dim is {self.hidden_dim}; positions (sine and cosine of row and column) need a multiple of 4",
        )
        _require(
            self.context_as_frames and not (self.context_as_channels or self.context_token),
            "the context is cross-attended; leave context_as_frames true, context_as_channels and context_token false",
        )
        _require(not self.causal, "the model has no frames in time to make causal; leave causal false")
        _require(not self.stock, "there is no stock module; leave `stock` out")

    @property
    def token_dim(self) -> int:
        return 1  # no such tokens are attended; the smallest there can be

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens of one frame."""
        return self.latent_height // self.patch, self.latent_width // self.patch


class CDiTBlock(nn.Module):
    """Self-attention within the target frame, cross-attention to the context, MLP; each modulated by adaLN-zero.

    With N tokens a frame, K context frames, width E and MLP ratio r, a pass costs (12 + 4 K + 4 r) N E^2 floating point
    operations in projections, 4 (1 + K) N^2 E in attention and 22 E^2 in modulation: linear in K, where attention over
    all frames at once is quadratic. The context is modulated by the noise level too, so its keys and values can't be
    kept from one denoising step to the next.
    """

    def __init__(self, hidden_dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(hidden_dim, elementwise_affine=False, eps=1e-6)  # no weights: one serves all places
        self.self_qkv = nn.Linear(hidden_dim, 3 * hidden_dim)
        self.self_out = nn.Linear(hidden_dim, hidden_dim)
        self.cross_q = nn.Linear(hidden_dim, hidden_dim)
        self.cross_kv = nn.Linear(hidden_dim, 2 * hidden_dim)
        self.cross_out = nn.Linear(hidden_dim, hidden_dim)
        width = round(hidden_dim * mlp_ratio)
        self.mlp = nn.Sequential(
            nn.Linear(hidden_dim, width), nn.GELU(approximate="tanh"), nn.Linear(width, hidden_dim)
        )
        self.modulation = nn.Linear(hidden_dim, _BLOCK_MODULATIONS * hidden_dim)

    def forward(self, tokens: Tensor, context: Tensor, condition: Tensor) -> Tensor:
        """``tokens`` (B,N,E), ``context`` (B,K*N,E), ``condition`` (B,E) -> (B,N,E)."""
        chunks = self.modulation(condition)[:, None].chunk(_BLOCK_MODULATIONS, dim=-1)
        (self_shift, self_scale, self_gate), (cross_shift, cross_scale, cross_gate) = chunks[:3], chunks[3:6]
        (mlp_shift, mlp_scale, mlp_gate), (context_shift, context_scale) = chunks[6:9], chunks[9:]
        query, key, value = self.self_qkv(_modulate(self.norm(tokens), self_shift, self_scale)).chunk(3, dim=-1)
        tokens = tokens + self_gate * self.self_out(self._attend(query, key, value))
        query = self.cross_q(_modulate(self.norm(tokens), cross_shift, cross_scale))
        key, value = self.cross_kv(_modulate(self.norm(context), context_shift, context_scale)).chunk(2, dim=-1)
        tokens = tokens + cross_gate * self.cross_out(self._attend(query, key, value))
        updated: Tensor = tokens + mlp_gate * self.mlp(_modulate(self.norm(tokens), mlp_shift, mlp_scale))
        return updated

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = [part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (query, key, value)]
        return functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


class CDiT(nn.Module):
    """The transformer: one noisy frame, its context frames, its noise level and an embedding in; one frame out."""

    positions: Tensor

    def __init__(self, config: NWMConfig) -> None:
        super().__init__()
        self.grid, self.patch = config.grid, config.patch
        self.context_frames = config.context_frames
        self.checkpointing = False
        width = config.hidden_dim
        cells = config.input_channels * config.patch**2
        # Two projections: the target is a scaled, noisy difference, context frames are clean latents.
        self.target_tokens = nn.Linear(cells, width)
        self.context_tokens = nn.Linear(cells, width)
        positions = get_2d_sincos_pos_embed(width, config.grid, output_type="pt").float()
        self.register_buffer("positions", positions, persistent=False)
        self.slots = nn.Parameter(torch.randn(config.context_frames, 1, width) * 0.02)  # which frame, newest last
        self.noise_features = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0, scale=_NOISE_SCALE)
        self.noise_embedding = TimestepEmbedding(width, width)
        self.shift_embedding = nn.Embedding(_SHIFTS, width)
        self.blocks = nn.ModuleList(CDiTBlock(width, config.num_heads, config.mlp_ratio) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, config.latent_channels * config.patch**2)
        self._initialise()

    def enable_gradient_checkpointing(self) -> None:
        """In training, keep no activations inside blocks: evaluate them again on the way back."""
        self.checkpointing = True

    def forward(self, target: Tensor, context: Tensor, noise: Tensor, embedding: Tensor | None) -> Tensor:
        """``target`` (B,Cin,h,w), ``context`` (B,K,Cin,h,w), ``noise`` (B,), ``embedding`` (B,E) -> (B,C,h,w).

        All are conditioned on the paper's xi = psi_t + psi_k + psi_a: noise level, time shift and ``embedding``.
        """
        batch, frames = context.shape[:2]
        tokens = self.target_tokens(self._cells(target)) + self.positions
        seen = self.context_tokens(self._cells(context.flatten(0, 1))).unflatten(0, (batch, frames))
        memory = (seen + self.positions + self.slots).flatten(1, 2)
        features = self.noise_features(noise).to(self.noise_embedding.linear_1.weight.dtype)
        condition = self.noise_embedding(features) + self.shift_embedding.weight[0]
        if embedding is not None:
            condition = condition + embedding
        condition = functional.silu(condition)
        for block in self.blocks:
            if self.checkpointing and self.training:
                tokens = checkpoint(block, tokens, memory, condition, use_reentrant=False)
            else:
                tokens = block(tokens, memory, condition)
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=-1)
        cells = self.output(_modulate(self.norm(tokens), shift, scale))
        return functional.pixel_shuffle(cells.transpose(1, 2).unflatten(2, self.grid), self.patch)

    def _cells(self, latents: Tensor) -> Tensor:
        """(N,Cin,h,w) -> patches (N, tokens, Cin * patch^2)."""
        return functional.pixel_unshuffle(latents, self.patch).flatten(2).transpose(1, 2)

    def _initialise(self) -> None:
        """As diffusion transformers are: Xavier weights, and zeros wherever a branch or the output begins closed."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.shift_embedding.weight, std=0.02)
        for layer in (*(block.modulation for block in self.blocks), self.modulation, self.output):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


class NWMDenoiser(BackboneDenoiser):
    """CDiT behind the contract of :class:`egowm_core.diffusion.denoiser.Denoiser`, for T = 1."""

    config: NWMConfig

    def __init__(
        self,
        config: NWMConfig,
        action_encoder: ActionEncoder | None,
        state_encoder: StateEncoder | None = None,
        *,
        stock: CDiT | None = None,
    ) -> None:
        super().__init__(config, action_encoder, state_encoder)
        self.transformer = CDiT(config) if stock is None else stock

    @property
    def stock(self) -> nn.Module:
        return self.transformer

    @staticmethod
    def width(config: NWMConfig) -> int:
        """Of the conditioning vector."""
        return config.hidden_dim

    def denoise(self, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor) -> Tensor:
        """See :class:`Denoiser`: ``noisy`` (B,1,C,h,w), ``sigma`` (B,1), ``action`` (B,temporal_factor,D).

        ``context.latents`` (B,K',C,h,w), newest last: of more than ``context_frames`` the newest are used; where there
        are fewer, as when a rollout starts, the oldest is repeated as if nothing had moved before it.

        Raises:
            RolloutError: shapes that do not fit the configuration or each other.
        """
        self._check(noisy, sigma, context, action)
        return super().denoise(noisy, sigma, context, action)

    def network(self, inputs: Tensor, noise: Tensor, embedding: Tensor | None, tokens: Tensor, known: Tensor) -> Tensor:
        context = inputs[:, :-1][:, -self.config.context_frames :]
        missing = self.config.context_frames - context.shape[1]
        if missing:
            context = torch.cat([context[:, :1].expand(-1, missing, -1, -1, -1), context], dim=1)
        newest = None if embedding is None else embedding[:, -1]
        predicted = self.transformer(inputs[:, -1], context, noise[:, -1], newest)[:, None]
        unpredicted = predicted.new_zeros(inputs.shape[0], inputs.shape[1] - 1, *predicted.shape[2:])
        return torch.cat([unpredicted, predicted], dim=1)

    def _check(self, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor) -> None:
        config = self.config
        frame = (config.latent_channels, config.latent_height, config.latent_width)
        size = " x ".join(map(str, frame))
        fitting = noisy.ndim == 5 and noisy.shape[1:] == (1, *frame)
        _fits(fitting, "noisy", noisy, f"(B, 1 frame, {size}): one frame a call")
        batch = noisy.shape[0]
        _fits(sigma.shape == (batch, 1), "sigma", sigma, f"({batch}, 1): one noise level for each")
        known = context.latents
        fitting = known.ndim == 5 and known.shape[0] == batch and known.shape[1] >= 1 and known.shape[2:] == frame
        _fits(fitting, "context.latents", known, f"({batch}, 1 to {config.context_frames} frames, {size}), newest last")
        ticks = config.temporal_factor
        fitting = action.ndim == 3 and action.shape[:2] == (batch, ticks)
        _fits(fitting, "action", action, f"({batch}, {ticks}, D): those that lead to one frame")


def _modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return tokens * (1 + scale) + shift


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(f"denoiser (nwm): {message}")


def _fits(holds: bool, name: str, value: Tensor, expected: str) -> None:
    if not holds:
        raise RolloutError(f"{name} has shape {tuple(value.shape)}; expected {expected}")

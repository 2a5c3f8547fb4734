"""Causal attention over frames for stock diffusers modules: masks, attention processors, video transformers.

Vid2World (arXiv 2505.14357): attention becomes causal by a mask, without new parameters. The mask is a band: a frame
sees itself (all of its tokens) and the ``window - 1`` frames before it, so that a bounded memory of keys and values
serves an endless stream. Processors are set by ``set_processor``; what they need to know of frames travels with the
rotary table that the backbone hands to every block, so no forward pass is copied and none depends on hidden state.
Knows nothing of convolutions (``causal.py``), of noise levels or of actions.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from diffusers import CosmosTransformer3DModel, LTXVideoTransformer3DModel, WanTransformer3DModel
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn
from torch.nn import functional

from egowm_core.errors import ConfigError
from egowm_core.models.frame_cache import CausalControl


def band_mask(
    num_query_frames: int,
    num_key_frames: int,
    window: int,
    *,
    tokens_per_frame: int = 1,
    device: torch.device | None = None,
) -> Tensor:
    """Who sees whom: bool (Q * tokens, K * tokens), True where the query sees the key.

    The queries are the last Q of the K key frames. Frame t sees frames t - window + 1 to t; the tokens of one frame
    see each other.
    """
    keys = torch.arange(num_key_frames, device=device)
    age = keys[num_key_frames - num_query_frames :, None] - keys[None, :]
    visible = (age >= 0) & (age < window)
    return visible.repeat_interleave(tokens_per_frame, dim=0).repeat_interleave(tokens_per_frame, dim=1)


def mask_if_needed(
    num_query_frames: int, num_key_frames: int, window: int, *, tokens_per_frame: int, device: torch.device
) -> Tensor | None:
    """:func:`band_mask`, or None where everything is visible (a single new frame): kernels are faster without."""
    if num_query_frames == 1 and num_key_frames <= window:
        return None
    return band_mask(num_query_frames, num_key_frames, window, tokens_per_frame=tokens_per_frame, device=device)


def stream_mask(
    control: CausalControl, num_query_frames: int, num_key_frames: int, *, tokens_per_frame: int, device: torch.device
) -> Tensor | None:
    """:func:`mask_if_needed`, and without what lies before the stream's beginning where memory has a fixed shape.

    Broadcasts over the queries, (1, K * tokens), where they differ in nothing.
    """
    window = control.window
    mask = mask_if_needed(num_query_frames, num_key_frames, window, tokens_per_frame=tokens_per_frame, device=device)
    if control.remembered is None:
        return mask
    new = control.remembered.new_ones(num_query_frames)
    visible = torch.cat([control.remembered, new]).repeat_interleave(tokens_per_frame)[None]
    return visible if mask is None else mask & visible


class FrameRope(NamedTuple):
    """A backbone's rotary table, told about frames.

    ``cos`` and ``sin``: as the backbone shapes them, for remembered and new frames together. ``mask``: see
    :func:`band_mask`; None where everything is visible.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    tokens_per_frame: int


class CausalSelfAttention:
    """Attention processor with a cache of keys and values, for ``Attention`` as SVD (over time) and Cosmos build it.

    Keys are remembered before their rotation: positions count only relative to each other (RoPE), so the window can be
    rotated from position 0 on at every step, and a stream has no origin.
    """

    def __init__(self, control: CausalControl, key: str) -> None:
        self.control = control
        self.key = key

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: FrameRope | None = None,
    ) -> Tensor:
        """``hidden_states`` (B,S,E), the tokens of the new frames in order of time -> the same shape.

        Self-attention only: the next two arguments, which ``Attention`` always passes on, are None there.
        """
        query, key, value = (
            projection(hidden_states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for projection in (attn.to_q, attn.to_k, attn.to_v)
        )
        if attn.norm_q is not None:
            query, key = attn.norm_q(query).to(value.dtype), attn.norm_k(key).to(value.dtype)
        rope, window = image_rotary_emb, self.control.window
        tokens = 1 if rope is None else rope.tokens_per_frame
        new = query.shape[2]
        key = self.control.extend(f"{self.key}.key", key, dim=2, keep=window - 1, tokens_per_frame=tokens)
        value = self.control.extend(f"{self.key}.value", value, dim=2, keep=window - 1, tokens_per_frame=tokens)
        if rope is None:
            mask = stream_mask(self.control, new, key.shape[2], tokens_per_frame=1, device=query.device)
        else:
            mask = rope.mask
            query = apply_rotary_emb(query, (rope.cos[-new:], rope.sin[-new:]), use_real_unbind_dim=-2)
            key = apply_rotary_emb(key, (rope.cos, rope.sin), use_real_unbind_dim=-2)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        projected: Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2))
        return cast(Tensor, attn.to_out[1](projected))


class MaskedWanAttention:
    """The stock Wan processor, given the mask that came with the rotary table."""

    def __init__(self, stock: Any) -> None:
        self.stock = stock

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None,
        attention_mask: Tensor | None,
        rotary_emb: FrameRope,
    ) -> Tensor:
        """As the stock processor. Four axes, for a mask of two could be taken for one of padding, per batch entry."""
        mask = None if rotary_emb.mask is None else rotary_emb.mask[None, None]
        table = (rotary_emb.cos, rotary_emb.sin)
        return cast(Tensor, self.stock(attn, hidden_states, encoder_hidden_states, mask, table))


class MaskedLTXAttention:
    """The stock LTX processor, given the mask that came with the rotary table."""

    def __init__(self, stock: Any) -> None:
        self.stock = stock

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None,
        attention_mask: Tensor | None,
        image_rotary_emb: FrameRope,
    ) -> Tensor:
        """As the stock processor, which would copy a mask per head; one expanded to all heads it takes as it is."""
        mask = image_rotary_emb.mask
        if mask is not None:
            mask = mask.expand(hidden_states.shape[0] * attn.heads, -1, -1)
        table = (image_rotary_emb.cos, image_rotary_emb.sin)
        return cast(Tensor, self.stock(attn, hidden_states, encoder_hidden_states, mask, table))


class RopeHooks:
    """Hooks on a backbone's ``rope`` that make its table a :class:`FrameRope`; bound methods, so copies keep to theirs.

    ``token_axis`` is where the table counts tokens.
    """

    def __init__(self, control: CausalControl, *, token_axis: int) -> None:
        self.control = control
        self.token_axis = token_axis

    def widen(self, rope: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before: ask for a table of the remembered frames and the new ones; only the shape of the latents counts."""
        latents = args[0]
        num_frames = self.control.num_past_frames + latents.shape[2]
        return latents[:1, :1, :1].expand(-1, -1, num_frames, -1, -1), *args[1:]

    def of_latents(self, rope: nn.Module, args: tuple[Any, ...], table: tuple[Tensor, Tensor]) -> FrameRope:
        """After, where the argument is latents (B,C,F,h,w)."""
        return self._annotate(table, args[0].shape[2])

    def of_tokens(self, rope: nn.Module, args: tuple[Any, ...], table: tuple[Tensor, Tensor]) -> FrameRope:
        """After, where the arguments are tokens and the number of frames (LTX)."""
        if args[1] is None:
            raise ConfigError("a causal LTX transformer must be told num_frames, also beside video_coords; pass it")
        return self._annotate(table, args[1])

    def _annotate(self, table: tuple[Tensor, Tensor], num_frames: int) -> FrameRope:
        cos, sin = table
        tokens = cos.shape[self.token_axis] // num_frames
        new = num_frames - self.control.num_past_frames
        mask = stream_mask(self.control, new, num_frames, tokens_per_frame=tokens, device=cos.device)
        return FrameRope(cos, sin, mask, tokens)


def first_frame_position(module: nn.Module, args: tuple[Tensor], embedding: Tensor) -> Tensor:
    """Hook on Cosmos's learnt positions (B, frames * tokens, E): every frame gets those of frame 0."""
    num_frames = args[0].shape[2]
    return embedding[:, : embedding.shape[1] // num_frames].repeat(1, num_frames, 1)


def causalise_cosmos(transformer: CosmosTransformer3DModel, *, window: int) -> CausalControl:
    """Make ``transformer`` causal over frames, in place: self-attention is block-causal with a frame cache.

    RoPE is relative and stays; learnt absolute positions, where the model has them, become constant in time.
    Everything else is per token already. Parameters and their names do not change.

    Raises:
        ConfigError: ``window`` < 1, patches of more than one frame, or already causal.
    """
    control = CausalControl(window)
    _claim(transformer, control, transformer.config.patch_size[0])
    hooks = RopeHooks(control, token_axis=-2)
    transformer.rope.register_forward_pre_hook(hooks.widen)
    transformer.rope.register_forward_hook(hooks.of_latents)
    if transformer.learnable_pos_embed is not None:
        transformer.learnable_pos_embed.register_forward_hook(first_frame_position)
    for index, block in enumerate(transformer.transformer_blocks):
        block.attn1.set_processor(CausalSelfAttention(control, f"transformer_blocks.{index}.attn1"))
    return control


def causalise_wan(transformer: WanTransformer3DModel, *, window: int) -> CausalControl:
    """Make ``transformer`` causal over frames, in place, by a mask on its stock self-attention; no frame cache.

    Needs an attention backend that takes masks (the default does).

    Raises:
        ConfigError: ``window`` < 1, patches of more than one frame, or already causal; ``streaming`` raises it too.
    """
    control = CausalControl(window, uncached_backbone="WanTransformer3DModel")
    _claim(transformer, control, transformer.config.patch_size[0])
    transformer.rope.register_forward_hook(RopeHooks(control, token_axis=-3).of_latents)
    for block in transformer.blocks:
        block.attn1.set_processor(MaskedWanAttention(block.attn1.processor))
    return control


def causalise_ltx(transformer: LTXVideoTransformer3DModel, *, window: int) -> CausalControl:
    """Make ``transformer`` causal over frames, in place, by a mask on its stock self-attention; no frame cache.

    Needs an attention backend that takes masks (the default does).

    Raises:
        ConfigError: ``window`` < 1, patches of more than one frame, or already causal; ``streaming`` raises it too.
    """
    control = CausalControl(window, uncached_backbone="LTXVideoTransformer3DModel")
    _claim(transformer, control, transformer.config.patch_size_t)
    transformer.rope.register_forward_hook(RopeHooks(control, token_axis=-2).of_tokens)
    for block in transformer.transformer_blocks:
        block.attn1.set_processor(MaskedLTXAttention(block.attn1.processor))
    return control


def _claim(transformer: Any, control: CausalControl, temporal_patch: int) -> None:
    if temporal_patch != 1:
        raise ConfigError(
            f"{type(transformer).__name__} has patches of {temporal_patch} frames, which mixes frames before any mask; "
            "a causal transformer needs 1"
        )
    claim(transformer, control)


def claim(network: Any, control: CausalControl) -> None:
    """Note ``control`` on ``network`` as its attribute ``causal_control``; ConfigError if it has one already."""
    refuse_if_causal(network)
    network.causal_control = control


def refuse_if_causal(network: Any) -> None:
    """A second surgery would transform weights twice.

    Raises:
        ConfigError: ``network`` is causal already.
    """
    if getattr(network, "causal_control", None) is not None:
        raise ConfigError(f"this {type(network).__name__} is causal already; use its causal_control")

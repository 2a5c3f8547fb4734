"""Action injection by hooks: add a per-frame embedding to the timestep embedding of stock diffusers modules.

EgoWM (arXiv 2601.15284): every block modulated by the timestep embedding, P_i = F_i(Z_t), becomes
P_i = F_i(Z_t + Z_a). No forward pass is copied, and an embedding of zeros changes no bit of the output. Two places to
hook: blocks that are handed the embedding (UNets), or the module that makes it (transformers). Knows no backbone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Injector:
    """Holds the offset while a forward pass runs; subclasses hook it in. One serves one forward pass at a time."""

    def __init__(self) -> None:
        self._offset: Tensor | None = None  # (B*T,E)
        self._handles: list[RemovableHandle] = []

    @contextmanager
    def adding(self, offset: Tensor | None) -> Iterator[None]:
        """Within this context, the embedding is Z_t + ``offset``; ``offset`` (B,T,E), or None for nothing at all."""
        self._offset = None if offset is None else offset.flatten(0, 1)
        try:
            yield
        finally:
            self._offset = None

    def remove(self) -> None:
        """Leave the module as it was."""
        for handle in self._handles:
            handle.remove()


class TimestepEmbeddingInjector(Injector):
    """Adds the offset to the keyword argument ``temb`` (B*T,E) of each of ``blocks``.

    Hooks sit on whole down, mid and up blocks: on the residual blocks inside, gradient checkpointing would run them
    a second time after the offset has gone.
    """

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self._handles = [block.register_forward_pre_hook(self._add, with_kwargs=True) for block in blocks]

    def _add(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if self._offset is None:
            return args, kwargs
        temb = kwargs["temb"]
        return args, {**kwargs, "temb": temb + self._offset.to(temb.dtype)}


class EmbeddingOutputInjector(Injector):
    """Adds the offset to what ``embedder`` returns: one tensor of width E, or several whose widths sum to E.

    Each output is one row for each frame, or one for each of its R tokens in frame order: (B*T*R,.) or (B,T*R,.). The
    offset is broadcast over a frame's tokens, never repeated in memory. The embedder runs outside the blocks that
    gradient checkpointing runs again, so these see the sum.
    """

    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        self._handles = [embedder.register_forward_hook(self._add)]

    def _add(self, embedder: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self._offset is None:
            return output
        if not isinstance(output, tuple):
            return _add_rows(output, self._offset)
        parts = self._offset.split([part.shape[-1] for part in output], dim=-1)
        return tuple(_add_rows(part, offset) for part, offset in zip(output, parts, strict=True))


def _add_rows(rows: Tensor, offset: Tensor) -> Tensor:
    """``rows`` (...,W) of B*T*R rows plus ``offset`` (B*T,W), each for R rows."""
    frames = rows.reshape(offset.shape[0], -1, rows.shape[-1])
    return (frames + offset[:, None].to(rows.dtype)).reshape(rows.shape)

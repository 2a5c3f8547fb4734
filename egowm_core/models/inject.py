"""Action injection by hooks: add a per-frame embedding to the timestep embedding of stock diffusers blocks.

EgoWM (arXiv 2601.15284): every block modulated by the timestep embedding, P_i = F_i(Z_t), becomes
P_i = F_i(Z_t + Z_a). No forward pass is copied, and an embedding of zeros changes no bit of the output.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class TimestepEmbeddingInjector:
    """Adds an offset to the keyword argument ``temb`` (B*T,E) of each of ``blocks`` while one is given.

    Hooks sit on whole down, mid and up blocks: on the residual blocks inside, gradient checkpointing would run them
    a second time after the offset has gone. One injector serves one forward pass at a time.
    """

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        self._offset: Tensor | None = None
        self._handles = [block.register_forward_pre_hook(self._add, with_kwargs=True) for block in blocks]

    def _add(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if self._offset is None:
            return args, kwargs
        temb = kwargs["temb"]
        return args, {**kwargs, "temb": temb + self._offset.to(temb.dtype)}

    @contextmanager
    def adding(self, offset: Tensor) -> Iterator[None]:
        """Within this context, blocks see ``temb + offset``; ``offset`` (B,T,E)."""
        self._offset = offset.flatten(0, 1)
        try:
            yield
        finally:
            self._offset = None

    def remove(self) -> None:
        """Leave the module as it was."""
        for handle in self._handles:
            handle.remove()

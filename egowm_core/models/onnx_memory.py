"""The memory of a causal network as inputs and outputs of a graph: one tensor for each state of its frame cache.

``StateLayout`` says how a state looks and moves on, for whoever runs the graph; ``TracedMemory`` stands in for the
cache while the graph is made. Knows no backbone, no exporter and no runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from egowm_core.models.frame_cache import CausalControl

Axes = dict[str, dict[int, str]]
"""Of tensors by name, the names of axes whose size is free."""

NEW = "new."
"""Output ``new.NAME``: of a state that grows the new frames, of another the state that replaces it."""


@dataclass(frozen=True)
class StateLayout:
    """How a graph remembers past frames under ``name``: a tensor with the batch first and frames on ``axis``.

    ``shape``: of one batch entry when a stream begins. Keys and values of attention grow (``grows``) from no frame to
    ``limit`` of them; inputs of convolutions are always ``limit`` frames, zeros before the stream began.
    """

    name: str
    shape: tuple[int, ...]
    axis: int
    limit: int
    grows: bool

    def begin(self, batch_size: int) -> Tensor:
        """The state before the first frame."""
        return torch.zeros(batch_size, *self.shape)

    def advance(self, state: Tensor, new: Tensor) -> Tensor:
        """The state after the frames whose share is ``new``."""
        if not self.grows:
            return new
        kept = min(state.shape[self.axis], self.limit - new.shape[self.axis])
        return torch.cat([state.narrow(self.axis, state.shape[self.axis] - kept, kept), new], dim=self.axis)


class TracedMemory:
    """Stands in for the frame cache while a causal network is traced: states come from graph inputs and go to outputs.

    ``CausalControl.extend`` itself cannot be traced, as how much it forgets depends on how much there is.
    """

    def __init__(self, control: CausalControl, *, past: int) -> None:
        """``past``: frames that the example's growing states hold."""
        self.control = control
        self.layouts: dict[str, StateLayout] = {}
        self._past = past

    def observe(self, evaluate: Callable[[], object], batch_size: int) -> None:
        """Find out the layouts, by one evaluation of a single frame."""

        def extend(key: str, new: Tensor, *, dim: int, keep: int, tokens_per_frame: int = 1) -> Tensor:
            # What grows is attention's; convolutions take zeros for what was before the stream.
            grows = key.endswith((".key", ".value"))
            cells, axis = new.shape[0] // batch_size, dim + 1
            shape = [cells, *new.shape[1:]]
            shape[dim : dim + 1] = [0 if grows else keep, tokens_per_frame]
            self.layouts[key] = StateLayout(key, tuple(shape), axis, keep, grows)
            return new

        with _replaced(self.control, "extend", extend), torch.no_grad():
            evaluate()

    def example(self, batch_size: int) -> dict[str, Tensor]:
        """States in the middle of a stream, by name."""
        states = {name: layout.begin(batch_size) for name, layout in self.layouts.items()}
        for name, layout in self.layouts.items():
            if layout.grows:
                shape = list(states[name].shape)
                shape[layout.axis] = self._past
                states[name] = torch.zeros(shape)
        return states

    def axes(self) -> Axes:
        """The free axes of the states, but for the batch."""
        return {name: {layout.axis: "past"} for name, layout in self.layouts.items() if layout.grows}

    def past_frames(self, given: Mapping[str, Tensor]) -> int:
        """How many frames the growing states in ``given`` hold."""
        lengths = (given[name].shape[layout.axis] for name, layout in self.layouts.items() if layout.grows)
        return next(lengths, 0)

    @contextmanager
    def traced(self, given: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Within this context the network remembers ``given`` and leaves its new states in what is yielded."""
        found: dict[str, Tensor] = {}

        def extend(key: str, new: Tensor, *, dim: int, keep: int, tokens_per_frame: int = 1) -> Tensor:
            layout, past = self.layouts[key], given[key]
            frames = new.unflatten(dim, (-1, tokens_per_frame)).unflatten(0, (-1, layout.shape[0]))
            extended = torch.cat([past, frames], dim=layout.axis)
            forgotten = extended.shape[layout.axis] - layout.limit
            found[NEW + key] = frames if layout.grows else extended.narrow(layout.axis, forgotten, layout.limit)
            return extended.flatten(layout.axis, layout.axis + 1).flatten(0, 1)

        with _replaced(self.control, "extend", extend):
            yield found


@contextmanager
def _replaced(target: Any, name: str, value: Any) -> Iterator[None]:
    setattr(target, name, value)
    try:
        yield
    finally:
        delattr(target, name)

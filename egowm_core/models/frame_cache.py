"""What a causal network remembers of past frames, and the switch by which its modules use it.

A causal network (``causal.py``, ``causal_attention.py``) computes frame t from frames <= t. What later frames need of
it, keys and values of the last frames and the last inputs of each temporal convolution, fits in a bounded memory; with
it, a stream costs the new frames alone and equals one pass over the whole sequence. This file knows no backbone: a
module names its memory by a string key and says how many frames of it to keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from egowm_core.errors import ConfigError, RolloutError


class FrameCache:
    """Per-module states of the frames committed so far, for one stream through one network.

    States are never written in place: whoever holds one (a fork, an exported graph) may go on using it.

    Args:
        states: module key to tensor, the batch (or batch times cells) on axis 0; empty at the start of a stream.
        num_frames: frames committed to reach ``states``. Both are given only to carry a stream through an exported
            graph, whose inputs and outputs are the states.
    """

    def __init__(self, states: Mapping[str, Tensor] | None = None, *, num_frames: int = 0) -> None:
        self._states = dict(states or {})
        self._num_frames = num_frames
        self._owner: CausalControl | None = None
        self._fixed_shapes = False

    @property
    def num_frames(self) -> int:
        """Frames committed since the stream began; those out of every window are counted, though forgotten."""
        return self._num_frames

    @property
    def num_bytes(self) -> int:
        """Memory of all states; it stops growing once the longest window is full."""
        return sum(state.numel() * state.element_size() for state in self._states.values())

    @property
    def states(self) -> dict[str, Tensor]:
        """A copy of the mapping from module key to state (the tensors are shared)."""
        return dict(self._states)

    def fork(self, batch_size: int = 1) -> FrameCache:
        """A cache that goes its own way from here: for futures imagined from one observed history.

        With ``batch_size`` > 1 the memory is tiled along the batch, for as many rollouts at once.
        """
        states = self._states
        if batch_size > 1:
            states = {key: state.repeat(batch_size, *[1] * (state.ndim - 1)) for key, state in states.items()}
        other = FrameCache(states, num_frames=self._num_frames)
        other._owner, other._fixed_shapes = self._owner, self._fixed_shapes
        return other

    def bind(self, control: CausalControl) -> None:
        """Called by ``control.streaming``: one network's states mean nothing to another.

        Raises:
            RolloutError: the cache serves another network already, or was begun before ``control.fix_shapes``.
        """
        if self._owner not in (None, control):
            raise RolloutError(
                f"this FrameCache holds {self._num_frames} frames of another network; give each network its own cache"
            )
        if self._num_frames and self._fixed_shapes != control.fixed_shapes:
            raise RolloutError(
                f"this FrameCache holds {self._num_frames} frames from before the network was compiled, or from while "
                "it was; begin a new one"
            )
        self._owner, self._fixed_shapes = control, control.fixed_shapes

    def get(self, key: str) -> Tensor | None:
        """The state of the module ``key``; None before the first commit.

        Raises:
            RolloutError: frames are committed, but not through this module.
        """
        state = self._states.get(key)
        if state is None and self._num_frames > 0:
            raise RolloutError(
                f"this FrameCache has {self._num_frames} frames but nothing for the module {key!r}; commit every frame "
                "by a whole forward pass of the network that the cache belongs to"
            )
        return state

    def commit(self, states: Mapping[str, Tensor], num_frames: int) -> None:
        """Take over new states, ``num_frames`` further into the stream."""
        self._states.update(states)
        self._num_frames += num_frames


class CausalControl:
    """Shared by the causal modules of one network: the window, and the cache in use if any.

    Without an active cache, modules process a whole sequence with zeros before its beginning. One control serves one
    forward pass at a time.

    Args:
        window: frames that a frame's attention sees, itself included, >= 1.
        uncached_backbone: name of a backbone whose processors keep no states; ``streaming`` is refused.

    Raises:
        ConfigError: ``window`` < 1.
    """

    def __init__(self, window: int, *, uncached_backbone: str | None = None) -> None:
        if window < 1:
            raise ConfigError(f"window is {window}; a frame must at least see itself: give 1 or more")
        self.window = window
        self._uncached_backbone = uncached_backbone
        self._cache: FrameCache | None = None
        self._commit = False
        self._pending: dict[str, Tensor] = {}
        self._pending_frames = 0
        self._fixed_on: torch.device | None = None
        self._remembered: Tensor | None = None

    def fix_shapes(self, device: torch.device | None) -> None:
        """Give memory its full length from a stream's beginning on, so that compiled code meets few shapes.

        What would lie before the beginning is zeros; attention is told by :attr:`remembered` not to look there, on
        ``device``. None: memory that grows, as at first.
        """
        self._fixed_on = device

    @property
    def fixed_shapes(self) -> bool:
        """Whether memory has its full length always."""
        return self._fixed_on is not None

    @property
    def remembered(self) -> Tensor | None:
        """Which of the past frames attention may look at, bool (``num_past_frames``,); None for all."""
        return self._remembered

    @property
    def can_cache(self) -> bool:
        """Whether ``streaming`` is possible: some backbones keep no states."""
        return self._uncached_backbone is None

    @property
    def cache(self) -> FrameCache | None:
        """The active cache, inside ``streaming``."""
        return self._cache

    @property
    def commit(self) -> bool:
        """Whether the pass under way will be remembered."""
        return self._commit

    @property
    def num_past_frames(self) -> int:
        """Frames before the new ones that attention is handed: at most ``window - 1``; always so in fixed shapes."""
        if self._cache is None:
            return 0
        return self.window - 1 if self.fixed_shapes else min(self._cache.num_frames, self.window - 1)

    @contextmanager
    def streaming(self, cache: FrameCache, *, commit: bool) -> Iterator[FrameCache]:
        """Within this context the network is given only new frames, which continue those in ``cache``.

        With ``commit`` the frames of the one forward pass inside are remembered, all modules together when the context
        ends; an exception leaves the cache as it was. Without it, any number of passes see the same past. States are
        detached: no gradient flows into earlier frames. Gradient checkpointing recomputes after the context has
        ended, so it belongs to uncached passes.

        Raises:
            ConfigError: this backbone keeps no states.
            RolloutError: the cache belongs to another network, or a stream is under way in this one.
        """
        if self._uncached_backbone is not None:
            raise ConfigError(
                f"{self._uncached_backbone} has no frame cache here; stream it with cache=False, which computes the "
                "history again for each new frame"
            )
        if self._cache is not None:
            raise RolloutError("another stream is inside this network; leave its streaming(...) context first")
        cache.bind(self)
        self._cache, self._commit = cache, commit
        if self._fixed_on is not None and cache.num_frames < self.window - 1:
            missing = self.window - 1 - cache.num_frames
            self._remembered = torch.arange(self.window - 1, device=self._fixed_on) >= missing
        try:
            yield cache
            if commit:
                cache.commit(self._pending, self._pending_frames)
        finally:
            self._cache, self._commit, self._remembered = None, False, None
            self._pending, self._pending_frames = {}, 0

    def own_pending(self) -> None:
        """Copy what is about to be remembered, after a pass whose outputs the next will overwrite (CUDA graphs)."""
        self._pending = {key: state.clone() for key, state in self._pending.items()}

    def extend(self, key: str, new: Tensor, *, dim: int, keep: int, tokens_per_frame: int = 1) -> Tensor:
        """Remembered frames followed by ``new`` along ``dim``; just ``new`` without a cache. Called by modules.

        ``new`` holds whole frames of ``tokens_per_frame`` entries. When committing, the last ``keep`` frames of the
        result become the state of ``key``; otherwise ``new`` may have a multiple of the batch, for as many futures of
        one past.

        Raises:
            RolloutError: ``new`` has another batch or size than what is remembered, or a second forward pass runs in
                one committing context.
        """
        if self._cache is None:
            return new
        past = self._cache.get(key)
        if past is None and self.fixed_shapes:
            past = new.new_zeros([*new.shape[:dim], keep * tokens_per_frame, *new.shape[dim + 1 :]])
        if past is not None:
            expected, given = list(past.shape), list(new.shape)
            expected[dim] = given[dim]
            if not self._commit and given[0] % expected[0] == 0 and given[0] > expected[0]:
                past = past.repeat(given[0] // expected[0], *[1] * (past.ndim - 1))
                expected[0] = given[0]
            if expected != given:
                raise RolloutError(
                    f"{key!r} is given shape {given}, but remembers frames of {expected}; a stream keeps its batch "
                    "and frame size: begin a new FrameCache for another"
                )
        extended = new if past is None else torch.cat([past, new], dim=dim)
        if self._commit:
            if key in self._pending:
                raise RolloutError("a second forward pass in one streaming(..., commit=True); commit once per context")
            kept = min(keep * tokens_per_frame, extended.shape[dim])
            # A copy: a slice would keep the memory of the whole pass alive.
            self._pending[key] = extended.narrow(dim, extended.shape[dim] - kept, kept).detach().clone()
            self._pending_frames = new.shape[dim] // tokens_per_frame
        return extended

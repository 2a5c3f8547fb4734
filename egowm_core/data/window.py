"""Samples out of a row of ticks: the dataset and the live node cut them with the same function.

Knows arrays and ticks; no file, no message and no model.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.sync import Tick
from egowm_core.errors import ConfigError, DataError
from egowm_core.types import FloatArray, Frames, ImageArray, StampArray


@dataclass(frozen=True)
class Sample:
    """``context_images`` (K,H,W,3) and the ``future_images`` (N,H,W,3) that ``actions`` (N,D) led to.

    Row 0 of the actions moves the last context frame to the first future frame. Stamps are (K,) and (N,) int64 ns.
    """

    context_images: ImageArray
    context_stamps: StampArray
    actions: FloatArray
    future_images: ImageArray
    future_stamps: StampArray


def windows(length: int, context: int, horizon: int, stride: int = 1) -> NDArray[np.int64]:
    """First frames of all samples of ``context`` + ``horizon`` frames in an episode of ``length``, ``stride`` apart.

    Raises ConfigError unless context, horizon and stride are positive.
    """
    _check_sizes(context, horizon)
    if stride < 1:
        raise ConfigError(f"stride {stride} must be at least 1")
    return np.arange(0, length - context - horizon + 1, stride, dtype=np.int64)


def take_sample(
    images: ImageArray, stamps_ns: StampArray, actions: FloatArray, *, start: int, context: int, horizon: int
) -> Sample:
    """The sample that starts at frame ``start`` of images (T,H,W,3), stamps (T,), actions (T-1,D).

    Views where the inputs allow it. Raises DataError when the frames or actions do not reach that far.
    """
    _check_sizes(context, horizon)
    length = len(images)
    if len(stamps_ns) != length or len(actions) != length - 1:
        raise DataError(
            f"{length} frames need {length} stamps and {length - 1} actions, got {len(stamps_ns)} and {len(actions)}"
        )
    now, end = start + context, start + context + horizon
    if start < 0 or end > length:
        raise DataError(
            f"a sample of {context} + {horizon} frames from frame {start} does not fit into {length} frames;"
            f" take its start from windows()"
        )
    return Sample(
        images[start:now], stamps_ns[start:now], actions[now - 1 : end - 1], images[now:end], stamps_ns[now:end]
    )


class ContextBuffer:
    """The newest ticks of the running segment: enough for a context and for a hindsight sample of ``horizon`` frames.

    A tick without an action starts over; so does the first one after ``clear``, whatever its action. Keeps
    ``context + horizon`` frames, no more. Not thread-safe.
    """

    def __init__(self, context: int, horizon: int) -> None:
        _check_sizes(context, horizon)
        self._context, self._horizon = context, horizon
        self._ticks: deque[Tick] = deque(maxlen=context + horizon)

    def __len__(self) -> int:
        """Ticks of the running segment at hand, at most context + horizon."""
        return len(self._ticks)

    def push(self, tick: Tick) -> bool:
        """Add a tick of preprocessed frame; returns whether it started a new segment (the older ones are gone)."""
        starts = tick.action_from_previous is None or not self._ticks
        if starts:
            self._ticks.clear()
        elif tick.stamp_ns <= self._ticks[-1].stamp_ns:
            raise DataError(f"tick stamp {tick.stamp_ns} is not after {self._ticks[-1].stamp_ns}; push ticks in order")
        self._ticks.append(tick)
        return starts

    def clear(self) -> None:
        """Forget everything."""
        self._ticks.clear()

    def context(self) -> Frames | None:
        """The newest K frames, or None while the segment is shorter."""
        if len(self._ticks) < self._context:
            return None
        newest = list(self._ticks)[-self._context :]
        return Frames(np.stack([t.frame for t in newest]), np.array([t.stamp_ns for t in newest], np.int64))

    def executed_actions(self) -> FloatArray:
        """(n,D) actions between the ticks at hand, oldest first; (0,0) while there are none."""
        rows = [t.action_from_previous for t in list(self._ticks)[1:] if t.action_from_previous is not None]
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, 0), np.float32)

    def hindsight(self, horizon: int | None = None) -> Sample | None:
        """The context as of ``horizon`` ticks ago, the actions executed since and the frames then observed.

        None while the segment is shorter. Raises DataError when ``horizon`` is beyond what the buffer keeps.
        """
        horizon = self._horizon if horizon is None else horizon
        if not 0 < horizon <= self._horizon:
            raise DataError(f"hindsight of {horizon} ticks, but this buffer keeps {self._horizon}; make it with more")
        if len(self._ticks) < self._context + horizon:
            return None
        newest = list(self._ticks)[-(self._context + horizon) :]
        images = np.stack([t.frame for t in newest])
        stamps_ns = np.array([t.stamp_ns for t in newest], np.int64)
        actions = np.stack([t.action_from_previous for t in newest[1:] if t.action_from_previous is not None])
        return take_sample(images, stamps_ns, actions, start=0, context=self._context, horizon=horizon)


def _check_sizes(context: int, horizon: int) -> None:
    if context < 1 or horizon < 1:
        raise ConfigError(f"context {context} and horizon {horizon} must be at least 1")

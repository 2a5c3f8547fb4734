"""One comparison of a rollout with what the camera saw: find the observed frames by stamp.

Knows rollouts and stamps; no score, no detector, no queue and no ROS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from egowm_core.errors import DataError
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSource, FloatArray, ImageArray, Rollout, StampArray


@dataclass(frozen=True)
class Comparison:
    """``context`` (H,W,3), ``predicted`` and ``observed`` (T,H,W,3) uint8, ready to be scored.

    ``stamps_ns`` (T,) are those of the observed frames. Row t of ``actions`` (T,D) moves observed frame t-1 to t.
    """

    source: ActionSource
    context_stamp_ns: int
    stamps_ns: StampArray
    context: ImageArray
    predicted: ImageArray
    observed: ImageArray
    actions: FloatArray

    @property
    def newest_stamp_ns(self) -> int:
        """Stamp of the last observed frame."""
        return int(self.stamps_ns[-1])


def due_ns(rollout: Rollout, horizons: Sequence[int]) -> int:
    """Stamp of the last frame that the horizons need: from then on the rollout can be compared."""
    return int(rollout.frames.stamps_ns[min(max(horizons), len(rollout.frames)) - 1])


def tolerance_ns(rollout: Rollout) -> int:
    """Half a tick: how far a picture may lie from the time that a frame predicts."""
    stamps = np.concatenate([[rollout.context_stamp_ns], rollout.frames.stamps_ns])
    return int(np.median(np.diff(stamps)) // 2)


def compare(
    rollout: Rollout,
    horizons: Sequence[int],
    find: Callable[[int, int], tuple[int, ImageArray] | None],
) -> Comparison:
    """Pair a rollout's context and frames with observed ones; ``find(stamp, tolerance)`` in ns looks them up.

    Raises:
        DataError: a frame was not observed (or could not be decoded).
    """
    count = min(max(horizons), len(rollout.frames))
    wanted = [rollout.context_stamp_ns, *rollout.frames.stamps_ns[:count].tolist()]
    tolerance = tolerance_ns(rollout)
    found: list[tuple[int, ImageArray]] = []
    for number, stamp in enumerate(wanted):
        frame = find(stamp, tolerance)
        if frame is None:
            raise DataError(
                f"no image within {tolerance / 1e6:.0f} ms of {'the context' if not number else f'frame {number}'} at"
                f" {stamp / NANOSECONDS_PER_SECOND:.3f} s: rollout not judged; check that the monitor and the world"
                " model hear the same camera, and buffer_s"
            )
        found.append(frame)
    return Comparison(
        source=rollout.actions.source,
        context_stamp_ns=rollout.context_stamp_ns,
        stamps_ns=np.array([stamp for stamp, _ in found[1:]], np.int64),
        context=found[0][1],
        predicted=rollout.frames.images[:count],
        observed=np.stack([image for _, image in found[1:]]),
        actions=rollout.actions.values[:count],
    )

"""One comparison of a rollout with what the camera saw: find the frames by stamp, follow structures, score.

Knows no ROS, no detector and no queue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from egowm_core.errors import DataError
from egowm_core.scs import propose_structures, psnr, track_and_score
from egowm_core.scs.tracking import BoolArray, Tracker
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSource, ImageArray, Rollout

_BEST_PSNR_DB = 100.0  # identical frames have an infinite one


@dataclass(frozen=True)
class Comparison:
    """``context`` (H,W,3), ``predicted`` and ``observed`` (T,H,W,3) uint8, ready to be scored."""

    source: ActionSource
    context_stamp_ns: int
    newest_stamp_ns: int  # of the last observed frame
    context: ImageArray
    predicted: ImageArray
    observed: ImageArray


@dataclass(frozen=True)
class Judgement:
    """Scores by horizon (NaN where nothing can be judged) and the masks (N,H,W) of the newest frame."""

    source: ActionSource
    context_stamp_ns: int
    newest_stamp_ns: int
    scs: dict[int, float]
    num_structures: dict[int, int]
    psnr: dict[int, float]
    newest: ImageArray
    predicted_masks: BoolArray
    observed_masks: BoolArray


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
        newest_stamp_ns=found[-1][0],
        context=found[0][1],
        predicted=rollout.frames.images[:count],
        observed=np.stack([image for _, image in found[1:]]),
    )


def judge_comparison(
    comparison: Comparison, horizons: Sequence[int], *, max_structures: int, tracker: Tracker
) -> Judgement:
    """Structures proposed on the context frame, followed through both videos, and scored.

    Raises:
        ScoreError: the videos do not fit together.
    """
    structures = propose_structures(comparison.context, max_structures=max_structures)
    tracks = track_and_score(
        comparison.predicted,
        comparison.observed,
        context=comparison.context,
        structures=structures,
        horizons=horizons,
        tracker=tracker,
    )
    decibels = np.minimum(psnr(comparison.predicted, comparison.observed), _BEST_PSNR_DB)
    count = len(decibels)
    return Judgement(
        source=comparison.source,
        context_stamp_ns=comparison.context_stamp_ns,
        newest_stamp_ns=comparison.newest_stamp_ns,
        scs=tracks.scores.scs,
        num_structures=tracks.scores.num_structures,
        psnr={h: float(decibels[:h].mean()) if h <= count else float("nan") for h in horizons},
        newest=comparison.observed[-1],
        predicted_masks=tracks.predicted[:, -1],
        observed_masks=tracks.observed[:, -1],
    )

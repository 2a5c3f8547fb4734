"""The Structural Consistency Score of a predicted video against the observed one.

    SCS at horizon h = 100 / (N h)  sum over structures n, frames t = 1..h of  IoU(predicted mask, observed mask)

**Horizon.** ``Scores.scs[h]`` is the *average over frames 1..h*, as the formula has it. The score *of* frame h
alone is ``scs_at(scores, h)``; it is harsher, since error grows with t. Both follow from ``Scores.iou``.

**Trimming.** From the frame in which a structure has left the observed view (its observed mask has shrunk below
``LEFT_FRACTION`` of its first area or ``LEFT_AREA`` of the image) it is not judged any more: NaN, never 0, and
out of N and T. A structure that the *prediction* loses while it is in the observed view scores 0. A horizon at
which nothing can be judged (no structures, all left, or beyond the end of the videos) is NaN.

**Masks.** Structures come from the context frame. Through the predicted video they are always tracked; through the
observed one they are tracked likewise (``scs``), or given, say by a simulator (``scs_true``).

Knows no model, no file format and no ROS. Resolution and length must agree: nothing is resized or cut in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from egowm_core.errors import ScoreError
from egowm_core.scs.structures import propose_structures
from egowm_core.scs.tracking import BoolArray, DenseFlowTracker, Tracker
from egowm_core.types import FloatArray, Frames, ImageArray, Scores

DEFAULT_HORIZONS = (2, 4, 8)
LEFT_FRACTION = 0.15  # of the structure's area in the context frame
LEFT_AREA = 0.002  # of the image: 25 px at 96x128


@dataclass(frozen=True)
class ScoredTracks:
    """Scores and the masks behind them: ``structures`` (N,H,W), ``predicted`` and ``observed`` (N,T,H,W) bool."""

    scores: Scores
    structures: BoolArray
    predicted: BoolArray
    observed: BoolArray


def score(
    predicted: Frames | ImageArray,
    observed: Frames | ImageArray,
    *,
    context: ImageArray,
    structures: BoolArray | None = None,
    observed_masks: BoolArray | None = None,
    horizons: Sequence[int] = DEFAULT_HORIZONS,
    tracker: Tracker | None = None,
) -> Scores:
    """SCS of ``predicted`` against ``observed`` (T,H,W,3) uint8, which both follow on ``context`` (H,W,3).

    ``structures`` (N,H,W) bool are masks of the context frame, proposed automatically when None.
    ``observed_masks`` (N,T,H,W) bool, where known, replace tracking through the observed video and need
    ``structures``. ``tracker`` defaults to ``DenseFlowTracker()``.

    Raises:
        ScoreError: the videos differ in length or resolution, or masks, types or horizons do not fit.
    """
    return track_and_score(
        predicted,
        observed,
        context=context,
        structures=structures,
        observed_masks=observed_masks,
        horizons=horizons,
        tracker=tracker,
    ).scores


def track_and_score(
    predicted: Frames | ImageArray,
    observed: Frames | ImageArray,
    *,
    context: ImageArray,
    structures: BoolArray | None = None,
    observed_masks: BoolArray | None = None,
    horizons: Sequence[int] = DEFAULT_HORIZONS,
    tracker: Tracker | None = None,
) -> ScoredTracks:
    """As ``score``, with the masks to look at.

    Raises:
        ScoreError: as ``score``.
    """
    predicted_images, observed_images = _images(predicted), _images(observed)
    _check_videos(predicted_images, observed_images, context)
    if structures is None:
        if observed_masks is not None:
            raise ScoreError("observed_masks need the structures of the context frame that they follow; pass both")
        structures = propose_structures(context)
    tracker = DenseFlowTracker() if tracker is None else tracker
    predicted_masks = tracker.track(structures, np.concatenate([context[None], predicted_images]))
    if observed_masks is None:
        observed_masks = tracker.track(structures, np.concatenate([context[None], observed_images]))
    elif observed_masks.shape != predicted_masks.shape or observed_masks.dtype != np.bool_:
        raise ScoreError(
            f"observed_masks are (N,T,H,W) bool, here {predicted_masks.shape}, "
            f"got {observed_masks.shape} {observed_masks.dtype}"
        )
    iou = masks_iou(predicted_masks, observed_masks)
    iou[left_view(structures, observed_masks)] = np.nan
    scs, num_structures = horizon_scs(iou, horizons)
    return ScoredTracks(Scores(iou, scs, num_structures), structures, predicted_masks, observed_masks)


def masks_iou(predicted: BoolArray, observed: BoolArray) -> FloatArray:
    """Intersection over union (...) float32 of masks (...,H,W); NaN where both are empty."""
    both = np.count_nonzero(predicted & observed, axis=(-2, -1))
    either = np.count_nonzero(predicted | observed, axis=(-2, -1))
    return np.where(either > 0, both / np.maximum(either, 1), np.nan).astype(np.float32)


def left_view(structures: BoolArray, observed_masks: BoolArray) -> BoolArray:
    """(N,T): whether a structure has left the observed view at frame t or before."""
    areas = np.count_nonzero(observed_masks, axis=(-2, -1))
    first = np.count_nonzero(structures, axis=(-2, -1))[:, None]
    pixels = structures.shape[-2] * structures.shape[-1]
    gone = areas < np.maximum(LEFT_FRACTION * first, LEFT_AREA * pixels)
    return np.logical_or.accumulate(gone, axis=1)


def horizon_scs(iou: FloatArray, horizons: Sequence[int]) -> tuple[dict[int, float], dict[int, int]]:
    """SCS over frames 1..h of ``iou`` (N,T), and the number of structures it rests on, for each horizon h.

    Raises:
        ScoreError: a horizon below 1.
    """
    scs: dict[int, float] = {}
    counts: dict[int, int] = {}
    for horizon in horizons:
        if horizon < 1:
            raise ScoreError(f"a horizon is a frame number from 1, got {horizon}")
        within = iou[:, :horizon]
        judged = np.isfinite(within) if horizon <= iou.shape[1] else np.zeros(within.shape, np.bool_)
        counts[int(horizon)] = int(np.count_nonzero(judged.any(axis=1)))
        scs[int(horizon)] = float(100 * within[judged].mean(dtype=np.float64)) if judged.any() else float("nan")
    return scs, counts


def frame_scs(iou: FloatArray) -> FloatArray:
    """The score of each frame alone: 100 x mean over structures of ``iou`` (N,T) -> (T,), NaN where none is judged."""
    judged = np.isfinite(iou)
    count = judged.sum(axis=0)
    total = np.where(judged, iou, 0).sum(axis=0, dtype=np.float64)
    return np.where(count > 0, 100 * total / np.maximum(count, 1), np.nan).astype(np.float32)


def scs_at(scores: Scores, horizon: int) -> float:
    """The score of frame ``horizon`` (from 1) alone, in 0..100; NaN where nothing is judged or beyond the end."""
    if horizon < 1:
        raise ScoreError(f"a horizon is a frame number from 1, got {horizon}")
    return float(frame_scs(scores.iou)[horizon - 1]) if horizon <= scores.iou.shape[1] else float("nan")


def _images(video: Frames | ImageArray) -> ImageArray:
    return video.images if isinstance(video, Frames) else np.asarray(video)


def _check_videos(predicted: ImageArray, observed: ImageArray, context: ImageArray) -> None:
    for name, video in (("predicted", predicted), ("observed", observed)):
        if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or len(video) == 0:
            raise ScoreError(f"the {name} video is (T,H,W,3) uint8 with T >= 1, got {video.shape} {video.dtype}")
    if predicted.shape[1:] != observed.shape[1:]:
        raise ScoreError(
            f"predicted frames are {predicted.shape[1]}x{predicted.shape[2]} but observed ones "
            f"{observed.shape[1]}x{observed.shape[2]}; preprocess both to one resolution first"
        )
    if len(predicted) != len(observed):
        raise ScoreError(
            f"{len(predicted)} predicted frames against {len(observed)} observed ones; "
            "pair them by stamp and cut both to the frames they share"
        )
    if context.shape != observed.shape[1:] or context.dtype != np.uint8:
        raise ScoreError(
            f"the context frame is {observed.shape[1:]} uint8 like the videos' frames, "
            f"got {context.shape} {context.dtype}"
        )

"""The Structural Consistency Score of a predicted video against the observed one.

    SCS at horizon h = 100 / (N h)  sum over structures n, frames t = 1..h of  IoU(predicted mask, observed mask)

**Horizon.** ``Scores.scs[h]`` is the *average over frames 1..h*, as the formula has it. The score *of* frame h
alone is ``scs_at(scores, h)``; it is harsher, since error grows with t. Both follow from ``Scores.iou``.

**Trimming.** A structure is judged until it has left *both* views (``trim="both"``, see ``trimming``): from then on
it is NaN, never 0, and out of N and T. While one video shows it and the other has lost it, it scores (nearly) 0. With
structures and context given, SCS(a, b) = SCS(b, a) exactly. ``trim="observed"`` stops at the observed video's loss. A
horizon at which nothing can be judged (no structures, all left, or beyond the end of the videos) is NaN. With a
``points`` tracker the paper's rule decides instead: out once all of its first-frame points have left the view.

**Passive.** With ``passive`` the robot's own body, what moves by itself and what cannot be followed is left out
first, as the observed video alone shows it (see ``passive``).

**Masks.** Structures come from the context frame. Through the predicted video they are always tracked; through the
observed one they are tracked likewise (``scs``), or given, say by a simulator (``scs_true``).

Knows no model, no file format and no ROS. Resolution and length must agree: nothing is resized or cut in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from egowm_core.errors import ScoreError
from egowm_core.scs.passive import Excluded, PassiveConfig, select_passive
from egowm_core.scs.points import PointTracker, grid_points
from egowm_core.scs.structures import propose_structures
from egowm_core.scs.tracking import BoolArray, DenseFlowTracker, Tracker, check_video
from egowm_core.scs.trimming import Trim, check_trim, masked, trimmed, trimmed_by_points
from egowm_core.types import FloatArray, Frames, ImageArray, Scores

DEFAULT_HORIZONS = (2, 4, 8)
POINT_SPACING = 0.03  # of the image's height, between points that trim
MAX_POINTS = 64  # of a structure


@dataclass(frozen=True)
class ScoredTracks:
    """Scores and the masks behind them: ``structures`` (N,H,W), ``predicted`` and ``observed`` (N,T,H,W) bool.

    ``excluded`` says which of the structures given or proposed were not judged, and why; its indices are among those.
    """

    scores: Scores
    structures: BoolArray
    predicted: BoolArray
    observed: BoolArray
    excluded: tuple[Excluded, ...] = ()


def score(
    predicted: Frames | ImageArray,
    observed: Frames | ImageArray,
    *,
    context: ImageArray,
    structures: BoolArray | None = None,
    observed_masks: BoolArray | None = None,
    horizons: Sequence[int] = DEFAULT_HORIZONS,
    tracker: Tracker | None = None,
    trim: Trim = "both",
    passive: bool | PassiveConfig = False,
    points: PointTracker | None = None,
) -> Scores:
    """SCS of ``predicted`` against ``observed`` (T,H,W,3) uint8, which both follow on ``context`` (H,W,3).

    ``structures`` (N,H,W) bool are masks of the context frame, proposed automatically when None.
    ``observed_masks`` (N,T,H,W) bool, where known, replace tracking through the observed video and need
    ``structures``. ``tracker`` defaults to ``DenseFlowTracker()``; ``trim`` says whose loss ends the judging.
    ``passive`` (True, or limits) keeps passive, static structures only. ``points`` trims by points in place of areas.

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
        trim=trim,
        passive=passive,
        points=points,
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
    trim: Trim = "both",
    passive: bool | PassiveConfig = False,
    points: PointTracker | None = None,
) -> ScoredTracks:
    """As ``score``, with the masks to look at.

    Raises:
        ScoreError: as ``score``.
    """
    check_trim(trim)
    predicted_images, observed_images = _images(predicted), _images(observed)
    check_pair(predicted_images, observed_images, context)
    if structures is None:
        if observed_masks is not None:
            raise ScoreError("observed_masks need the structures of the context frame that they follow; pass both")
        structures = propose_structures(context)
    predicted_video = np.concatenate([context[None], predicted_images])
    observed_video = np.concatenate([context[None], observed_images])
    check_video(structures, observed_video)
    if observed_masks is not None:
        _check_masks(observed_masks, structures, len(observed_images))
    excluded: tuple[Excluded, ...] = ()
    if passive:
        config = passive if isinstance(passive, PassiveConfig) else None
        selection = select_passive(structures, observed_video, config=config)
        structures, excluded = selection.kept, selection.excluded
        observed_masks = None if observed_masks is None else observed_masks[list(selection.indices)]
    tracker = DenseFlowTracker() if tracker is None else tracker
    predicted_masks = tracker.track(structures, predicted_video)
    if observed_masks is None:
        observed_masks = tracker.track(structures, observed_video)
    if points is None:
        out = trimmed(structures, predicted_masks, observed_masks, trim=trim)
    else:
        out = _out_by_points(points, structures, predicted_video, observed_video, trim)
    iou = masked(masks_iou(predicted_masks, observed_masks), out)
    scs, num_structures = horizon_scs(iou, horizons)
    return ScoredTracks(Scores(iou, scs, num_structures), structures, predicted_masks, observed_masks, excluded)


def masks_iou(predicted: BoolArray, observed: BoolArray) -> FloatArray:
    """Intersection over union (...) float32 of masks (...,H,W); NaN where both are empty."""
    both = np.count_nonzero(predicted & observed, axis=(-2, -1))
    either = np.count_nonzero(predicted | observed, axis=(-2, -1))
    return np.where(either > 0, both / np.maximum(either, 1), np.nan).astype(np.float32)


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


def _out_by_points(
    tracker: PointTracker, structures: BoolArray, predicted: ImageArray, observed: ImageArray, trim: Trim
) -> BoolArray:
    """(N,T): what the paper trims: a structure, or the whole frame, once all of its first-frame points have left."""
    height, width = observed.shape[1:3]
    whole = np.ones((1, height, width), np.bool_)
    points, owners = grid_points(
        np.concatenate([structures, whole]), spacing_px=POINT_SPACING * height, max_points=MAX_POINTS
    )
    in_view = [tracker.track(points, video).in_view(height, width) for video in (predicted, observed)]
    out = trimmed_by_points(owners, in_view[0], in_view[1], trim=trim)
    return np.asarray(out[:-1] | out[-1:])


def _check_masks(observed_masks: BoolArray, structures: BoolArray, length: int) -> None:
    expected = (len(structures), length, *structures.shape[1:])
    if observed_masks.shape != expected or observed_masks.dtype != np.bool_:
        raise ScoreError(
            f"observed_masks are (N,T,H,W) bool, here {expected}, got {observed_masks.shape} {observed_masks.dtype}"
        )


def check_pair(predicted: ImageArray, observed: ImageArray, context: ImageArray) -> None:
    """Refuse videos (T,H,W,3) and a context frame (H,W,3) that do not fit together.

    Raises:
        ScoreError: types, resolutions or lengths differ.
    """
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

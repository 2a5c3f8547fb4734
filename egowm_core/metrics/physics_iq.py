"""Physics-IQ's four: where, when, how much and how things move, from masks of what changes in the picture.

Motamed et al., "Do generative video models understand physical principles?", arXiv 2501.09038, section 3 and its
published code: a pixel moves where the blurred gray picture is more than ``THRESHOLD`` levels from its running mean;
the masks are opened and closed. Then, with masks p and o of the predicted and the observed video:

    spatial IoU            of the masks' unions over time: where it moves
    spatiotemporal IoU     of the masks, frame by frame, averaged: where and when
    weighted spatial IoU   sum min(P, O) / sum max(P, O) of the masks' means over time: where and how much
    MSE                    of the pixels, in 0..1: how

As there, two masks without any motion agree: IoU 1. What differs here: the running mean starts at the context frame,
which is no frame of its own in the averages (there the first frame counts as 1); masks and MSE are of the frames as
given, not of a quarter of their size; and the combined Physics-IQ score is not formed, since it is relative to the
difference of two takes of the same experiment, which a robot's recording does not have.

Made for a camera at rest. Where the camera moves, nearly every edge does, so the three IoUs say how much of the
picture's texture moves, hardly whether it moves rightly; the SCS is for that. Knows no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.metrics.pixels import check_videos, mse
from egowm_core.types import FloatArray, ImageArray

THRESHOLD = 10  # gray levels
_BLUR = 5  # px, side of the Gaussian window
_KERNEL = 5  # px, side of the square that opens and closes
_RATE = 0.3  # share of the new frame in the running mean
NAMES = ("spatial_iou", "spatiotemporal_iou", "weighted_spatial_iou", "mse")


@dataclass(frozen=True)
class PhysicsIQ:
    """The four over frames 1..h for each horizon h: IoUs in 0..1, 1 best; ``mse`` 0 best. NaN beyond the end."""

    spatial_iou: dict[int, float]
    spatiotemporal_iou: dict[int, float]
    weighted_spatial_iou: dict[int, float]
    mse: dict[int, float]


def physics_iq(
    predicted: ImageArray,
    observed: ImageArray,
    *,
    context: ImageArray,
    horizons: Sequence[int],
    threshold: float = THRESHOLD,
) -> PhysicsIQ:
    """The four of ``predicted`` against ``observed`` (T,H,W,3) uint8, which both follow on ``context`` (H,W,3).

    Raises:
        ScoreError: the videos or the context differ in shape or are not uint8, or a horizon is below 1.
    """
    check_videos(predicted, observed)
    if any(horizon < 1 for horizon in horizons):
        raise ScoreError(f"a horizon is a frame number from 1, got {min(horizons)}")
    p = motion_masks(predicted, context=context, threshold=threshold)
    o = motion_masks(observed, context=context, threshold=threshold)
    errors = mse(predicted, observed)
    per_frame = _iou(p & o, p | o)
    found: dict[str, dict[int, float]] = {name: {} for name in NAMES}
    for horizon in map(int, horizons):
        if horizon > len(p):
            values = (np.nan,) * 4
        else:
            seen_p, seen_o = p[:horizon], o[:horizon]
            where_p, where_o = (np.asarray(seen.any(axis=0)) for seen in (seen_p, seen_o))
            much_p, much_o = seen_p.mean(axis=0), seen_o.mean(axis=0)
            most = float(np.maximum(much_p, much_o).sum())
            values = (
                float(_iou(where_p & where_o, where_p | where_o)),
                float(per_frame[:horizon].mean()),
                float(np.minimum(much_p, much_o).sum()) / most if most else 1.0,
                float(errors[:horizon].mean(dtype=np.float64)),
            )
        for name, value in zip(NAMES, values, strict=True):
            found[name][horizon] = value
    return PhysicsIQ(**found)


def motion_masks(video: ImageArray, *, context: ImageArray, threshold: float = THRESHOLD) -> NDArray[np.bool_]:
    """Where each frame of ``video`` (T,H,W,3) uint8 differs from the running mean that starts at ``context`` (H,W,3).

    Returns (T,H,W) bool.

    Raises:
        ScoreError: the video is not of the context's size, or they are not uint8.
    """
    if video.ndim != 4 or video.shape[1:] != context.shape or context.ndim != 3 or context.shape[-1] != 3:
        raise ScoreError(
            f"the context frame is (H,W,3) like the frames of the video {video.shape}, got {context.shape}"
        )
    if video.dtype != np.uint8 or context.dtype != np.uint8:
        raise ScoreError(f"videos are uint8, got {video.dtype} and the context frame {context.dtype}")
    mean = _gray(context).astype(np.float32)
    kernel = np.ones((_KERNEL, _KERNEL), np.uint8)
    masks = np.zeros(video.shape[:3], np.bool_)
    for t, frame in enumerate(video):
        gray = _gray(frame)
        cv2.accumulateWeighted(gray, mean, _RATE)
        moved = (cv2.absdiff(gray, cv2.convertScaleAbs(mean)) > threshold).astype(np.uint8)
        moved = cv2.morphologyEx(moved, cv2.MORPH_OPEN, kernel)
        masks[t] = cv2.morphologyEx(moved, cv2.MORPH_CLOSE, kernel).astype(np.bool_)
    return masks


def _gray(image: ImageArray) -> ImageArray:
    return np.asarray(cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_BLUR, _BLUR), 0), np.uint8)


def _iou(both: NDArray[np.bool_], either: NDArray[np.bool_]) -> FloatArray:
    common, total = (np.count_nonzero(masks, axis=(-2, -1)) for masks in (both, either))
    return np.where(np.asarray(total) > 0, common / np.maximum(total, 1), 1.0)

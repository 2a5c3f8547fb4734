"""How far tracked points of a structure disagree with one rigid scene seen by one moving camera.

Every point of a static scene, near or far, obeys the epipolar constraint between two frames (Hartley and Zisserman,
Multiple View Geometry, chapter 9); parallax alone therefore never counts against a structure, as it would with a
homography or an affine model. The fundamental matrix is fitted robustly to the points *outside* the structure judged:
were its own points in the fit, a walking person would choose the epipole that excuses him wherever the scene leaves it
open (a flat scene, a camera that turns in place or stands still).

What it cannot see: motion along the epipolar lines (a person walking straight ahead of a robot that drives straight
ahead), and anything where too few points are left around the structure: NaN there, never 0. A lens that bends straight
lines (fisheye) bends the constraint as well; rectify its pictures first, or allow more. Knows no masks' meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.scs.points import PointTracks
from egowm_core.types import FloatArray

REFERENCE_HEIGHT = 96  # px: distances below are in pixels of an image so high

_MIN_POINTS = 20  # of the rest of the scene, to fit a model to
_MIN_OWN = 3
_FIT_PX = 0.5
_FITS_PX = 1.0
_CAP_PX = 4.0  # one wild point or pair must not decide
_STILL_PX = 0.4  # median motion of the scene below which the camera stands
_AROUND = 16
_MOVED_PX = 2.0
_SLACK = 0.04  # of its own motion, a structure may be off: tracked patches that grow or turn creep by so much
_MAX_FITTED = 400
_SEED = 7

PointArray = NDArray[np.float64]


@dataclass(frozen=True)
class Disagreement:
    """Per structure (N,): ``residual_px`` off the rigid scene, in pixels of an image ``REFERENCE_HEIGHT`` high, and
    ``fixedness``: own motion over that of the surroundings, 0 for what keeps its place in the picture while they move.
    NaN where it cannot be told.
    """

    residual_px: FloatArray
    fixedness: FloatArray


def disagreement(
    points: FloatArray,
    tracks: PointTracks,
    owners: NDArray[np.integer],
    count: int,
    *,
    height: int,
    max_pairs: int = 5,
) -> Disagreement:
    """Judge structures 0..``count``-1 by points (P,2) of the first frame, their tracks, and ``owners`` (P,), -1: none.

    The first frame is compared with up to ``max_pairs`` frames, spread evenly; the mean over them counts, each weighted
    by how well its model explains the scene around the structure.
    """
    length = tracks.visible.shape[1]
    chosen = np.unique(np.linspace(0, length - 1, min(max_pairs, length)).round().astype(np.intp))
    scale = REFERENCE_HEIGHT / height
    residuals: list[list[float]] = [[] for _ in range(count)]
    ratios: list[list[float]] = [[] for _ in range(count)]
    for t in chosen:
        seen = tracks.visible[:, t]
        before = points[seen].astype(np.float64) * scale
        after = tracks.positions[seen, t].astype(np.float64) * scale
        owner = owners[seen]
        for n in range(count):
            own = owner == n
            if np.count_nonzero(own) < _MIN_OWN or np.count_nonzero(~own) < _MIN_POINTS:
                continue
            ratio = _fixedness(before, after, own)
            if ratio is not None:
                ratios[n].append(ratio)
            residual = _residual(before, after, own)
            if residual is not None:
                residuals[n].append(residual)
    return Disagreement(
        np.asarray([np.mean(found) if found else np.nan for found in residuals], np.float32),
        np.asarray([np.median(found) if found else np.nan for found in ratios], np.float32),
    )


def _residual(before: PointArray, after: PointArray, own: NDArray[np.bool_]) -> float | None:
    """Median distance of a structure's points from what the rest of the scene allows, weighted, or None.

    The weight is the fourth power of the share of the rest that its model explains: a poor model accuses nobody.
    """
    rest = np.flatnonzero(~own)
    motion = np.linalg.norm(after - before, axis=1)
    if np.median(motion[rest]) < _STILL_PX:  # no epipolar geometry: what moves, moves
        return float(min(np.median(motion[own]), _CAP_PX)) * float((motion[rest] < _FITS_PX).mean()) ** 4
    if len(rest) > _MAX_FITTED:
        rest = rest[np.linspace(0, len(rest) - 1, _MAX_FITTED).round().astype(np.intp)]
    fundamental = _fit(before[rest], after[rest])
    if fundamental is None:
        return None
    explained = float((_sampson(fundamental, before[rest], after[rest]) < _FITS_PX).mean())
    off = np.median(_sampson(fundamental, before[own], after[own])) - _SLACK * np.median(motion[own])
    return float(np.clip(off, 0.0, _CAP_PX)) * explained**4


def _fixedness(before: PointArray, after: PointArray, own: NDArray[np.bool_]) -> float | None:
    """Own motion over the motion of the points around, or None where those do not move enough to tell."""
    motion = np.linalg.norm(after - before, axis=1)
    centre = np.median(before[own], axis=0)
    away = np.linalg.norm(before[~own] - centre, axis=1)
    around = motion[~own][np.argsort(away, kind="stable")[:_AROUND]]
    surroundings = float(np.median(around))
    return float(np.median(motion[own])) / surroundings if surroundings >= _MOVED_PX else None


def _fit(before: PointArray, after: PointArray) -> PointArray | None:
    cv2.setRNGSeed(_SEED)  # the same input gives the same answer, whoever drew before
    try:
        fundamental, _ = cv2.findFundamentalMat(before, after, cv2.FM_RANSAC, _FIT_PX, 0.999, 1000)
    except cv2.error:  # a degenerate sample in OpenCV's own solver
        return None
    return fundamental if fundamental is not None and fundamental.shape == (3, 3) else None


def _sampson(fundamental: PointArray, before: PointArray, after: PointArray) -> PointArray:
    """First-order distance (P,) in pixels from the epipolar constraint (Hartley and Zisserman, eq. 11.9, its root)."""
    ones = np.ones((len(before), 1))
    first, second = np.hstack([before, ones]), np.hstack([after, ones])
    lines, back = first @ fundamental.T, second @ fundamental
    slope = lines[:, 0] ** 2 + lines[:, 1] ** 2 + back[:, 0] ** 2 + back[:, 1] ** 2
    return np.asarray(np.abs(np.sum(second * lines, axis=1)) / np.sqrt(np.maximum(slope, 1e-12)))

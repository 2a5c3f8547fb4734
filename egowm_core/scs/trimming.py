"""When a structure is not judged any more: the rules of trimming, by areas and by points.

A structure has *left a view* once its mask has shrunk below ``LEFT_FRACTION`` of its first area or ``LEFT_AREA`` of
the image. ``Trim`` says whose view counts:

- ``"both"`` (default): judged until *neither* video shows it. A prediction that keeps what reality lost, or that loses
  what reality keeps, is compared and scores (nearly) 0. Predicted and observed play the same part: the score is
  symmetric.
- ``"observed"``: judged until the observed video alone has lost it; what the prediction then still shows is forgiven.

By points, as in the EgoWM paper (arXiv 2601.15284): a structure is out once *all* of its first-frame points have left
the picture, and a frame once all points of the picture have. Knows masks and point tracks, no tracker and no score.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.types import FloatArray

BoolArray = NDArray[np.bool_]
Trim = Literal["both", "observed"]

LEFT_FRACTION = 0.15  # of the structure's area in the context frame
LEFT_AREA = 0.002  # of the image: 25 px at 96x128


def check_trim(trim: str) -> None:
    """Refuse another word.

    Raises:
        ScoreError: ``trim`` is neither "both" nor "observed".
    """
    if trim not in get_args(Trim):
        raise ScoreError(f"unknown trim {trim!r}; expected one of {', '.join(get_args(Trim))}")


def out_of_view(structures: BoolArray, masks: BoolArray) -> BoolArray:
    """(N,T): whether too little of a structure (N,H,W) is left in its ``masks`` (N,T,H,W) at frame t itself."""
    areas = np.count_nonzero(masks, axis=(-2, -1))
    first = np.count_nonzero(structures, axis=(-2, -1))[:, None]
    pixels = structures.shape[-2] * structures.shape[-1]
    return np.asarray(areas < np.maximum(LEFT_FRACTION * first, LEFT_AREA * pixels))


def left_view(structures: BoolArray, masks: BoolArray) -> BoolArray:
    """(N,T): whether a structure has left the view of one video at frame t or before."""
    return once(out_of_view(structures, masks))


def trimmed(structures: BoolArray, predicted: BoolArray, observed: BoolArray, *, trim: Trim = "both") -> BoolArray:
    """(N,T): where nothing is judged any more, from masks (N,T,H,W) of both videos.

    Raises:
        ScoreError: an unknown ``trim``.
    """
    check_trim(trim)
    out = out_of_view(structures, observed)
    if trim == "both":
        out = out & out_of_view(structures, predicted)
    return once(out)


def trimmed_by_points(
    owners: NDArray[np.integer], predicted_in_view: BoolArray, observed_in_view: BoolArray, *, trim: Trim = "both"
) -> BoolArray:
    """(N,T): where nothing is judged any more, from whether first-frame points are in view (P,T) of both videos.

    ``owners`` (P,) says which structure 0..N-1 a point was taken from. A structure without a point is never out.

    Raises:
        ScoreError: an unknown ``trim``.
    """
    check_trim(trim)
    out = left_view_by_points(owners, observed_in_view)
    return out & left_view_by_points(owners, predicted_in_view) if trim == "both" else out


def left_view_by_points(owners: NDArray[np.integer], in_view: BoolArray, *, count: int | None = None) -> BoolArray:
    """(N,T): whether all points of a structure have left the view of one video at frame t or before.

    ``owners`` (P,) in 0..N-1, ``in_view`` (P,T). ``count`` is N, the largest owner plus one unless given. All owners 0:
    the rule for whole frames.

    Raises:
        ScoreError: owners and ``in_view`` differ in length, or an owner is not in 0..N-1.
    """
    if owners.ndim != 1 or in_view.ndim != 2 or len(owners) != len(in_view):
        raise ScoreError(f"owners are (P,) and in_view (P,T), got {owners.shape} and {in_view.shape}")
    count = (int(owners.max()) + 1 if len(owners) else 0) if count is None else count
    if len(owners) and not (int(owners.min()) >= 0 and int(owners.max()) < count):
        raise ScoreError(f"owners are 0..{count - 1}, got {int(owners.min())}..{int(owners.max())}")
    remaining = np.zeros((count, in_view.shape[1]), np.int64)
    np.add.at(remaining, owners, in_view)
    owned = np.bincount(owners, minlength=count) > 0
    return once((remaining == 0) & owned[:, None])


def masked(iou: FloatArray, out: BoolArray) -> FloatArray:
    """``iou`` (N,T) with NaN where nothing is judged, as a new array."""
    return np.where(out, np.float32(np.nan), iou).astype(np.float32)


def once(out: BoolArray) -> BoolArray:
    """(N,T): true from the first frame at which ``out`` is."""
    return np.asarray(np.logical_or.accumulate(out, axis=1))

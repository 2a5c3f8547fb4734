"""Choose the structures to judge in the context frame, as masks (N,H,W) bool.

Two ways: from a segmentation that somebody else made (a simulator, an annotation), or proposed from one
RGB image by classical means for a live monitor. Knows nothing of video: whether a structure is static or
can be followed for long is for the caller or the tracker to find out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from egowm_core.errors import ScoreError
from egowm_core.types import ImageArray

BoolArray = NDArray[np.bool_]
LabelArray = NDArray[np.integer]

MIN_AREA = 0.006  # of the image: 74 px at 96x128; below, one pixel of tracking error costs 10 points of IoU
MAX_AREA = 0.30
MAX_BORDER = 0.25  # of the outline: what the image border cuts off comes into view later, and no tracker can know it

_WORKING_HEIGHT = 96  # px, at which proposals are computed
_CORNER_CONTRAST = 3.0  # gray levels per px along the weaker direction
_MIN_CORNERS = 3
_MIN_COMPACTNESS = 0.25
_ENOUGH = 3  # proposals; with fewer good ones, passable ones join
_PASSABLE_COMPACTNESS = 0.15
_PASSABLE_BORDER = 0.45


def choose_ids(
    segmentation: LabelArray,
    *,
    allowed: Collection[int] | None = None,
    min_area: float = MIN_AREA,
    max_area: float = MAX_AREA,
    max_border: float = MAX_BORDER,
    max_structures: int | None = None,
) -> list[int]:
    """Ids > 0 of a segmentation (H,W) that make good structures, the largest first.

    ``allowed`` keeps only these ids (say, the static ones). Areas are fractions of the image; ``max_border`` is
    the largest fraction of a mask's outline that may lie on the image border.

    Raises:
        ScoreError: the segmentation is not (H,W) integers.
    """
    if segmentation.ndim != 2 or not np.issubdtype(segmentation.dtype, np.integer):
        raise ScoreError(f"a segmentation is (H,W) of integer ids, got {segmentation.shape} {segmentation.dtype}")
    ids, counts = np.unique(segmentation, return_counts=True)
    chosen = []
    for identity, count in sorted(
        zip(ids.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0])
    ):
        if identity <= 0 or (allowed is not None and identity not in allowed):
            continue
        if not min_area <= count / segmentation.size <= max_area:
            continue
        if border_share(segmentation == identity) <= max_border:
            chosen.append(int(identity))
    return chosen[:max_structures]


def masks_of(segmentation: LabelArray, ids: Sequence[int]) -> BoolArray:
    """Masks (N,...,H,W) of ``ids`` in a segmentation or a video of them (...,H,W)."""
    return np.asarray(np.asarray(ids, segmentation.dtype).reshape(-1, *(1,) * segmentation.ndim) == segmentation[None])


def structures_from_masks(
    segmentation: LabelArray,
    *,
    allowed: Collection[int] | None = None,
    min_area: float = MIN_AREA,
    max_area: float = MAX_AREA,
    max_border: float = MAX_BORDER,
    max_structures: int | None = None,
) -> BoolArray:
    """Masks (N,H,W) of ``choose_ids``; take ``choose_ids`` and ``masks_of`` to follow the ids through a video."""
    ids = choose_ids(
        segmentation,
        allowed=allowed,
        min_area=min_area,
        max_area=max_area,
        max_border=max_border,
        max_structures=max_structures,
    )
    return masks_of(segmentation, ids)


def propose_structures(
    image: ImageArray,
    *,
    max_structures: int = 8,
    min_area: float = 0.012,
    max_area: float = 0.25,
    max_border: float = MAX_BORDER,
    scale: float = 60.0,
) -> BoolArray:
    """Propose up to ``max_structures`` disjoint structures (N,H,W) on one RGB image (H,W,3) uint8, best first.

    Felzenszwalb's regions (``scale``: larger merges more) whose size, outline and texture let optical flow follow
    them: compact, neither specks nor backgrounds, mostly inside the image, with corners in or on them. Where fewer
    than three are good, passable ones (thinner, or more cut off by the image border) join. N is 0 where there is
    nothing to hold on to (a blank wall, a covered lens).

    Raises:
        ScoreError: the image is not (H,W,3) uint8.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ScoreError(f"an image is (H,W,3) uint8, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    small = image
    if height > _WORKING_HEIGHT:
        size = (max(1, round(width * _WORKING_HEIGHT / height)), _WORKING_HEIGHT)
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    labels = np.asarray(
        felzenszwalb(small, scale=scale, sigma=0.8, min_size=max(4, int(min_area * small[..., 0].size)))
    )
    corners = _corners(small)
    kernel = np.ones((3, 3), np.uint8)
    found: list[tuple[bool, float, BoolArray]] = []  # good, merit, mask
    for identity, count in enumerate(np.bincount(labels.ravel()).tolist()):
        if not min_area <= count / labels.size <= max_area:
            continue
        mask = labels == identity
        compactness, border = _compactness(mask), border_share(mask)
        held = int(np.count_nonzero(corners & (cv2.dilate(mask.astype(np.uint8), kernel) > 0)))
        if compactness < _PASSABLE_COMPACTNESS or border > max(max_border, _PASSABLE_BORDER) or held < _MIN_CORNERS:
            continue
        good = compactness >= _MIN_COMPACTNESS and border <= max_border
        found.append((good, compactness * min(held, 12) * count**0.5, mask))
    found.sort(key=lambda proposal: (not proposal[0], -proposal[1]))
    num_good = sum(good for good, _, _ in found)
    chosen = found[: min(max_structures, max(num_good, _ENOUGH))]
    out = np.zeros((len(chosen), height, width), np.bool_)
    for n, (_, _, mask) in enumerate(chosen):
        full = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        out[n] = full.astype(np.bool_)
    return out


def _outline(mask: BoolArray) -> BoolArray:
    """Pixels of the mask with a neighbour (4-connected) outside the mask or the image."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inner)


def border_share(mask: BoolArray) -> float:
    """Share of a mask's (H,W) outline that lies on the image border; 1 for an empty mask."""
    outline = int(np.count_nonzero(_outline(mask)))
    border = np.count_nonzero(mask[0]) + np.count_nonzero(mask[-1])
    border += np.count_nonzero(mask[1:-1, 0]) + np.count_nonzero(mask[1:-1, -1])
    return float(border / outline) if outline else 1.0


def _compactness(mask: BoolArray) -> float:
    """1 for a disc, towards 0 for a ragged or thin region."""
    outline = max(1, int(np.count_nonzero(_outline(mask))))
    return float(min(1.0, 4 * np.pi * np.count_nonzero(mask) / outline**2))


def _corners(image: ImageArray) -> BoolArray:
    """Local maxima (H,W) of the smaller eigenvalue of the structure tensor, above an absolute contrast."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gx, gy = cv2.Sobel(gray, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(gray, cv2.CV_32F, 0, 1, scale=1 / 8)
    a, b, c = (cv2.boxFilter(product, -1, (5, 5)) for product in (gx * gx, gx * gy, gy * gy))
    weaker = (a + c) / 2 - np.sqrt(((a - c) / 2) ** 2 + b * b)
    peaks = weaker >= cv2.dilate(weaker, np.ones((3, 3), np.uint8))
    return np.asarray(peaks & (weaker > _CORNER_CONTRAST**2))

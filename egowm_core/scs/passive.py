"""Keep passive, static structures only, and say why the others were left out.

The score asks whether the *robot's* motion was understood. The robot's own body, things that move by themselves and
surfaces that nothing can follow say nothing about that. Judged on the observed video alone, so that the quality of a
prediction never chooses what it is judged by. Knows no model and no file format; the geometry is in ``scene_motion``.

Measured in simulated rooms at 4 frames a second (96x128 and 240x320): of 426 static structures 2 % were taken for
moving and 10 % could not be followed (where they were tracked all the same, IoU with their true masks was 0.80, 0.88
for the rest). Of 167 people walking past 97 % were left out, nine in ten of them as impossible to follow: legs swing
too far between two frames. While people cross close before the camera half of the furniture goes, too: they cover it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.scs.points import LucasKanadePoints, PointTracker, PointTracks
from egowm_core.scs.scene_motion import REFERENCE_HEIGHT, disagreement
from egowm_core.scs.structures import MAX_AREA, MIN_AREA, border_share
from egowm_core.scs.tracking import check_video
from egowm_core.types import FloatArray, ImageArray

BoolArray = NDArray[np.bool_]

_CELL_PX = 8  # at the reference height: at most two corners in each, so that one bold texture does not outvote a room
_PER_CELL = 2
_CORNER_STRENGTH = 1e-4  # of cornerMinEigenVal: some 2.5 gray levels per px, above a camera's noise
_FOLLOWED_FRAME = 2  # by which untrackable texture has shown itself; later losses may be occlusion


class Reason(Enum):
    """Why a structure is not judged."""

    TOO_SMALL = "too small"
    TOO_LARGE = "too large"
    BORDER = "cut off by the image border"
    OWN_BODY = "the robot's own body"
    UNTRACKABLE = "cannot be followed"
    MOVING = "moves by itself"


@dataclass(frozen=True)
class Excluded:
    """Structure ``index`` (of those given) was left out: its ``value`` is beyond ``limit``, in ``unit``."""

    index: int
    reason: Reason
    value: float
    limit: float
    unit: str

    def __str__(self) -> str:
        return f"structure {self.index}: {self.reason.value} ({self.value:.3g}, limit {self.limit:.3g} {self.unit})"


@dataclass(frozen=True)
class Selection:
    """``kept`` (N',H,W) bool, their ``indices`` among those given, and the ``excluded`` with reasons, by index."""

    kept: BoolArray
    indices: tuple[int, ...]
    excluded: tuple[Excluded, ...]


@dataclass(frozen=True, kw_only=True)
class PassiveConfig:
    """Limits of the selection. Areas and shares are 0..1; pixels are of an image 96 high.

    ``own_body`` (H,W) bool marks the robot's own body, where it is known. ``max_body_overlap``: share of a structure on
    it. ``min_fixedness``: what moves less than this share of its surroundings' motion is fixed to the camera.
    ``min_followed``, ``min_followed_share``: corners of a structure that can be followed through the first two frames.
    ``max_residual_px``: off the rigid scene. ``points`` tracks the points (``LucasKanadePoints`` unless given).
    """

    own_body: BoolArray | None = None
    min_area: float = MIN_AREA
    max_area: float = MAX_AREA
    max_border: float = 0.45
    max_body_overlap: float = 0.3
    min_fixedness: float = 0.12
    min_followed: int = 2
    min_followed_share: float = 0.2
    max_residual_px: float = 0.4
    points: PointTracker | None = None

    def __post_init__(self) -> None:
        shares = (self.min_area, self.max_area, self.max_border, self.max_body_overlap, self.min_followed_share)
        if not all(0 <= share <= 1 for share in shares) or self.min_area > self.max_area:
            raise ScoreError(f"areas and shares are 0..1 and min_area at most max_area, got {shares}")
        if self.own_body is not None and (self.own_body.ndim != 2 or self.own_body.dtype != np.bool_):
            raise ScoreError(f"own_body is (H,W) bool, got {self.own_body.shape} {self.own_body.dtype}")


def select_passive(structures: BoolArray, images: ImageArray, *, config: PassiveConfig | None = None) -> Selection:
    """Select among structures (N,H,W) bool of ``images[0]``; images (T+1,H,W,3) uint8, the context frame first.

    What cannot be told (too few points around, a camera that stands still before its own body) is kept.

    Raises:
        ScoreError: shapes or types do not fit, or ``own_body`` has another size than the images.
    """
    check_video(structures, images)
    config = PassiveConfig() if config is None else config
    height, width = images.shape[1:3]
    if config.own_body is not None and config.own_body.shape != (height, width):
        raise ScoreError(
            f"own_body is {config.own_body.shape[0]}x{config.own_body.shape[1]} but images are {height}x{width}; "
            "resize the mask to the images' size"
        )
    reasons: dict[int, Excluded] = {}
    for n, mask in enumerate(structures):
        found = _by_shape(n, mask, config)
        if found is not None:
            reasons[n] = found
    if len(reasons) < len(structures):
        for found in _by_motion(structures, images, config):
            reasons.setdefault(found.index, found)
    indices = tuple(n for n in range(len(structures)) if n not in reasons)
    return Selection(structures[list(indices)], indices, tuple(reasons[n] for n in sorted(reasons)))


def _by_shape(n: int, mask: BoolArray, config: PassiveConfig) -> Excluded | None:
    area = float(mask.mean())
    if area < config.min_area:
        return Excluded(n, Reason.TOO_SMALL, area, config.min_area, "of the image")
    if area > config.max_area:
        return Excluded(n, Reason.TOO_LARGE, area, config.max_area, "of the image")
    border = border_share(mask)
    if border > config.max_border:
        return Excluded(n, Reason.BORDER, border, config.max_border, "of the outline")
    if config.own_body is not None:
        overlap = float(np.count_nonzero(mask & config.own_body) / np.count_nonzero(mask))
        if overlap > config.max_body_overlap:
            return Excluded(n, Reason.OWN_BODY, overlap, config.max_body_overlap, "of it on the body")
    return None


def _by_motion(structures: BoolArray, images: ImageArray, config: PassiveConfig) -> list[Excluded]:
    """What motion says about each structure, the strongest reason first; several may name one structure."""
    points = corner_points(images[0])
    owners = _owners(points, structures)
    tracker = LucasKanadePoints() if config.points is None else config.points
    tracks = tracker.track(points, images)
    judged = disagreement(points, tracks, owners, len(structures), height=images.shape[1])
    found: list[Excluded] = []
    for n in range(len(structures)):
        untrackable = _untrackable(n, tracks, owners == n, images.shape[1:3], config)
        fixedness, residual = float(judged.fixedness[n]), float(judged.residual_px[n])
        if fixedness < config.min_fixedness:
            found.append(Excluded(n, Reason.OWN_BODY, fixedness, config.min_fixedness, "of its surroundings' motion"))
        elif untrackable is not None:
            found.append(untrackable)
        elif residual > config.max_residual_px:
            found.append(Excluded(n, Reason.MOVING, residual, config.max_residual_px, "px off the rigid scene"))
    return found


def _untrackable(
    n: int, tracks: PointTracks, own: BoolArray, size: tuple[int, ...], config: PassiveConfig
) -> Excluded | None:
    """Whether too few of a structure's corners can be followed through the first frames; not judged once it left."""
    frames = min(_FOLLOWED_FRAME, tracks.visible.shape[1])
    seen = tracks.visible[own, :frames]
    if seen.any() and not tracks.in_view(size[0], size[1])[own, frames - 1].any():
        return None
    followed = int(np.count_nonzero(seen[:, -1]))
    if followed < config.min_followed:
        return Excluded(n, Reason.UNTRACKABLE, followed, config.min_followed, "corners followed")
    share = followed / len(seen)
    if share < config.min_followed_share:
        return Excluded(n, Reason.UNTRACKABLE, share, config.min_followed_share, "of its corners followed")
    return None


def corner_points(image: ImageArray) -> FloatArray:
    """Corners (P,2) float32 x, y of an image (H,W,3) uint8, evenly over it: at most two in each of its cells."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    strength = np.asarray(cv2.cornerMinEigenVal(gray, 5), np.float32)
    peaks = np.where(strength >= cv2.dilate(strength, np.ones((3, 3), np.uint8)), strength, 0)
    rows, columns = np.nonzero(peaks > _CORNER_STRENGTH)
    cell = max(4, round(_CELL_PX * image.shape[0] / REFERENCE_HEIGHT))
    cells = (rows // cell) * (image.shape[1] // cell + 1) + columns // cell
    order = np.lexsort((-peaks[rows, columns], cells))  # by cell, the strongest first
    ranked = cells[order]
    first = np.searchsorted(ranked, ranked)  # where each one's cell begins
    kept = order[np.arange(len(order)) - first < _PER_CELL]
    return np.stack([columns[kept], rows[kept]], axis=-1).astype(np.float32)


def _owners(points: FloatArray, structures: BoolArray) -> NDArray[np.intp]:
    """(P,) the structure that a point lies in, -1 for none; the later one where two overlap."""
    owners = np.full(len(points), -1, np.intp)
    columns, rows = points.round().astype(np.intp).T if len(points) else (owners, owners)
    for n, mask in enumerate(structures):
        owners[mask[rows, columns]] = n
    return owners

"""Follow points of the first frame through a video, behind one protocol.

``LucasKanadePoints`` is the default: OpenCV's pyramidal Lucas-Kanade, frame to frame, forward and back. A point whose
way back does not end where it began is not *visible*; its position is then carried on with the visible points around
it, so that one can still tell whether it has left the picture. ``DenseFlowPoints`` reads the same from dense DIS flow,
``CallablePoints`` takes a learned tracker (AllTracker, CoTracker and the like) as a plain function. Knows pixels
alone: no structures, no scores, no model files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.scs.tracking import DenseFlowTracker
from egowm_core.types import FloatArray, ImageArray

BoolArray = NDArray[np.bool_]

_NEIGHBOURS = 8  # visible points whose median motion carries a lost one on


@dataclass(frozen=True)
class PointTracks:
    """``positions`` (P,T,2) float32 x, y in pixels, also where not seen; ``visible`` (P,T) bool: seen there."""

    positions: FloatArray
    visible: BoolArray

    def __post_init__(self) -> None:
        if self.positions.ndim != 3 or self.positions.shape[-1] != 2:
            raise ScoreError(f"positions are (P,T,2), got {self.positions.shape}")
        if self.visible.shape != self.positions.shape[:2] or self.visible.dtype != np.bool_:
            raise ScoreError(
                f"visible is {self.positions.shape[:2]} bool like the positions, "
                f"got {self.visible.shape} {self.visible.dtype}"
            )

    def in_view(self, height: int, width: int) -> BoolArray:
        """(P,T): whether the position, seen or carried on, lies inside an image of this size."""
        return inside(self.positions, height, width)


@runtime_checkable
class PointTracker(Protocol):
    """Follows points of a first frame through the frames after it."""

    def track(self, points: FloatArray, images: ImageArray) -> PointTracks:
        """Points (P,2) float32 x, y of ``images[0]`` and images (T+1,H,W,3) uint8 RGB -> tracks over images[1:].

        P may be 0.

        Raises:
            ScoreError: the shapes or types do not fit.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LucasKanadePoints:
    """Pyramidal Lucas-Kanade with a forward-backward check.

    ``window_px`` and ``levels`` are OpenCV's. ``max_return_px`` is how far from its start a point may end after the
    way there and back. Images lower than ``min_height`` pixels are enlarged by a whole factor first.
    """

    window_px: int = 15
    levels: int = 3
    max_return_px: float = 0.7
    min_height: int = 160

    def track(self, points: FloatArray, images: ImageArray) -> PointTracks:
        """See ``PointTracker.track``."""
        check_points(points, images)
        factor = max(1, -(-self.min_height // images.shape[1]))
        gray = [_gray(image, factor) for image in images]
        window: dict[str, Any] = {"winSize": (self.window_px, self.window_px), "maxLevel": self.levels}

        def step(at: FloatArray, t: int) -> tuple[FloatArray, BoolArray]:
            here = ((at + 0.5) * factor - 0.5).astype(np.float32)[:, None]
            there, found, _ = cv2.calcOpticalFlowPyrLK(gray[t], gray[t + 1], here, None, **window)
            back, returned, _ = cv2.calcOpticalFlowPyrLK(gray[t + 1], gray[t], there, None, **window)
            away = np.linalg.norm(back - here, axis=-1)[:, 0] / factor
            good = (found[:, 0] > 0) & (returned[:, 0] > 0) & (away <= self.max_return_px)
            return ((there[:, 0] + 0.5) / factor - 0.5).astype(np.float32), good

        return _follow(points, images, step)


@dataclass(frozen=True, kw_only=True)
class DenseFlowPoints:
    """Points read from dense DIS flow, with the same check; steadier than Lucas-Kanade on plain surfaces."""

    tracker: DenseFlowTracker = field(default_factory=DenseFlowTracker)
    max_return_px: float = 1.0

    def track(self, points: FloatArray, images: ImageArray) -> PointTracks:
        """See ``PointTracker.track``."""
        check_points(points, images)

        def step(at: FloatArray, t: int) -> tuple[FloatArray, BoolArray]:
            onward = self.tracker.coordinates(images[[t + 1, t]])[0][0]  # of each pixel here, where it is there
            back = self.tracker.coordinates(images[[t, t + 1]])[0][0]
            there = _read(onward, at)
            away = np.linalg.norm(_read(back, there) - at, axis=-1)
            return there, away <= self.max_return_px

        return _follow(points, images, step)


@dataclass(frozen=True)
class CallablePoints:
    """A learned point tracker behind the protocol.

    ``function`` takes points (P,2) float32 and images (T+1,H,W,3) uint8 RGB and answers positions (P,T,2) and
    visible (P,T), as arrays or anything numpy can read.
    """

    function: Callable[[FloatArray, ImageArray], tuple[object, object]]

    def track(self, points: FloatArray, images: ImageArray) -> PointTracks:
        """See ``PointTracker.track``.

        Raises:
            ScoreError: the function's answer has another shape, or positions are not finite.
        """
        check_points(points, images)
        positions, visible = self.function(points, images)
        tracks = PointTracks(np.asarray(positions, np.float32), np.asarray(visible, np.bool_))
        expected = (len(points), len(images) - 1, 2)
        if tracks.positions.shape != expected or not np.isfinite(tracks.positions).all():
            raise ScoreError(
                f"the point tracker answered positions {tracks.positions.shape}; expected finite ones, {expected}"
            )
        return tracks


def grid_points(masks: BoolArray, *, spacing_px: float, max_points: int = 64) -> tuple[FloatArray, NDArray[np.intp]]:
    """Points (P,2) float32 x, y on a grid inside masks (N,H,W), and the mask that each belongs to (P,).

    At most ``max_points`` of a mask, evenly thinned. A mask that the grid misses gives its innermost pixel.
    """
    found: list[FloatArray] = []
    owners: list[NDArray[np.intp]] = []
    step = max(1.0, spacing_px)
    height, width = masks.shape[1:]
    rows = np.arange(step / 2, height, step).astype(np.intp)
    columns = np.arange(step / 2, width, step).astype(np.intp)
    for n, mask in enumerate(masks):
        r, c = np.nonzero(mask[np.ix_(rows, columns)])
        points = np.stack([columns[c], rows[r]], axis=-1).astype(np.float32)
        if len(points) == 0 and mask.any():
            depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            points = np.asarray([[column, row]], np.float32)
        if len(points) > max_points:
            points = points[np.linspace(0, len(points) - 1, max_points).round().astype(np.intp)]
        found.append(points)
        owners.append(np.full(len(points), n, np.intp))
    empty = np.zeros((0, 2), np.float32)
    return np.concatenate([empty, *found]), np.concatenate([np.zeros(0, np.intp), *owners])


def inside(positions: FloatArray, height: int, width: int) -> BoolArray:
    """Whether x, y positions (...,2) lie inside an image (pixel centres at whole numbers)."""
    x, y = positions[..., 0], positions[..., 1]
    return np.asarray((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5))


def check_points(points: FloatArray, images: ImageArray) -> None:
    """Refuse what cannot be followed.

    Raises:
        ScoreError: points are not (P,2) finite inside the first image, or images not (T+1,H,W,3) uint8 with T >= 1.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or len(images) < 2:
        raise ScoreError(
            f"a video to track is (T+1,H,W,3) uint8 with the context frame first, got {images.shape} {images.dtype}"
        )
    if points.ndim != 2 or points.shape[1] != 2:
        raise ScoreError(f"points are (P,2) of x, y, got {points.shape}")
    if not inside(points, *images.shape[1:3]).all():  # false for NaN, too
        raise ScoreError(f"points lie inside the first image of {images.shape[1]}x{images.shape[2]} (HxW); some do not")


def _follow(
    points: FloatArray, images: ImageArray, step: Callable[[FloatArray, int], tuple[FloatArray, BoolArray]]
) -> PointTracks:
    """Chain ``step`` (positions at t -> positions at t+1 and whether found) over a video."""
    count, length = len(points), len(images) - 1
    positions = np.empty((count, length, 2), np.float32)
    visible = np.zeros((count, length), np.bool_)
    at = points.astype(np.float32)
    alive = np.ones(count, np.bool_)
    motion = np.zeros_like(at)
    for t in range(length if count else 0):
        there, found = at.copy(), np.zeros(count, np.bool_)
        if alive.any():
            there[alive], found[alive] = step(at[alive], t)
        seen = found & inside(there, *images.shape[1:3])
        motion = _carry(at, np.where(found[:, None], there - at, motion), found)
        at = (at + motion).astype(np.float32)
        alive &= seen  # once lost, another thing may be in its place: it stays lost
        positions[:, t], visible[:, t] = at, alive
    return PointTracks(positions, visible)


def _carry(at: FloatArray, motion: FloatArray, found: BoolArray) -> FloatArray:
    """Motion (P,2) where points without a motion of their own take the median of the nearest that have one."""
    lost = np.flatnonzero(~found)
    known = np.flatnonzero(found)
    if len(lost) == 0 or len(known) == 0:
        return motion  # none seen: all go on as they last went
    away = np.linalg.norm(at[lost, None] - at[known][None], axis=-1)
    nearest = known[np.argsort(away, axis=1, kind="stable")[:, :_NEIGHBOURS]]
    out = motion.copy()
    out[lost] = np.median(motion[nearest], axis=1)
    return out


def _read(field_of: FloatArray, at: FloatArray) -> FloatArray:
    """Bilinear values (P,2) of a field (H,W,2) at x, y positions (P,2)."""
    sampled = cv2.remap(
        field_of, at[:, None].astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(sampled[:, 0], np.float32)


def _gray(image: ImageArray, factor: int) -> NDArray[np.uint8]:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if factor > 1:
        gray = cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return np.asarray(gray, np.uint8)

"""Follow masks of the context frame through a video.

``Tracker`` is the one protocol that every tracker answers. ``DenseFlowTracker`` is the default: OpenCV's
DIS optical flow, on one CPU core. It knows nothing of structures, scores or where the video came from, so
observed and predicted videos are tracked in exactly the same way.

How the flow tracker works, and why
-----------------------------------
For every frame t it computes the backward flow t -> t-1 and composes it with the coordinate map of frame
t-1. The result says, for every pixel of frame t, where in the context frame it came from; a mask is then
read *once* through that map. Masks are never resampled step by step (they would erode), and the flow is
computed once, however many structures there are.

Measured against true masks on observed video (simulated rooms, 96x128, 8 frames at 4 Hz, up to 0.6 m/s and
0.6 rad/s; 261 structures): IoU over frames 1..2, 1..4, 1..8 is 90.3, 88.9, 86.6, at frame 8 alone 82.0; 86.0 when
the frames are blurred and noisy. That is this metric's ceiling wherever true masks meet tracked ones. Copying the
context's masks gives 27.5. Doubling the image before the flow is worth 4 points; starting each flow from the
previous one 1 to 2 in rooms with little texture, nothing elsewhere; forward-backward consistency costs 4 to 20
(it discards a structure's own plain interior); flow straight to the context frame costs 1 to 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.types import FloatArray, ImageArray

BoolArray = NDArray[np.bool_]

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
_SMALLEST_SIDE = 16  # px, of the image that DIS sees: below, its coarsest level has no whole patch


@runtime_checkable
class Tracker(Protocol):
    """Follows masks of a first frame through the frames after it."""

    def track(self, masks: BoolArray, images: ImageArray) -> BoolArray:
        """Masks (N,H,W) of ``images[0]`` and images (T+1,H,W,3) uint8 RGB -> masks (N,T,H,W) of images[1:].

        An empty mask at t means that the structure was not found there. N may be 0.

        Raises:
            ScoreError: the shapes or types do not fit.
        """
        ...


def check_video(masks: BoolArray, images: ImageArray) -> None:
    """Refuse what no tracker can follow.

    Raises:
        ScoreError: masks are not (N,H,W) bool, images not (T+1,H,W,3) uint8 with T >= 1, or sizes differ.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or len(images) < 2:
        raise ScoreError(
            f"a video to track is (T+1,H,W,3) uint8 with the context frame first, got {images.shape} {images.dtype}"
        )
    if masks.ndim != 3 or masks.dtype != np.bool_:
        raise ScoreError(f"structures are masks (N,H,W) bool, got {masks.shape} {masks.dtype}")
    if masks.shape[1:] != images.shape[1:3]:
        raise ScoreError(
            f"structures are {masks.shape[1]}x{masks.shape[2]} but images {images.shape[1]}x{images.shape[2]}; "
            "choose the structures on the context frame at the images' own size"
        )


@dataclass(frozen=True, kw_only=True)
class DenseFlowTracker:
    """Backward DIS flow, composed into one coordinate map per frame.

    ``preset`` is OpenCV's (ultrafast, fast, medium). Images lower than ``min_height`` pixels are enlarged by a
    whole factor before the flow. ``refinement_iterations`` are those of DIS's variational refinement.
    Single-threaded or not is OpenCV's own global setting (``cv2.setNumThreads``), left alone here.
    """

    preset: str = "medium"
    min_height: int = 160
    descent_iterations: int = 12
    refinement_iterations: int = 2

    def __post_init__(self) -> None:
        if self.preset not in _PRESETS:
            raise ScoreError(f"unknown flow preset {self.preset!r}; expected one of {', '.join(_PRESETS)}")

    def track(self, masks: BoolArray, images: ImageArray) -> BoolArray:
        """See ``Tracker.track``."""
        check_video(masks, images)
        out = np.zeros((len(masks), len(images) - 1, *masks.shape[1:]), np.bool_)
        if len(masks) == 0:
            return out
        maps, inside = self.coordinates(images)
        soft = [mask.astype(np.float32) for mask in masks]
        for t in range(len(images) - 1):
            x, y = maps[t, ..., 0], maps[t, ..., 1]
            for n, mask in enumerate(soft):
                value = cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                out[n, t] = (value > 0.5) & inside[t]
        return out

    def coordinates(self, images: ImageArray) -> tuple[FloatArray, BoolArray]:
        """Where each pixel was in the context frame: x, y in pixels (T,H,W,2), and whether it was in view (T,H,W).

        Once the path of a pixel has left the image on its way back to the context frame it stays out of view.
        """
        height, width = images.shape[1:3]
        factor = max(1, -(-self.min_height // height)) if height < self.min_height else 1
        gray = [_gray(image, factor) for image in images]
        if min(gray[0].shape) < _SMALLEST_SIDE:
            raise ScoreError(f"images of {height}x{width} are too small for optical flow; give at least 16x16 pixels")
        flow_of = self._flow()
        grid = _grid(*gray[0].shape)
        offset = np.zeros_like(grid)  # from here to the context frame, enlarged pixels
        inside = np.ones(gray[0].shape, np.uint8)
        last = np.asarray([gray[0].shape[1] - 1, gray[0].shape[0] - 1], np.float32)
        flow: Any = None
        maps = np.empty((len(images) - 1, height, width, 2), np.float32)
        seen = np.empty((len(images) - 1, height, width), np.bool_)
        for t in range(1, len(images)):
            flow = flow_of.calc(gray[t], gray[t - 1], None if flow is None else flow.copy())
            there = grid + flow
            nearest = np.clip(there, 0, last)
            away_x, away_y = cv2.split(cv2.absdiff(there, nearest))
            in_view = np.maximum(away_x, away_y) <= 0.5 * factor
            x, y = cv2.split(nearest)
            offset = flow + cv2.remap(offset, x, y, cv2.INTER_LINEAR)
            inside = cv2.remap(inside, x, y, cv2.INTER_NEAREST) * in_view
            maps[t - 1], seen[t - 1] = _shrink(grid + offset, inside, factor)
        return maps, seen

    def _flow(self) -> Any:
        flow = cv2.DISOpticalFlow.create(_PRESETS[self.preset])  # one per call: it keeps buffers and is not thread-safe
        flow.setGradientDescentIterations(self.descent_iterations)
        flow.setVariationalRefinementIterations(self.refinement_iterations)
        return flow


def _gray(image: ImageArray, factor: int) -> NDArray[np.uint8]:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if factor > 1:
        gray = cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return np.asarray(gray, np.uint8)


def _grid(height: int, width: int) -> FloatArray:
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([x, y], axis=-1)


def _shrink(coordinates: FloatArray, inside: NDArray[np.uint8], factor: int) -> tuple[FloatArray, BoolArray]:
    """Coordinates on the enlarged grid to the original one (pixel centres at whole numbers on both)."""
    if factor == 1:
        return coordinates, inside.astype(np.bool_)
    size = (inside.shape[1] // factor, inside.shape[0] // factor)
    mean = cv2.resize(coordinates, size, interpolation=cv2.INTER_AREA)
    seen = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    return (mean + 0.5) / np.float32(factor) - np.float32(0.5), seen

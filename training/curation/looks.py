"""What a single picture says: how bright, flat, blown out and sharp it is, and its colours. Knows no motion."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.types import ImageArray

_WIDEST = 128  # pixels looked at across: limits mean the same for every model's frame size, and cost the same
_THUMBNAIL = (32, 24)  # width, height: noise and coding artefacts average out, motion does not
_LEAST_SLOPE, _LEAST_EDGES = 1.5, 20  # levels a pixel; pixels: less is no edge
_SATURATED = 250
_PLACE_OVER_MEAN = 8.0
_COLOURS_FROM = (64, 48)
_COLOUR_BITS = 3


class Look:
    """The look of an RGB frame (H,W,3) uint8 at 128 pixels across; figures come when asked for, levels are 0..255."""

    def __init__(self, frame: ImageArray) -> None:
        self._small = np.asarray(cv2.resize(frame, _COLOURS_FROM, interpolation=cv2.INTER_AREA), np.uint8)
        scale = min(1.0, _WIDEST / frame.shape[1])
        size = (round(frame.shape[1] * scale), max(1, round(frame.shape[0] * scale)))
        seen = frame if scale == 1.0 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        self.gray: NDArray[np.uint8] = np.asarray(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY), np.uint8)  # (h,w)
        mean, deviation = cv2.meanStdDev(self.gray)
        self.brightness = float(mean[0, 0])
        self.contrast = float(deviation[0, 0])

    @cached_property
    def saturated(self) -> float:
        """Share of the pixels that are blown out."""
        return float((self.gray >= _SATURATED).mean())

    @cached_property
    def sharpness(self) -> float | None:
        """How abruptly the strongest edges end: mean of the largest |Laplacian| there over |gradient|, per pixel.

        2 to 3 in a sharp picture, 0.4 in one out of focus by 2 pixels. A dim, hazy or bare picture is thus no blurred
        one. None where there is no edge to tell by.
        """
        gray = self.gray.astype(np.float32)
        slope = cv2.magnitude(*(cv2.Sobel(gray, cv2.CV_32F, *axis, ksize=3, scale=1 / 8) for axis in ((1, 0), (0, 1))))
        edges = slope >= max(float(np.percentile(slope, 97)), _LEAST_SLOPE)
        if edges.sum() < _LEAST_EDGES:
            return None
        bend = cv2.dilate(np.abs(cv2.Laplacian(gray, cv2.CV_32F)), np.ones((3, 3), np.uint8))
        return float((bend[edges] / slope[edges]).mean())

    def change(self, other: Look) -> float:
        """Mean difference to another picture's thumbnail, in levels."""
        return float(np.abs(self._thumbnail - other._thumbnail).mean())

    def same(self, other: Look, limit: float) -> bool:
        """Whether nothing changed but what encoding does: on average by ``limit`` levels, nowhere by much more.

        Fingers that close are a small change on average.
        """
        difference = np.abs(self._thumbnail - other._thumbnail)
        return bool(difference.mean() <= limit and difference.max() <= _PLACE_OVER_MEAN * limit)

    def colour_overlap(self, other: Look) -> float:
        """How much of their colours two pictures have in common, 0..1."""
        return float(np.minimum(self._colours, other._colours).sum())

    @cached_property
    def _thumbnail(self) -> NDArray[np.float32]:
        """(24,32)."""
        small = cv2.resize(self.gray.astype(np.float32), _THUMBNAIL, interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.float32)

    @cached_property
    def _colours(self) -> NDArray[np.float32]:
        """(512,), sums to 1: 8 x 8 x 8 colours, smoothed over neighbours so that a little more light changes little."""
        size = 1 << _COLOUR_BITS
        cells = (self._small >> (8 - _COLOUR_BITS)).astype(np.int64)
        index = (cells[..., 0] * size + cells[..., 1]) * size + cells[..., 2]
        counts = np.bincount(index.ravel(), minlength=size**3).astype(np.float32).reshape(size, size, size)
        for axis in range(3):
            padded = np.pad(counts, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
            low, high = (np.take(padded, range(start, start + size), axis) for start in (0, 2))
            counts = 0.5 * counts + 0.25 * (low + high)
        return np.asarray(counts.ravel() / counts.sum(), np.float32)

"""The one picture the model sees: centre crop to the model's aspect, then resize.

Used alike by the converter, the dataset and the live node. Knows no message and no file.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.channels import Camera
from egowm_core.errors import ConfigError, DataError
from egowm_core.types import ImageArray


@dataclass(frozen=True)
class Preprocess:
    """To (height, width) pixels. Raises ConfigError when a side is not positive."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height <= 0 or self.width <= 0:
            raise ConfigError(f"model frame size {self.height}x{self.width} must be positive")

    @classmethod
    def for_camera(cls, camera: Camera) -> Preprocess:
        """The preprocessing of an embodiment's camera."""
        return cls(camera.height, camera.width)

    def __call__(self, image: ImageArray) -> ImageArray:
        """(h,w,3) uint8 RGB of any size to (height,width,3) uint8 RGB, contiguous. Raises DataError."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(f"preprocess takes (h,w,3) uint8 RGB, got {image.shape} {image.dtype}; decode it first")
        crop = self._crop(image)
        if crop.shape[:2] == (self.height, self.width):
            return np.array(crop, order="C")
        shrinking = crop.shape[0] > self.height or crop.shape[1] > self.width
        method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(crop, (self.width, self.height), interpolation=method), np.uint8)

    def labels(self, image: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """(h,w) uint16 structure ids to (height,width), nearest neighbour: ids are never mixed."""
        if image.ndim != 2:
            raise DataError(f"label images are (h,w), got {image.shape}; record one id per pixel")
        crop = self._crop(image)
        size = (self.width, self.height)
        return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint16)

    def crop_window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(top, left, height, width) in pixels of the centre crop with the model's aspect."""
        if height <= 0 or width <= 0:
            raise DataError(f"image size {height}x{width} is empty")
        crop_height = min(height, max(1, round(width * self.height / self.width)))
        crop_width = min(width, max(1, round(height * self.width / self.height)))
        return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width

    def _crop(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        top, left, height, width = self.crop_window(image.shape[0], image.shape[1])
        return np.ascontiguousarray(image[top : top + height, left : left + width])

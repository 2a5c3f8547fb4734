"""Pictures to jpeg and truth to png, the same for bags and for live topics. Knows no message."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_QUALITY = 90
JPEG_FORMAT = "rgb8; jpeg compressed bgr8"  # as image_transport writes it
PNG16_FORMAT = "16UC1; png"


def encode_jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB (H,W,3) uint8 to jpeg bytes (N,) uint8."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return np.asarray(data, np.uint8)


def encode_png16(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """One channel (H,W) uint16 to png bytes (N,) uint8, loss-free."""
    _, data = cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return np.asarray(data, np.uint8)


def depth_millimetres(depth_m: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Depth (H,W) in m to whole millimetres, 65.535 m at most."""
    return np.clip(np.round(depth_m * 1000.0), 0, 65535).astype(np.uint16)

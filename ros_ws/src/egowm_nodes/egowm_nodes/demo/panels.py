"""Drawing shared by the video and the strip: labelled pictures on a dark page. Arrays in, arrays out."""

from __future__ import annotations

import cv2
import numpy as np

from egowm_core.types import ImageArray

PAPER, INK, FAINT = (24, 26, 30), (235, 235, 235), (130, 136, 146)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def page(height: int, width: int) -> ImageArray:
    """An empty page (height,width,3)."""
    return np.full((height, width, 3), PAPER, np.uint8)


def write(
    canvas: ImageArray, text: str, left: int, baseline: int, *, size: float = 0.5, color: tuple[int, int, int] = INK
) -> int:
    """Write text onto ``canvas``; returns where it ends [px]."""
    cv2.putText(canvas, text, (left, baseline), _FONT, size, color, 1, cv2.LINE_AA)
    return left + cv2.getTextSize(text, _FONT, size, 1)[0][0]


def fit(image: ImageArray, height: int, width: int) -> ImageArray:
    """``image`` scaled to fit into (height,width,3), centred on the page; aspect kept."""
    scale = min(height / image.shape[0], width / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(image, size, interpolation=method) if scale != 1 else image
    if scaled.shape[:2] == (height, width):
        return np.asarray(scaled, np.uint8)
    canvas = page(height, width)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = scaled
    return canvas


def turn_bar(canvas: ImageArray, yaw_rate: float, left: int, top: int, *, width: int = 120, full: float = 0.8) -> None:
    """A bar from the middle to the left for a left turn, to the right for a right one; ``full`` rad/s fills it."""
    middle, height = left + width // 2, 12
    cv2.rectangle(canvas, (left, top), (left + width, top + height), FAINT, 1)
    if np.isfinite(yaw_rate):
        end = middle - round(np.clip(yaw_rate / full, -1, 1) * width / 2)
        cv2.rectangle(canvas, (min(middle, end), top + 2), (max(middle, end), top + height - 2), (90, 160, 230), -1)
    cv2.line(canvas, (middle, top), (middle, top + height), INK, 1)

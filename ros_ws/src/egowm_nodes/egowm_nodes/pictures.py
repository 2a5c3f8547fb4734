"""Pictures for people: strip of context and predicted frames, captions, colours of states, JPEG. Knows no message."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from egowm_core.errors import DataError
from egowm_core.types import ImageArray

LABEL_HEIGHT = 16  # px above the frames
CAPTION_HEIGHT = 22  # px
STATE_COLORS = {  # RGB
    "OK": (74, 170, 104), "WARN": (230, 160, 50), "ERROR": (214, 69, 65), "STALE": (150, 110, 190),
    "UNDEFINED": (120, 126, 136),
}  # fmt: skip
_GAP = 2  # px between frames
_INK, _PAPER = (235, 235, 235), (24, 24, 24)


def strip_frames(num_frames: int, rate_hz: float, step_s: float) -> list[int]:
    """Frame numbers (from 1) nearest to every ``step_s`` ahead, at most ``num_frames``; at least the last one."""
    per_step = max(step_s * rate_hz, 1e-9)
    steps = np.arange(1, int(num_frames / per_step + 1e-6) + 1)
    chosen = sorted({min(num_frames, max(1, round(step * per_step))) for step in steps.tolist()})
    return chosen or [num_frames]


def draw_strip(context: ImageArray, predicted: Sequence[ImageArray], ahead_s: Sequence[float]) -> ImageArray:
    """Context (H,W,3) and predicted frames side by side under labels ``now``, ``+0.5 s``, ...; uint8 RGB.

    Raises:
        DataError: as many times as frames are needed, all of one size.
    """
    if len(predicted) != len(ahead_s) or any(frame.shape != context.shape for frame in predicted):
        raise DataError(
            f"a strip needs one time per frame and frames like the context {context.shape}, got {len(predicted)}"
            f" frames and {len(ahead_s)} times"
        )
    height, width = context.shape[:2]
    frames = [context, *predicted]
    canvas = np.full((height + LABEL_HEIGHT, len(frames) * (width + _GAP) - _GAP, 3), _PAPER, np.uint8)
    labels = ["now", *(f"{seconds:+.2f}".rstrip("0").rstrip(".") + " s" for seconds in ahead_s)]
    for i, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        left = i * (width + _GAP)
        canvas[LABEL_HEIGHT:, left : left + width] = frame
        place = (left + 3, LABEL_HEIGHT - 4)
        cv2.putText(canvas, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
    return canvas


def add_caption(image: ImageArray, state: str, text: str) -> ImageArray:
    """``image`` (H,W,3) uint8 RGB over a bar of ``CAPTION_HEIGHT`` px in the colour of ``state``, with ``text``."""
    width = image.shape[1]
    bar = np.full((CAPTION_HEIGHT, width, 3), STATE_COLORS.get(state, _PAPER), np.uint8)
    size = 0.5
    needed = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0]
    size *= min(1.0, (width - 12) / max(needed, 1))
    cv2.putText(bar, text, (6, CAPTION_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, size, _PAPER, 1, cv2.LINE_AA)
    return np.concatenate([image, bar])


def encode_jpeg(image: ImageArray, *, quality: int = 90) -> bytes:
    """RGB (H,W,3) uint8 to JPEG bytes."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"a picture of shape {image.shape} could not be written as JPEG; expected (H,W,3) uint8")
    return np.asarray(data, np.uint8).tobytes()

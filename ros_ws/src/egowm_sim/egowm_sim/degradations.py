"""Pictures made worse without moving anything in them: what PSNR punishes and the SCS should not. OpenCV only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

Video = NDArray[np.uint8]  # (T,H,W,3) RGB


class Degradation(Enum):
    """What is done to every frame; ``DEGRADATION_LEVELS`` says how much."""

    BLUR = "blur"  # Gaussian, amount: sigma in pixels of a 96 px high picture
    NOISE = "noise"  # normal, new in every frame, amount: sigma in gray levels
    COLOUR = "colour"  # hue turned by amount degrees, saturation scaled by 1 + amount / 100
    CONTRAST = "contrast"  # scaled about mid-gray by 1 - amount
    BRIGHTNESS = "brightness"  # amount gray levels darker
    JPEG = "jpeg"  # amount: 100 - quality


DEGRADATION_LEVELS: Mapping[Degradation, tuple[float, ...]] = MappingProxyType({
    Degradation.BLUR: (0.5, 1.0, 1.5, 2.5),
    Degradation.NOISE: (5, 10, 20, 35),
    Degradation.COLOUR: (10, 20, 40, 80),
    Degradation.CONTRAST: (0.2, 0.4, 0.6, 0.75),
    Degradation.BRIGHTNESS: (15, 30, 50, 80),
    Degradation.JPEG: (50, 70, 85, 93),
})  # fmt: skip


def degrade(video: Video, kind: Degradation, amount: float, *, rng: np.random.Generator) -> Video:
    """A degraded copy of ``video`` (T,H,W,3) uint8 RGB; an ``amount`` of 0 gives it back unchanged.

    ``rng`` is drawn from by noise alone.
    """
    if amount == 0:
        return video.copy()
    if kind is Degradation.NOISE:
        return _bytes(video + rng.normal(0, amount, video.shape))
    return np.stack([_OF_FRAME[kind](frame, amount) for frame in video])


def _blur(frame: Video, amount: float) -> Video:
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), amount * frame.shape[0] / 96), np.uint8)


def _colour(frame: Video, amount: float) -> Video:
    hsv = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + amount) % 360
    hsv[..., 1] = np.clip(hsv[..., 1] * (1 + amount / 100), 0, 1)
    return _bytes(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255)


def _jpeg(frame: Video, amount: float) -> Video:
    _, packed = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(100 - amount)])
    return np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1])


def _bytes(values: NDArray[np.floating]) -> Video:
    return np.asarray(np.clip(np.round(values), 0, 255), np.uint8)


_OF_FRAME: Mapping[Degradation, Callable[[Video, float], Video]] = MappingProxyType({
    Degradation.BLUR: _blur,
    Degradation.COLOUR: _colour,
    Degradation.CONTRAST: lambda frame, amount: _bytes(127.5 + (1 - amount) * (frame - 127.5)),
    Degradation.BRIGHTNESS: lambda frame, amount: _bytes(frame - amount),
    Degradation.JPEG: _jpeg,
})  # fmt: skip

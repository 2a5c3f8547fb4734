"""Picture metrics that accompany the SCS: PSNR and SSIM, frame by frame.

They judge pixels, not structure: a sharp but wrong motion can beat a soft but right one. Reported beside
the SCS, never instead of it.
"""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from egowm_core.errors import ScoreError
from egowm_core.types import FloatArray, ImageArray

_SSIM_WINDOW = 7  # px, scikit-image's default


def psnr(predicted: ImageArray, observed: ImageArray) -> FloatArray:
    """Peak signal-to-noise ratio in dB per frame (T,) of videos (T,H,W,3) uint8; infinite for identical frames.

    Raises:
        ScoreError: the videos differ in shape or are not uint8.
    """
    _check(predicted, observed)
    error = predicted.astype(np.float64) - observed.astype(np.float64)
    mse = np.mean(error * error, axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255.0**2 / mse), np.float32)


def ssim(predicted: ImageArray, observed: ImageArray) -> FloatArray:
    """Structural similarity per frame (T,) in -1..1 of videos (T,H,W,3) uint8, by scikit-image with its defaults.

    Raises:
        ScoreError: the videos differ in shape, are not uint8, or are smaller than 7x7 pixels.
    """
    _check(predicted, observed)
    if min(predicted.shape[1:3]) < _SSIM_WINDOW:
        raise ScoreError(f"SSIM needs frames of at least 7x7 pixels, got {predicted.shape[1]}x{predicted.shape[2]}")
    values = [
        structural_similarity(a, b, channel_axis=-1, data_range=255) for a, b in zip(predicted, observed, strict=True)
    ]
    return np.asarray(values, np.float32)


def _check(predicted: ImageArray, observed: ImageArray) -> None:
    if predicted.shape != observed.shape:
        raise ScoreError(
            f"predicted {predicted.shape} and observed {observed.shape} differ; "
            "bring both to one length and resolution first"
        )
    if predicted.ndim != 4 or predicted.shape[-1] != 3 or predicted.dtype != np.uint8 or observed.dtype != np.uint8:
        raise ScoreError(f"videos are (T,H,W,3) uint8, got {predicted.shape} {predicted.dtype} and {observed.dtype}")

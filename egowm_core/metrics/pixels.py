"""Picture metrics that accompany the SCS: PSNR and SSIM, frame by frame.

They judge pixels, not structure: a sharp but wrong motion can beat a soft but right one. Reported beside
the SCS, never instead of it. Knows no file, no video and no horizon.
"""

from __future__ import annotations

import numpy as np

from egowm_core.errors import ScoreError
from egowm_core.types import FloatArray, ImageArray

_SSIM_WINDOW = 7  # px, scikit-image's default


def psnr(predicted: ImageArray, observed: ImageArray) -> FloatArray:
    """Peak signal-to-noise ratio in dB per frame (T,) of videos (T,H,W,3) uint8; infinite for identical frames.

    Raises:
        ScoreError: the videos differ in shape or are not uint8.
    """
    check_videos(predicted, observed)
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255.0**2 / _squared_error(predicted, observed)), np.float32)


def mse(predicted: ImageArray, observed: ImageArray) -> FloatArray:
    """Mean squared error per frame (T,) of videos (T,H,W,3) uint8, of values in 0..1.

    Raises:
        ScoreError: the videos differ in shape or are not uint8.
    """
    check_videos(predicted, observed)
    return np.asarray(_squared_error(predicted, observed) / 255.0**2, np.float32)


def ssim(predicted: ImageArray, observed: ImageArray) -> FloatArray:
    """Structural similarity per frame (T,) in -1..1 of videos (T,H,W,3) uint8, by scikit-image with its defaults.

    Raises:
        ScoreError: the videos differ in shape, are not uint8, or are smaller than 7x7 pixels.
    """
    from skimage.metrics import structural_similarity

    check_videos(predicted, observed)
    if min(predicted.shape[1:3]) < _SSIM_WINDOW:
        raise ScoreError(f"SSIM needs frames of at least 7x7 pixels, got {predicted.shape[1]}x{predicted.shape[2]}")
    values = [
        structural_similarity(a, b, channel_axis=-1, data_range=255) for a, b in zip(predicted, observed, strict=True)
    ]
    return np.asarray(values, np.float32)


def check_videos(predicted: ImageArray, observed: ImageArray) -> None:
    """Raises ScoreError unless both are videos (T,H,W,3) uint8 of one shape."""
    if predicted.shape != observed.shape:
        raise ScoreError(
            f"predicted {predicted.shape} and observed {observed.shape} differ; "
            "bring both to one length and resolution first"
        )
    if predicted.ndim != 4 or predicted.shape[-1] != 3 or predicted.dtype != np.uint8 or observed.dtype != np.uint8:
        raise ScoreError(f"videos are (T,H,W,3) uint8, got {predicted.shape} {predicted.dtype} and {observed.dtype}")


def _squared_error(predicted: ImageArray, observed: ImageArray) -> FloatArray:
    error = predicted.astype(np.float64) - observed.astype(np.float64)
    return np.asarray(np.mean(error * error, axis=(1, 2, 3)))

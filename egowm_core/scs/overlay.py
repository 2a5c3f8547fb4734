"""Draw what the SCS compared: predicted masks blue, observed masks red, on the observed frame.

Where both agree the fill is purple. Knows no score and no video, one picture at a time.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.types import ImageArray

PREDICTED_RGB = (0, 0, 255)
OBSERVED_RGB = (255, 0, 0)


def draw_overlay(
    image: ImageArray,
    predicted: NDArray[np.bool_],
    observed: NDArray[np.bool_],
    *,
    alpha: float = 0.25,
    factor: int = 1,
) -> ImageArray:
    """Masks (N,H,W) bool over ``image`` (H,W,3) uint8 RGB -> a new (H*factor,W*factor,3) uint8 RGB.

    ``alpha`` is the opacity of the fill; outlines are solid, one pixel of the enlarged picture wide, the observed
    one on top. N may be 0 and may differ between the two.

    Raises:
        ScoreError: the masks' size is not the image's, or ``alpha`` or ``factor`` is out of range.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ScoreError(f"an image is (H,W,3) uint8, got {image.shape} {image.dtype}")
    for name, masks in (("predicted", predicted), ("observed", observed)):
        if masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
            raise ScoreError(
                f"{name} masks are (N,{image.shape[0]},{image.shape[1]}) like the image, got {masks.shape}"
            )
    if not 0 <= alpha <= 1 or factor < 1:
        raise ScoreError(f"alpha is 0..1 and factor at least 1, got {alpha} and {factor}")
    size = (image.shape[1] * factor, image.shape[0] * factor)
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    outlines: list[tuple[tuple[int, int, int], list[NDArray[np.int32]]]] = []
    weight = np.zeros((size[1], size[0], 1), np.float32)
    colour = np.zeros((size[1], size[0], 3), np.float32)
    for masks, rgb in ((predicted, PREDICTED_RGB), (observed, OBSERVED_RGB)):
        large = [cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for mask in masks]
        if large:
            filled = np.maximum.reduce(large)[..., None].astype(np.float32)
            weight += filled
            colour += filled * np.asarray(rgb, np.float32)
        contours = [cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0] for mask in large]
        outlines.append((rgb, [contour for found in contours for contour in found]))
    fill = colour / np.maximum(weight, 1)
    opacity = alpha * (weight > 0)
    out = np.ascontiguousarray(np.clip(canvas * (1 - opacity) + fill * opacity, 0, 255).round().astype(np.uint8))
    for rgb, found in outlines:
        cv2.drawContours(out, found, -1, rgb, 1)
    return out

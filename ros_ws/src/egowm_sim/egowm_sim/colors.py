"""Random colours and smooth noise: the ground that every procedural picture is painted on.

Pictures are (H,W,3) RGB in 0..255, float while they are painted. Numpy and OpenCV only.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Color = NDArray[np.float64]  # (3,) RGB in 0..255
Rng = np.random.Generator


def color(
    rng: Rng,
    *,
    hue: tuple[float, float] = (0.0, 1.0),
    saturation: tuple[float, float] = (0.2, 0.7),
    value: tuple[float, float] = (0.5, 0.95),
) -> Color:
    """A random RGB colour in 0..255 with hue, saturation and value in the given ranges of 0..1."""
    h, s, v = rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(h, s, v)) * 255.0


def shade(base: Color, factor: float) -> Color:
    """``base`` made darker (< 1) or lighter (> 1)."""
    return np.clip(base * factor, 0, 255)


def wood_color(rng: Rng) -> Color:
    return color(rng, hue=(0.04, 0.11), saturation=(0.3, 0.65), value=(0.35, 0.9))


def noise(rng: Rng, height: int, width: int, cells: int, *, cells_x: int | None = None) -> NDArray[np.float64]:
    """Smooth periodic noise (H,W) of unit variance with ``cells`` bumps down and ``cells_x`` across."""
    grid = rng.standard_normal((cells, cells_x or cells))
    padded = np.pad(grid, 2, mode="wrap")
    scale_y, scale_x = height / grid.shape[0], width / grid.shape[1]
    big = cv2.resize(
        padded, (round(padded.shape[1] * scale_x), round(padded.shape[0] * scale_y)), interpolation=cv2.INTER_CUBIC
    )
    top, left = round(2 * scale_y), round(2 * scale_x)
    return big[top : top + height, left : left + width] * 1.4


def flat(base: Color, height: int, width: int) -> NDArray[np.float64]:
    return np.broadcast_to(base, (height, width, 3)).copy()


def to_image(values: NDArray[np.float64]) -> Image:
    return np.clip(values, 0, 255).astype(np.uint8)


def mottled(rng: Rng, base: Color, height: int, width: int, *, strength: float = 12.0) -> NDArray[np.float64]:
    """A plain surface with stains of several sizes, as float (H,W,3)."""
    blotch = np.add.reduce([noise(rng, height, width, cells) / (i + 1) for i, cells in enumerate((3, 7, 15))])
    return flat(base, height, width) + strength * blotch[..., None]

"""Procedural surfaces of furniture: wood, fabric, paint, drawer fronts, books, cardboard, leaves.

Every function takes a generator and gives (H,W,3) uint8 RGB. Knows no geometry and no MuJoCo.
"""

from __future__ import annotations

import cv2
import numpy as np

from egowm_sim.colors import Color, Image, Rng, color, flat, mottled, noise, shade, to_image, wood_color


def wood(rng: Rng, *, size: int = 96, base: Color | None = None) -> Image:
    base = wood_color(rng) if base is None else base
    rings = np.sin(
        2 * np.pi * (np.linspace(0, 1, size)[:, None] * rng.uniform(2, 4) + 0.22 * noise(rng, size, size, 3))
    )
    return to_image(flat(base, size, size) + (rng.uniform(8, 18) * rings + 7 * noise(rng, size, size, 4))[..., None])


def fabric(rng: Rng, *, size: int = 96) -> Image:
    base, other = (
        color(rng, saturation=(0.1, 0.8), value=(0.25, 0.9)),
        color(rng, saturation=(0.1, 0.8), value=(0.25, 0.95)),
    )
    out = mottled(rng, base, size, size, strength=9)
    y, x = np.mgrid[:size, :size] / size
    count = int(rng.integers(2, 5))
    kind = rng.integers(4)
    if kind == 0:
        out = np.where(((x * count) % 1 < 0.4)[..., None], 0.4 * out + 0.6 * other, out)
    elif kind == 1:  # plaid
        amount = 0.35 * ((x * count) % 1 < 0.4) + 0.35 * ((y * count) % 1 < 0.4)
        out = out + amount[..., None] * (other - base)
    elif kind == 2:
        spots = ((x * count) % 1 - 0.5) ** 2 + ((y * count) % 1 - 0.5) ** 2 < 0.08
        out = np.where(spots[..., None], other, out)
    return to_image(out)


def painted(rng: Rng, *, size: int = 96, base: Color | None = None) -> Image:
    """Painted or plastic panel: mottled with a darker rim."""
    base = color(rng, saturation=(0.05, 0.85), value=(0.3, 0.98)) if base is None else base
    canvas = to_image(mottled(rng, base, size, size, strength=7))
    cv2.rectangle(canvas, (0, 0), (size - 1, size - 1), shade(base, 0.65).tolist(), 5)
    return canvas


def fronts(rng: Rng, base: Color, rows: int, columns: int, *, height: int = 128, width: int = 128) -> Image:
    """Drawer or door fronts in a grid, each with a handle."""
    canvas = to_image(mottled(rng, shade(base, 0.55), height, width, strength=3))
    knob = color(rng, saturation=(0.0, 0.4), value=(0.1, 0.95)).tolist()
    for i in range(rows):
        for j in range(columns):
            x0, x1 = round(width * j / columns) + 3, round(width * (j + 1) / columns) - 3
            y0, y1 = round(height * i / rows) + 3, round(height * (i + 1) / rows) - 3
            canvas[y0:y1, x0:x1] = np.clip(
                mottled(rng, base * (1 + rng.normal(0, 0.05)), y1 - y0, x1 - x0, strength=6), 0, 255
            )
            if rows >= columns:
                cv2.rectangle(
                    canvas,
                    ((x0 + x1) // 2 - 10, (y0 + y1) // 2 - 2),
                    ((x0 + x1) // 2 + 10, (y0 + y1) // 2 + 2),
                    knob,
                    -1,
                )
            else:
                x = x1 - 9 if j % 2 == 0 else x0 + 5
                cv2.rectangle(canvas, (x, (y0 + y1) // 2 - 10), (x + 4, (y0 + y1) // 2 + 10), knob, -1)
    return canvas


def books(rng: Rng, *, height: int = 48, width: int = 144) -> Image:
    """A row of book backs in front of a dark shelf."""
    canvas = np.full((height, width, 3), 35, np.uint8)
    x = 0
    while x < width:
        wide = int(rng.integers(6, 15))
        if rng.random() < 0.9:
            top = int(rng.integers(2, height // 3))
            paint = color(rng, saturation=(0.1, 0.9), value=(0.2, 0.95))
            canvas[top:, x : x + wide] = paint
            canvas[top + height // 4 : top + height // 3, x : x + wide] = shade(paint, rng.choice([0.5, 1.5]))
            canvas[top:, x : x + 1] = shade(paint, 0.5)
        x += wide
    return canvas


def cardboard(rng: Rng, *, size: int = 96) -> Image:
    base = color(rng, hue=(0.07, 0.11), saturation=(0.3, 0.55), value=(0.5, 0.8))
    canvas = to_image(mottled(rng, base, size, size, strength=6))
    at = size // 2 - size // 12
    canvas[:, at : at + size // 6] = shade(base, rng.choice([0.75, 1.25]))
    if rng.random() < 0.7:
        x, y = int(rng.integers(6, size // 2)), int(rng.integers(6, size // 2))
        cv2.rectangle(canvas, (x, y), (x + size // 3, y + size // 4), (240, 240, 235), -1)
        cv2.rectangle(canvas, (x + 4, y + 5), (x + size // 4, y + 10), color(rng, value=(0.1, 0.6)).tolist(), -1)
    cv2.rectangle(canvas, (0, 0), (size - 1, size - 1), shade(base, 0.7).tolist(), 3)
    return canvas


def leaves(rng: Rng, *, size: int = 64) -> Image:
    base = color(rng, hue=(0.22, 0.4), saturation=(0.4, 0.85), value=(0.3, 0.7))
    canvas = to_image(mottled(rng, base, size, size, strength=25))
    for _ in range(22):
        center = tuple(int(v) for v in rng.integers(0, size, 2))
        paint = shade(base, rng.uniform(0.5, 1.5)).tolist()
        cv2.ellipse(canvas, center, (size // 9, size // 22), rng.uniform(0, 180), 0, 360, paint, -1, cv2.LINE_AA)
    return canvas

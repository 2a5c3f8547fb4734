"""Procedural pictures, doors, windows, screens and rugs.

Every function takes a generator and gives (H,W,3) uint8 RGB. Knows no geometry and no MuJoCo.
"""

from __future__ import annotations

import cv2
import numpy as np

from egowm_sim.colors import Image, Rng, color, flat, mottled, noise, shade, to_image, wood_color


def _landscape(rng: Rng, height: int, width: int) -> Image:
    sky, low = color(rng, hue=(0.5, 0.7), value=(0.7, 1.0)), color(rng, hue=(0.0, 0.2), value=(0.8, 1.0))
    t = np.linspace(0, 1, height)[:, None, None]
    canvas = to_image(np.broadcast_to(sky * (1 - t) + low * t, (height, width, 3)))
    cv2.circle(canvas, (int(rng.integers(width)), height // 4), height // 9, (250, 230, 150), -1, cv2.LINE_AA)
    for i in range(3):
        x = np.arange(0, width + 1, max(width // 8, 1))
        y = height * (0.45 + 0.17 * i) + rng.normal(0, height / 18, len(x))
        hill = np.concatenate([np.stack([x, y], 1), [[width, height], [0, height]]]).astype(np.int32)
        cv2.fillPoly(canvas, [hill], color(rng, hue=(0.2, 0.5), value=(0.2, 0.7)).tolist(), cv2.LINE_AA)
    return canvas


def _shapes(rng: Rng, height: int, width: int) -> Image:
    canvas = to_image(flat(color(rng, saturation=(0.1, 0.8), value=(0.3, 1.0)), height, width))
    for _ in range(7):
        x, y, r = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(height // 8, height // 3))
        paint = color(rng, saturation=(0.3, 1.0), value=(0.2, 1.0)).tolist()
        if rng.random() < 0.5:
            cv2.circle(canvas, (x, y), r, paint, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(canvas, (x - r, y - r // 2), (x + r, y + r // 2), paint, -1)
    return canvas


def _blocks(rng: Rng, height: int, width: int) -> Image:
    canvas = np.zeros((height, width, 3), np.uint8)
    xs, ys = np.sort(rng.integers(8, width - 8, 2)), np.sort(rng.integers(8, height - 8, 2))
    for y0, y1 in zip([0, *ys], [*ys, height], strict=True):
        for x0, x1 in zip([0, *xs], [*xs, width], strict=True):
            canvas[y0:y1, x0:x1] = color(rng, saturation=(0.0, 0.95), value=(0.3, 1.0))
    for y in ys:
        canvas[y - 2 : y + 2] = 20
    for x in xs:
        canvas[:, x - 2 : x + 2] = 20
    return canvas


def _poster(rng: Rng, height: int, width: int) -> Image:
    """Title, picture and lines of text."""
    ink = color(rng, value=(0.05, 0.35)).tolist()
    canvas = to_image(flat(color(rng, saturation=(0.0, 0.3), value=(0.85, 1.0)), height, width))
    cv2.rectangle(canvas, (width // 10, height // 14), (width * 8 // 10, height // 6), ink, -1)
    cv2.rectangle(canvas, (width // 10, height // 4), (width * 9 // 10, height * 6 // 10), color(rng).tolist(), -1)
    for i in range(4):
        y = height * (66 + 8 * i) // 100
        cv2.rectangle(canvas, (width // 10, y), (round(width * rng.uniform(0.5, 0.9)), y + height // 30), ink, -1)
    return canvas


def _portrait(rng: Rng, height: int, width: int) -> Image:
    canvas = to_image(flat(color(rng, saturation=(0.1, 0.8), value=(0.3, 1.0)), height, width))
    coat, hair = color(rng, value=(0.2, 0.8)).tolist(), color(rng, value=(0.1, 0.5)).tolist()
    skin = color(rng, hue=(0.03, 0.1), saturation=(0.2, 0.6), value=(0.35, 0.95)).tolist()
    cv2.ellipse(canvas, (width // 2, height), (width * 4 // 10, height * 4 // 10), 0, 0, 360, coat, -1)
    cv2.ellipse(canvas, (width // 2, height * 42 // 100), (width // 5, height // 4), 0, 0, 360, skin, -1, cv2.LINE_AA)
    cv2.ellipse(canvas, (width // 2, height * 28 // 100), (width // 5, height // 7), 0, 180, 360, hair, -1, cv2.LINE_AA)
    return canvas


def picture(rng: Rng, *, height: int = 128, width: int = 128) -> Image:
    """A painting, photograph or poster."""
    makers = (_landscape, _shapes, _blocks, _poster, _portrait)
    return makers[int(rng.integers(len(makers)))](rng, height, width)


def door(rng: Rng, *, height: int = 192, width: int = 96) -> Image:
    """A door leaf with inset panels or a pane, and a handle."""
    base = wood_color(rng) if rng.random() < 0.5 else color(rng, saturation=(0.05, 0.75), value=(0.35, 0.95))
    canvas = to_image(mottled(rng, base, height, width, strength=6))
    dark, light = shade(base, 0.6).tolist(), shade(base, 1.2).tolist()
    columns, rows = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    pane = rng.random() < 0.3
    for i in range(rows):
        for j in range(columns):
            x0, x1 = round(width * (0.12 + 0.78 * j / columns)), round(width * (0.04 + 0.84 * (j + 1) / columns))
            y0, y1 = round(height * (0.07 + 0.86 * i / rows)), round(height * (0.02 + 0.9 * (i + 1) / rows))
            glass = pane and i == 0
            cv2.rectangle(canvas, (x0, y0), (x1, y1), (190, 215, 225) if glass else light, -1)
            cv2.rectangle(canvas, (x0, y0), (x1, y1), dark, 3)
    cv2.rectangle(
        canvas, (round(width * 0.84), height // 2), (round(width * 0.95), height // 2 + 5), (210, 200, 170), -1
    )
    cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), dark, 3)
    return canvas


def window(rng: Rng, *, height: int = 128, width: int = 128) -> Image:
    """Panes with sky and houses or trees behind."""
    sky = color(rng, hue=(0.52, 0.62), saturation=(0.1, 0.5), value=(0.85, 1.0))
    t = np.linspace(0, 1, height)[:, None, None]
    canvas = to_image(sky + (1 - t) * -30 + 22 * np.clip(noise(rng, height, width, 4), 0, 2)[..., None])
    for _ in range(6):
        x, top, wide = (
            int(rng.integers(width)),
            round(height * rng.uniform(0.45, 0.8)),
            int(rng.integers(width // 8, width // 4)),
        )
        if rng.random() < 0.5:
            cv2.rectangle(
                canvas, (x, top), (x + wide, height), color(rng, saturation=(0.05, 0.5), value=(0.4, 0.8)).tolist(), -1
            )
        else:
            cv2.circle(
                canvas, (x, round(height * 0.85)), wide, color(rng, hue=(0.22, 0.38), value=(0.25, 0.6)).tolist(), -1
            )
    frame = color(rng, saturation=(0.0, 0.2), value=(0.8, 1.0)) if rng.random() < 0.7 else wood_color(rng)
    for i in range(int(rng.integers(2, 4)) + 1):
        x = round((width - 6) * i / 2) if i < 3 else 0
        canvas[:, x : x + 6] = frame
    for y in (0, height // 2 if rng.random() < 0.5 else 0, height - 7):
        canvas[y : y + 7] = frame
    return canvas


def rug(rng: Rng, *, height: int = 128, width: int = 192) -> Image:
    """A rug with borders and a repeated or central motif."""
    colors = [color(rng, saturation=(0.2, 0.85), value=(0.25, 0.9)) for _ in range(4)]
    canvas = to_image(mottled(rng, colors[0], height, width, strength=7))
    for i in range(int(rng.integers(1, 4))):
        inset = 6 + 11 * i
        cv2.rectangle(canvas, (inset, inset), (width - inset, height - inset), colors[1 + i % 3].tolist(), 5)
    if rng.random() < 0.5:
        for r in (0.32, 0.22, 0.12):
            axes = (round(width * r), round(height * r))
            cv2.ellipse(
                canvas, (width // 2, height // 2), axes, 0, 0, 360, colors[rng.integers(4)].tolist(), -1, cv2.LINE_AA
            )
    else:
        for x in range(36, width - 30, 24):
            for y in range(36, height - 30, 24):
                diamond = np.array([[x, y - 9], [x + 9, y], [x, y + 9], [x - 9, y]], np.int32)
                cv2.fillPoly(canvas, [diamond], colors[1 + (x // 24 + y // 24) % 3].tolist(), cv2.LINE_AA)
    return canvas


def screen(rng: Rng, *, height: int = 72, width: int = 128) -> Image:
    """A monitor or television picture with a dark bezel."""
    canvas = (
        picture(rng, height=height, width=width) if rng.random() < 0.5 else np.full((height, width, 3), 28, np.uint8)
    )
    for _ in range(3):
        x, y = int(rng.integers(width * 2 // 3)), int(rng.integers(height * 2 // 3))
        cv2.rectangle(canvas, (x, y), (x + width // 3, y + height // 3), color(rng, value=(0.5, 1.0)).tolist(), -1)
    cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), (18, 18, 20), 8)
    return canvas

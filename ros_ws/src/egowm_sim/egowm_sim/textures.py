"""Procedural floors, ceilings and walls.

Every public function takes a generator and gives (H,W,3) uint8 RGB. Structure is kept at low and middle spatial
frequencies (features of about 4 cm and more), so that motion shows in small camera frames without aliasing.
Knows no geometry and no MuJoCo.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_sim.colors import Image, Rng, color, flat, mottled, noise, shade, to_image, wood_color

# ---- floors: one image covers FLOOR_TILE_M x FLOOR_TILE_M ----------------------------------------------------

FLOOR_TILE_M = 4.0


def _floor_tiles(rng: Rng, n: int) -> NDArray[np.float64]:
    count = int(rng.choice([6, 8, 10, 12]))
    cell = n / count
    a, b = color(rng, saturation=(0.05, 0.5), value=(0.5, 0.95)), color(rng, saturation=(0.05, 0.6), value=(0.25, 0.9))
    checker = rng.random() < 0.5
    out = np.zeros((n, n, 3))
    spread = rng.uniform(6, 22)
    for i in range(count):
        for j in range(count):
            base = b if checker and (i + j) % 2 else a
            out[round(i * cell) : round((i + 1) * cell), round(j * cell) : round((j + 1) * cell)] = base + rng.normal(
                0, spread
            )
    out += 5 * noise(rng, n, n, 16)[..., None]
    grout = shade(a, rng.choice([0.5, 0.65, 1.3]))
    for i in range(count):
        at, wide = round(i * cell), 3
        out[at : at + wide] = grout
        out[:, at : at + wide] = grout
    return out


def _floor_wood(rng: Rng, n: int) -> NDArray[np.float64]:
    base = wood_color(rng)
    rows = int(rng.choice([20, 24, 32]))
    high = n / rows
    out = np.zeros((n, n, 3))
    contrast = rng.uniform(0.08, 0.2)
    for i in range(rows):
        top, bottom = round(i * high), round((i + 1) * high)
        cuts = np.sort(rng.choice(np.arange(0, n, n // 16), size=3, replace=False))
        for left, right in zip(cuts, [*cuts[1:], cuts[0] + n], strict=True):
            columns = np.arange(left, right) % n
            grain = noise(rng, bottom - top, n, 2, cells_x=6)[:, columns]
            out[top:bottom, columns] = shade(base, 1 + rng.normal(0, contrast)) + 8 * grain[..., None]
            out[top:bottom, left % n : left % n + 2] = shade(base, 0.55)
        out[top : top + 2] = shade(base, 0.6)
    return out.transpose(1, 0, 2) if rng.random() < 0.5 else out


def _floor_carpet(rng: Rng, n: int) -> NDArray[np.float64]:
    base, other = (
        color(rng, saturation=(0.1, 0.65), value=(0.3, 0.75)),
        color(rng, saturation=(0.1, 0.6), value=(0.3, 0.85)),
    )
    out = mottled(rng, base, n, n, strength=rng.uniform(8, 16))
    kind = rng.integers(4)
    y, x = np.mgrid[:n, :n] / n
    count = int(rng.choice([6, 8, 12]))
    if kind == 0:  # carpet squares laid alternately
        mask = ((np.floor(x * count) + np.floor(y * count)) % 2)[..., None]
        out = out + mask * (0.45 * (other - base))
    elif kind == 1:
        mask = (np.sin(2 * np.pi * x * count) > rng.uniform(0, 0.8))[..., None]
        out = np.where(mask, out * 0.3 + 0.7 * other, out)
    elif kind == 2:  # diamonds
        mask = ((np.abs((x * count) % 1 - 0.5) + np.abs((y * count) % 1 - 0.5)) < rng.uniform(0.2, 0.4))[..., None]
        out = np.where(mask, out * 0.4 + 0.6 * other, out)
    else:
        out = out + (noise(rng, n, n, 18) > 0.6)[..., None] * 0.5 * (other - base)
    return out


def _floor_concrete(rng: Rng, n: int) -> NDArray[np.float64]:
    base = color(rng, saturation=(0.0, 0.15), value=(0.45, 0.8))
    out = mottled(rng, base, n, n, strength=rng.uniform(12, 22))
    canvas = to_image(out)
    for _ in range(10):
        points = np.cumsum(rng.normal(0, n / 14, (8, 2)), axis=0) + rng.uniform(0, n, 2)
        cv2.polylines(canvas, [points.astype(np.int32)], False, shade(base, 0.55).tolist(), 2, cv2.LINE_AA)
    for at in range(0, n, n // 2):
        canvas[at : at + 4] = shade(base, 0.6)
        canvas[:, at : at + 4] = shade(base, 0.6)
    return canvas.astype(np.float64)


def _floor_terrazzo(rng: Rng, n: int) -> NDArray[np.float64]:
    base = color(rng, saturation=(0.02, 0.2), value=(0.6, 0.95))
    canvas = to_image(mottled(rng, base, n, n, strength=5))
    chips = [color(rng, saturation=(0.1, 0.7), value=(0.2, 0.8)) for _ in range(4)]
    for _ in range(420):
        center = tuple(int(v) for v in rng.integers(0, n, 2))
        axes = tuple(int(v) for v in rng.integers(4, 11, 2))
        cv2.ellipse(canvas, center, axes, rng.uniform(0, 180), 0, 360, chips[rng.integers(4)].tolist(), -1, cv2.LINE_AA)
    return canvas.astype(np.float64)


def floor(rng: Rng, *, size: int = 512) -> Image:
    """A floor of FLOOR_TILE_M x FLOOR_TILE_M: tiles, wood, carpet, concrete or terrazzo."""
    makers = (_floor_tiles, _floor_wood, _floor_carpet, _floor_concrete, _floor_terrazzo)
    return to_image(makers[rng.choice(5, p=[0.28, 0.28, 0.24, 0.1, 0.1])](rng, size))


def ceiling(rng: Rng, *, size: int = 256) -> Image:
    """A ceiling of FLOOR_TILE_M x FLOOR_TILE_M: panels, beams or plain."""
    base = color(rng, saturation=(0.0, 0.12), value=(0.78, 0.98))
    out = mottled(rng, base, size, size, strength=5)
    kind = rng.integers(3)
    if kind == 0:
        for at in range(0, size, size // 6):
            out[at : at + 2] = shade(base, 0.7)
            out[:, at : at + 2] = shade(base, 0.7)
    elif kind == 1:
        beam = wood_color(rng)
        for at in range(0, size, size // 4):
            out[at : at + size // 20] = beam
    return to_image(out)


# ---- walls: one image covers WALL_TILE_M across and the wall's height ------------------------------------------

WALL_TILE_M = 3.0


def _wall_paint(rng: Rng, h: int, w: int) -> NDArray[np.float64]:
    base = color(rng, saturation=(0.05, 0.55), value=(0.6, 0.97))
    out = mottled(rng, base, h, w, strength=rng.uniform(6, 13))
    if rng.random() < 0.45:  # lower part in a second colour, with a rail
        split = round(h * rng.uniform(0.5, 0.7))
        out[split:] += color(rng, saturation=(0.1, 0.6), value=(0.3, 0.9)) - base
        out[split - 4 : split + 4] = shade(base, rng.choice([0.5, 1.25]))
    return out


def _wall_paper(rng: Rng, h: int, w: int) -> NDArray[np.float64]:
    base, other = (
        color(rng, saturation=(0.05, 0.5), value=(0.6, 0.95)),
        color(rng, saturation=(0.1, 0.6), value=(0.35, 0.95)),
    )
    y, x = np.mgrid[:h, :w] / w
    count = int(rng.choice([8, 10, 14]))
    kind = rng.integers(4)
    u, v = x * count, y * count
    if kind == 0:
        mask = (u % 1) < rng.uniform(0.25, 0.6)
    elif kind == 1:  # dots, every second row shifted
        row = np.floor(v)
        mask = ((u + 0.5 * (row % 2)) % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < rng.uniform(0.06, 0.13)
    elif kind == 2:  # lozenges
        mask = (np.abs(u % 1 - 0.5) + np.abs((v / 1.6) % 1 - 0.5)) < rng.uniform(0.25, 0.45)
    else:  # waves
        mask = ((v + 0.35 * np.sin(2 * np.pi * u / 2)) % 1) < rng.uniform(0.3, 0.6)
    out = mottled(rng, base, h, w, strength=5)
    return np.where(mask[..., None], 0.35 * out + 0.65 * other, out)


def _wall_brick(rng: Rng, h: int, w: int) -> NDArray[np.float64]:
    red = rng.random() < 0.6
    base = (
        color(rng, hue=(0.0, 0.06), saturation=(0.3, 0.65), value=(0.5, 0.8))
        if red
        else color(rng, saturation=(0.0, 0.2), value=(0.55, 0.9))
    )
    mortar = color(rng, saturation=(0.0, 0.1), value=(0.6, 0.9)) if red else shade(base, 0.65)
    rows, columns = int(rng.choice([14, 18, 22])), int(rng.choice([6, 8, 10]))
    out = flat(mortar, h, w)
    for i in range(rows):
        for j in range(-1, columns):
            left = (j + 0.5 * (i % 2)) * w / columns
            tone = base * (1 + rng.normal(0, 0.12))
            x0, x1 = max(round(left) + 2, 0), min(round(left + w / columns) - 2, w)
            if x1 > x0:
                out[round(i * h / rows) + 2 : round((i + 1) * h / rows) - 1, x0:x1] = tone
    return out + 6 * noise(rng, h, w, 12)[..., None]


def _wall_panels(rng: Rng, h: int, w: int) -> NDArray[np.float64]:
    base = wood_color(rng) if rng.random() < 0.6 else color(rng, saturation=(0.05, 0.5), value=(0.5, 0.95))
    count = int(rng.choice([6, 9, 12]))
    out = np.zeros((h, w, 3))
    for j in range(count):
        x0, x1 = round(j * w / count), round((j + 1) * w / count)
        out[:, x0:x1] = base * (1 + rng.normal(0, 0.09)) + 7 * noise(rng, h, x1 - x0, 5, cells_x=2)[..., None]
        out[:, x0 : x0 + 3] = shade(base, 0.55)
    return out


def wall(rng: Rng, *, height: int = 256, width: int = 256) -> Image:
    """A wall of WALL_TILE_M across by its height: paint, wallpaper, brick or panels, with a skirting board."""
    makers = (_wall_paint, _wall_paper, _wall_brick, _wall_panels)
    out = makers[rng.choice(4, p=[0.42, 0.28, 0.16, 0.14])](rng, height, width)
    board = round(height * rng.uniform(0.03, 0.05))
    skirting = color(rng, saturation=(0.0, 0.3), value=(0.3, 0.98))
    out[-board:] = skirting
    out[-board - 2 : -board] = shade(skirting, 0.6)
    return to_image(out)

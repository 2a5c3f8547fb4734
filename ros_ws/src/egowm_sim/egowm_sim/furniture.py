"""The catalogue of furniture: every function draws one random piece of its kind.

Pieces are made of primitive parts in their own frame (see parts.py). Knows no room and no MuJoCo.
A little longer than most files here: it is a flat list of short functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from egowm_sim import pictures, surfaces
from egowm_sim.colors import Color, Rng, color, wood_color
from egowm_sim.parts import Part, Piece, Surface, box, cylinder, ellipsoid, front

PROUD_M = 0.006  # how far a picture stands in front of the box that carries it


def _body(rng: Rng) -> tuple[Color, Surface]:
    """A colour and a surface for carcasses: wood or paint."""
    if rng.random() < 0.5:
        base = wood_color(rng)
        return base, Surface(image=surfaces.wood(rng, base=base))
    base = color(rng, saturation=(0.0, 0.8), value=(0.25, 0.98))
    return base, Surface(image=surfaces.painted(rng, base=base))


def _legs(rng: Rng, wide: float, deep: float, high: float) -> list[Part]:
    legs = Surface.plain(color(rng, saturation=(0.0, 0.6), value=(0.1, 0.8)))
    thick = float(rng.uniform(0.04, 0.07))
    x, y = wide / 2 - thick, deep / 2 - thick
    return [box(sx * x, sy * y, 0, thick, thick, high, legs) for sx in (-1, 1) for sy in (-1, 1)]


def table(rng: Rng) -> Piece:
    wide, deep, high = rng.uniform(0.8, 1.7), rng.uniform(0.6, 0.95), rng.uniform(0.45, 0.78)
    _, top = _body(rng)
    parts = [box(0, 0, high - 0.05, wide, deep, 0.05, top), *_legs(rng, wide, deep, high - 0.05)]
    for _ in range(int(rng.integers(0, 4))):
        parts.append(_table_item(rng, rng.uniform(-0.35, 0.35) * wide, rng.uniform(-0.3, 0.3) * deep, high))
    return Piece("table", wide, deep, parts)


def _table_item(rng: Rng, x: float, y: float, z: float) -> Part:
    paint = Surface.plain(color(rng, saturation=(0.2, 0.95), value=(0.3, 1.0)))
    kind = rng.integers(3)
    if kind == 0:
        return box(
            x,
            y,
            z,
            rng.uniform(0.15, 0.3),
            rng.uniform(0.12, 0.22),
            rng.uniform(0.04, 0.2),
            paint,
            yaw=rng.uniform(0, 3),
        )
    if kind == 1:
        return cylinder(x, y, z, rng.uniform(0.04, 0.09), rng.uniform(0.1, 0.28), paint)
    r = rng.uniform(0.06, 0.12)
    return ellipsoid(x, y, z + r, (r, r, r), paint)


def round_table(rng: Rng) -> Piece:
    radius, high = rng.uniform(0.35, 0.6), rng.uniform(0.45, 0.76)
    _, top = _body(rng)
    dark = Surface.plain(color(rng, saturation=(0, 0.3), value=(0.1, 0.5)))
    parts = [
        cylinder(0, 0, high - 0.04, radius, 0.04, top),
        cylinder(0, 0, 0.03, 0.05, high - 0.07, dark),
        cylinder(0, 0, 0, radius * 0.6, 0.03, dark),
        _table_item(rng, 0, 0, high),
    ]
    return Piece("round_table", 2 * radius, 2 * radius, parts)


def desk(rng: Rng) -> Piece:
    wide, deep, high = rng.uniform(1.1, 1.7), rng.uniform(0.6, 0.8), 0.74
    base, body = _body(rng)
    drawers = rng.uniform(0.35, 0.45)
    x = wide / 2 - drawers / 2
    screen_wide = rng.uniform(0.45, 0.7)
    dark = Surface.plain((30, 30, 34))
    parts = [
        box(0, 0, high - 0.04, wide, deep, 0.04, body),
        box(x, 0, 0, drawers, deep - 0.04, high - 0.04, body),
        front(
            x, -deep / 2 + 0.02 - PROUD_M, 0.03, drawers, high - 0.08, Surface(image=surfaces.fronts(rng, base, 4, 1))
        ),
        box(-wide / 2 + 0.03, 0, 0, 0.04, deep - 0.04, high - 0.04, body),
        box(-wide / 4, deep / 4, high + 0.1, screen_wide, 0.04, 0.34, dark),
        front(
            -wide / 4,
            deep / 4 - 0.02 - PROUD_M,
            high + 0.1,
            screen_wide,
            0.34,
            Surface(image=pictures.screen(rng), emission=0.4),
        ),
        cylinder(-wide / 4, deep / 4, high, 0.04, 0.1, dark),
        _table_item(rng, wide / 4, 0, high),
    ]
    return Piece("desk", wide, deep, parts, against_wall=bool(rng.random() < 0.8))


def chair(rng: Rng) -> Piece:
    wide, deep, seat, back = (
        rng.uniform(0.42, 0.5),
        rng.uniform(0.42, 0.5),
        rng.uniform(0.42, 0.48),
        rng.uniform(0.4, 0.55),
    )
    _, cover = _body(rng) if rng.random() < 0.5 else (None, Surface(image=surfaces.fabric(rng)))
    parts = [
        box(0, 0, seat - 0.05, wide, deep, 0.06, cover),
        box(0, deep / 2 - 0.03, seat + 0.08, wide, 0.05, back - 0.08, cover),
        *_legs(rng, wide, deep, seat - 0.05),
        box(-wide / 2 + 0.04, deep / 2 - 0.03, seat, 0.04, 0.04, 0.1, cover),
        box(wide / 2 - 0.04, deep / 2 - 0.03, seat, 0.04, 0.04, 0.1, cover),
    ]
    return Piece("chair", wide, deep, parts)


def office_chair(rng: Rng) -> Piece:
    cover, dark = Surface(image=surfaces.fabric(rng)), Surface.plain((35, 35, 38))
    parts = [
        box(0, 0, 0.44, 0.48, 0.46, 0.09, cover),
        box(0, 0.22, 0.58, 0.44, 0.07, 0.5, cover),
        box(0, 0.24, 0.45, 0.08, 0.04, 0.2, dark),
        cylinder(0, 0, 0.1, 0.03, 0.34, dark),
        *[box(0, 0, 0.04, 0.56, 0.06, 0.05, dark, yaw=i * math.pi / 3) for i in range(3)],
        box(-0.26, 0, 0.65, 0.05, 0.3, 0.04, dark),
        box(0.26, 0, 0.65, 0.05, 0.3, 0.04, dark),
    ]
    return Piece("office_chair", 0.6, 0.6, parts)


def shelf(rng: Rng) -> Piece:
    wide, deep, high = rng.uniform(0.7, 1.4), rng.uniform(0.28, 0.38), rng.uniform(1.0, 2.1)
    _, body = _body(rng)
    parts = [
        box(0, deep / 2 - 0.01, 0, wide, 0.02, high, body),
        box(-wide / 2 + 0.015, 0, 0, 0.03, deep, high, body),
        box(wide / 2 - 0.015, 0, 0, 0.03, deep, high, body),
    ]
    rows = max(2, round(high / rng.uniform(0.33, 0.45)))
    step = (high - 0.04) / rows
    for i in range(rows + 1):
        parts.append(box(0, 0, i * step, wide - 0.06, deep, 0.03, body))
    for i in range(rows):
        if rng.random() < 0.75:
            row = Surface(image=surfaces.books(rng))
            parts.append(front(0, -deep * 0.15, i * step + 0.03, wide - 0.06, step - 0.05, row))
        elif rng.random() < 0.8:
            parts.append(_table_item(rng, rng.uniform(-0.3, 0.3) * wide, 0.0, i * step + 0.03))
    return Piece("shelf", wide, deep, parts, against_wall=True)


def cabinet(rng: Rng) -> Piece:
    wide, deep, high = rng.uniform(0.6, 1.4), rng.uniform(0.38, 0.6), rng.uniform(0.7, 2.0)
    base, body = _body(rng)
    columns = max(1, round(wide / 0.5))
    rows = int(rng.integers(1, 3)) if high < 1.3 else int(rng.integers(1, 4))
    tone = base if rng.random() < 0.6 else color(rng, saturation=(0.0, 0.8), value=(0.4, 0.95))
    parts = [
        box(0, 0, 0, wide, deep, high, body),
        front(
            0,
            -deep / 2 - PROUD_M,
            0.05,
            wide - 0.03,
            high - 0.08,
            Surface(image=surfaces.fronts(rng, tone, rows, columns)),
        ),
    ]
    if high < 1.2:
        parts += [_table_item(rng, rng.uniform(-0.3, 0.3) * wide, 0.0, high) for _ in range(int(rng.integers(0, 3)))]
    return Piece("cabinet", wide, deep, parts, against_wall=True)


def drawers(rng: Rng) -> Piece:
    wide, deep, high = rng.uniform(0.5, 1.1), rng.uniform(0.4, 0.5), rng.uniform(0.6, 1.1)
    base, body = _body(rng)
    rows, columns = int(rng.integers(3, 6)), 1 if wide < 0.8 else 2
    parts = [
        box(0, 0, 0.08, wide, deep, high - 0.08, body),
        *_legs(rng, wide, deep, 0.08),
        front(
            0,
            -deep / 2 - PROUD_M,
            0.1,
            wide - 0.03,
            high - 0.13,
            Surface(image=surfaces.fronts(rng, base, rows, columns)),
        ),
    ]
    if rng.random() < 0.6:
        parts.append(_table_item(rng, rng.uniform(-0.3, 0.3) * wide, 0.0, high))
    return Piece("drawers", wide, deep, parts, against_wall=True)


def sofa(rng: Rng) -> Piece:
    wide, deep, back = rng.uniform(1.4, 2.2), rng.uniform(0.8, 0.95), rng.uniform(0.7, 0.9)
    cover, cushion = Surface(image=surfaces.fabric(rng)), Surface(image=surfaces.fabric(rng))
    seats = 2 if wide < 1.8 else 3
    inner = wide - 0.36
    parts = [
        box(0, 0, 0.06, wide - 0.02, deep - 0.02, 0.28, cover),  # no two faces in one plane: they would flicker
        box(0, deep / 2 - 0.11, 0.3, wide - 0.04, 0.22, back - 0.3, cover),
        box(-wide / 2 + 0.09, -0.03, 0.3, 0.18, deep - 0.06, 0.28, cover),
        box(wide / 2 - 0.09, -0.03, 0.3, 0.18, deep - 0.06, 0.28, cover),
    ]
    for i in range(seats):
        x = (i - (seats - 1) / 2) * inner / seats
        parts.append(box(x, -0.1, 0.34, inner / seats - 0.03, deep - 0.25, 0.12, cover))
        if rng.random() < 0.5:
            parts.append(ellipsoid(x, deep / 2 - 0.3, 0.62, (0.2, 0.08, 0.19), cushion))
    return Piece("sofa", wide, deep, parts, against_wall=bool(rng.random() < 0.75))


def armchair(rng: Rng) -> Piece:
    wide, deep, back = rng.uniform(0.75, 0.95), rng.uniform(0.75, 0.9), rng.uniform(0.75, 1.0)
    cover = Surface(image=surfaces.fabric(rng))
    parts = [
        box(0, 0, 0.08, wide - 0.02, deep - 0.02, 0.3, cover),
        box(0, deep / 2 - 0.1, 0.3, wide - 0.04, 0.2, back - 0.3, cover),
        box(-wide / 2 + 0.08, -0.03, 0.3, 0.16, deep - 0.06, 0.3, cover),
        box(wide / 2 - 0.08, -0.03, 0.3, 0.16, deep - 0.06, 0.3, cover),
        *_legs(rng, wide, deep, 0.1),
    ]
    return Piece("armchair", wide, deep, parts)


def bed(rng: Rng) -> Piece:
    wide, deep = rng.uniform(0.9, 1.6), 2.0
    _, body = _body(rng)
    blanket, white = Surface(image=surfaces.fabric(rng)), Surface.plain((232, 230, 224))
    parts = [
        box(0, 0, 0.05, wide, deep, 0.25, body),
        box(0, 0.03, 0.3, wide - 0.04, deep - 0.1, 0.15, white),
        box(0, -0.22, 0.32, wide, deep - 0.5, 0.16, blanket),
        box(0, deep / 2 - 0.03, 0, wide, 0.05, rng.uniform(0.8, 1.1), body),
    ]
    for x in (-0.25, 0.25) if wide > 1.3 else (0.0,):
        parts.append(ellipsoid(x * wide, deep / 2 - 0.3, 0.52, (0.28, 0.18, 0.09), white))
    return Piece("bed", wide, deep, parts, against_wall=True)


def boxes(rng: Rng) -> Piece:
    parts: list[Part] = []
    high, side = 0.0, float(rng.uniform(0.4, 0.6))
    first = side
    for _ in range(int(rng.integers(1, 4))):
        tall = float(rng.uniform(0.22, 0.45))
        surface = Surface(image=surfaces.cardboard(rng)) if rng.random() < 0.7 else Surface(image=surfaces.painted(rng))
        turn = rng.uniform(-0.3, 0.3) if parts else 0.0
        parts.append(box(0, 0, high, side, side * rng.uniform(0.7, 1.0), tall, surface, yaw=turn))
        high, side = high + tall, side * float(rng.uniform(0.65, 0.85))
    return Piece("boxes", first, first, parts)


def plant(rng: Rng) -> Piece:
    radius, pot = rng.uniform(0.14, 0.22), rng.uniform(0.22, 0.45)
    clay, leaf = Surface.plain(color(rng, value=(0.3, 0.95))), Surface(image=surfaces.leaves(rng))
    parts = [cylinder(0, 0, 0, radius, pot, clay)]
    tall = rng.uniform(0.3, 1.1)
    if rng.random() < 0.5:
        parts.append(cylinder(0, 0, pot, 0.025, tall, Surface.plain((105, 78, 50))))
        size = rng.uniform(0.2, 0.32)
        for _ in range(4):
            x, y, z = rng.uniform(-0.12, 0.12, 3)
            parts.append(ellipsoid(x, y, pot + tall + z, (size, size * 0.8, size * 0.8), leaf, yaw=rng.uniform(0, 3)))
    else:
        count = int(rng.integers(6, 10))
        for i in range(count):
            yaw, lean = 2 * math.pi * i / count, rng.uniform(0.2, 0.7)
            reach = 0.5 * tall * math.sin(lean)
            position = (reach * math.sin(yaw), -reach * math.cos(yaw), pot + 0.5 * tall * math.cos(lean))
            parts.append(ellipsoid(*position, (0.07, 0.02, 0.5 * tall), leaf, yaw=yaw, tilt=lean))
    return Piece("plant", 2 * radius + 0.16, 2 * radius + 0.16, parts, against_wall=bool(rng.random() < 0.6))


def lamp(rng: Rng) -> Piece:
    dark = Surface.plain(color(rng, saturation=(0, 0.4), value=(0.1, 0.8)))
    glow = Surface.plain(color(rng, hue=(0.05, 0.15), saturation=(0.1, 0.6), value=(0.8, 1.0)), emission=0.5)
    high = rng.uniform(1.2, 1.6)
    parts = [
        cylinder(0, 0, 0, 0.16, 0.03, dark),
        cylinder(0, 0, 0.03, 0.02, high, dark),
        cylinder(0, 0, high, rng.uniform(0.14, 0.22), rng.uniform(0.2, 0.32), glow),
    ]
    return Piece("lamp", 0.36, 0.36, parts, against_wall=bool(rng.random() < 0.6))


def bin_(rng: Rng) -> Piece:
    radius, high = rng.uniform(0.14, 0.24), rng.uniform(0.3, 0.65)
    body, rim = Surface(image=surfaces.painted(rng)), Surface.plain(color(rng, value=(0.15, 0.9)))
    parts = [cylinder(0, 0, 0, radius, high, body), cylinder(0, 0, high, radius * 1.06, 0.05, rim)]
    return Piece("bin", 2 * radius, 2 * radius, parts)


def stool(rng: Rng) -> Piece:
    radius, high = rng.uniform(0.18, 0.28), rng.uniform(0.35, 0.55)
    parts = [
        cylinder(0, 0, high - 0.08, radius, 0.08, Surface(image=surfaces.fabric(rng))),
        *_legs(rng, radius * 1.5, radius * 1.5, high - 0.08),
    ]
    return Piece("stool", 2 * radius, 2 * radius, parts)


def pillar(rng: Rng) -> Piece:
    side = rng.uniform(0.3, 0.5)
    _, body = _body(rng)
    parts = [cylinder(0, 0, 0, side / 2, 3.4, body) if rng.random() < 0.5 else box(0, 0, 0, side, side, 3.4, body)]
    return Piece("pillar", side, side, parts)


def board(rng: Rng) -> Piece:
    wide, dark = rng.uniform(0.9, 1.4), Surface.plain((70, 72, 78))
    face = Surface(image=pictures.picture(rng))
    parts = [
        box(0, 0, 0.7, wide, 0.04, 0.95, dark),
        front(0, -0.02 - PROUD_M, 0.73, wide - 0.06, 0.89, face),
        front(0, 0.02 + PROUD_M, 0.73, wide - 0.06, 0.89, face, yaw=math.pi),
        box(-wide / 2 + 0.05, 0, 0, 0.05, 0.05, 0.75, dark),
        box(wide / 2 - 0.05, 0, 0, 0.05, 0.05, 0.75, dark),
        box(-wide / 2 + 0.05, 0, 0, 0.05, 0.5, 0.05, dark),
        box(wide / 2 - 0.05, 0, 0, 0.05, 0.5, 0.05, dark),
    ]
    return Piece("board", wide, 0.5, parts)


def television(rng: Rng) -> Piece:
    wide, high = rng.uniform(1.0, 1.6), rng.uniform(0.4, 0.55)
    base, body = _body(rng)
    screen_wide = wide * 0.75
    parts = [
        box(0, 0, 0, wide, 0.4, high, body),
        front(0, -0.2 - PROUD_M, 0.04, wide - 0.04, high - 0.08, Surface(image=surfaces.fronts(rng, base, 1, 3))),
        box(0, 0, high + 0.06, screen_wide, 0.05, screen_wide * 0.56, Surface.plain((25, 25, 28))),
        box(0, 0, high, 0.3, 0.2, 0.06, Surface.plain((25, 25, 28))),
        front(
            0,
            -0.025 - PROUD_M,
            high + 0.06,
            screen_wide,
            screen_wide * 0.56,
            Surface(image=pictures.screen(rng), emission=0.4),
        ),
    ]
    return Piece("television", wide, 0.4, parts, against_wall=True)


CATALOGUE: dict[Callable[[Rng], Piece], float] = {
    table: 1.6, round_table: 0.8, desk: 1.4, chair: 2.4, office_chair: 1.0, shelf: 2.2, cabinet: 1.8, drawers: 1.4,
    sofa: 1.2, armchair: 1.0, bed: 0.5, boxes: 1.6, plant: 1.6, lamp: 0.9, bin_: 1.2, stool: 0.8, pillar: 0.4,
    board: 0.5, television: 0.7,
}  # fmt: skip  # kind -> how often, relative


def draw(rng: Rng) -> Piece:
    """One random piece of the catalogue."""
    kinds, weights = list(CATALOGUE), list(CATALOGUE.values())
    total = sum(weights)
    return kinds[int(rng.choice(len(kinds), p=[w / total for w in weights]))](rng)

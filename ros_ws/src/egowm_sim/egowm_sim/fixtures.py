"""Things on walls: doors, windows, pictures, clocks, radiators, screens.

Their frame is a piece's with its back (y = 0) in the wall, see parts.py. Knows no room.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from egowm_sim import pictures
from egowm_sim.colors import Rng, color, shade
from egowm_sim.furniture import PROUD_M
from egowm_sim.parts import Part, Piece, Surface, box, front


def _frame(rng: Rng) -> Surface:
    return Surface.plain(color(rng, saturation=(0.0, 0.7), value=(0.15, 0.95)))


def _framed(name: str, wide: float, high: float, bottom: float, face: Surface, frame: Surface, depth: float) -> Piece:
    """A flat thing: a frame box standing ``depth`` off the wall with a picture in front."""
    edge = 0.05
    parts = [
        box(0, -depth / 2, bottom, wide, depth, high, frame),
        front(0, -depth - PROUD_M, bottom + edge, wide - 2 * edge, high - 2 * edge, face),
    ]
    return Piece(name, wide, depth, parts)


def door(rng: Rng, room_height: float) -> Piece:
    wide, high = rng.uniform(0.85, 1.05), rng.uniform(2.0, 2.15)
    return _framed("door", wide, high, 0.0, Surface(image=pictures.door(rng)), _frame(rng), 0.04)


def window(rng: Rng, room_height: float) -> Piece:
    wide, sill = rng.uniform(0.9, 2.0), rng.uniform(0.75, 1.0)
    high = min(rng.uniform(0.9, 1.3), room_height - sill - 0.2)
    return _framed("window", wide, high, sill, Surface(image=pictures.window(rng), emission=0.45), _frame(rng), 0.03)


def clock(rng: Rng, room_height: float) -> Piece:
    radius = rng.uniform(0.14, 0.22)
    pale, flat = Surface.plain((240, 238, 225)), math.pi / 2
    parts = [
        Part("cylinder", (0, -0.02, 1.7), (radius, 0.02, 0), _frame(rng), tilt=flat),
        Part("cylinder", (0, -0.035, 1.7), (radius * 0.82, 0.012, 0), pale, tilt=flat),
        box(0.03, -0.05, 1.7, 0.025, 0.008, radius * 0.7, Surface.plain((20, 20, 20))),
    ]
    return Piece("clock", 2 * radius, 0.06, parts)


def radiator(rng: Rng, room_height: float) -> Piece:
    wide, white = rng.uniform(0.7, 1.4), color(rng, saturation=(0.0, 0.2), value=(0.7, 0.98))
    bar, count = Surface.plain(white), round(wide / 0.1)
    parts = [box(0, -0.03, 0.12, wide, 0.04, 0.5, Surface.plain(shade(white, 0.6)))]
    parts += [box((i - (count - 1) / 2) * 0.1, -0.05, 0.1, 0.06, 0.06, 0.55, bar) for i in range(count)]
    return Piece("radiator", wide, 0.1, parts)


def screen(rng: Rng, room_height: float) -> Piece:
    wide, bottom = rng.uniform(0.8, 1.4), rng.uniform(0.9, 1.3)
    face, frame = Surface(image=pictures.screen(rng), emission=0.4), Surface.plain((25, 25, 28))
    return _framed("screen", wide, wide * 0.58, bottom, face, frame, 0.05)


def picture(rng: Rng, room_height: float) -> Piece:
    wide, high = rng.uniform(0.4, 1.2), rng.uniform(0.4, 1.0)
    face = Surface(image=pictures.picture(rng, height=128, width=max(64, round(128 * wide / high))))
    return _framed("picture", wide, high, rng.uniform(1.1, 1.6) - high / 2, face, _frame(rng), 0.025)


KINDS: dict[Callable[[Rng, float], Piece], float] = {
    picture: 0.52, window: 0.2, clock: 0.06, radiator: 0.08, screen: 0.06, door: 0.08,
}  # fmt: skip  # kind -> how often


def draw(rng: Rng, room_height: float) -> Piece:
    """One random thing to hang on or set in a wall of ``room_height`` m."""
    return list(KINDS)[int(rng.choice(len(KINDS), p=list(KINDS.values())))](rng, room_height)

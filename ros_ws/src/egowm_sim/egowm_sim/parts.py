"""The vocabulary of things in a room: surfaces, primitive parts and pieces made of them.

A piece has its own frame: origin on the floor in the middle of its footprint, x to its right, y to its
back, z up; its front looks along -y. Knows no MuJoCo and no placement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
UPRIGHT = math.pi / 2  # tilt that makes a plane face -y instead of up


@dataclass(frozen=True, eq=False)
class Surface:
    """How a part looks: a plain ``rgb`` (0..255) or an ``image`` (H,W,3) uint8, repeated ``repeat`` times."""

    rgb: tuple[float, float, float] = (128.0, 128.0, 128.0)
    image: NDArray[np.uint8] | None = None
    repeat: tuple[float, float] = (1.0, 1.0)
    emission: float = 0.0

    @staticmethod
    def plain(rgb: NDArray[np.float64] | tuple[float, float, float], *, emission: float = 0.0) -> Surface:
        r, g, b = (float(v) for v in rgb)
        return Surface(rgb=(r, g, b), emission=emission)


@dataclass(frozen=True)
class Part:
    """One primitive: ``shape`` is box, cylinder, ellipsoid or plane; ``size`` its half sizes in m.

    Turned by ``tilt`` about x, then by ``yaw`` about z (rad). Planes are pictures: seen from their +z side
    only and touched by nothing. ``solid`` parts stop the robot.
    """

    shape: str
    position: Vector
    size: Vector
    surface: Surface
    yaw: float = 0.0
    tilt: float = 0.0
    solid: bool = True


@dataclass(frozen=True)
class Piece:
    """A thing with a ``name`` and a footprint of ``width`` x ``depth`` m; ``against_wall`` says where it stands."""

    name: str
    width: float
    depth: float
    parts: list[Part] = field(default_factory=list)
    against_wall: bool = False


def box(
    x: float, y: float, z: float, wide: float, deep: float, high: float, surface: Surface, *, yaw: float = 0.0
) -> Part:
    """A box of full sizes ``wide`` x ``deep`` x ``high`` standing with its bottom at ``z``."""
    return Part("box", (x, y, z + high / 2), (wide / 2, deep / 2, high / 2), surface, yaw=yaw)


def cylinder(x: float, y: float, z: float, radius: float, high: float, surface: Surface) -> Part:
    """An upright cylinder standing with its bottom at ``z``."""
    return Part("cylinder", (x, y, z + high / 2), (radius, high / 2, 0.0), surface)


def ellipsoid(
    x: float, y: float, z: float, size: Vector, surface: Surface, *, yaw: float = 0.0, tilt: float = 0.0
) -> Part:
    """An ellipsoid of half sizes ``size`` about its centre."""
    return Part("ellipsoid", (x, y, z), size, surface, yaw=yaw, tilt=tilt)


def front(x: float, y: float, z: float, wide: float, high: float, surface: Surface, *, yaw: float = 0.0) -> Part:
    """An upright picture of full sizes ``wide`` x ``high``, bottom at ``z``, looking along -y."""
    return Part("plane", (x, y, z + high / 2), (wide / 2, high / 2, 0.1), surface, yaw=yaw, tilt=UPRIGHT, solid=False)

"""A room with a work table: things to move on it, and a place to stand in front of it. All of a seed.

Knows rooms and parts; knows no MuJoCo and no robot but how much room it wants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from egowm_sim import surfaces
from egowm_sim.backend import SimulationError
from egowm_sim.colors import Rng, color, wood_color
from egowm_sim.parts import Part, Piece, Surface, box
from egowm_sim.rooms import Placed, Room, generate_room

REACH_M = 0.30  # from the stand to the table's edge
ROOMS_TRIED, SPOTS_TRIED = 12, 120


@dataclass(frozen=True)
class Thing:
    """Something to move: one part about its own middle, at (x, y, z, yaw) in the world (m, rad)."""

    name: str
    part: Part
    x: float
    y: float
    z: float
    yaw: float
    structure_id: int


@dataclass(frozen=True)
class Workplace:
    """``room`` with its table (structure ``table_id``, top at ``top_m``), ``things`` and the ``stand`` (x, y, yaw)."""

    room: Room
    table_id: int
    top_m: float
    stand: tuple[float, float, float]
    things: list[Thing]


def generate_workplace(seed: int) -> Workplace:
    """The workplace of ``seed``; in the first of the rooms seed, seed + 1e6, ... that has a place for the table.

    Raises:
        SimulationError: none of them has (not seen in practice).
    """
    for attempt in range(ROOMS_TRIED):
        room = generate_room(seed + 1_000_000 * attempt)
        rng = np.random.default_rng([seed, attempt, 0x7AB1E])
        found = _furnish(room, rng)
        if found is not None:
            return found
    raise SimulationError(f"no room for a work table with seed {seed} in {ROOMS_TRIED} rooms; use another seed")


def _furnish(room: Room, rng: Rng) -> Workplace | None:
    wide, deep = float(rng.uniform(1.0, 1.5)), float(rng.uniform(0.6, 0.75))
    top_m = float(rng.uniform(0.72, 0.84))
    region, _ = room.floor_map.drivable()
    for _ in range(SPOTS_TRIED):
        stand_x, stand_y = room.floor_map.random_free(rng)
        yaw = float(rng.uniform(-math.pi, math.pi))  # of the robot, facing the table
        ahead = REACH_M + deep / 2
        x, y = stand_x + ahead * math.cos(yaw), stand_y + ahead * math.sin(yaw)
        taken = room.floor_map.rectangle(x, y, wide, deep, yaw - math.pi / 2)
        if (taken & room.floor_map.blocked).any() or not taken.any():
            continue
        left, share = room.floor_map.drivable(room.floor_map.blocked | taken)
        behind = room.floor_map.index(stand_x - 0.25 * math.cos(yaw), stand_y - 0.25 * math.sin(yaw))
        if share < 0.8 or left.sum() < 0.35 * region.sum() or not left[behind]:
            continue
        room.floor_map.blocked |= taken
        table_id = _add_table(room, rng, x, y, yaw - math.pi / 2, wide, deep, top_m)
        things = _things(room, rng, x, y, yaw, wide, deep, top_m)
        return Workplace(room, table_id, top_m, (stand_x, stand_y, yaw), things)
    return None


def _add_table(room: Room, rng: Rng, x: float, y: float, yaw: float, wide: float, deep: float, top_m: float) -> int:
    surface = (
        Surface(image=surfaces.wood(rng, base=wood_color(rng)))
        if rng.random() < 0.6
        else Surface(image=surfaces.painted(rng, base=color(rng, saturation=(0.0, 0.5), value=(0.35, 0.95))))
    )
    legs = Surface.plain(color(rng, saturation=(0.0, 0.4), value=(0.1, 0.7)))
    parts = [box(0, 0, top_m - 0.04, wide, deep, 0.04, surface)]
    parts += [
        box(sx * (wide / 2 - 0.04), sy * (deep / 2 - 0.04), 0, 0.05, 0.05, top_m - 0.04, legs)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    number = len(room.structures) + 1
    room.structures[number] = {"name": f"work_table_{number}", "static": True}
    room.placed.append(Placed(Piece("work_table", wide, deep, parts), x, y, yaw, number))
    return number


def _things(
    room: Room, rng: Rng, x: float, y: float, yaw: float, wide: float, deep: float, top_m: float
) -> list[Thing]:
    """Three to six boxes, cans and balls, none on top of another."""
    out: list[Thing] = []
    spots: list[tuple[float, float]] = []
    for _ in range(40):
        if len(out) >= 3 + int(rng.integers(0, 4)):
            break
        ahead = float(rng.uniform(-deep / 2 + 0.12, deep / 2 - 0.15))
        aside = float(rng.uniform(-1, 1)) * min(0.45, wide / 2 - 0.1)
        if any(math.hypot(ahead - a, aside - b) < 0.17 for a, b in spots):
            continue
        spots.append((ahead, aside))
        part, half = _part(rng)
        number = len(room.structures) + 1
        name = f"{part.shape}_{number}"
        room.structures[number] = {"name": name, "static": False}
        cos, sin = math.cos(yaw), math.sin(yaw)
        at = (x + ahead * cos - aside * sin, y + ahead * sin + aside * cos)
        out.append(Thing(name, part, *at, top_m + half + 0.003, float(rng.uniform(-3, 3)), number))
    return out


def _part(rng: Rng) -> tuple[Part, float]:
    """A part about its own middle, and half its height (m)."""
    paint = Surface.plain(color(rng, saturation=(0.5, 1.0), value=(0.4, 1.0)))
    kind = rng.integers(3)
    if kind == 0:
        half = (float(rng.uniform(0.025, 0.06)), float(rng.uniform(0.025, 0.06)), float(rng.uniform(0.03, 0.09)))
        surface = paint if rng.random() < 0.5 else Surface(image=surfaces.cardboard(rng))
        return Part("box", (0, 0, 0), half, surface), half[2]
    if kind == 1:
        high = float(rng.uniform(0.05, 0.1))
        return Part("cylinder", (0, 0, 0), (float(rng.uniform(0.03, 0.045)), high, 0.0), paint), high
    radius = float(rng.uniform(0.035, 0.06))
    return Part("ellipsoid", (0, 0, 0), (radius, radius, radius), paint), radius

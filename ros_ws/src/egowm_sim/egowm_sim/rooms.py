"""A furnished room from a seed: plan, surfaces, things on walls, furniture, lights.

Equal seeds give equal rooms. Knows no MuJoCo (scene.py builds the model) and no robot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from egowm_sim import fixtures, furniture, pictures, textures
from egowm_sim.colors import Rng, color
from egowm_sim.layout import FloorMap, Plan, WallFace, draw_plan
from egowm_sim.parts import Part, Piece, Surface, box, cylinder

DRIVABLE_SHARE = 0.42  # of the empty room's drivable floor, at least, stays drivable


@dataclass(frozen=True)
class Placed:
    """A piece at (x, y, yaw) in m and rad. ``structure_id`` 0 means background."""

    piece: Piece
    x: float
    y: float
    yaw: float
    structure_id: int = 0


@dataclass(frozen=True)
class Light:
    position: tuple[float, float, float]
    diffuse: tuple[float, float, float]


@dataclass(frozen=True)
class Room:
    """Everything seen or touched. ``structures`` maps an id (from 1) to {"name", "static"}."""

    seed: int
    plan: Plan
    floor_map: FloorMap
    floor: Surface
    ceiling: Surface
    walls: list[Surface]
    trim: Surface
    placed: list[Placed] = field(default_factory=list)
    lights: list[Light] = field(default_factory=list)
    ambient: float = 0.4
    saturation: float = 1.0  # of all colours: 1 as drawn, 0 grey
    structures: dict[int, dict[str, object]] = field(default_factory=dict)


def _hang(rng: Rng, face: WallFace, height: float, *, with_door: bool) -> list[tuple[Piece, float]]:
    """Things side by side along one wall, with their offsets from its midpoint (m)."""
    out: list[tuple[Piece, float]] = []
    cursor = -face.length / 2 + rng.uniform(0.15, 0.7)
    while cursor < face.length / 2 - 0.5:
        piece = fixtures.door(rng, height) if with_door and not out else fixtures.draw(rng, height)
        if cursor + piece.width > face.length / 2 - 0.1:
            break
        out.append((piece, cursor + piece.width / 2))
        cursor += piece.width + rng.uniform(0.25, 1.3)
    return out


def _lights(rng: Rng, plan: Plan) -> tuple[list[Light], list[Placed], float]:
    """Ceiling lamps (light and glowing panel) and the ambient level."""
    warm = rng.uniform(-0.09, 0.09)
    count = int(rng.integers(2, 4))
    level = rng.uniform(0.5, 0.75) / count**0.5
    panel_color = (255.0, 252.0 - 60 * max(warm, 0), 245.0 - 150 * max(warm, 0))
    lights, panels = [], []
    for i in range(count):
        x = plan.width * (0.5 + rng.uniform(-0.3, 0.3))
        y = plan.depth * ((i + 0.5) / count + rng.uniform(-0.08, 0.08))
        lights.append(Light((x, y, plan.height - 0.25), (level * (1 + warm), level, level * (1 - warm))))
        glow = Surface.plain(panel_color, emission=1.0)
        wide, deep = rng.uniform(0.3, 1.2), rng.uniform(0.3, 0.6)
        shape = (
            cylinder(0, 0, plan.height - 0.06, wide / 3, 0.06, glow)
            if rng.random() < 0.4
            else box(0, 0, plan.height - 0.05, wide, deep, 0.05, glow)
        )
        panels.append(Placed(Piece("ceiling_lamp", wide, deep, [shape]), x, y, 0.0))
    return lights, panels, float(rng.uniform(0.36, 0.5))


def _against_wall(rng: Rng, piece: Piece, faces: list[WallFace]) -> tuple[float, float, float] | None:
    face = faces[int(rng.choice(len(faces), p=np.array([f.length for f in faces]) / sum(f.length for f in faces)))]
    room = face.length - piece.width - 0.1
    if room <= 0:
        return None
    x, y = face.point(float(rng.uniform(-room / 2, room / 2)), piece.depth / 2 + float(rng.uniform(0.05, 0.09)))
    return x, y, face.yaw + (float(rng.normal(0, 0.02)) if rng.random() < 0.5 else 0.0)


def _free_standing(rng: Rng, plan: Plan) -> tuple[float, float, float]:
    yaw = float(rng.choice(4)) * math.pi / 2 if rng.random() < 0.5 else float(rng.uniform(-math.pi, math.pi))
    return float(rng.uniform(0.3, plan.width - 0.3)), float(rng.uniform(0.3, plan.depth - 0.3)), yaw


class _Furnisher:
    """Puts pieces into the room, numbering structures as it goes."""

    def __init__(self, rng: Rng, room: Room) -> None:
        self.rng, self.room = rng, room
        self.keep_out = np.zeros_like(room.floor_map.blocked)
        region, _ = room.floor_map.drivable()
        self.min_cells = int(DRIVABLE_SHARE * region.sum())

    def add(self, piece: Piece, x: float, y: float, yaw: float) -> None:
        number = len(self.room.structures) + 1
        self.room.structures[number] = {"name": f"{piece.name}_{number}", "static": True}
        self.room.placed.append(Placed(piece, x, y, yaw, number))

    def hang_on_walls(self) -> None:
        faces = self.room.plan.faces
        doors = set(self.rng.choice(len(faces), size=min(2, len(faces)), replace=False).tolist())
        for i, face in enumerate(faces):
            for piece, along in _hang(self.rng, face, self.room.plan.height, with_door=i in doors):
                self.add(piece, *face.point(along, 0.0), face.yaw)
                if piece.name == "door":
                    x, y = face.point(along, 0.5)
                    self.keep_out |= self.room.floor_map.rectangle(x, y, piece.width, 1.0, face.yaw)
                elif piece.name == "radiator":
                    x, y = face.point(along, 0.05)
                    self.room.floor_map.take(x, y, piece.width, 0.12, face.yaw)

    def place(self, piece: Piece) -> bool:
        for _ in range(12):
            spot = (
                _against_wall(self.rng, piece, self.room.plan.faces)
                if piece.against_wall
                else _free_standing(self.rng, self.room.plan)
            )
            if spot is None:
                continue
            if self.room.floor_map.try_take(
                spot[0], spot[1], piece.width, piece.depth, spot[2], keep_out=self.keep_out, min_cells=self.min_cells
            ):
                self.add(piece, *spot)
                return True
        return False


def _rugs(rng: Rng, plan: Plan) -> list[Placed]:
    out = []
    for i in range(int(rng.choice([0, 1, 1, 2]))):
        wide, deep = float(rng.uniform(1.4, 2.6)), float(rng.uniform(1.0, 1.8))
        part = Part(
            "plane", (0, 0, 0.006 + 0.003 * i), (wide / 2, deep / 2, 0.1), Surface(image=pictures.rug(rng)), solid=False
        )
        x, y = plan.width * rng.uniform(0.25, 0.75), plan.depth * rng.uniform(0.25, 0.75)
        out.append(
            Placed(
                Piece("rug", wide, deep, [part]),
                float(x),
                float(y),
                float(rng.choice([0, math.pi / 2, rng.uniform(0, 3)])),
            )
        )
    return out


def generate_room(seed: int) -> Room:
    """The room of ``seed``: 8 to 20 pieces of furniture, doors, windows and pictures, all static.

    Raises:
        SimulationError: no drivable floor is left (not seen in practice).
    """
    rng = np.random.default_rng([seed, 0x5EED])
    plan = draw_plan(rng)
    floor_repeat = (plan.width / textures.FLOOR_TILE_M, plan.depth / textures.FLOOR_TILE_M)
    main, accent = textures.wall(rng), textures.wall(rng)
    walls = []
    for face in plan.faces:
        image = accent if rng.random() < 0.3 else main
        walls.append(Surface(image=image, repeat=(face.length / textures.WALL_TILE_M, 1.0)))
    lights, panels, ambient = _lights(rng, plan)
    room = Room(
        seed=seed,
        plan=plan,
        floor_map=FloorMap(plan),
        floor=Surface(image=textures.floor(rng), repeat=floor_repeat),
        ceiling=Surface(image=textures.ceiling(rng), repeat=floor_repeat),
        walls=walls,
        trim=Surface.plain(color(rng, saturation=(0.0, 0.4), value=(0.5, 0.95))),
        lights=lights,
        ambient=ambient,
        saturation=float(rng.uniform(0.35, 1.0)),
    )
    room.placed.extend([*panels, *_rugs(rng, plan)])
    furnisher = _Furnisher(rng, room)
    for x, y in plan.doorways:
        furnisher.keep_out |= room.floor_map.rectangle(x, y, 1.9, 1.9, 0.0)
    furnisher.hang_on_walls()
    wanted = int(np.clip(round(plan.width * plan.depth * rng.uniform(0.22, 0.42)), 8, 20))
    count = tries = 0
    while count < wanted and tries < 60:
        count += furnisher.place(furniture.draw(rng))
        tries += 1
    while count < 8 and tries < 120:  # a small room: only small things still fit
        count += furnisher.place([furniture.bin_, furniture.plant, furniture.stool][tries % 3](rng))
        tries += 1
    return room

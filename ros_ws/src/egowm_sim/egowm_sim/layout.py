"""Floor plans and the map of what is free: walls, occupancy, placing without overlap.

Plans are in metres with one corner of the bounding box at the origin. Knows no look, no MuJoCo; knows the
robot only as a radius that has to pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_sim.backend import SimulationError

RESOLUTION_M = 0.05
PAD_M = 0.3  # map border around the plan
PASSAGE_M = 0.33  # clearance that a drivable place has: robot radius and a margin
WALL_THICKNESS_M = 0.12

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class WallFace:
    """One visible side of a wall: midpoint on the floor (m), ``normal_yaw`` into the room, ``length`` (m)."""

    x: float
    y: float
    normal_yaw: float
    length: float

    @property
    def yaw(self) -> float:
        """Yaw of a piece standing with its back at this face."""
        return self.normal_yaw + math.pi / 2

    def point(self, along: float, out: float) -> tuple[float, float]:
        """World point ``along`` m to the right of the midpoint (as seen from the room) and ``out`` m off the face."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + along * c + out * s, self.y + along * s - out * c


@dataclass(frozen=True)
class Block:
    """A solid wall piece: centre, full sizes (m), axis-aligned, from ``bottom`` to ``top``; ``shown`` if visible."""

    x: float
    y: float
    wide: float
    deep: float
    bottom: float
    top: float
    shown: bool = False


@dataclass(frozen=True)
class Plan:
    """A room's walls: bounding ``width`` x ``depth``, ``height`` (m), free-floor ``polygon`` (N,2)."""

    width: float
    depth: float
    height: float
    polygon: NDArray[np.float64]
    faces: list[WallFace] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    doorways: list[tuple[float, float]] = field(default_factory=list)


def _face(start: NDArray[np.float64], end: NDArray[np.float64]) -> WallFace:
    """The face of a polygon edge whose room lies to the left of start -> end."""
    along = end - start
    middle = (start + end) / 2
    normal = math.atan2(along[0], -along[1])
    return WallFace(float(middle[0]), float(middle[1]), normal, float(np.hypot(*along)))


def _outer_block(start: NDArray[np.float64], end: NDArray[np.float64], height: float) -> Block:
    along = (end - start) / np.hypot(*(end - start))
    out = np.array([along[1], -along[0]])
    centre = (start + end) / 2 + out * WALL_THICKNESS_M / 2
    size = np.abs(end - start) + np.abs(out) * WALL_THICKNESS_M + 1e-6
    return Block(float(centre[0]), float(centre[1]), float(size[0]), float(size[1]), 0.0, height)


def _polygon_plan(corners: NDArray[np.float64], height: float) -> Plan:
    ends = np.roll(corners, -1, axis=0)
    faces = [_face(a, b) for a, b in zip(corners, ends, strict=True)]
    blocks = [_outer_block(a, b, height) for a, b in zip(corners, ends, strict=True)]
    width, depth = corners.max(axis=0)
    return Plan(float(width), float(depth), height, corners, faces, blocks)


def _add_partition(rng: np.random.Generator, plan: Plan) -> None:
    """A wall across the longer side with one doorway."""
    across_x = plan.depth >= plan.width  # the wall runs along x
    span, other = (plan.width, plan.depth) if across_x else (plan.depth, plan.width)
    at, gap = other * rng.uniform(0.38, 0.62), rng.uniform(1.15, 1.6)
    middle = rng.uniform(0.2 * span + gap / 2, 0.8 * span - gap / 2)
    half = WALL_THICKNESS_M / 2
    door_top = min(2.1, plan.height - 0.15)

    def world(s: float, t: float) -> tuple[float, float]:
        return (s, t) if across_x else (t, s)

    pieces = [
        (0.0, middle - gap / 2, 0.0),
        (middle + gap / 2, span, 0.0),
        (middle - gap / 2, middle + gap / 2, door_top),
    ]
    for low, high, bottom in pieces:
        x, y = world((low + high) / 2, at)
        wide, deep = world(high - low, WALL_THICKNESS_M)
        plan.blocks.append(Block(x, y, wide, deep, bottom, plan.height, shown=True))
        if bottom > 0 or high - low < 0.3:
            continue
        for side in (-1, 1):
            fx, fy = world((low + high) / 2, at + side * (half + 0.004))
            normal = side * math.pi / 2 if across_x else (0.0 if side > 0 else math.pi)
            plan.faces.append(WallFace(fx, fy, normal, high - low))
    plan.doorways.append(world(middle, at))


def draw_plan(rng: np.random.Generator) -> Plan:
    """A random rectangular, L-shaped or partitioned room of about 4x5 to 8x9 m."""
    height = float(rng.uniform(2.4, 3.2))
    kind = rng.choice(3, p=[0.5, 0.25, 0.25])
    width, depth = float(rng.uniform(4.0, 8.0)), float(rng.uniform(5.0, 9.0))
    if kind == 1:
        width, depth = max(width, 5.5), max(depth, 6.0)
        cut = np.array([width, depth]) * (1 - rng.uniform(0.3, 0.45, 2))
        corners = np.array([[0, 0], [width, 0], [width, cut[1]], [cut[0], cut[1]], [cut[0], depth], [0, depth]])
        if rng.random() < 0.5:  # mirrored: the notch is on the left; keep the room to the left of each edge
            corners = np.stack([width - corners[:, 0], corners[:, 1]], axis=1)[::-1]
        return _polygon_plan(corners, height)
    if kind == 2:
        depth = max(depth, 6.5)
    plan = _polygon_plan(np.array([[0, 0], [width, 0], [width, depth], [0, depth]]), height)
    if kind == 2:
        _add_partition(rng, plan)
    return plan


class FloorMap:
    """Which floor cells are taken. ``blocked`` (H,W) bool, row 0 at the lowest y."""

    def __init__(self, plan: Plan) -> None:
        self.origin = np.array([-PAD_M, -PAD_M])
        shape = (math.ceil((plan.depth + 2 * PAD_M) / RESOLUTION_M), math.ceil((plan.width + 2 * PAD_M) / RESOLUTION_M))
        free = np.zeros(shape, np.uint8)
        cv2.fillPoly(free, [self._cells(plan.polygon)], 1)
        self.blocked: Mask = free == 0
        for block in plan.blocks:
            if block.shown and block.bottom < 0.1:
                self.take(block.x, block.y, block.wide, block.deep, 0.0)

    def _cells(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        return np.round((points - self.origin) / RESOLUTION_M - 0.5).astype(np.int32)

    def rectangle(self, x: float, y: float, wide: float, deep: float, yaw: float) -> Mask:
        """Cells (H,W) under a turned rectangle of full sizes ``wide`` x ``deep``."""
        c, s = math.cos(yaw), math.sin(yaw)
        half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [wide / 2, deep / 2]
        mask = np.zeros(self.blocked.shape, np.uint8)
        cv2.fillPoly(mask, [self._cells(half @ np.array([[c, s], [-s, c]]) + [x, y])], 1)
        return mask.astype(bool)

    def take(self, x: float, y: float, wide: float, deep: float, yaw: float) -> None:
        self.blocked |= self.rectangle(x, y, wide, deep, yaw)

    def clearance(self, blocked: Mask | None = None) -> NDArray[np.float32]:
        """Distance in m from each cell to the nearest taken one (H,W)."""
        free = ~(self.blocked if blocked is None else blocked)
        return cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, 5) * np.float32(RESOLUTION_M)

    def drivable(self, blocked: Mask | None = None) -> tuple[Mask, float]:
        """The largest connected region where the robot fits (H,W), and the part of all fitting cells in it."""
        fits = (self.clearance(blocked) > PASSAGE_M).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(fits, connectivity=4)
        if count < 2:
            return np.zeros_like(self.blocked), 0.0
        best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        return labels == best, float(stats[best, cv2.CC_STAT_AREA]) / max(int(fits.sum()), 1)

    def index(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the cell at (x, y), kept inside the map."""
        row = int((y - self.origin[1]) / RESOLUTION_M)
        column = int((x - self.origin[0]) / RESOLUTION_M)
        return min(max(row, 0), self.blocked.shape[0] - 1), min(max(column, 0), self.blocked.shape[1] - 1)

    def center(self, row: int, column: int) -> tuple[float, float]:
        """World (x, y) in m of a cell's middle."""
        return (
            float(self.origin[0] + (column + 0.5) * RESOLUTION_M),
            float(self.origin[1] + (row + 0.5) * RESOLUTION_M),
        )

    def try_take(
        self, x: float, y: float, wide: float, deep: float, yaw: float, *, keep_out: Mask, min_cells: int
    ) -> bool:
        """Take a rectangle if it is free, off ``keep_out`` and leaves ``min_cells`` drivable in one region."""
        mask = self.rectangle(x, y, wide, deep, yaw)
        if not mask.any() or (mask & (self.blocked | keep_out)).any():
            return False
        after = self.blocked | mask
        region, share = self.drivable(after)
        if share < 0.93 or int(region.sum()) < min_cells:
            return False
        self.blocked = after
        return True

    def random_free(self, rng: np.random.Generator) -> tuple[float, float]:
        """A random drivable place.

        Raises:
            SimulationError: nothing is drivable.
        """
        rows, columns = np.nonzero(self.drivable()[0])
        if len(rows) == 0:
            raise SimulationError("the room leaves no place for the robot; use another seed or fewer pieces")
        i = int(rng.integers(len(rows)))
        return self.center(int(rows[i]), int(columns[i]))

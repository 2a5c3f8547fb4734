"""A seeded wandering driver: office driving through a room that it has a map of.

It goes from goal to goal along the roomiest way with gentle curves, looks around, stops, now and then drives
up to something and backs off. It never commands an arc that would touch anything. Knows the room's floor map
and the robot's pose; knows no MuJoCo and no ROS.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from skimage.graph import MCP_Geometric

from egowm_sim.layout import RESOLUTION_M, FloorMap
from egowm_sim.robot import BODY_RADIUS_M, MAX_V_MPS, MAX_W_RADPS

CONTROL_PERIOD_S = 0.05
MARGIN_M = 0.06  # least distance between body and things
LOOKAHEAD_M = 2.2
BRAKING = 0.6  # m/s^2 that the driver counts on (the base has more)
ACCELERATION, YAW_ACCELERATION = 0.6, 1.2
STUCK_S = 3.0
VISIT_CELL_M = 0.5

Field = NDArray[np.float64]


class WanderingDriver:
    """Gives (v, w) for the pose it is told, every CONTROL_PERIOD_S."""

    def __init__(self, floor_map: FloorMap, *, seed: int) -> None:
        self._map = floor_map
        self._rng = np.random.default_rng([seed, 0xD21])
        self._clearance = floor_map.clearance()
        self._region, _ = floor_map.drivable()
        tight = np.exp(-(self._clearance - 0.3) / 0.15)
        self._cost = np.where(self._clearance > BODY_RADIUS_M + MARGIN_M + 0.03, 1.0 + 4.0 * tight, -1.0)
        self._rows, self._columns = np.nonzero(self._region)
        scale = max(1, round(VISIT_CELL_M / RESOLUTION_M))
        self._visits = np.zeros((self._region.shape[0] // scale + 1, self._region.shape[1] // scale + 1))
        self._scale = scale
        self._field: Field | None = None
        self._mode = "look"
        self._left_s = 0.5  # time left in a timed mode
        self._turn = 0.0  # rad left to turn in place
        self._v = self._w = self._weave = 0.0
        self._cruise, self._turn_rate = 0.45, 0.5
        self._last_mark = (math.inf, math.inf, 0.0)
        self._still_s = 0.0
        self._goal_s = 0.0

    def command(self, x: float, y: float, yaw: float) -> tuple[float, float]:
        """The next (v, w) in m/s and rad/s for the robot at (x, y, yaw) (m, rad)."""
        row, column = self._map.index(x, y)
        self._visits[row // self._scale, column // self._scale] += CONTROL_PERIOD_S
        self._weave += CONTROL_PERIOD_S * -self._weave / 1.5 + math.sqrt(CONTROL_PERIOD_S) * self._rng.normal(0, 0.11)
        self._left_s -= CONTROL_PERIOD_S
        self._watch(x, y, yaw)
        v, w = getattr(self, f"_{self._mode}")(x, y, yaw)
        v, w = self._safe(x, y, yaw, v, w)
        dv, dw = ACCELERATION * CONTROL_PERIOD_S, YAW_ACCELERATION * CONTROL_PERIOD_S
        slow = 2.5 * dv if abs(v) < abs(self._v) else dv  # may brake faster than it speeds up
        self._v += min(max(v - self._v, -slow), slow)
        self._w += min(max(w - self._w, -dw), dw)
        return self._v, self._w

    # ---- modes: each answers with the wanted (v, w) ----------------------------------------------------------

    def _go(self, x: float, y: float, yaw: float) -> tuple[float, float]:
        """Follow the way to the goal."""
        self._goal_s += CONTROL_PERIOD_S
        if self._field is None or self._goal_s > 45.0:
            self._new_goal(x, y)
        if self._rng.random() < 0.03 * CONTROL_PERIOD_S:
            self._start_look()
        elif self._rng.random() < 0.03 * CONTROL_PERIOD_S:
            self._mode, self._left_s = "stop", float(self._rng.uniform(0.5, 1.8))
        target = self._ahead(x, y)
        if target is None:
            self._arrived()
            return 0.0, 0.0
        bearing = _wrap(math.atan2(target[1] - y, target[0] - x) - yaw)
        if abs(bearing) > 1.2:
            self._turn, self._mode = bearing * float(self._rng.uniform(0.8, 1.0)), "look"
            return 0.0, 0.0
        row, column = self._map.index(x, y)
        room = min(1.0, max(0.45, (float(self._clearance[row, column]) - 0.15) / 0.35))
        v = self._cruise * room * max(0.2, math.cos(bearing)) ** 1.5
        reach = min(max(math.hypot(target[0] - x, target[1] - y), 0.3), 0.9)
        curvature = 2 * math.sin(bearing) / reach + self._weave * (0.4 + v) / max(v, 0.15)
        return self._dodge(x, y, yaw, v, curvature, bearing)

    def _dodge(self, x: float, y: float, yaw: float, v: float, curvature: float, bearing: float) -> tuple[float, float]:
        """The arc nearest to the wanted one that stays clear; turn to the way or give the goal up where none does."""
        need = 0.2 + v * v / (2 * BRAKING)
        best, best_free = 0.0, -1.0
        for change in (0.0, 0.5, -0.5, 1.2, -1.2, 2.5, -2.5):
            w = min(max((curvature + change) * v, -MAX_W_RADPS), MAX_W_RADPS)
            free = self._free_way(x, y, yaw, v, w, need)
            if free >= need:
                return v, w
            if free > best_free:
                best, best_free = w, free
        if best_free > 0.12:
            return 0.5 * v, 0.5 * best
        if abs(bearing) > 0.25:
            self._turn, self._mode = bearing, "look"
        else:
            self._field = None
            self._start_back()
        return 0.0, 0.0

    def _look(self, x: float, y: float, yaw: float) -> tuple[float, float]:
        """Turn in place by what is left to turn."""
        self._turn -= self._w * CONTROL_PERIOD_S
        if abs(self._turn) < 0.08:
            self._mode, self._turn = "go", 0.0
            return 0.0, 0.0
        rate = min(self._turn_rate, math.sqrt(2 * YAW_ACCELERATION * 0.8 * abs(self._turn)))
        return 0.0, math.copysign(max(rate, 0.15), self._turn)

    def _stop(self, x: float, y: float, yaw: float) -> tuple[float, float]:
        if self._left_s <= 0:
            self._mode = "go"
        return 0.0, 0.0

    def _approach(self, x: float, y: float, yaw: float) -> tuple[float, float]:
        """Straight on until something is near, then back off."""
        v = 0.7 * self._cruise
        if self._left_s <= 0 or self._free_way(x, y, yaw, v, 0.0, 0.35 + v) < 0.25:
            self._start_back()
        return v, 0.3 * self._weave

    def _back(self, x: float, y: float, yaw: float) -> tuple[float, float]:
        if self._left_s <= 0:
            self._start_look()
        return -0.22, 0.6 * self._weave

    # ---- decisions ---------------------------------------------------------------------------------------------

    def _arrived(self) -> None:
        self._field = None
        draw = self._rng.random()
        if draw < 0.2:
            self._start_look()
        elif draw < 0.45:
            self._mode, self._left_s = "approach", 3.0
        elif draw < 0.55:
            self._mode, self._left_s = "stop", float(self._rng.uniform(0.5, 2.0))

    def _start_look(self) -> None:
        self._mode = "look"
        self._turn = float(self._rng.choice([-1, 1]) * self._rng.uniform(0.5, 2.0))
        self._turn_rate = float(self._rng.uniform(0.3, MAX_W_RADPS))

    def _start_back(self) -> None:
        self._mode, self._left_s = "back", float(self._rng.uniform(1.5, 3.0))

    def _new_goal(self, x: float, y: float) -> None:
        """A rarely visited place some way off, and the cost to reach it from everywhere."""
        best, goal = -math.inf, (int(self._rows[0]), int(self._columns[0]))
        for i in self._rng.integers(0, len(self._rows), 16):
            row, column = int(self._rows[i]), int(self._columns[i])
            gx, gy = self._map.center(row, column)
            far = min(math.hypot(gx - x, gy - y), 6.0)
            seen = self._visits[row // self._scale, column // self._scale]
            score = far - 0.6 * seen + self._rng.normal(0, 0.6)
            if score > best:
                best, goal = score, (row, column)
        self._field, _ = MCP_Geometric(self._cost).find_costs([goal])
        self._cruise = float(self._rng.uniform(0.3, MAX_V_MPS))
        self._turn_rate = float(self._rng.uniform(0.35, MAX_W_RADPS))
        self._goal_s = 0.0

    def _ahead(self, x: float, y: float) -> tuple[float, float] | None:
        """The farthest point up to LOOKAHEAD_M along the way that can be reached straight; None at the goal."""
        field = self._field
        if field is None:
            return None
        row, column = self._nearest_known(field, *self._map.index(x, y))
        travelled, way = 0.0, [(row, column)]
        while travelled < LOOKAHEAD_M:
            window = field[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            step_row, step_column = divmod(int(window.argmin()), window.shape[1])
            following = max(row - 1, 0) + step_row, max(column - 1, 0) + step_column
            if following == (row, column):
                break
            travelled += RESOLUTION_M * math.hypot(following[0] - row, following[1] - column)
            row, column = following
            way.append(following)
        if travelled < 0.25:
            return None
        nearest = min(len(way) - 1, 7)
        for i in range(len(way) - 1, nearest, -4):
            point = self._map.center(*way[i])
            if self._straight(x, y, *point):
                return point
        return self._map.center(*way[nearest])

    def _straight(self, x: float, y: float, to_x: float, to_y: float) -> bool:
        """Whether the straight line to a point keeps its distance from everything."""
        t = np.linspace(0.0, 1.0, max(2, int(math.hypot(to_x - x, to_y - y) / RESOLUTION_M)))
        rows = ((y + t * (to_y - y) - self._map.origin[1]) / RESOLUTION_M).astype(int)
        columns = ((x + t * (to_x - x) - self._map.origin[0]) / RESOLUTION_M).astype(int)
        row, column = self._map.index(x, y)
        return bool(
            (self._clearance[rows, columns] > min(BODY_RADIUS_M + 0.1, float(self._clearance[row, column]))).all()
        )

    @staticmethod
    def _nearest_known(field: Field, row: int, column: int) -> tuple[int, int]:
        """The cell itself or the nearest one from which the goal can be reached."""
        if np.isfinite(field[row, column]):
            return row, column
        reach = 8
        top, left = max(row - reach, 0), max(column - reach, 0)
        rows, columns = np.nonzero(np.isfinite(field[top : row + reach + 1, left : column + reach + 1]))
        if len(rows) == 0:
            return row, column
        i = int(np.argmin((rows + top - row) ** 2 + (columns + left - column) ** 2))
        return int(rows[i]) + top, int(columns[i]) + left

    # ---- safety ------------------------------------------------------------------------------------------------

    def _free_way(self, x: float, y: float, yaw: float, v: float, w: float, reach_m: float) -> float:
        """How far in m the arc of (v, w) stays clear, up to ``reach_m``."""
        way = np.arange(RESOLUTION_M, reach_m + RESOLUTION_M, RESOLUTION_M) * math.copysign(1.0, v)
        curvature = w / v if abs(v) > 0.05 else 0.0
        heading = yaw + curvature * way / 2
        chord = way * np.sinc(curvature * way / (2 * math.pi))
        px, py = x + chord * np.cos(heading), y + chord * np.sin(heading)
        rows = np.clip(((py - self._map.origin[1]) / RESOLUTION_M).astype(int), 0, self._clearance.shape[0] - 1)
        columns = np.clip(((px - self._map.origin[0]) / RESOLUTION_M).astype(int), 0, self._clearance.shape[1] - 1)
        clear = self._clearance[rows, columns]
        row, column = self._map.index(x, y)
        here = float(self._clearance[row, column])
        hit = clear < min(BODY_RADIUS_M + MARGIN_M, here + 0.01)  # already near something: only nearer counts
        return float(RESOLUTION_M * int(np.argmax(hit))) if hit.any() else reach_m

    def _safe(self, x: float, y: float, yaw: float, v: float, w: float) -> tuple[float, float]:
        """(v, w) slowed so that it can stop before anything in its way; blocked means back off or turn."""
        w = min(max(w, -MAX_W_RADPS), MAX_W_RADPS)
        if abs(v) < 0.02:
            return 0.0, w
        free = self._free_way(x, y, yaw, v, w, 0.9)
        limit = math.sqrt(2 * BRAKING * max(free - 0.05, 0.0))
        if limit < 0.08:
            if self._mode == "back":
                self._start_look()
            return 0.0, 0.0
        slow = min(1.0, limit / abs(v))
        return v * slow, w * max(slow, 0.5)

    def _watch(self, x: float, y: float, yaw: float) -> None:
        """Notice when nothing has moved for a while, whatever the reason."""
        mark_x, mark_y, mark_yaw = self._last_mark
        if math.hypot(x - mark_x, y - mark_y) > 0.08 or abs(_wrap(yaw - mark_yaw)) > 0.2:
            self._last_mark, self._still_s = (x, y, yaw), 0.0
            return
        self._still_s += CONTROL_PERIOD_S
        if self._still_s > STUCK_S:
            self._still_s, self._field = 0.0, None
            (self._start_back if self._rng.random() < 0.5 else self._start_look)()


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi

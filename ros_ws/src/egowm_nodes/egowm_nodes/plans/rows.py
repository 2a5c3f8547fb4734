"""Rows of actions at a planner's rate onto the model's ticks, each channel by its kind.

Deltas are split and merged so that the robot ends up where the rows lead it: rigid motions by composition (a row is
followed at constant velocity, which makes an arc), others as running sums. Velocities become their mean over a tick,
absolute values are read off at the tick's end. Knows rows and ticks; no clock, no message and no limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import Embodiment
from egowm_core.errors import EmbodimentError
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSource, FloatArray
from egowm_nodes.plans.sources import MAX_ROWS, Moment, Sampled

Array = NDArray[np.float64]
_SAME_RATE = 1e-3
_ROUNDING = 1e-12  # what composing leaves of zero
_ALIGNED = 0.02  # of a row: nearer to whole rows, they are passed on to the bit
_PLANAR = [0, 1, 5]  # dx, dy, dyaw among the six of a rigid motion


@dataclass
class RowsPlan:
    """``values`` (T,D), row i from ``start_ns`` + i / ``rate_hz`` on; of an egowm_msgs/ActionSequence."""

    embodiment: Embodiment
    values: FloatArray
    rate_hz: float
    start_ns: int
    source: ActionSource = ActionSource.PLANNED
    stops: bool = False

    def lasts_s(self, moment: Moment) -> float:
        """Its rows' time. A planner that goes on sends anew long before, so that staleness counts from the start."""
        return len(self.values) / self.rate_hz

    def sample(self, moment: Moment, *, rows: int, stop: bool) -> Sampled:
        """See PlanSource. Before the plan's start what is held leads in.

        Raises:
            EmbodimentError: it starts after the last row, or before its start there is nothing to hold.
        """
        into_s = (moment.at_ns - self.start_ns) / NANOSECONDS_PER_SECOND
        last = self.values[-1].astype(np.float64)
        after = np.where(_resting(self.embodiment), 0.0, last) if stop else last
        sampled = resample(
            self.values,
            self.embodiment,
            rate_hz=self.rate_hz,
            into_s=into_s,
            rows=rows,
            before=moment.held,
            after=after,
        )
        if sampled.led_in >= rows:
            raise EmbodimentError(f"it starts {-into_s:.2f} s after the newest frame, beyond the horizon")
        if sampled.led_in and moment.held is None:
            raise EmbodimentError(f"it starts {-into_s:.2f} s after the newest frame, and nothing is held until then")
        return sampled


def rows_on_ticks(values: FloatArray, embodiment: Embodiment, rate_hz: float) -> FloatArray:
    """All of (T,D) at ``rate_hz`` as rows of the model's rate, from the first one's start on; for a look at limits.

    Rigid motions are added up rather than composed: quick whatever the length, and near enough for that. Raises
    EmbodimentError where there are more than ``MAX_ROWS``.
    """
    if abs(rate_hz / embodiment.rate_hz - 1) < _SAME_RATE:
        return values
    rows = max(1, math.floor(len(values) / rate_hz * embodiment.rate_hz + 0.5))
    if rows > MAX_ROWS:
        raise EmbodimentError(
            f"the plan lasts {len(values) / rate_hz:.0f} s, {rows} ticks; expected at most {MAX_ROWS}: send the next"
            " seconds of it"
        )
    per_tick, plain = rate_hz / embodiment.rate_hz, values.astype(np.float64)
    edges = per_tick * np.arange(rows + 1)
    return _sums(plain, embodiment, edges, per_tick, np.zeros(values.shape[1]), plain[-1]).astype(np.float32)


def resample(
    values: FloatArray,
    embodiment: Embodiment,
    *,
    rate_hz: float,
    into_s: float,
    rows: int,
    before: FloatArray | None,
    after: Array,
) -> Sampled:
    """Actions (rows,D) per tick of ``embodiment``, the first of which starts ``into_s`` after the plan.

    ``before`` (D,) per tick fills what lies before the plan's first row (zero where it is None), ``after`` (D,) per row
    of the plan what lies after its last.
    """
    count = len(values)
    per_tick = rate_hz / embodiment.rate_hz  # rows of the plan in a tick
    if abs(per_tick - 1) < _SAME_RATE:
        per_tick = 1.0
    edges = into_s * rate_hz + per_tick * np.arange(rows + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    led_in, extended = int(np.count_nonzero(middles < 0)), int(np.count_nonzero(middles > count))
    first = round(float(edges[0]))
    lead = np.zeros(values.shape[1]) if before is None else np.asarray(before, np.float64)
    if per_tick == 1.0 and abs(float(edges[0]) - first) < _ALIGNED:
        padded = np.concatenate([np.tile(lead, (led_in, 1)), values[max(first, 0) :][: rows - led_in]])
        found = np.concatenate([padded, np.tile(after, (rows - len(padded), 1))])
    else:
        skipped = min(max(math.floor(edges[0]) - 1, 0), count - 1)  # only what these ticks touch is worked on
        needed = values[skipped : max(math.ceil(edges[-1]), skipped) + 1].astype(np.float64)
        if embodiment.integrate == "sum":
            found = _sums(needed, embodiment, edges - skipped, per_tick, lead, after)
        else:
            found = _rigid(needed, embodiment, edges - skipped, lead / per_tick, after)
        found[np.abs(found) < _ROUNDING] = 0.0
    return Sampled(found.astype(np.float32), extended, led_in)


def _sums(values: Array, embodiment: Embodiment, edges: Array, per_tick: float, lead: Array, after: Array) -> Array:
    count = len(values)
    ahead, behind = max(0.0, -edges[0]) + 1.0, max(0.0, edges[-1] - count) + 1.0
    knots = np.concatenate([[-ahead], np.arange(count + 1), [count + behind]])
    found = np.empty((len(edges) - 1, values.shape[1]))
    for column, channel in enumerate(embodiment.channels):
        if channel.kind == "absolute":  # row i's value is reached at its end
            found[:, column] = np.interp(edges[1:], np.arange(count) + 1.0, values[:, column])
            found[edges[1:] <= 0, column] = lead[column]
            continue
        spread = per_tick if channel.kind == "delta" else 1.0
        running = np.concatenate([[0.0], np.cumsum(values[:, column])])
        ends = [-ahead * lead[column] / spread], [running[-1] + behind * after[column]]
        sums = np.interp(edges, knots, np.concatenate([ends[0], running, ends[1]]))
        found[:, column] = np.diff(sums) / (1.0 if channel.kind == "delta" else per_tick)
    return found


def _rigid(values: Array, embodiment: Embodiment, edges: Array, lead: Array, after: Array) -> Array:
    """``lead`` and ``after`` are per row of the plan, here."""
    columns = _PLANAR if embodiment.integrate == "se2" else list(range(6))
    motions = np.zeros((len(values) + 2, 6))
    motions[1:-1, columns] = values
    motions[0, columns], motions[-1, columns] = lead, after
    twists = np.array([_twist_of(motion) for motion in motions])
    knots = [np.eye(4)]
    for twist in twists[1:-1]:
        knots.append(knots[-1] @ _matrix_of(twist))

    def at(edge: float) -> Array:
        index = min(max(math.floor(edge), 0), len(values))
        row = 0 if edge < 0 else index + 1
        return np.asarray(knots[index] @ _matrix_of((edge - index) * twists[row]))

    poses = [at(float(edge)) for edge in edges]
    steps = [np.linalg.inv(a) @ b for a, b in pairwise(poses)]
    found = np.array([[*step[:3, 3], *cv2.Rodrigues(step[:3, :3])[0].ravel()] for step in steps])
    return found[:, columns]


def _matrix_of(twist: Array) -> Array:
    """(4,4) of a twist (6,) held for unit time: linear, then angular velocity in the moving frame."""
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(twist[3:])[0]
    matrix[:3, 3] = _swept(twist[3:]) @ twist[:3]
    return matrix


def _twist_of(motion: Array) -> Array:
    """The twist (6,) that makes a motion (6,) in unit time: translation and rotation vector in its first frame."""
    return np.concatenate([np.linalg.solve(_swept(motion[3:]), motion[:3]), motion[3:]])


def _swept(turn: Array) -> Array:
    """(3,3) that maps a linear velocity to the displacement, while turning by the rotation vector ``turn``."""
    x, y, z = turn
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = float(np.linalg.norm(turn))
    if angle < 1e-6:
        return np.asarray(np.eye(3) + cross / 2)
    versine = (1 - math.cos(angle)) / angle**2
    return np.asarray(np.eye(3) + versine * cross + (angle - math.sin(angle)) / angle**3 * cross @ cross)


def _resting(embodiment: Embodiment) -> NDArray[np.bool_]:
    """(D,) which channels are zero while the robot rests."""
    return np.array([channel.kind != "absolute" for channel in embodiment.channels])

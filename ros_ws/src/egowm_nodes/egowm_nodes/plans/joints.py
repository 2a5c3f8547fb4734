"""A joint trajectory as actions: what its curve does between two ticks, channel by channel.

It starts from the joints as measured at the context frame. A trajectory that is under way (its first point is past, or
less than a tick ahead, as where a planner sends anew several times a second) is followed with the lag that the robot
has behind it now, which fades; otherwise the joints rest until its start, and then are on the way to its first point.
Joints that it does not name are held; a base's velocities that it does not name are those of cmd_vel, or else go on.
Between points it is linear, or cubic where both points give velocities, and after the last one at rest. Knows names and
numbers; no message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import Embodiment
from egowm_core.errors import EmbodimentError
from egowm_core.schema import nearest
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSource
from egowm_nodes.plans.sources import MAX_ROWS, Moment, Sampled, base_columns, sane

Array = NDArray[np.float64]
_FADE_S = 0.25  # after which a third of the lag is left; were targets reached at once, joints would leap at first
_STREAMED = 1.01  # ticks before its first point, in which a trajectory is taken to continue another one
_SUBSTEPS = 8  # in which a velocity is averaged over a tick


@dataclass
class JointPlan:
    """``positions`` (P,J) of ``names`` at ``times_s`` (P,) after ``start_ns``; rad, m, or for a base's velocities m/s.

    ``velocities`` (P,J) in the positions' units per second, or None.
    """

    embodiment: Embodiment
    names: tuple[str, ...]
    times_s: Array
    positions: Array
    start_ns: int
    velocities: Array | None = None
    source: ActionSource = ActionSource.PLANNED
    stops: bool = True

    def __post_init__(self) -> None:
        robot, place = self.embodiment, {name: index for index, name in enumerate(self.names)}
        standing = robot.states or robot.channels
        self._joints = [place.get(c.source or c.name) for c in robot.channels]
        where = {item.source or item.name: index for index, item in enumerate(standing)}
        self._measured = [where.get(channel.source or channel.name) for channel in robot.channels]
        self._base = base_columns(robot)

    def lasts_s(self, moment: Moment) -> float:
        """Seconds from its start to its last point."""
        return float(self.times_s[-1])

    def sample(self, moment: Moment, *, rows: int, stop: bool) -> Sampled:
        """See PlanSource. Before its start the named joints rest.

        Raises:
            EmbodimentError: it starts beyond the horizon, or the joints' state at the newest frame is unknown.
        """
        period_s = 1.0 / self.embodiment.rate_hz
        begin_s = (moment.at_ns - self.start_ns) / NANOSECONDS_PER_SECOND
        if begin_s + rows * period_s <= 0:
            raise EmbodimentError(f"it starts {-begin_s:.2f} s after the newest frame, beyond the horizon")
        if moment.state is None:
            raise EmbodimentError("the joints' state at the newest frame is unknown; check joint_states")
        edges_s = begin_s + period_s * np.arange(rows + 1)
        middles = (edges_s[1:] + edges_s[:-1]) / 2
        ended = middles > max(float(self.times_s[-1]), 0.0)
        values = np.stack([self._column(c, edges_s, moment) for c in range(self.embodiment.action_dim)], axis=1)
        if ended.any():
            running = np.flatnonzero(edges_s[1:] <= self.times_s[-1] + 1e-6)
            for column, channel in enumerate(self.embodiment.channels):
                if channel.kind == "absolute" or self._joints[column] is None:
                    continue
                if not stop and len(running):
                    values[ended, column] = values[running[-1], column]
                elif channel.kind == "velocity":  # the curve itself rests, but for what is a velocity
                    values[ended, column] = 0.0
        return Sampled(values.astype(np.float32), int(np.count_nonzero(ended)), int(np.count_nonzero(middles < 0)))

    def _column(self, column: int, edges_s: Array, moment: Moment) -> Array:
        """(rows,) one channel between the edges (rows+1,) of the ticks."""
        channel, joint, where = self.embodiment.channels[column], self._joints[column], self._measured[column]
        now = None if where is None or moment.state is None else float(moment.state[where])
        rows = len(edges_s) - 1
        if joint is None:
            return np.full(rows, self._unnamed(column, now, moment))
        if now is None and channel.kind == "delta" and edges_s[0] < self.times_s[0]:
            raise EmbodimentError(
                f"where {channel.name!r} is now is not among the embodiment's states; list it, or let the trajectory"
                " start before the newest frame"
            )
        if channel.kind == "velocity":
            fine_s = np.linspace(edges_s[:-1], edges_s[1:], _SUBSTEPS + 1, axis=1)
            curve = self._curve(joint, fine_s.ravel(), now, float(edges_s[0])).reshape(fine_s.shape)
            return np.asarray((curve[:, :-1] + curve[:, 1:]).mean(axis=1) / 2)
        curve = self._curve(joint, edges_s, now, float(edges_s[0]))
        return curve[1:] if channel.kind == "absolute" else np.asarray(np.diff(curve))

    def _unnamed(self, column: int, now: float | None, moment: Moment) -> float:
        kind = self.embodiment.channels[column].kind
        if kind == "delta":
            return 0.0
        if kind == "absolute":
            return 0.0 if now is None else now
        if column in self._base and moment.twist is not None:
            return float(moment.twist[self._base[column]])
        return 0.0 if moment.held is None else float(moment.held[column])

    def _curve(self, joint: int, at_s: Array, now: float | None, now_s: float) -> Array:
        """(N,) positions of a joint at ``at_s``, first of all at ``now_s``, when it is at ``now`` (None: unknown)."""
        curve = self._wanted(joint, at_s, now, now_s)
        return curve if now is None else curve + (now - curve[0]) * np.exp((now_s - at_s) / _FADE_S)

    def _wanted(self, joint: int, at_s: Array, now: float | None, now_s: float) -> Array:
        """Where the trajectory has a joint at ``at_s``; before its first point, see the module."""
        times, places = self.times_s, self.positions[:, joint]
        speeds = None if self.velocities is None else self.velocities[:, joint]
        if now is not None and now_s < times[0]:
            lead_s = float(times[0]) - now_s
            if len(times) > 1 and lead_s * self.embodiment.rate_hz <= _STREAMED:
                begins_s = now_s
                begins = places[0] - lead_s * (places[1] - places[0]) / (times[1] - times[0])
            else:
                begins_s, begins = max(now_s, 0.0), now
            if begins_s < times[0]:
                times, places = np.insert(times, 0, begins_s), np.insert(places, 0, begins)
                speeds = None if speeds is None else np.insert(speeds, 0, math.nan)
        curve = np.interp(at_s, times, places)
        if speeds is None or len(times) < 2:
            return curve
        index = np.clip(np.searchsorted(times, at_s, side="right") - 1, 0, len(times) - 2)
        span = np.diff(times)[index]
        u = np.clip((at_s - times[index]) / span, 0.0, 1.0)
        cubic = (
            (2 * u**3 - 3 * u**2 + 1) * places[index]
            + (u**3 - 2 * u**2 + u) * span * speeds[index]
            + (3 * u**2 - 2 * u**3) * places[index + 1]
            + (u**3 - u**2) * span * speeds[index + 1]
        )
        return np.where(np.isfinite(cubic), cubic, curve)  # linear where a speed is unknown


def check_joints(plan: JointPlan) -> None:
    """Refuse a trajectory that does not fit the robot or itself.

    Raises:
        EmbodimentError: an unknown or repeated name (nearest given), no points or too many, times that do not increase,
            values that are not finite, or a robot without joints.
    """
    known = [channel.source or channel.name for channel in plan.embodiment.channels]
    if plan.embodiment.integrate != "sum":
        raise EmbodimentError(f"{plan.embodiment.name!r} has no joints; send it actions, a path or cmd_vel")
    for index, name in enumerate(plan.names):
        if name not in known:
            raise EmbodimentError(
                f"the trajectory names {name[:80]!r}, which {plan.embodiment.name!r} does not"
                f" have{nearest(name, known)}"
            )
        if name in plan.names[:index]:
            raise EmbodimentError(f"the trajectory names {name!r} twice; give each joint once")
    if not plan.names:
        raise EmbodimentError(f"the trajectory names no joint; name some of {', '.join(known[:4])}, ...")
    rate_hz = plan.embodiment.rate_hz
    if not 1 <= len(plan.times_s) <= MAX_ROWS or float(plan.times_s[-1]) * rate_hz > MAX_ROWS:
        raise EmbodimentError(
            f"the trajectory has {len(plan.times_s)} points{_until(plan.times_s)}; expected 1..{MAX_ROWS} points and at"
            f" most {MAX_ROWS / rate_hz:.0f} s: send the next seconds of it"
        )
    if not sane(plan.times_s).all() or plan.times_s[0] < 0 or np.any(np.diff(plan.times_s) <= 0):
        raise EmbodimentError("the trajectory's time_from_start is not increasing from 0 on; sort its points")
    arrays = {"position": plan.positions} | ({} if plan.velocities is None else {"velocity": plan.velocities})
    for what, array in arrays.items():
        if not sane(array).all():
            row, column = (int(index[0]) for index in np.nonzero(~sane(array)))
            raise EmbodimentError(
                f"{what} of {plan.names[column]!r} in point {row} is not finite; check the source of the trajectory"
            )


def joint_motion(plan: JointPlan) -> NDArray[Any]:
    """(T,D) what the trajectory does from its first point on, tick by tick: for a look at its limits and units."""
    robot = plan.embodiment
    standing = robot.states or robot.channels
    first = {name: float(plan.positions[0, index]) for index, name in enumerate(plan.names)}
    state = np.array([first.get(item.source or item.name, 0.0) for item in standing])
    begin_ns = plan.start_ns + math.ceil(float(plan.times_s[0]) * NANOSECONDS_PER_SECOND)
    rows = max(1, math.ceil(float(plan.times_s[-1] - plan.times_s[0]) * robot.rate_hz))
    return plan.sample(Moment(begin_ns, state=state.astype(np.float32)), rows=rows, stop=True).values


def _until(times_s: Array) -> str:
    return f" until {float(times_s[-1]):.4g} s" if len(times_s) else ""

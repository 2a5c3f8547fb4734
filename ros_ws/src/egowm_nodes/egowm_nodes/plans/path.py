"""A path of a planar base as actions: followed at its poses' stamps, or where they have none at a speed.

A stamped path says where the robot is to be when: it is kept to, and the distance that the robot has from it at first
fades. An unstamped one is a line to drive along: a follower looks ahead on it and turns towards that point as far as
the embodiment's limits allow, so that its own orientations are not used. Either ends at rest. Knows poses in the
odometry frame; no message, no transform tree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import Embodiment
from egowm_core.errors import EmbodimentError
from egowm_core.geometry import se2_compose, se2_delta, se2_integrate, wrap_angle
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSource
from egowm_nodes.plans.sources import MAX_ROWS, Moment, Sampled, sane

Array = NDArray[np.float64]
FARTHEST_M = 1.0  # from the path: a robot farther away does something else
_FADE_S = 2.0  # in which the distance from a stamped path falls to a third
_ARRIVED_M = 0.01
_STEP_S = 0.05  # of the follower
_AHEAD_S, _LEAST_AHEAD_M = 1.0, 0.25  # how far the follower looks ahead
_ALIKE_M = 0.1  # places that are this much farther than the nearest may be meant as well: the first one is
_BACK_M, _SEARCH_M = 0.3, 2.0  # around the last place on the path: where it crosses itself, the robot stays on its way
_TURN_FIRST_RAD = 1.0  # off its heading by more, it turns on the spot
_LEAST_SPEED_MPS = 0.02


@dataclass
class PathPlan:
    """``poses`` (N,3) x, y, yaw in the odometry frame; ``times_s`` (N,) after ``start_ns``, or None for a line.

    ``speed_mps`` for a line; 0: the speed commanded, or else measured, at the moment it is asked for.
    """

    embodiment: Embodiment
    poses: Array
    start_ns: int
    times_s: Array | None = None
    speed_mps: float = 0.0
    source: ActionSource = ActionSource.PLANNED
    stops: bool = True
    headings: Array = field(init=False, repr=False)
    _place_m: float | None = field(default=None, init=False)  # where on the line the robot was last

    def __post_init__(self) -> None:
        steps = np.hypot(*np.diff(self.poses[:, :2], axis=0).T) if len(self.poses) > 1 else np.zeros(0)
        self._arcs_m = np.concatenate([[0.0], np.cumsum(steps)])
        self.headings = np.unwrap(self._headings())

    def lasts_s(self, moment: Moment) -> float:
        """Seconds from its start to its end."""
        if self.times_s is not None:
            return float(self.times_s[-1])
        return float(self._arcs_m[-1]) / max(self._speed(moment), _LEAST_SPEED_MPS)

    def sample(self, moment: Moment, *, rows: int, stop: bool) -> Sampled:
        """See PlanSource.

        Raises:
            EmbodimentError: the robot's pose is unknown or too far from the path; it is to be followed at a speed and
                there is none; it starts beyond the horizon.
        """
        if moment.pose is None:
            raise EmbodimentError("the robot's pose at the newest frame is unknown; check the odometry")
        values, moving = self._stamped(moment, rows) if self.times_s is not None else self._followed(moment, rows)
        ended = int(np.count_nonzero(~moving))
        if stop:
            values[~moving] = 0.0
        elif ended:
            whole = np.flatnonzero(moving[:-1] & moving[1:]) if rows > 1 else np.zeros(0, int)
            last = values[whole[-1]] if len(whole) else moment.held  # the last row that is not cut short
            values[~moving] = 0.0 if last is None else last
        return Sampled(values.astype(np.float32), ended)

    # ---- stamped ------------------------------------------------------------------------------------------------

    def _stamped(self, moment: Moment, rows: int) -> tuple[Array, NDArray[np.bool_]]:
        assert self.times_s is not None and moment.pose is not None
        period_s = 1.0 / self.embodiment.rate_hz
        begin_s = (moment.at_ns - self.start_ns) / NANOSECONDS_PER_SECOND
        if begin_s + rows * period_s <= self.times_s[0]:
            raise EmbodimentError(f"it starts {self.times_s[0] - begin_s:.2f} s after the newest frame")
        edges_s = begin_s + period_s * np.arange(rows + 1)
        columns = [self.poses[:, 0], self.poses[:, 1], self.headings]
        wanted = np.stack([np.interp(edges_s, self.times_s, column) for column in columns], axis=1)
        off = se2_delta(wanted[0], moment.pose)
        if (distance_m := float(np.hypot(*off[:2]))) > FARTHEST_M:
            raise EmbodimentError(f"the robot is {distance_m:.2f} m from where the path has it now; send a new one")
        fading = np.exp(-period_s * np.arange(rows + 1) / _FADE_S)
        poses = se2_compose(wanted, off * fading[:, None])
        return np.asarray(se2_delta(poses[:-1], poses[1:])), (edges_s[1:] + edges_s[:-1]) / 2 <= self.times_s[-1]

    def _headings(self) -> Array:
        """Yaw of each pose: its own, or along the path where most were never filled in (planners do that)."""
        given = self.poses[:, 2]
        if len(given) < 2:
            return given
        if np.count_nonzero(given[:-1]) * 2 >= len(given) - 1 or self._arcs_m[-1] < _ARRIVED_M:
            return given
        ways = np.gradient(self.poses[:, :2], axis=0)
        yaws = np.arctan2(ways[:, 1], ways[:, 0])
        standing = np.hypot(*ways.T) < 1e-6
        if standing.any():
            moving = np.flatnonzero(~standing)
            yaws = yaws[moving[np.clip(np.searchsorted(moving, np.arange(len(yaws))), 0, len(moving) - 1)]]
        return np.asarray(yaws)

    # ---- a line -------------------------------------------------------------------------------------------------

    def _followed(self, moment: Moment, rows: int) -> tuple[Array, NDArray[np.bool_]]:
        assert moment.pose is not None
        speed = self._speed(moment)
        if speed < _LEAST_SPEED_MPS:
            raise EmbodimentError("it has no stamps and the robot no speed yet; set plan_speed_mps or stamp its poses")
        period_s = 1.0 / self.embodiment.rate_hz
        limits = np.abs(self.embodiment.limits).min(axis=1) / period_s
        speed, turn = min(speed, float(limits[0]) * 0.999), float(limits[2]) * 0.999
        pose, place_m = np.asarray(moment.pose, np.float64), self._nearest(moment.pose, self._place_m)
        distance_m = float(np.hypot(*(self._point(place_m) - pose[:2])))
        if distance_m > FARTHEST_M:
            raise EmbodimentError(f"the robot is {distance_m:.2f} m from the path; send one that it is on")
        self._place_m = place_m
        substeps = max(1, round(period_s / _STEP_S))
        values, moving = np.zeros((rows, 3)), np.ones(rows, bool)
        for row in range(rows):
            steps = np.zeros((substeps, 3))
            for index in range(substeps):
                place_m = self._nearest(pose, place_m)
                steps[index] = self._step(pose, place_m, speed, turn, period_s / substeps)
                pose = np.asarray(se2_compose(pose, steps[index]))
            values[row] = se2_integrate(steps)[-1]
            moving[row] = bool(np.any(steps))
        return values, moving

    def _step(self, pose: Array, place_m: float, speed: float, turn: float, seconds: float) -> Array:
        """Motion (3,) towards the point ahead on the line; zero at its end."""
        end_m = float(self._arcs_m[-1])
        to_end_m = float(np.hypot(*(self.poses[-1, :2] - pose[:2])))
        if end_m - place_m < _LEAST_AHEAD_M and to_end_m < _ARRIVED_M:
            return np.zeros(3)
        target = self._point(min(place_m + max(_LEAST_AHEAD_M, speed * _AHEAD_S), end_m))
        dx, dy = target - pose[:2]
        away_m, bearing = math.hypot(dx, dy), float(wrap_angle(math.atan2(dy, dx) - pose[2]))
        if end_m - place_m < _ARRIVED_M and abs(bearing) > _TURN_FIRST_RAD:
            return np.zeros(3)  # just past the end
        if abs(bearing) > _TURN_FIRST_RAD:
            return np.array([0.0, 0.0, math.copysign(min(turn * seconds, abs(bearing)), bearing)])
        curvature = 2 * math.sin(bearing) / max(away_m, _ARRIVED_M)
        forward = min(speed, turn / max(abs(curvature), 1e-6)) * seconds
        forward = min(forward, to_end_m if end_m - place_m < _LEAST_AHEAD_M else forward)
        angle = forward * curvature
        sine = math.sin(angle) / angle if abs(angle) > 1e-9 else 1.0
        versine = (1 - math.cos(angle)) / angle if abs(angle) > 1e-9 else 0.0
        return np.array([sine * forward, versine * forward, angle])

    def _speed(self, moment: Moment) -> float:
        if self.speed_mps > 0:
            return self.speed_mps
        if moment.twist is not None:
            return float(np.hypot(*moment.twist[:2]))
        return 0.0 if moment.held is None else float(np.hypot(*moment.held[:2])) * self.embodiment.rate_hz

    def _point(self, place_m: float) -> Array:
        return np.array([np.interp(place_m, self._arcs_m, self.poses[:, axis]) for axis in (0, 1)])

    def _nearest(self, pose: Array, around_m: float | None) -> float:
        """The place (m along the line) nearest to a pose: near ``around_m``, or the first of several without it."""
        first, last = 0, len(self.poses) - 1
        if around_m is not None:
            first = max(0, int(np.searchsorted(self._arcs_m, around_m - _BACK_M)) - 1)
            last = min(last, int(np.searchsorted(self._arcs_m, around_m + _SEARCH_M)))
        starts, ends = self.poses[first:last, :2], self.poses[first + 1 : last + 1, :2]
        if not len(starts):
            return float(self._arcs_m[last])
        ways = ends - starts
        lengths2 = np.maximum(np.sum(ways**2, axis=1), 1e-12)
        shares = np.clip(np.sum((pose[:2] - starts) * ways, axis=1) / lengths2, 0.0, 1.0)
        distances = np.hypot(*(starts + shares[:, None] * ways - pose[:2]).T)
        index = int(np.argmin(distances))
        if around_m is None:
            alike = distances <= distances[index] + _ALIKE_M
            first_one = int(np.argmax(alike))
            run = int(np.argmin(np.append(alike[first_one:], False)))
            index = first_one + int(np.argmin(distances[first_one : first_one + run]))
        return float(self._arcs_m[first + index] + shares[index] * math.sqrt(lengths2[index]))


def check_path(plan: PathPlan) -> None:
    """Refuse a path that can't be followed by anybody.

    Raises:
        EmbodimentError: no planar base, no poses or too many, not finite, or stamps that do not increase.
    """
    if plan.embodiment.integrate != "se2":
        raise EmbodimentError(f"{plan.embodiment.name!r} is no planar base; send it actions or a joint_trajectory")
    if not 1 <= len(plan.poses) <= MAX_ROWS:
        raise EmbodimentError(f"the path has {len(plan.poses)} poses; expected 1..{MAX_ROWS}, the next seconds of it")
    if not sane(plan.poses).all():
        row = int(np.flatnonzero(~sane(plan.poses).all(axis=1))[0])
        raise EmbodimentError(
            f"pose {row} of the path is not finite, or its orientation no unit quaternion; check its planner"
        )
    if plan.times_s is None:
        return
    if np.any(np.diff(plan.times_s) <= 0):
        raise EmbodimentError("the path's stamps do not increase; stamp every pose with its time, or none of them")
    if (lasts_s := float(plan.times_s[-1] - plan.times_s[0])) * plan.embodiment.rate_hz > MAX_ROWS:
        raise EmbodimentError(f"the path's stamps span {lasts_s:.0f} s; send the next seconds of it")


def path_motion(plan: PathPlan) -> Array:
    """(T,3) what a stamped path does from its first pose on, tick by tick: for a look at its limits and units."""
    assert plan.times_s is not None
    begin_s, end_s = float(plan.times_s[0]), float(plan.times_s[-1])
    begin_ns = plan.start_ns + math.ceil(begin_s * NANOSECONDS_PER_SECOND)
    rows = max(1, math.ceil((end_s - begin_s) * plan.embodiment.rate_hz))
    first = np.array([*plan.poses[0, :2], plan.headings[0]])
    return plan.sample(Moment(begin_ns, pose=first), rows=rows, stop=True).values.astype(np.float64)

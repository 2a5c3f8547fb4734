"""What a humanoid was last told to do: joint trajectories and base velocities, at any moment.

Every name follows the newest trajectory that has it, linearly from point to point, and a joint stays where its
trajectory ends. The base follows whichever came last, a trajectory or a velocity command, and stops when that is over.
What makes no sense is refused. Knows names, seconds and stamps; no ROS and no simulation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import DataError
from egowm_core.schema import nearest

Vector = NDArray[np.float64]
MOST_POINTS = 1000
LONGEST_S = 600.0


@dataclass(frozen=True)
class Trajectory:
    """Targets (P,D) for ``names`` at ``start_ns`` + ``times_s`` (P,); ``start_ns`` 0 means now."""

    names: Sequence[str]
    start_ns: int
    times_s: Sequence[float]
    positions: Sequence[Sequence[float]]


@dataclass(frozen=True)
class _Track:
    """One name's way: from ``values[0]`` at ``times_ns[0]`` on."""

    times_ns: NDArray[np.int64]
    values: Vector

    def at(self, now_ns: int) -> float:
        return float(np.interp(now_ns - int(self.times_ns[0]), self.times_ns - self.times_ns[0], self.values))

    @property
    def end_ns(self) -> int:
        return int(self.times_ns[-1])


class JointTargets:
    """Targets for ``joints`` (rad, or 0..1 for hands) and for the base's two velocities ``speeds`` (m/s and rad/s).

    Args:
        joints, speeds: their names, in the order of ``at``.
        low, high: limits of the joints, (J,); targets beyond them are cut.
        rest: where the joints stay until told otherwise (J,).
        timeout_s: how long after its last point or message a base velocity holds.
    """

    def __init__(
        self,
        joints: Sequence[str],
        speeds: tuple[str, str],
        *,
        low: Vector,
        high: Vector,
        rest: Vector,
        timeout_s: float,
    ) -> None:
        self._joints, self._speeds = tuple(joints), speeds
        self._low, self._high = low, high
        self._rest = np.array(rest, np.float64)
        self._timeout_ns = round(timeout_s * 1e9)
        self._tracks: dict[str, _Track] = {}

    def follow(self, trajectory: Trajectory, *, now_ns: int) -> list[str]:
        """Take a trajectory in place of what its names did so far; returns the joints whose targets are cut at limits.

        Raises:
            DataError: names that are unknown, twice or missing, points that do not fit them, that are too many, out of
                order, not finite, or all over. What was followed before then stays.
        """
        names, times_s, positions = self._checked(trajectory)
        start_ns = trajectory.start_ns or now_ns
        times_ns = start_ns + np.round(times_s * 1e9).astype(np.int64)
        late_s = (now_ns - int(times_ns[-1])) * 1e-9
        if not -LONGEST_S <= late_s <= self._timeout_ns * 1e-9:
            when = f"ended {late_s:.2f} s ago" if late_s > 0 else f"ends in {-late_s:.0f} s"
            raise DataError(f"the trajectory {when}; stamp it with the present, or with 0 for now")
        cut = []
        tracks: dict[str, _Track] = {}
        now = dict(zip((*self._joints, *self._speeds), self.at(now_ns), strict=True))
        lead_in = [now_ns] if times_ns[0] > now_ns else []
        if now_ns < start_ns < times_ns[0]:
            lead_in.append(start_ns)  # waits for its start, then goes there
        for name, column in zip(names, positions.T, strict=True):
            values = column
            if name in self._joints:
                index = self._joints.index(name)
                values = np.clip(column, self._low[index], self._high[index])
                if (values != column).any():
                    cut.append(name)
            tracks[name] = _Track(
                np.concatenate([np.array(lead_in, np.int64), times_ns]),
                np.concatenate([np.full(len(lead_in), now[name]), values]),
            )
        self._tracks.update(tracks)
        return cut

    def drive(self, v: float, w: float, *, now_ns: int) -> None:
        """Take a base velocity, which holds until the next or the timeout. Raises DataError where it is not finite."""
        if not (math.isfinite(v) and math.isfinite(w)):
            raise DataError(f"the velocity ({v}, {w}) is not finite; send numbers")
        for name, value in zip(self._speeds, (v, w), strict=True):
            self._tracks[name] = _Track(np.array([now_ns], np.int64), np.array([value]))

    def at(self, now_ns: int) -> Vector:
        """(J + 2,) targets of the joints, then the base's velocities."""
        values = self._rest.copy()
        for index, name in enumerate(self._joints):
            if (track := self._tracks.get(name)) is not None:
                values[index] = track.at(now_ns)
        speeds = [0.0, 0.0]
        for index, name in enumerate(self._speeds):
            track = self._tracks.get(name)
            if track is not None and now_ns - track.end_ns <= self._timeout_ns:
                speeds[index] = track.at(now_ns)
        return np.append(values, speeds)

    def _checked(self, trajectory: Trajectory) -> tuple[list[str], Vector, Vector]:
        known = (*self._joints, *self._speeds)
        names = list(trajectory.names)
        if not names or len(set(names)) != len(names) or len(names) > len(known):
            raise DataError(f"the trajectory names {len(names)} joints; expected 1..{len(known)}, each once")
        for name in names:
            if name not in known:
                raise DataError(f"the trajectory has joint {name[:64]!r}{nearest(name[:64], known)}; leave it out")
        points = len(trajectory.positions)
        if not 1 <= points <= MOST_POINTS or len(trajectory.times_s) != points:
            raise DataError(f"the trajectory has {points} points; expected 1..{MOST_POINTS}")
        for number, row in enumerate(trajectory.positions):
            if len(row) != len(names):
                raise DataError(f"point {number} has {len(row)} positions for {len(names)} joints; send one for each")
        times_s = np.asarray(trajectory.times_s, np.float64)
        positions = np.asarray(trajectory.positions, np.float64)
        if not (np.isfinite(times_s).all() and np.isfinite(positions).all()):
            raise DataError("the trajectory is not finite; send numbers")
        if (times_s < 0).any() or (np.diff(times_s) <= 0).any() or times_s[-1] > LONGEST_S:
            raise DataError(f"time_from_start must increase, from 0 to at most {LONGEST_S:g} s; got {times_s[:4]}...")
        return names, times_s, positions

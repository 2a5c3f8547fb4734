"""What the synchronizer does to a measured pose: interpolate it, and turn two of them into an action and a state.

A pose is a vector of float64, first what moves as a rigid body (``se2``: x, y, yaw; ``se3``: x, y, z, roll, pitch,
yaw; ``sum``: nothing), then columns of plain numbers. Knows no stamp, no message and no embodiment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ConfigError
from egowm_core.geometry import se2_delta, se3_delta, se3_interpolate, wrap_angle
from egowm_core.types import FloatArray

Pose = NDArray[np.float64]
RIGID_WIDTHS = {"se2": 3, "se3": 6, "sum": 0}


class PoseSpace:
    """Poses of one robot.

    Args:
        integrate: ``se2``, ``se3`` or ``sum``.
        actions: for ``sum``, the column and the kind of each action channel: ``delta`` (difference), ``mean``
            (difference over time: the column holds a running integral) or ``absolute`` (value at the later tick).
            None: the difference of every column.
        states: columns that make up the state; None: the rigid part, or every column where there is none.
        angles: columns of plain numbers that are angles in rad: taken the short way round.
        held: columns that keep their value until the next one comes, such as commands.

    Raises:
        ConfigError: another ``integrate``.
    """

    def __init__(
        self,
        integrate: str,
        *,
        actions: Sequence[tuple[int, str]] | None = None,
        states: Sequence[int] | None = None,
        angles: Sequence[int] = (),
        held: Sequence[int] = (),
    ) -> None:
        if integrate not in RIGID_WIDTHS:
            raise ConfigError(f"integrate {integrate!r} is not one of {', '.join(RIGID_WIDTHS)}")
        self.integrate = integrate
        self._rigid = RIGID_WIDTHS[integrate]
        self._angles, self._held = list(angles), list(held)
        if states is None and self._rigid:
            states = range(self._rigid)
        self._states = None if states is None else list(states)
        self._all_angles = [*self._angles, *{"se2": [2], "se3": [3, 4, 5], "sum": []}[integrate]]
        self._columns: NDArray[np.intp] | None = None
        if actions is not None:
            self._columns = np.array([column for column, _ in actions], np.intp)
            self._mean = np.array([kind == "mean" for _, kind in actions])
            self._absolute = np.array([kind == "absolute" for _, kind in actions])
            self._turning = np.array([kind == "delta" and column in self._angles for column, kind in actions])

    @property
    def integrals(self) -> bool:
        """Whether an action needs all that lies between two ticks, not only the poses at both."""
        return self._columns is not None and bool(self._mean.any())

    def interpolate(self, first: Pose, second: Pose, fraction: float) -> Pose:
        """The pose a ``fraction`` (above 0, below 1) of the way from ``first`` to ``second``."""
        if self.integrate == "se3":
            rest = self._linear(first, second, fraction)[6:]
            return np.concatenate([se3_interpolate(first[:6], second[:6], fraction), rest])
        return self._linear(first, second, fraction)

    def action(self, previous: Pose, current: Pose, elapsed_s: float) -> Pose:
        """(D,) what moved ``previous`` to ``current``, ``elapsed_s`` later."""
        if self.integrate == "se2":
            return np.asarray(se2_delta(previous[:3], current[:3]), np.float64)
        if self.integrate == "se3":
            return se3_delta(previous[:6], current[:6])
        if self._columns is None:
            return current - previous
        now = current[self._columns]
        change = now - previous[self._columns]
        change[self._turning] = wrap_angle(change[self._turning])
        change[self._mean] /= elapsed_s
        return np.where(self._absolute, now, change)

    def state(self, pose: Pose) -> FloatArray:
        """(S,) float32 of a pose, angles in (-pi, pi]."""
        values = pose.copy()
        if self._all_angles:
            values[self._all_angles] = wrap_angle(values[self._all_angles])
        return (values if self._states is None else values[self._states]).astype(np.float32)

    def _linear(self, first: Pose, second: Pose, fraction: float) -> Pose:
        change = second - first
        if self.integrate == "se2":
            change[2] = wrap_angle(change[2])
        if self._angles:
            change[self._angles] = wrap_angle(change[self._angles])
        change[self._held] = 0.0
        return first + fraction * change

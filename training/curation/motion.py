"""How much a robot moves from tick to tick, in scales of its channels. Knows no picture."""

from __future__ import annotations

import numpy as np

from egowm_core.embodiment import Embodiment
from egowm_core.types import FloatArray


class MotionMeter:
    """The motion of ticks in order: the largest over the channels of |action| / scale.

    Deltas and velocities are motion themselves. An absolute value is not: there it is the change of the action.
    """

    def __init__(self, embodiment: Embodiment) -> None:
        self._scales = embodiment.scales
        self._absolute = np.array([channel.kind == "absolute" for channel in embodiment.channels])
        self._last: FloatArray | None = None

    @property
    def sure(self) -> bool:
        """Whether no motion in the actions means none of the robot: not where a constant command may drive it."""
        return not bool(self._absolute.any())

    def add(self, action: FloatArray | None) -> float:
        """Motion of the tick that this action (D,) leads to; 0 for the first one of a segment."""
        if action is None:
            self._last = None
            return 0.0
        still = action if self._last is None else self._last
        moved = np.where(self._absolute, action - still, action)
        self._last = action
        return float(np.abs(moved / self._scales).max())

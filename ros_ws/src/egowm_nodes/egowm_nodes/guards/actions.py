"""Actions are looked at before a model sees them: finite, inside their limits, and in the units that they claim.

What is far outside its limits is hardly a lively plan but another unit (degrees, a rate per second, a normalised
value): it is always refused, with a guess in words. What is a little outside is refused or clipped, as told. Counts
what it did. Knows embodiments; no ROS, no plan and no model. Safe to use from several threads.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from egowm_core.channels import Channel
from egowm_core.embodiment import Embodiment
from egowm_core.errors import EmbodimentError
from egowm_core.types import FloatArray

REFUSE, CLIP = "refuse", "clip"
ACTION_GUARDS = (REFUSE, CLIP)
MOST_CLIPPED = 2.0  # times a limit: beyond it the unit is in doubt, whatever the guard
_LEAST_MOTION = 0.1  # of a channel's scale: what would be less in millimetres was none
_DEGREES_FROM = 8.0  # times a limit: a plan in degrees is about 57 times too large, a rate hardly ever 8 times


@dataclass(frozen=True)
class ActionCounts:
    """Sequences ``checked`` and ``refused``; values ``clipped`` by channel name."""

    checked: int
    refused: int
    clipped: dict[str, int]


class ActionGuard:
    """Checks action sequences of ``embodiment``. ``mode`` is ``refuse`` or ``clip``; it may change at any time."""

    def __init__(self, embodiment: Embodiment, mode: str = REFUSE) -> None:
        self._embodiment, self.mode = embodiment, mode
        self._lock = threading.Lock()
        self._checked = self._refused = 0
        self._clipped: Counter[str] = Counter()

    def check(self, values: ArrayLike, *, count: bool = True) -> FloatArray:
        """Actions (T,D) in units, per tick for deltas: as float32, fit for the model.

        ``count`` false leaves the counts alone, for what is looked at again before it is used.

        Raises:
            EmbodimentError: another width, not finite, more than ``MOST_CLIPPED`` times a limit, or (unless the guard
                clips) outside a limit; names channel, row, value, limits and what the unit may be.
        """
        try:
            array, clipped = self._judge(np.asarray(values, np.float64))
        except EmbodimentError:
            with self._lock:
                self._checked += count
                self._refused += count
            raise
        if count:
            with self._lock:
                self._checked += 1
                self._clipped += clipped
        return array

    def counts(self) -> ActionCounts:
        """What happened so far."""
        with self._lock:
            return ActionCounts(self._checked, self._refused, dict(sorted(self._clipped.items())))

    def _judge(self, array: np.ndarray) -> tuple[FloatArray, Counter[str]]:
        robot = self._embodiment
        if array.ndim != 2 or array.shape[1] != robot.action_dim or robot.within_limits(array):
            return robot.validate_actions(array), Counter()  # which says what is wrong with the shape
        low, high = robot.limits.T
        reach = np.maximum(np.abs(low), np.abs(high))
        beyond = ~(np.abs(array) <= MOST_CLIPPED * reach)  # true of NaN, too
        outside = beyond if beyond.any() else ~((array >= low) & (array <= high))
        if self.mode == CLIP and not beyond.any():
            columns = np.count_nonzero(outside, axis=0)
            return np.clip(array, low, high).astype(np.float32), Counter(
                {name: int(n) for name, n in zip(robot.channel_names, columns, strict=True) if n}
            )
        row, column = (int(index[0]) for index in np.nonzero(outside))
        raise EmbodimentError(_refusal(robot.channels[column], row, float(array[row, column]), robot.rate_hz))


def _refusal(channel: Channel, row: int, value: float, rate_hz: float) -> str:
    low, high = channel.limits
    where = f"channel {channel.name!r} row {row}: value {value:g} {channel.unit}"
    if not math.isfinite(value):
        return f"{where} is not finite; expected {low:g}..{high:g}; check the source of the actions"
    return f"{where} is outside its limits {low:g}..{high:g}; {unit_guess(value, channel, rate_hz)}"


def unit_guess(value: float, channel: Channel, rate_hz: float) -> str:
    """What a value outside its channel's limits may be instead of what it should be, and what to do about it."""
    low, high = channel.limits
    times = abs(value) / max(abs(low), abs(high))
    wanted = f"{channel.unit} per tick" if channel.kind == "delta" else channel.unit

    def fits(other: float) -> bool:
        return low <= other <= high

    if channel.unit.startswith("rad") and times > _DEGREES_FROM and fits(math.radians(value)):
        return f"it looks like degrees: give {wanted}, divide by 57.3"
    if channel.unit in ("m", "m/s") and abs(value) / 1000 >= _LEAST_MOTION * channel.scale and fits(value / 1000):
        return f"it looks like millimetres: give {wanted}, divide by 1000"
    guesses = []
    if channel.kind == "delta" and fits(value / rate_hz):
        guesses.append(f"a rate in {channel.unit}/s (deltas are per tick: divide by {rate_hz:g} Hz)")
    if channel.scale < 1 and abs(value) <= 2 and fits(value * channel.scale):
        guesses.append(f"a normalised value (multiply by the scale {channel.scale:g})")
    if guesses:
        return f"it looks like {' or '.join(guesses)}; give {wanted}"
    if times > MOST_CLIPPED:
        return f"at {times:.3g} times the limit it looks like raw counts or values scaled twice; give {wanted}"
    return f"give {wanted}, slow the plan down, or set action_guard to clip"

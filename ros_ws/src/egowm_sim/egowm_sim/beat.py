"""Regular events on a clock of whole ticks. Knows no simulation."""

from __future__ import annotations


class Beat:
    """The ticks nearest to the times of ``rate_hz``, counted from tick 0, which is the first.

    A rate that does not divide the tick rate comes out right on average.
    """

    def __init__(self, rate_hz: float, *, tick_s: float) -> None:
        self._period = max(1.0, 1.0 / (rate_hz * tick_s))
        self._count = 0

    @property
    def next_tick(self) -> int:
        """The tick of the next event."""
        return round(self._count * self._period)

    def due(self, tick: int) -> bool:
        """Whether an event falls on (or was missed before) ``tick``; counts it if so."""
        if tick < self.next_tick:
            return False
        self._count += 1
        return True

"""Which rollouts the drift monitor judges, and what became of all the others: heard, passed over, replaced, judged.

Of executed actions the newest whose frames were seen wins; of planned or held ones one in a while is kept until its
frames fall due. Knows rollouts and stamps; knows no ROS, no score and no thread.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence

from egowm_core.drift import due_ns
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSource, Rollout
from egowm_nodes.runtime.diagnostics import Durations, RateMeter

EXECUTED, PLANNED = "executed", "planned"
SLOTS = (EXECUTED, PLANNED)
_WINDOW_S = 30.0
_MOST_WAITING = 8


def slot_of(source: ActionSource) -> str:
    """``executed``, or ``planned`` for planned and held actions."""
    return EXECUTED if source is ActionSource.EXECUTED else PLANNED


class Sampling:
    """Rollouts that wait for the camera, a few at most, and the counts. ``clock`` is steady, in s."""

    def __init__(self, horizons: Sequence[int], clock: Callable[[], float]) -> None:
        self._horizons = tuple(horizons)
        self._waiting: dict[str, deque[Rollout]] = {slot: deque() for slot in SLOTS}  # oldest first
        self._kept_ns: int | None = None  # context of the last planned rollout that was kept
        self.heard, self.judged = ({slot: RateMeter(clock, window_s=_WINDOW_S) for slot in SLOTS} for _ in range(2))
        self.passed_over: Counter[str] = Counter()
        self.replaced: Counter[str] = Counter()
        self.scoring = Durations()

    def offer(self, rollout: Rollout, *, every: int, planned_period_s: float) -> None:
        """Keep a rollout, or pass it over: all but each ``every``-th executed one, all but one planned in a period."""
        slot = slot_of(rollout.actions.source)
        number = self.heard[slot].count
        self.heard[slot].tick()
        wanted = number % every == 0 if slot == EXECUTED else self._wants_planned(rollout, planned_period_s)
        if not wanted:
            self.passed_over[slot] += 1
            return
        if slot == PLANNED:
            self._kept_ns = rollout.context_stamp_ns
        self._waiting[slot].append(rollout)
        if len(self._waiting[slot]) > _MOST_WAITING:
            self._waiting[slot].popleft()
            self.replaced[slot] += 1

    def due(self, newest_ns: int) -> list[tuple[str, Rollout]]:
        """Hand out the newest rollout of each slot whose frames were all seen by ``newest_ns``, with its slot."""
        found = []
        for slot, waiting in self._waiting.items():
            ready = 0
            while ready < len(waiting) and due_ns(waiting[ready], self._horizons) <= newest_ns:
                ready += 1
            for _ in range(ready - 1):
                waiting.popleft()
                self.replaced[slot] += 1
            if ready:
                found.append((slot, waiting.popleft()))
        return found

    def clear(self) -> None:
        """Forget what waits; the counts stay."""
        for waiting in self._waiting.values():
            waiting.clear()
        self._kept_ns = None

    def share(self, slot: str) -> float:
        """Judged of heard in the last 30 s, 0..1; NaN where nothing was heard."""
        heard_hz = self.heard[slot].rate_hz()
        return min(1.0, self.judged[slot].rate_hz() / heard_hz) if heard_hz > 0 else float("nan")

    def _wants_planned(self, rollout: Rollout, period_s: float) -> bool:
        if not period_s or self._waiting[PLANNED]:
            return False
        return self._kept_ns is None or (
            abs(rollout.context_stamp_ns - self._kept_ns) >= period_s * NANOSECONDS_PER_SECOND
        )

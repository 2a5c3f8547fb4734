"""One thread that does the newest work and forgets what was replaced meanwhile. Knows no ROS and no model."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class LatestWorker(Generic[Item]):
    """Runs ``work(item)`` for the newest item of each slot, in a thread of its own.

    Each slot holds at most one waiting item; a newer one replaces it (``replaced`` counts by slot). Waiting slots take
    turns, so that a busy one can't starve another. An exception from ``work`` goes to ``on_error`` and the thread lives
    on, whatever becomes of that. ``close`` lets the running work finish.
    """

    def __init__(
        self,
        work: Callable[[Item], None],
        *,
        slots: Sequence[str],
        on_error: Callable[[Exception], None],
        name: str,
    ) -> None:
        self._work, self._on_error = work, on_error
        self._turns = list(slots)  # least recently served first
        self._waiting: dict[str, Item] = {}
        self._condition = threading.Condition()
        self._closed = False
        self._busy = False
        self.replaced: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, slot: str, item: Item) -> None:
        """Hand over an item; returns at once. Ignored after ``close``."""
        if slot not in self._turns:
            raise KeyError(f"no slot {slot!r}; there are {', '.join(self._turns)}")
        with self._condition:
            if self._closed:
                return
            if slot in self._waiting:
                self.replaced[slot] += 1
            self._waiting[slot] = item
            self._condition.notify()

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        with self._condition:
            return not self._waiting and not self._busy

    def close(self, *, timeout_s: float = 30.0) -> bool:
        """Forget what waits, let the running work finish and end the thread; whether it ended in time."""
        with self._condition:
            self._closed = True
            self._waiting.clear()
            self._condition.notify()
        self._thread.join(timeout=timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.wait_for(lambda: self._closed or bool(self._waiting))
                if self._closed:
                    return
                slot = next(turn for turn in self._turns if turn in self._waiting)
                self._turns.remove(slot)
                self._turns.append(slot)
                item = self._waiting.pop(slot)
                self._busy = True
            try:
                self._work(item)
            except Exception as error:
                with contextlib.suppress(Exception):  # telling must not end the thread
                    self._on_error(error)
            self.done[slot] += 1
            del item

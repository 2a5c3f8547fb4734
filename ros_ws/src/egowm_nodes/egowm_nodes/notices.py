"""What went wrong, said once and not a thousand times: rate-limited messages, counted, and kept for the diagnostics.

Knows no ROS: the caller logs the text that it gets back. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Notice:
    """The newest text of one kind of trouble, when it came (s, the caller's clock) and how often so far."""

    key: str
    text: str
    at_s: float
    count: int


class Notices:
    """Troubles by ``key``. Each is said again after ``repeat_s`` at the earliest, and is recent for ``recent_s``."""

    def __init__(self, clock: Callable[[], float], *, repeat_s: float = 5.0, recent_s: float = 5.0) -> None:
        self._clock, self._repeat_s, self._recent_s = clock, repeat_s, recent_s
        self._lock = threading.Lock()
        self._newest: dict[str, Notice] = {}
        self._said_s: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def report(self, key: str, text: str) -> str | None:
        """Note one trouble; returns what to log, or None where the same kind was logged just now."""
        with self._lock:
            now_s = self._clock()
            before = self._newest.get(key)
            self._newest[key] = Notice(key, text, now_s, 1 if before is None else before.count + 1)
            said_s = self._said_s.get(key)
            if said_s is not None and now_s - said_s < self._repeat_s:
                self._unsaid[key] += 1
                return None
            self._said_s[key] = now_s
            more = self._unsaid.pop(key, 0)
            return f"{text} ({more} more like it since the last message)" if more else text

    def recent(self) -> list[Notice]:
        """Troubles of the last ``recent_s``, newest first."""
        with self._lock:
            now_s = self._clock()
            found = [notice for notice in self._newest.values() if now_s - notice.at_s <= self._recent_s]
        return sorted(found, key=lambda notice: -notice.at_s)

    def counts(self) -> dict[str, int]:
        """How often each kind came, in alphabetical order."""
        with self._lock:
            return {key: self._newest[key].count for key in sorted(self._newest)}

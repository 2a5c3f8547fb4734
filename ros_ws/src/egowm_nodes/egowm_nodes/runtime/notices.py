"""What went wrong, said once and not a thousand times: rate-limited messages, counted, and kept for the diagnostics.

Texts may quote what came over a topic, so they are made harmless here: of bounded length, without control characters.
Knows no ROS: the caller logs the text that it gets back. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_TEXT, MOST_KINDS = 2000, 256
_OTHER = "other"


@dataclass(frozen=True)
class Notice:
    """The newest text of one kind of trouble, when it came (s, the caller's clock) and how often so far."""

    key: str
    text: str
    at_s: float
    count: int


class Notices:
    """Troubles by ``key``. Each is said again after ``repeat_s`` at the earliest, and is recent for ``recent_s``.

    More than ``MOST_KINDS`` kinds go together as one.
    """

    def __init__(self, clock: Callable[[], float], *, repeat_s: float = 5.0, recent_s: float = 5.0) -> None:
        self._clock, self._repeat_s, self._recent_s = clock, repeat_s, recent_s
        self._lock = threading.Lock()
        self._newest: dict[str, Notice] = {}
        self._said_s: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def report(self, key: str, text: str) -> str | None:
        """Note one trouble; returns what to log, or None where the same kind was logged just now."""
        text = harmless(text)
        with self._lock:
            now_s = self._clock()
            if key not in self._newest and len(self._newest) >= MOST_KINDS:
                key = _OTHER
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


def harmless(text: str, *, longest: int = LONGEST_TEXT) -> str:
    """``text`` fit for a log and for diagnostics: its middle left out where it is too long, control characters escaped.

    Newlines and tabs stay, as tracebacks have them.
    """
    if len(text) > longest:
        head, tail = longest * 3 // 4, longest // 4
        text = f"{text[:head]} [... {len(text) - head - tail} characters ...] {text[-tail:]}"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )

"""Rates, latencies and input watches, and how they add up to a level and a sentence. Knows no ROS message.

All clocks are the caller's steady seconds. Safe to use from several threads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np


class Level(IntEnum):
    """The levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


_SEVERITY = (Level.OK, Level.WARN, Level.STALE, Level.ERROR)


@dataclass(frozen=True)
class Status:
    """One diagnostic status: ``name`` within the node, and figures as they should read."""

    name: str
    level: Level
    message: str
    values: dict[str, str] = field(default_factory=dict)


def judge(findings: Iterable[tuple[Level, str]], *, fine: str) -> tuple[Level, str]:
    """The worst level of ``findings`` and what they say, worst first; ``fine`` where there are none."""
    found = sorted(findings, key=lambda finding: -_SEVERITY.index(finding[0]))
    if not found:
        return Level.OK, fine
    return found[0][0], "; ".join(dict.fromkeys(text for _, text in found))


class RateMeter:
    """Events per second over the last ``window_s``."""

    def __init__(self, clock: Callable[[], float], *, window_s: float = 5.0, max_events: int = 2000) -> None:
        self._clock, self._window_s = clock, window_s
        self._lock = threading.Lock()
        self._events: deque[float] = deque(maxlen=max_events)
        self._started_s = clock()
        self._last_s: float | None = None
        self.count = 0

    def tick(self) -> None:
        """One event, now."""
        with self._lock:
            self._last_s = self._clock()
            self._events.append(self._last_s)
            self.count += 1

    @property
    def last_s(self) -> float | None:
        """When the last event was."""
        with self._lock:
            return self._last_s

    def rate_hz(self) -> float:
        """Events per second over the window, or since the start where that is shorter."""
        with self._lock:
            now_s = self._clock()
            while self._events and now_s - self._events[0] > self._window_s:
                self._events.popleft()
            span_s = min(self._window_s, max(now_s - self._started_s, 1e-3))
            return len(self._events) / span_s


class Durations:
    """The newest ``size`` durations in s, and their percentiles."""

    def __init__(self, size: int = 200) -> None:
        self._lock = threading.Lock()
        self._values: deque[float] = deque(maxlen=size)

    def add(self, seconds: float) -> None:
        with self._lock:
            self._values.append(seconds)

    def percentile_s(self, percent: float) -> float:
        """NaN while there are none."""
        with self._lock:
            values = list(self._values)
        return float(np.percentile(values, percent)) if values else float("nan")

    def text(self) -> str:
        """``p50 / p99`` in ms, or ``none yet``."""
        with self._lock:
            if not self._values:
                return "none yet"
        return f"{1e3 * self.percentile_s(50):.0f} / {1e3 * self.percentile_s(99):.0f}"


class CpuShare:
    """How much of one core this process uses, over the last ``window_s``; ``used`` gives its CPU seconds so far."""

    def __init__(
        self,
        clock: Callable[[], float],
        used: Callable[[], float] = time.process_time,
        *,
        window_s: float = 10.0,
    ) -> None:
        self._clock, self._used, self._window_s = clock, used, window_s
        self._marks: deque[tuple[float, float]] = deque([(clock(), used())])

    def share(self) -> float:
        """1 is a whole core; since the last mark that is older than the window, or since the start. One thread."""
        now_s, used_s = self._clock(), self._used()
        self._marks.append((now_s, used_s))
        while len(self._marks) > 2 and now_s - self._marks[1][0] >= self._window_s:
            self._marks.popleft()
        began_s, before_s = self._marks[0]
        return (used_s - before_s) / max(now_s - began_s, 1e-3)


class InputWatch:
    """Watches one input: its rate, and whether it has gone missing for ``timeout_s``."""

    def __init__(self, what: str, topic: str, clock: Callable[[], float], *, timeout_s: float) -> None:
        self.what, self.topic = what, topic
        self._clock, self._timeout_s = clock, timeout_s
        self._started_s = clock()
        self.meter = RateMeter(clock)

    def arrived(self) -> None:
        """A message came."""
        self.meter.tick()

    def missing(self, *, publishers: int | None = None) -> str | None:
        """What is wrong with the input, in words with a remedy; None when it flows."""
        last_s = self.meter.last_s
        silent_s = self._clock() - (self._started_s if last_s is None else last_s)
        if silent_s < self._timeout_s:
            return None
        hint = "check the topic's name and remapping, and that its source runs"
        if publishers:
            hint = f"{publishers} publisher(s) there: check that it is awake, and its QoS and type"
        elif publishers == 0:
            hint = f"nobody publishes there: {hint}"
        return f"no {self.what} for {silent_s:.1f} s on {self.topic} ({hint})"

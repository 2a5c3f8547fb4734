"""How regularly a source sends, and how sizes are distributed, in fixed memory: histograms over a logarithmic axis.

Integer arithmetic, so the same input gives the same figures everywhere. Knows stamps and numbers, no message.
"""

from __future__ import annotations

from typing import Any

_SUB_BITS = 5  # 32 bins an octave: a bin is at most 3 % wide


class LogHistogram:
    """Counts of positive integers in bins of constant relative width; a quantile is the mean of its bin.

    A quantile of equal numbers is therefore exact, any other within 3 %. At most some 2,000 bins for 64-bit numbers.
    """

    def __init__(self) -> None:
        self._bins: dict[int, list[int]] = {}  # count, sum
        self.count = 0
        self.largest = 0

    def add(self, value: int) -> None:
        """Count ``value`` >= 0."""
        found = self._bins.setdefault(_bin(value), [0, 0])
        found[0] += 1
        found[1] += value
        self.count += 1
        self.largest = max(self.largest, value)

    def quantile(self, fraction: float) -> float:
        """The value that ``fraction`` (0..1) of all do not exceed, by nearest rank; 0 while there is none."""
        rank, seen = max(1, -int(-fraction * self.count // 1)), 0
        for index in sorted(self._bins):
            count, total = self._bins[index]
            seen += count
            if seen >= rank:
                return total / count
        return 0.0


class SourceStats:
    """Intervals between the stamps of one source, and its gaps: intervals longer than ``gap_limit_ns``.

    Stamps that repeat or step back are counted and give no interval. Gaps are listed up to ``max_gaps``; all are
    counted.
    """

    def __init__(self, gap_limit_ns: int, *, reset_ns: int = 1_000_000_000, max_gaps: int = 256) -> None:
        self.gap_limit_ns = gap_limit_ns
        self._reset_ns, self._max_gaps = reset_ns, max_gaps
        self._intervals = LogHistogram()
        self._last_ns: int | None = None
        self._elapsed_ns = 0
        self.first_ns: int | None = None
        self.count = 0
        self.num_gaps = self.num_backwards = self.num_duplicates = 0
        self.gaps: list[tuple[int, int]] = []

    @property
    def last_ns(self) -> int | None:
        """The newest stamp."""
        return self._last_ns

    @property
    def longest_ns(self) -> int:
        """The longest interval."""
        return self._intervals.largest

    @property
    def rate_hz(self) -> float | None:
        """Stamps a second over the whole time; None while there are fewer than two."""
        return self._intervals.count * 1e9 / self._elapsed_ns if self._elapsed_ns else None

    def add(self, stamp_ns: int) -> None:
        """Count a message's stamp."""
        self.count += 1
        last = self._last_ns
        if last is None:
            self.first_ns = self._last_ns = stamp_ns
            return
        interval = stamp_ns - last
        if interval > 0:
            self._intervals.add(interval)
            self._elapsed_ns += interval
            self._last_ns = stamp_ns
            if interval > self.gap_limit_ns:
                self.num_gaps += 1
                if len(self.gaps) < self._max_gaps:
                    self.gaps.append((last, stamp_ns))
            return
        if interval == 0:
            self.num_duplicates += 1
            return
        self.num_backwards += 1
        if -interval > self._reset_ns and stamp_ns != 0:  # the clock was set anew
            self._last_ns = stamp_ns

    def interval_s(self, fraction: float) -> float | None:
        """A quantile of the intervals in s; None while there is none."""
        return self._intervals.quantile(fraction) * 1e-9 if self._intervals.count else None

    def summary(self) -> dict[str, Any]:
        """Plain figures for a report: rate_hz, median_ms, p99_ms, longest_gap_ms (None while unknown) and counts."""
        known = self._intervals.count > 0
        return {
            "count": self.count,
            "rate_hz": round(self.rate_hz, 4) if self.rate_hz is not None else None,
            "median_ms": round(self._intervals.quantile(0.5) * 1e-6, 4) if known else None,
            "p99_ms": round(self._intervals.quantile(0.99) * 1e-6, 4) if known else None,
            "longest_gap_ms": round(self.longest_ns * 1e-6, 4) if known else None,
            "gaps": self.num_gaps,
            "backwards": self.num_backwards,
            "duplicates": self.num_duplicates,
        }


def _bin(value: int) -> int:
    if value < 1:
        return -1
    octave = value.bit_length() - 1
    shift = octave - _SUB_BITS
    within = (value >> shift if shift >= 0 else value << -shift) & ((1 << _SUB_BITS) - 1)
    return (octave << _SUB_BITS) | within

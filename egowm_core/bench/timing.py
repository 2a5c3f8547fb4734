"""Times of the stages of repeated work, on CPU or CUDA, as medians and 99th percentiles.

Work announces its stages by calling ``mark(stage)`` where each begins; the same announcements serve the clock here and
the counter of operations in ``flops.py``. Knows no model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

STAGES = ("encode", "denoise", "decode")
TOTAL = "total"

Mark = Callable[[str], None]
"""Says that the named stage begins now; the one before it ends. A stage may begin several times."""
Work = Callable[[Mark], object]
"""Something to time: one whole prediction, the copy of its pictures to the CPU included."""


@dataclass(frozen=True)
class Percentiles:
    """Median and 99th percentile in seconds; with fewer than 100 values the latter is between the two largest."""

    p50: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        """Of at least one value."""
        return cls(float(np.median(values)), float(np.quantile(values, 0.99)))


@dataclass(frozen=True)
class Timing:
    """What :func:`time_stages` found."""

    stages: dict[str, Percentiles]  # STAGES and TOTAL
    repeats: int
    peak_bytes: int | None  # of the device's memory, as PyTorch's allocator counts it; None on a CPU


class StageClock:
    """Seconds per stage of one run.

    On CUDA the boundaries between stages are events in the stream, so that timing never stalls the device; only the
    start and the end wait for it. A stage then is the time between its neighbours' ends *on the device*, gaps in which
    the device waits for Python included.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._marks: list[tuple[str, float, torch.cuda.Event | None]] = []
        synchronise(device)
        self._started = time.perf_counter()

    def mark(self, stage: str) -> None:
        """The named stage begins; repeating the current one changes nothing."""
        if not self._marks or self._marks[-1][0] != stage:
            self._marks.append((stage, time.perf_counter(), self._event()))

    def finish(self) -> dict[str, float]:
        """End of the run: seconds per stage in the order of ``STAGES`` (0 for one that never began), and the total."""
        end = self._event()
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        stopped = time.perf_counter()
        times = dict.fromkeys(STAGES, 0.0)
        ends = [(begun, event) for _, begun, event in self._marks[1:]] + [(stopped, end)]
        for (stage, begun, event), (until, until_event) in zip(self._marks, ends, strict=True):
            if event is not None and until_event is not None:
                times[stage] += 1e-3 * event.elapsed_time(until_event)
            else:
                times[stage] += until - begun
        times[TOTAL] = stopped - self._started
        return times

    def _event(self) -> torch.cuda.Event | None:
        if self._cuda is None:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._cuda))
        return event


def time_stages(work: Work, *, device: torch.device, repeats: int, warm_up: int = 3) -> Timing:
    """Run ``work`` ``warm_up`` times unmeasured (kernels are chosen, compiled and recorded then) and ``repeats`` times
    measured.

    Raises:
        ValueError: fewer than one repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; at least 1 is needed")
    for _ in range(warm_up):
        work(lambda stage: None)
    synchronise(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    series: dict[str, list[float]] = {stage: [] for stage in (*STAGES, TOTAL)}
    for _ in range(repeats):
        clock = StageClock(device)
        work(clock.mark)
        for stage, seconds in clock.finish().items():
            series[stage].append(seconds)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Timing({stage: Percentiles.of(values) for stage, values in series.items()}, repeats, peak)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""Learning-rate schedule and the clock for saving. No model, no data."""

from __future__ import annotations

import math
import time


def cosine_rate(step: int, steps: int, warmup_steps: int) -> float:
    """Linear warm-up, then a cosine from 1 to 0.02."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Every:
    """True when at least ``seconds`` have passed since it last was."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True

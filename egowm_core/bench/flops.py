"""Floating-point operations of the stages of a piece of work, and how many the device could do.

Counted are matrix products, convolutions and attention, a multiplication and an addition as two; the rest is left out.
Compiled code is invisible to the counter: count the eager work and time the compiled. Knows no model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from egowm_core.bench.timing import STAGES, Work, synchronise

_CPU_SIZES, _CUDA_SIZES = (256, 512, 1024, 2048), (4096, 8192)  # of the square matrices of the ceiling
_SECONDS = 0.15  # how long to try each


class FlopClock:
    """Operations per stage of one run, by the same announcements as :class:`~egowm_core.bench.timing.StageClock`."""

    def __init__(self) -> None:
        self._counter = FlopCounterMode(display=False, custom_mapping=_cpu_attention())
        self._stage: str | None = None
        self._before = 0
        self._counts = dict.fromkeys(STAGES, 0)

    def mark(self, stage: str) -> None:
        """The named stage begins; what was done before the first one is not counted."""
        done = int(self._counter.get_total_flops())
        if self._stage is not None:
            self._counts[self._stage] += done - self._before
        self._stage, self._before = stage, done

    def count(self, work: Work) -> dict[str, int]:
        """Run ``work`` once: operations per stage."""
        with self._counter:
            work(self.mark)
            self.mark(STAGES[-1])
        return dict(self._counts)


def count_flops(work: Work) -> dict[str, int]:
    """Floating-point operations per stage of one run of ``work``, which must not be compiled."""
    return FlopClock().count(work)


@torch.inference_mode()
def matmul_ceiling(device: torch.device, dtype: torch.dtype, *, sizes: Sequence[int] | None = None) -> float:
    """The most FLOP/s that a square matrix product of one of ``sizes`` reached on ``device`` in ``dtype``.

    The best of many tries, small ones among them: one disturbed by other processes would be too low. PyTorch's settings
    (TF32, for example) are left as they are, so that it is a ceiling of this process.
    """
    extents = sizes or (_CUDA_SIZES if device.type == "cuda" else _CPU_SIZES)
    return max(_matmul_rate(device, dtype, extent) for extent in extents)


def _matmul_rate(device: torch.device, dtype: torch.dtype, extent: int) -> float:
    left, right = (torch.randn(extent, extent, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    best = float("inf")
    left @ right  # chooses kernels
    synchronise(device)
    until = time.perf_counter() + _SECONDS
    while best == float("inf") or time.perf_counter() < until:
        begun = time.perf_counter()
        left @ right
        synchronise(device)
        best = min(best, time.perf_counter() - begun)
    return float(2 * extent**3 / best)


def _cpu_attention() -> dict[Any, Any]:
    """The CPU's fused attention, which the counter of the installed PyTorch may not know."""
    name = "_scaled_dot_product_flash_attention_for_cpu"
    if not hasattr(torch.ops.aten, name):
        return {}

    def flop(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    return {getattr(torch.ops.aten, name): flop}

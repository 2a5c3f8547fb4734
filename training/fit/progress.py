"""What a run says of itself while it goes on: the bar, and the figures that trackers keep.

Times count what a step is made of (waiting for frames, computing, exchanging gradients), not what is done between
steps. Knows no model and no data.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

Item = TypeVar("Item")
_SMOOTHING = 0.98


class Progress:
    """A context for the steps ``first`` to ``steps`` of one stage."""

    def __init__(
        self, accelerator: Accelerator, *, first: int, steps: int, every: int, clips: int, frames: int
    ) -> None:
        """``clips`` a step, of ``frames`` each; figures come ``every`` so many steps (0: at the end) and at the end."""
        self._accelerator, self._first, self._steps, self._every = accelerator, first, steps, every or steps
        self._clips, self._frames = clips, frames
        self._bar = tqdm(
            initial=first, total=steps, desc="denoiser", unit="step", disable=not accelerator.is_main_process
        )
        self._loss: Tensor | None = None
        self._seconds = self._waited = 0.0
        self._counted = 0
        self._flop, self._ceiling = 0, 0.0
        self.throughput: dict[str, float] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()

    @property
    def worth_measuring(self) -> bool:
        """Whether the run is long enough to measure its arithmetic first."""
        return self._steps - self._first > 2 * self._every

    def measured(self, *, flop: int, ceiling: float) -> None:
        """A step is ``flop`` operations of this process, whose device does ``ceiling`` a second at most."""
        self._flop, self._ceiling = flop, ceiling

    def steps(self, items: Iterable[Item]) -> Iterator[tuple[int, Item]]:
        """Step numbers and their items, on the clock: from asking for the item until :meth:`done`."""
        numbers = iter(range(self._first, self._steps))
        self._begun = time.perf_counter()
        for item in items:
            self._waited += time.perf_counter() - self._begun
            yield next(numbers), item
            self._begun = time.perf_counter()

    def done(self, step: int, loss: Tensor, figures: dict[str, Any]) -> None:
        """A step has ended with ``loss`` (its mean over this process's clips); ``figures`` are logged beside it."""
        self._loss = loss.detach() if self._loss is None else torch.lerp(loss.detach(), self._loss, _SMOOTHING)
        self._counted += 1
        due = (step + 1) % self._every == 0 or step + 1 == self._steps
        if due:
            mean = float(self._accelerator.reduce(loss.detach().clone(), "mean"))  # waits for the device
        self._seconds += time.perf_counter() - self._begun
        if due:
            self.throughput = self._rates()
            logged = {"loss": mean, **{key: float(value) for key, value in figures.items()}, **self.throughput}
            self._accelerator.log(logged, step=step + 1)
            self._bar.set_postfix_str(self._line(float(self._loss)), refresh=False)
        self._bar.update()

    def _rates(self) -> dict[str, float]:
        """Since the last time; of all processes together, but for the arithmetic, which is this one's."""
        each = max(self._seconds, 1e-9) / self._counted
        rates = {
            "clips_per_s": self._clips / each,
            "frames_per_s": self._clips * self._frames / each,
            "waiting": self._waited / max(self._seconds, 1e-9),
        }
        if self._flop:
            rates |= {"tflop_per_s": 1e-12 * self._flop / each, "mfu": self._flop / each / self._ceiling}
        self._seconds, self._waited, self._counted = 0.0, 0.0, 0
        return rates

    def _line(self, loss: float) -> str:
        rates = self.throughput
        parts = [f"loss={loss:.4f}", f"{rates['clips_per_s']:.3g} clips/s", f"{rates['frames_per_s']:.3g} frames/s"]
        if rates["waiting"] > 0.05:
            parts.append(f"{rates['waiting']:.0%} waiting for frames")
        if "mfu" in rates:
            achieved, ceiling = 1e12 * rates["tflop_per_s"], self._ceiling
            parts.append(f"MFU {rates['mfu']:.1%} ({_flops(achieved)} of {_flops(ceiling)})")
        return ", ".join(parts)


def _flops(rate: float) -> str:
    return f"{rate / 1e12:.3g} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.3g} GFLOP/s"

"""Work that may go on beside what comes next: at once, in a thread, or on a CUDA stream of its own.

A rollout of several parts decodes one of them while the next is being denoised. What that buys depends on the device: a
CPU must have cores to spare beside PyTorch's threads, a GPU kernels small enough to leave room. Results are the same to
the bit; they arrive later. Knows no model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Work = Callable[[], Tensor]
Result = Callable[[], Tensor]
"""Waits until the work is done, and returns what it returned, on the processor; raises what it raised."""


class Awaited(Protocol):
    """Something under way."""

    def wait(self) -> None:
        """Until it is done, or has failed; raises nothing."""


Item = TypeVar("Item", bound=Awaited)


class Lane(ABC):
    """Takes work in order; ``parallel`` lanes go on with it while their caller does something else."""

    parallel: bool

    @abstractmethod
    def submit(self, work: Work) -> Result:
        """Begin ``work`` once what this lane was given before is done.

        In parallel lanes it must set gradients and precision itself, and what it reads must not be written anymore.
        """


class SameLane(Lane):
    """All at once, in order: ``submit`` returns when the work is done (on a GPU: asked for)."""

    parallel = False

    def submit(self, work: Work) -> Result:
        """See :class:`Lane`."""
        found = work()
        return found.cpu


class ThreadLane(Lane):
    """A thread. For processors: two threads that ask one GPU for kernels hinder each other."""

    parallel = True

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="egowm-lane")

    def submit(self, work: Work) -> Result:
        """See :class:`Lane`."""
        return self._executor.submit(work).result


class StreamLane(Lane):
    """A CUDA stream beside the current one; results come by a copy that stalls neither."""

    parallel = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def submit(self, work: Work) -> Result:
        """See :class:`Lane`."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            found = work()
            copy = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
            copy.copy_(found, non_blocking=True)
            done = self._stream.record_event()
        kept = [work]  # with what it reads: the other stream's allocator would hand that memory out again

        def result() -> Tensor:
            done.synchronize()
            kept.clear()
            return copy

        return result


def lane_beside(device: torch.device) -> Lane:
    """The parallel lane that suits ``device``."""
    return StreamLane(device) if device.type == "cuda" else ThreadLane()


def one_behind(items: Iterator[Item]) -> Iterator[Item]:
    """Each item once the next one has been begun; where that fails or the caller leaves, all are waited for."""
    begun: deque[Item] = deque()
    try:
        for item in items:
            begun.append(item)
            if len(begun) > 1:
                yield begun.popleft()
        while begun:
            yield begun.popleft()
    finally:
        for item in begun:
            item.wait()

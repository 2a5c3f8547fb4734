"""Long jobs over several processes, one at a time each, as they are done. Knows no job and no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    job: Callable[[Item], Result], items: Iterable[Item], workers: int, *, begin: Callable[[], None] | None = None
) -> Iterator[Result]:
    """``job`` of every item, in the order in which they are done; with one worker in this process, in order.

    ``job`` and items are picklable; ``begin`` is called first in every worker process. No more is handed out than
    there are workers: what is queued in a pool can't be called back when somebody interrupts.
    """
    if workers == 1:
        yield from map(job, items)
        return
    waiting = iter(items)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin) as pool:
        running: set[Future[Result]] = {pool.submit(job, item) for item in islice(waiting, workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(job, item) for item in islice(waiting, len(done))}
            for future in done:
                yield future.result()

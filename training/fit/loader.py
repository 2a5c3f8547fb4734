"""What the coming steps are shown, made ahead in worker processes so that decoding overlaps training.

Order and contents are those of asking step by step: workers hurry, they decide nothing. Memory is bounded by the steps
that are kept ready. Knows nothing of what an item is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader

from egowm_core.errors import DataError, EgowmError

Item_co = TypeVar("Item_co", covariant=True)
Item = TypeVar("Item")

READY = 2  # steps that each worker keeps ready
_MOST_WORKERS = 4
AUTOMATIC = -1


class StepItems(Protocol[Item_co]):
    """Anything that makes a step's item from its number alone."""

    def __getitem__(self, step: int) -> Item_co: ...


def number_of_workers(wanted: int, *, decoding: bool, local_processes: int = 1) -> int:
    """``wanted`` worker processes; ``AUTOMATIC`` is none where nothing is decoded, else half of the processors."""
    if wanted != AUTOMATIC:
        return wanted
    if not decoding:
        return 0
    return max(1, min(_MOST_WORKERS, (os.cpu_count() or 1) // (2 * local_processes)))


def ahead(items: StepItems[Item], first: int, stop: int, *, workers: int, pin: bool = False) -> Iterator[Item]:
    """``items[step]`` for the steps from ``first`` up to ``stop``, in order; without ``workers`` each when asked for.

    Raises:
        EgowmError: as making an item did; or DataError, when a worker died.
    """
    if workers == 0 or first >= stop:
        for step in range(first, stop):
            yield items[step]
        return
    loader: DataLoader[Any] = DataLoader(
        _Guarded(items),  # type: ignore[arg-type]
        batch_size=None,
        sampler=range(first, stop),
        num_workers=min(workers, stop - first),
        prefetch_factor=READY,
        collate_fn=_unchanged,
        pin_memory=pin,
        generator=torch.Generator(),  # of its own: the global one stays as it is
    )
    try:
        for item in loader:
            if isinstance(item, EgowmError):
                raise item
            yield item
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a worker that decodes frames died ({str(error).splitlines()[0]}); give it more memory (and /dev/shm), or "
            "set workers: 0"
        ) from error


class _Guarded(Generic[Item]):
    """Hands errors over as items: raised in a worker, they would come with its traceback for a message."""

    def __init__(self, items: StepItems[Item]) -> None:
        self._items = items

    def __getitem__(self, step: int) -> Item | EgowmError:
        try:
            return self._items[step]
        except EgowmError as error:
            return error


def _unchanged(item: Any) -> Any:
    return item

"""Files that appear whole or not at all: written beside, brought to the disk, renamed."""

from __future__ import annotations

import abc
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq


def publish(partial: Path, path: Path) -> None:
    """Give a complete file its name, on the disk first."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(path)


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Where to write what shall become ``path`` when the block ends well; otherwise nothing is left of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    publish(partial, path)


Writer = TypeVar("Writer", bound="Unfinished")


class Unfinished(abc.ABC):
    """What is written piece by piece: as a context manager it closes, or discards where there was an error."""

    @abc.abstractmethod
    def close(self) -> None:
        """Finish: the file gets its name."""

    @abc.abstractmethod
    def discard(self) -> None:
        """Give up: nothing is left."""

    def __enter__(self: Writer) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def copy(source: Path, path: Path) -> None:
    """Copy a file."""
    with beside(path) as partial:
        shutil.copyfile(source, partial)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as a parquet file of one row group."""
    with beside(path) as partial:
        pq.write_table(table, partial, compression="snappy", row_group_size=max(1, table.num_rows))

"""Files of somebody else's dataset, read with care: parquet tables and JSON lines. Knows nothing of what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from egowm_core.errors import DataError

RESTORE = "restore it from where the dataset came from"
_LONGEST_LINE = 1 << 22  # characters of a line of JSON
_POINTER = b"version https://git-lfs"


def unreadable(path: Path, error: object) -> DataError:
    """Why a file of a dataset could not be read, in one line."""
    try:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                return DataError(f"{path} is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    except FileNotFoundError:
        return DataError(f"{path} is missing; {RESTORE}")
    except OSError:
        pass
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"cannot read {path}: {text}; {RESTORE}")


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Columns of a small parquet file, all without ``columns``. Raises DataError."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if missing := [name for name in columns or () if name not in names]:
                raise DataError(f"{path} has no column {missing[0]!r}; {RESTORE}")
            return file.read(columns, use_threads=False)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise unreadable(path, error) from error


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines. Raises DataError."""
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if line.strip():
                    value = json.loads(line)
                    if not isinstance(value, dict):
                        raise ValueError("it holds no object")
                    yield value
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, f"line {number}: {error}" if number else error) from error

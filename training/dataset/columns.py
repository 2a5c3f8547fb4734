"""Columns of parquet files as arrays and back; vectors of one value are plain numbers in the format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from egowm_core.errors import DataError
from egowm_core.types import FloatArray


def read_table(path: Path, columns: Sequence[str] | None = None, *, row_group: int | None = None) -> pa.Table:
    """Columns of a file, or of one of its row groups. Raises DataError when it cannot be read or lacks one."""
    try:
        with pq.ParquetFile(path) as file:
            names = list(columns) if columns is not None else file.schema_arrow.names
            if missing := [name for name in names if name not in file.schema_arrow.names]:
                raise DataError(f"{path} has no column {missing[0]!r}; convert the recordings again")
            if row_group is None:
                return file.read(names)
            if row_group >= file.num_row_groups:
                raise DataError(f"{path} has {file.num_row_groups} episodes, expected more; convert again")
            return file.read_row_group(row_group, columns=names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read {path}: {error}; convert the recordings again") from error


def count_rows(path: Path) -> int:
    """Rows of a file. Raises DataError."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read {path}: {error}; convert the recordings again") from error


def values_of(column: pa.ChunkedArray[Any]) -> NDArray[Any]:
    """A column as (T,) or, where it holds vectors, (T,D)."""
    array: Any = column.combine_chunks()
    if not pa.types.is_fixed_size_list(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    return np.asarray(array.flatten().to_numpy(zero_copy_only=False)).reshape(len(array), -1)


def matrix_of(column: pa.ChunkedArray[Any]) -> FloatArray:
    """A vector column as (T,D) float32, also where D is 1."""
    return np.asarray(values_of(column), np.float32).reshape(len(column), -1)


def vectors(values: FloatArray, kind: pa.DataType) -> pa.Array[Any]:
    """Values (T,D) as a column of a vector type."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, kind.list_size) if pa.types.is_fixed_size_list(kind) else flat

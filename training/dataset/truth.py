"""The simulator's truth of an episode: structure ids of every pixel, streamed into and out of a compressed .npz.

The file is an ordinary ``numpy.load`` one with the array ``segmentation`` (T,H,W) uint16. Knows arrays and files only.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import DataError
from training.dataset.files import Unfinished, beside

_ARRAY = "segmentation.npy"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # what a zip file says of when, always
_BLOCK = 1 << 20


class LabelWriter(Unfinished):
    """Takes labels one by one without holding them: how many there are is known, and written, at the end only."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self._shape: tuple[int, ...] = ()
        self._spool = path.with_name(path.name + ".spool")
        self._file = self._spool.open("wb")

    def add(self, labels: NDArray[np.uint16]) -> None:
        """Take the labels (H,W) of the next frame. Raises DataError when the size changes."""
        if self.count and labels.shape != self._shape:
            raise DataError(f"labels of {labels.shape} after {self._shape}; one episode has one size")
        self._shape = labels.shape
        self._file.write(np.ascontiguousarray(labels, np.dtype("<u2")).tobytes())
        self.count += 1

    def close(self) -> None:
        """Write the file."""
        self._file.close()
        header = {"descr": "<u2", "fortran_order": False, "shape": (self.count, *self._shape)}
        entry = zipfile.ZipInfo(_ARRAY, _LONG_AGO)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with (
            beside(self.path) as partial,
            zipfile.ZipFile(partial, "w") as archive,
            archive.open(entry, "w", force_zip64=True) as out,
            self._spool.open("rb") as spool,
        ):
            np.lib.format.write_array_header_1_0(out, header)
            while block := spool.read(_BLOCK):
                out.write(block)
        self._spool.unlink()

    def discard(self) -> None:
        """Give up: nothing is left."""
        self._file.close()
        self._spool.unlink(missing_ok=True)


def read_labels(path: Path, start: int, stop: int, *, length: int) -> NDArray[np.uint16]:
    """Labels (n,H,W) of frames start..stop out of ``length``.

    Raises:
        DataError: the file cannot be read, or holds another number of frames.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_ARRAY) as file:
            shape = _shape(file)
            if len(shape) != 3 or shape[0] != length:
                raise DataError(f"{path} holds labels {shape}, expected {length} frames; convert the recording again")
            size = shape[1] * shape[2] * 2
            for _ in range(start):
                file.read(size)
            content = bytearray()
            while len(content) < (stop - start) * size and (block := file.read((stop - start) * size - len(content))):
                content += block
            return np.frombuffer(content, np.dtype("<u2")).astype(np.uint16).reshape(stop - start, *shape[1:])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}; convert the recording again") from error


def _shape(file: IO[bytes] | Any) -> tuple[int, ...]:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"array format {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype != np.dtype("<u2"):
        raise ValueError(f"array of {dtype}")
    return tuple(shape)

"""Damaged recordings, from a seed: bytes flipped, files cut short, pieces spliced in, as disks and dying robots do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

KINDS = ("flip", "burst", "truncate", "splice", "zero", "swap")


def mutate(source: Path, target: Path, rng: np.random.Generator) -> str:
    """Copy the recording ``source`` and damage one of its storage files; returns what was done."""
    if source.is_dir():
        shutil.copytree(source, target)
        files = sorted(file for file in target.iterdir() if file.suffix in (".mcap", ".db3", ".bag", ".yaml"))
        weights = np.array([1.0 if file.suffix == ".yaml" else 8.0 for file in files])
        file = files[rng.choice(len(files), p=weights / weights.sum())]
    else:
        target = target.with_suffix(source.suffix)
        shutil.copy(source, target)
        file = target
    data = bytearray(file.read_bytes())
    kind = str(rng.choice(KINDS))
    _damage(data, kind, rng)
    file.write_bytes(data)
    return f"{kind} in {file.name}"


def _damage(data: bytearray, kind: str, rng: np.random.Generator) -> None:
    size = len(data)

    def span(longest: int) -> slice:
        start = int(rng.integers(size))
        return slice(start, min(size, start + int(rng.integers(1, longest))))

    if kind == "flip":
        for at in rng.integers(size, size=int(rng.integers(1, 40))):
            data[at] ^= 1 << int(rng.integers(8))
    elif kind == "burst":
        where = span(4096)
        data[where] = rng.bytes(where.stop - where.start)
    elif kind == "truncate":
        del data[int(rng.integers(size)) :]
    elif kind == "splice":
        data[(at := int(rng.integers(size))) : at] = data[span(65536)]
    elif kind == "zero":
        where = span(65536)
        data[where] = bytes(where.stop - where.start)
    else:
        first, second = span(8192), span(8192)
        data[first], data[second] = data[second], data[first]

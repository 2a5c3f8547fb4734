"""Episodes that are there already, by the cosine of their embeddings: a bag converted twice, re-recorded or looped.

The first of its kind is kept, so the order of offers decides. Holds all kept embeddings: 4 E bytes an episode in
float32, for 100,000 episodes of the classical 265 numbers about 106 MB (twice that while the array grows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import DataError
from egowm_core.types import FloatArray
from training.curation.config import CurationConfig

_BLOCK = 512


@dataclass(frozen=True)
class Duplicate:
    """Episode ``name`` is (nearly) the episode ``of``; ``similarity`` is the cosine, ``limit`` the config's."""

    name: str
    of: str
    similarity: float
    limit: float


class DuplicateFilter:
    """Takes episodes one by one, or many at once (matrix products in blocks: for a whole dataset)."""

    def __init__(self, config: CurationConfig) -> None:
        self._limit = config.duplicate_similarity
        self._names: list[str] = []
        self._kept: FloatArray = np.zeros((0, 0), np.float32)

    def __len__(self) -> int:
        """Episodes kept so far."""
        return len(self._names)

    def add(self, name: str, embedding: FloatArray) -> Duplicate | None:
        """Offer the next episode: what it duplicates, or None: then it is kept, and later ones are held against it.

        Raises DataError when the embedding is of another length than those before.
        """
        return self.add_many([name], embedding[None])[0]

    def add_many(self, names: Sequence[str], embeddings: FloatArray) -> list[Duplicate | None]:
        """Offer episodes (N,E) in order; the same as one ``add`` after the other."""
        if embeddings.ndim != 2 or len(names) != len(embeddings):
            raise DataError(f"{len(names)} names go with embeddings ({len(names)},E), got {embeddings.shape}")
        if self._names and embeddings.shape[1] != self._kept.shape[1]:
            raise DataError(
                f"embedding of {names[0]!r} has {embeddings.shape[1]} numbers, those before {self._kept.shape[1]};"
                f" make all of them alike"
            )
        found: list[Duplicate | None] = []
        for start in range(0, len(names), _BLOCK):
            found += self._add_block(names[start : start + _BLOCK], embeddings[start : start + _BLOCK])
        return found

    def _add_block(self, names: Sequence[str], block: FloatArray) -> list[Duplicate | None]:
        known = len(self._names)
        self._make_room(known + len(names), block.shape[1])
        before, nearest = self._nearest(block, known)
        found: list[Duplicate | None] = []
        for i, (name, embedding) in enumerate(zip(names, block, strict=True)):
            similarity, of = float(before[i]), int(nearest[i])
            added = self._kept[known : len(self._names)] @ embedding
            if len(added) and added.max() > similarity:
                similarity, of = float(added.max()), known + int(added.argmax())
            if self._limit is not None and similarity >= self._limit:
                found.append(Duplicate(name, self._names[of], round(min(1.0, similarity), 6), self._limit))
                continue
            self._kept[len(self._names)] = embedding
            self._names.append(name)
            found.append(None)
        return found

    def _nearest(self, block: FloatArray, known: int) -> tuple[FloatArray, NDArray[np.int64]]:
        """Highest similarity (N,) to the ``known`` first ones, and whose it is (N,)."""
        best, which = np.full(len(block), -2.0, np.float32), np.zeros(len(block), np.int64)
        for start in range(0, known, 8 * _BLOCK):
            products = block @ self._kept[start : min(known, start + 8 * _BLOCK)].T
            top = products.argmax(axis=1)
            values = products[np.arange(len(block)), top]
            better = values > best
            best[better], which[better] = values[better], start + top[better]
        return best, which

    def _make_room(self, rows: int, width: int) -> None:
        if rows > len(self._kept):
            grown = np.zeros((max(rows, 2 * len(self._kept), 64), width), np.float32)
            if self._names:
                grown[: len(self._names)] = self._kept[: len(self._names)]
            self._kept = grown

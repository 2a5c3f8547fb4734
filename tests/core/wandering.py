"""A causal model's configuration, and actions without end for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

CAUSAL = {"causal": True, "block_out_channels": [64, 128]}


def wander(count: int | None = None) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(3)
    for _ in itertools.count() if count is None else range(count):
        yield rng.uniform(-0.08, 0.08, 3).astype(np.float32)

"""A stress run's progress bars, on standard error; silent where nobody looks. Knows tqdm alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from tqdm import tqdm


class Progress:
    """``quiet`` shows nothing; nor does a standard error that is no terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._hidden = quiet or not sys.stderr.isatty()

    def steps(self, count: int, what: str) -> Iterator[int]:
        """0..count-1 with a bar."""
        yield from tqdm(range(count), desc=what, disable=self._hidden, leave=False)

    def wait(self, seconds: float, what: str) -> None:
        """Sleep with a bar."""
        for _ in self.steps(max(1, round(seconds * 2)), what):
            time.sleep(0.5)

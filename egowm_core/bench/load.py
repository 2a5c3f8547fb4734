"""Other work that competes for the processor: processes that are busy and idle by turns, drawn from a seed.

    python -m egowm_core.bench.load 0       # one such process; it ends when its standard input does

Each busy spell sorts numbers (arithmetic and memory, one thread), each idle one sleeps; both are drawn from exponential
distributions. Light: neither torch nor a model is imported. Knows nothing of what it disturbs.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np

BUSY_S, IDLE_S = 2.0, 1.0
"""Mean length of a spell."""


@contextlib.contextmanager
def competing_load(processes: int, *, seed: int = 0) -> Iterator[None]:
    """Within this context so many processes compete; they end with it, and with this process however that ends."""
    command = [sys.executable, "-m", "egowm_core.bench.load"]
    running = [subprocess.Popen([*command, str(seed + index)], stdin=subprocess.PIPE) for index in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def work(seed: int) -> None:
    """Be busy and idle by turns, without end."""
    rng = np.random.default_rng(seed)
    while True:
        until = time.monotonic() + float(rng.exponential(BUSY_S))
        while time.monotonic() < until:
            rng.random(100_000).sort()
        time.sleep(float(rng.exponential(IDLE_S)))


def main() -> None:
    """One process's work; ends with its standard input."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while sys.stdin.buffer.read(1):
                pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    work(int(sys.argv[1]))


if __name__ == "__main__":
    main()

"""What a process takes up: memory, threads, open files. Knows /proc of Linux alone; elsewhere there are no figures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Footprint:
    """Resident memory in bytes, threads and open file descriptors of a process at one moment."""

    rss: int
    threads: int
    files: int


def footprint(pid: int | None = None) -> Footprint | None:
    """Of the process ``pid``, or of this one; None where it is gone or the system does not tell."""
    directory = Path("/proc") / str(os.getpid() if pid is None else pid)
    try:
        fields = dict(line.split(":", 1) for line in (directory / "status").read_text().splitlines() if ":" in line)
        files = sum(1 for _ in (directory / "fd").iterdir())
        return Footprint(int(fields["VmRSS"].split()[0]) << 10, int(fields["Threads"]), files)
    except (OSError, KeyError, ValueError):
        return None


def process_figures() -> dict[str, str]:
    """This process's footprint as it should read in the diagnostics."""
    found = footprint()
    if found is None:
        return {}
    return {
        "memory_mb": f"{found.rss / MEGABYTE:.1f}",
        "threads": str(found.threads),
        "open_files": str(found.files),
    }

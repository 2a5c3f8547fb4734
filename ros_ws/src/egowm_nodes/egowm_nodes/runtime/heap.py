"""Which memory goes back to the system when it is freed, and which is kept. Knows glibc alone; elsewhere does nothing.

Left alone, glibc raises the size from which a block gets pages of its own to that of the largest one ever freed, up to
32 MB. After one message of tens of megabytes such blocks come from the common heap, which cannot shrink past what lies
behind them, and a process that met a few of them stays hundreds of megabytes larger for good. Once that size is set,
though, glibc gives the heap's end back at every chance: pictures at 60 Hz would be paid for in page faults, 2.6 ms for
each 6 MB of them instead of 0.24. So some of it is kept.
"""

from __future__ import annotations

import ctypes

LARGE = 16 << 20  # bytes; above pictures and the activations of small models, which are better reused
KEPT = 48 << 20  # bytes of free memory at the heap's end
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def return_large_blocks(size: int = LARGE, *, kept: int = KEPT) -> bool:
    """Let blocks of at least ``size`` bytes always have pages of their own; whether the system knows how."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_M_MMAP_THRESHOLD, size)) and bool(mallopt(_M_TRIM_THRESHOLD, kept))
    except (OSError, AttributeError, TypeError):
        return False

"""Gives large blocks of memory back to the system as soon as they are free. Knows glibc alone; elsewhere does nothing.

glibc raises the size from which a block gets pages of its own to that of the largest one ever freed, up to 32 MB. After
one message of tens of megabytes such blocks come from the common heap, which cannot shrink past what lies behind them,
and a process that met a few of them stays hundreds of megabytes larger for good.
"""

from __future__ import annotations

import ctypes

LARGE = 16 << 20  # bytes; above pictures and the activations of small models, which are better reused
_M_MMAP_THRESHOLD = -3  # malloc.h


def return_large_blocks(size: int = LARGE) -> bool:
    """Let blocks of at least ``size`` bytes always have pages of their own; whether the system knows how."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, size))
    except (OSError, AttributeError, TypeError):
        return False

"""Gives back the shared memory that killed processes left behind.

Fast DDS keeps a segment in /dev/shm for every participant, tens of megabytes with a profile for big images, and unlinks
it when the participant ends. After a kill -9 nobody does, so a node that is respawned for weeks would fill the memory.
Every segment has a lock file that its owner holds; one that can be locked has no owner. Touches files of Fast DDS and
of this user alone. Knows no ROS.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_SEGMENT = re.compile(r"^fastrtps_[0-9a-f]{16}$")
_LOCK_SUFFIX = "_el"
_YOUNG_S = 3.0  # a segment may exist for a moment before its owner has locked it


def sweep(directory: Path = SHARED_MEMORY) -> tuple[int, int]:
    """Unlink segments whose owner is gone; returns how many and their bytes. Never raises for files it cannot have."""
    count = size = 0
    try:
        names = sorted(path.name for path in directory.iterdir() if _SEGMENT.match(path.name))
    except OSError:
        return 0, 0  # no shared memory here
    for name in names:
        freed = _free(directory / name)
        if freed is not None:
            count, size = count + 1, size + freed
    return count, size


def _free(segment: Path) -> int | None:
    """Bytes of a segment that was unlinked; None where it lives, is somebody else's or has no lock file."""
    lock = segment.with_name(segment.name + _LOCK_SUFFIX)
    try:
        found = segment.lstat()
        if found.st_uid != os.getuid() or time.time() - found.st_ctime < _YOUNG_S:
            return None
        handle = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the owner holds this for as long as it lives
        segment.unlink()
        lock.unlink(missing_ok=True)
    except OSError:
        return None
    finally:
        os.close(handle)
    return found.st_size

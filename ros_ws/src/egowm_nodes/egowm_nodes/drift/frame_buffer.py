"""The camera's newest pictures by stamp, bounded in time and bytes. Safe to use from several threads.

JPEGs are kept as they came and decoded only when asked for; raw pictures shrink to the model's size at once, as soon as
that size is known. Knows no ROS (messages are duck-typed) and no score.
"""

from __future__ import annotations

import bisect
import threading
from typing import Any

import numpy as np

from egowm_core.data.images import check_compressed, decode_image
from egowm_core.data.messages import stamp_ns
from egowm_core.data.preprocess import Preprocess
from egowm_core.errors import DataError
from egowm_core.types import NANOSECONDS_PER_SECOND, ImageArray

_RESET_NS = NANOSECONDS_PER_SECOND
OVERHEAD = 2048  # bytes of a message beside its picture: a flood of empty ones must count, too


class FrameBuffer:
    """Keeps ``keep_s`` of pictures (by stamp), at most ``max_bytes`` of them, and hands them out preprocessed."""

    def __init__(self, *, keep_s: float, max_bytes: int) -> None:
        self._keep_ns, self._max_bytes = round(keep_s * NANOSECONDS_PER_SECOND), max_bytes
        self._lock = threading.Lock()
        self._stamps: list[int] = []
        self._items: list[Any] = []  # the message, or the frame (H,W,3) once it is preprocessed
        self._preprocess: Preprocess | None = None
        self.first_ns: int | None = None  # of the first picture since the start or the last clear
        self.bytes = 0
        self.backwards = 0

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest picture."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None

    def fit(self, height: int, width: int) -> None:
        """Say what size frames shall have; another size than before forgets everything."""
        wanted = Preprocess(height, width)
        if self._preprocess not in (None, wanted):
            self.clear()
        self._preprocess = wanted

    def add(self, message: Any) -> bool:
        """Keep an Image or CompressedImage; returns whether the clock was reset (and all before is forgotten).

        A stamp that is not later than the newest is skipped and counted; more than a second back is a reset.

        Raises:
            DataError: a raw picture that can't be decoded, a compressed one that is none or was cut short, or one that
                is larger than the whole buffer. It takes no other's place.
        """
        stamp, newest = stamp_ns(message), self.newest_ns
        reset = False
        if not (raw := hasattr(message, "encoding")):
            check_compressed(message)
        if newest is not None and stamp <= newest:
            if newest - stamp <= _RESET_NS or stamp == 0:
                self.backwards += 1
                return False
            self.clear()
            reset = True
        item = self._preprocess(decode_image(message)) if raw and self._preprocess is not None else message
        if _size(item) > self._max_bytes:
            raise DataError(f"it has {_size(item)} bytes, the whole buffer holds {self._max_bytes}; raise buffer_mb")
        with self._lock:
            self.first_ns = stamp if self.first_ns is None else self.first_ns
            self._stamps.append(stamp)
            self._items.append(item)
            self.bytes += _size(item)
            while self._stamps[0] < stamp - self._keep_ns or (self.bytes > self._max_bytes and len(self._stamps) > 1):
                self._forget(0)
        return reset

    def frame(self, stamp: int, tolerance_ns: int) -> tuple[int, ImageArray] | None:
        """Stamp and frame of the picture nearest to ``stamp``, at most ``tolerance_ns`` away; None where there is none.

        Raises:
            DataError: ``fit`` was not called, or the picture can't be decoded. It is forgotten then: asking again finds
                the next nearest.
        """
        if self._preprocess is None:
            raise DataError("the size of frames is not known yet; wait for a first rollout")
        with self._lock:
            at = bisect.bisect_left(self._stamps, stamp)
            beside = [i for i in (at - 1, at) if 0 <= i < len(self._stamps)]
            best = min(beside, key=lambda i: abs(self._stamps[i] - stamp), default=None)
            if best is None or abs(self._stamps[best] - stamp) > tolerance_ns:
                return None
            found, item = self._stamps[best], self._items[best]
        if isinstance(item, np.ndarray):
            return found, item
        try:
            image = self._preprocess(decode_image(item))
        except DataError:
            self._replace(found, item, None)
            raise
        self._replace(found, item, image)
        return found, image

    def clear(self) -> None:
        """Forget everything but the size."""
        with self._lock:
            self._stamps, self._items, self.bytes, self.first_ns = [], [], 0, None

    def _replace(self, stamp: int, old: Any, new: ImageArray | None) -> None:
        with self._lock:
            at = bisect.bisect_left(self._stamps, stamp)
            if at >= len(self._stamps) or self._items[at] is not old:
                return  # gone meanwhile
            if new is None:
                self._forget(at)
                return
            self.bytes += _size(new) - _size(old)
            self._items[at] = new

    def _forget(self, at: int) -> None:
        self.bytes -= _size(self._items[at])
        del self._stamps[at], self._items[at]


def _size(item: Any) -> int:
    return OVERHEAD + (int(item.nbytes) if isinstance(item, np.ndarray) else len(item.data))

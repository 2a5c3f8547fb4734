"""Which predicted frame shows which moment: so many seconds ahead, and "now", as it was predicted a while ago.

Plain arithmetic on stamps and frames; knows no message, no publisher and no model. Safe to use from two threads.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from egowm_core.errors import ConfigError
from egowm_core.types import NANOSECONDS_PER_SECOND, Frames, ImageArray

MOST_SHOWN = 6  # topics
LONGEST_S = 60.0
_MOST_WAITING = 256  # frames that wait for their moment


def require_shown_ahead(shown_ahead_s: Sequence[float]) -> None:
    """Check the parameter ``shown_ahead_s``.

    Raises:
        ConfigError: more than ``MOST_SHOWN`` moments, one outside 0..``LONGEST_S`` s, or one listed twice.
    """
    values = list(shown_ahead_s)
    fine = all(math.isfinite(value) and 0.0 <= value <= LONGEST_S for value in values)
    if not fine or len(values) > MOST_SHOWN or len({moment_name(value) for value in values}) != len(values):
        raise ConfigError(
            f"parameter shown_ahead_s is {values}; expected at most {MOST_SHOWN} different times from 0 (now) to"
            f" {LONGEST_S:g} s"
        )


def moment_name(ahead_s: float) -> str:
    """The topic's word for a moment: ``now``, ``plus_1s``, ``plus_0_5s``."""
    return "now" if ahead_s == 0 else f"plus_{ahead_s:.3f}".rstrip("0").rstrip(".").replace(".", "_") + "s"


def frame_ahead(frames: Frames, context_stamp_ns: int, ahead_s: float) -> tuple[int, bool]:
    """Index of the frame nearest to ``ahead_s`` after the context, and whether the frames reach that far.

    They do within half of their spacing; else it is the last one.
    """
    wanted_ns = context_stamp_ns + round(ahead_s * NANOSECONDS_PER_SECOND)
    stamps = frames.stamps_ns
    nearest = int(np.abs(stamps - wanted_ns).argmin())
    spacing_ns = (int(stamps[-1]) - context_stamp_ns) // len(stamps)
    return nearest, wanted_ns <= int(stamps[-1]) + spacing_ns // 2


class ComingTrue:
    """Predicted frames that wait until their moment has come.

    Of several predictions of one moment the first stays: the one that looked the furthest ahead.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[int, ImageArray] = OrderedDict()  # by stamp, ascending
        self._now_ns: int | None = None

    def keep(self, frames: Frames, index: int) -> None:
        """Let frame ``index`` and those before it wait, where none waits for their moment yet."""
        chosen = zip(frames.stamps_ns[: index + 1].tolist(), frames.images[: index + 1], strict=True)
        with self._lock:
            tolerance_ns = _tolerance_ns(frames)
            for stamp_ns, image in chosen:
                if self._now_ns is not None and stamp_ns <= self._now_ns:
                    continue
                if all(abs(stamp_ns - other) > tolerance_ns for other in self._waiting):
                    self._waiting[stamp_ns] = image
            self._waiting = OrderedDict(sorted(self._waiting.items())[:_MOST_WAITING])

    def due(self, now_ns: int, *, period_ns: int) -> ImageArray | None:
        """What was predicted for ``now_ns`` (within half a period), or None; forgets what is over.

        A clock that went back more than a period forgets everything.
        """
        with self._lock:
            if self._now_ns is not None and now_ns < self._now_ns - period_ns:
                self._waiting.clear()
            self._now_ns = now_ns
            found = [stamp for stamp in self._waiting if abs(stamp - now_ns) <= period_ns // 2]
            image = self._waiting[min(found, key=lambda stamp: abs(stamp - now_ns))] if found else None
            for stamp in [stamp for stamp in self._waiting if stamp <= now_ns + period_ns // 2]:
                del self._waiting[stamp]
            return image


def _tolerance_ns(frames: Frames) -> int:
    """A quarter of the frames' spacing: nearer stamps mean the same moment."""
    if len(frames) < 2:
        return 0
    return int(np.diff(frames.stamps_ns).min()) // 4

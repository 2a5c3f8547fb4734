"""What was left out, when, and why: the one form in which every filter says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reason(str, Enum):
    """Why ticks or an episode are not used. A cut splits and excludes nothing."""

    CUT = "scene cut"
    PAUSE = "pause"
    FROZEN = "frozen picture"
    DARK = "too dark"
    BRIGHT = "too bright"
    SATURATED = "overexposed"
    FLAT = "no contrast"
    BLURRED = "blurred"
    LITTLE_MOTION = "too little motion"
    LITTLE_DETAIL = "too little detail"


@dataclass(frozen=True)
class Exclusion:
    """``frames`` ticks from ``start_ns`` to ``end_ns`` inclusive; ``value`` was measured, ``limit`` is the config's.

    Units are those of the limit in the config: seconds, grey levels of 0..255, shares of 0..1, scales of the channels.
    """

    reason: str
    start_ns: int
    end_ns: int
    frames: int
    value: float
    limit: float

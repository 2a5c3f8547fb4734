"""What a recorded drive is asked for, and what it gave. Knows no simulation and no bag."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from egowm_sim.faults import Fault

ROBOTS = ("base", "humanoid")


@dataclass(frozen=True)
class Drive:
    """What to record: the room of ``seed`` driven for ``seconds``, into ``path``, by one of ``ROBOTS``.

    ``faults`` go wrong on the way (times in seconds from the start); ``camera_noise`` is in grey levels, ``flicker``
    a share of the exposure, both sigmas.
    """

    path: Path
    seed: int
    seconds: float = 60.0
    image_rate_hz: float = 4.0
    odom_rate_hz: float = 20.0
    height: int = 240
    width: int = 320
    truth: bool = False
    faults: tuple[Fault, ...] = ()
    camera_noise: float = 0.0
    flicker: float = 0.0
    robot: str = "base"


@dataclass(frozen=True)
class Figures:
    """What one drive gave: frames, metres, bytes and the seconds it took (wall clock)."""

    seed: int
    frames: int
    distance_m: float
    size_bytes: int
    wall_s: float

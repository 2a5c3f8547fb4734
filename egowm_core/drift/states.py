"""The words of the drift monitor: states, causes, and the report that carries both. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class DriftState(Enum):
    """What the monitor believes; the names are also the words of the message."""

    OK = "OK"
    WARN = "WARN"
    ERROR = "ERROR"
    STALE = "STALE"  # comparisons have stopped coming
    UNDEFINED = "UNDEFINED"  # nothing can be judged, or the baseline is being learned


class Cause(Enum):
    """What is most likely wrong."""

    NONE = "none"
    FROZEN = "frozen"  # the same picture again and again, while the robot moves
    DARK = "dark"  # hardly any light
    OCCLUDED = "occluded"  # something covers the lens, wholly or in part
    EXPOSURE = "exposure"  # the same things are brighter or darker at once
    CAMERA_MOVED = "camera moved"  # the picture jumped as a whole, once
    LAG = "lag"  # pictures agree with the motion, but of another time
    SLIP = "slip"  # odometry moves, the picture does not, or far less
    PUSHED = "pushed"  # the picture moves, odometry does not
    ODOMETRY = "odometry"  # both move, but not alike, and lastingly so
    NOT_FOLLOWING = "not following"  # the robot does something else than was planned
    MOVING_THINGS = "moving things"  # parts of the scene move by themselves
    NOVEL_SCENE = "novel scene"  # the motion is right, but the prediction is not


@dataclass(frozen=True)
class DriftReport:
    """``alarm``: the strongest evidence, 1 at the threshold; ``channels``: each one's. ``scs``: newest per horizon,
    ``baseline_scs``: what is usual for such motion. ``lag_s``: how much later pictures are than their stamps, where
    that is the cause.
    """

    state: DriftState
    reason: str
    cause: Cause = Cause.NONE
    stamp_ns: int | None = None
    alarm: float = 0.0
    channels: dict[str, float] = field(default_factory=dict)
    scs: dict[int, float] = field(default_factory=dict)
    baseline_scs: dict[int, float] = field(default_factory=dict)
    lag_s: float | None = None

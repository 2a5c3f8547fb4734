"""What the synchronizer hands out: ticks, and the reasons for which something was not used. Knows no stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from egowm_core.types import FloatArray, ImageArray


class Drop(str, Enum):
    """Why something was not used. Those that end in "(break)" end a segment without losing a message."""

    IMAGE_BACKWARDS = "image stamp backwards"
    IMAGE_DUPLICATE = "image duplicate stamp"
    IMAGE_UNSTAMPED = "image unstamped"
    IMAGE_UNDECODABLE = "image undecodable"
    POSE_BACKWARDS = "odom stamp backwards"
    POSE_DUPLICATE = "odom duplicate stamp"
    POSE_NOT_FINITE = "odom not finite"
    ODOM_GAP = "odom gap"
    NO_ODOM = "no odom"
    JOINTS_MALFORMED = "joint message malformed"
    JOINTS_EMPTY = "joint message empty"
    JOINTS_INCOMPLETE = "joints incomplete"
    JOINT_NOT_FINITE = "joint not finite"
    JOINT_REPEATED = "joint repeated"
    IMAGE_GAP = "image gap (break)"
    MOTION_GAP = "odom gap (break)"
    OUTSIDE_LIMITS = "outside limits (break)"
    CLOCK_RESET = "clock reset (break)"


@dataclass(frozen=True)
class Tick:
    """A frame on the model's rate. ``action_from_previous`` (D,) float32 moves the previous tick's frame to this one.

    It is None on the first tick of a segment: nothing before it may be used together with what follows. ``state`` (S,)
    float32 is what was measured at the tick, in units and in the order of ``state_names``.
    """

    stamp_ns: int
    frame: ImageArray
    action_from_previous: FloatArray | None
    state: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))

"""What a recording is made of, whatever file format it came in: topics and stamped values.

Images are decoded on demand. Knows no file format, no embodiment and no episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.images import decode_image, decode_labels
from egowm_core.types import ImageArray

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
ODOMETRY = "nav_msgs/msg/Odometry"
TWIST_TYPES = ("geometry_msgs/msg/TwistStamped", "geometry_msgs/msg/Twist")
JOINT_STATE = "sensor_msgs/msg/JointState"
TRUTH_PREFIX = "/truth/"


@dataclass(frozen=True)
class Topic:
    """A topic of a recording."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class ImageValue:
    """An image, still encoded: ``decode`` gives (H,W,3) uint8 RGB, ``labels`` (H,W) uint16; both raise DataError."""

    message: Any

    def decode(self) -> ImageArray:
        return decode_image(self.message)

    def labels(self) -> NDArray[np.uint16]:
        return decode_labels(self.message)


@dataclass(frozen=True)
class OdometryValue:
    """``pose`` (3,) x m, y m, yaw rad in the odometry frame; ``twist`` (3,) m/s, m/s, rad/s in the body frame."""

    pose: NDArray[np.float64]
    twist: NDArray[np.float64]


@dataclass(frozen=True)
class TwistValue:
    """``twist`` (3,) m/s, m/s, rad/s in the body frame."""

    twist: NDArray[np.float64]


@dataclass(frozen=True)
class JointsValue:
    """Joint positions by name, rad or m."""

    positions: dict[str, float]


@dataclass(frozen=True)
class TextValue:
    """A std_msgs/String."""

    text: str


Value = ImageValue | OdometryValue | TwistValue | JointsValue | TextValue


@dataclass(frozen=True)
class Stamped:
    """A value with its header stamp; ``stamp_ns`` is the record time where the type has no header."""

    topic: str
    stamp_ns: int
    value: Value

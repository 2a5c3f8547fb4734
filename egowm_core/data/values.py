"""What a recording is, whatever file format it came in: topics, stamped values, and how they are read.

Images are decoded on demand. Knows no file format, no embodiment and no episode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.images import decode_image, decode_labels
from egowm_core.types import ImageArray

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
ODOMETRY = "nav_msgs/msg/Odometry"
TWIST_TYPES = ("geometry_msgs/msg/TwistStamped", "geometry_msgs/msg/Twist")
POSE_STAMPED = "geometry_msgs/msg/PoseStamped"
JOINT_STATE = "sensor_msgs/msg/JointState"
TRUTH_PREFIX = "/truth/"


@dataclass(frozen=True)
class Topic:
    """A topic of a recording. ``custom`` is its own message type where it is read as ``type`` because of its fields."""

    name: str
    type: str
    count: int
    custom: str = ""


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
    """``pose`` (3,) x m, y m, yaw rad in the odometry frame; ``twist`` (3,) m/s, m/s, rad/s in the body frame.

    ``pose6`` (6,) is all of the pose, as in PoseValue; None where only the planar part was recorded.
    """

    pose: NDArray[np.float64]
    twist: NDArray[np.float64]
    pose6: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class TwistValue:
    """``twist`` (3,) m/s, m/s, rad/s in the body frame."""

    twist: NDArray[np.float64]


@dataclass(frozen=True)
class PoseValue:
    """``pose6`` (6,) x, y, z m and roll, pitch, yaw rad; the angles are NaN where the quaternion is not a unit one."""

    pose6: NDArray[np.float64]


@dataclass(frozen=True)
class JointsValue:
    """Joint positions by name, rad or m.

    ``repeated`` are names that the message gives several, differing positions: they are not in ``positions``.
    ``fault`` says why nothing of the message can be used, in words; empty where it is sound.
    """

    positions: dict[str, float]
    repeated: tuple[str, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class TextValue:
    """A std_msgs/String."""

    text: str


Value = ImageValue | OdometryValue | TwistValue | PoseValue | JointsValue | TextValue


@dataclass(frozen=True)
class Stamped:
    """A value with its header stamp; ``stamp_ns`` is the record time where the type has no header."""

    topic: str
    stamp_ns: int
    value: Value


class Recording(Protocol):
    """A recording opened as a context manager: a bag, or an episode of a dataset in another format."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    @property
    def task(self) -> str:
        """What the robot does, in words; empty where the recording does not say."""

    @property
    def notes(self) -> Sequence[str]:
        """What a reader should know, such as custom types read by their fields. Grows by reading."""

    @property
    def damage(self) -> Sequence[str]:
        """What could not be read, a line each that names recording, place and remedy; empty when all is well."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """Messages that the last reading of each topic skipped because they could not be read."""

    @property
    def topics(self) -> dict[str, Topic]:
        """Topics by name, sorted."""

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message."""

    def read(self, topics: Sequence[str]) -> Iterator[Stamped]:
        """Values of these topics in record order.

        Single messages that cannot be read are skipped and counted. Raises DataError on unknown or unreadable topics,
        broken data, and when most of a topic's messages cannot be read.
        """

    def __enter__(self) -> Recording: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

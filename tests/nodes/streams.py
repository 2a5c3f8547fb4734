"""A scripted robot: its camera looks at a made-up wall; messages as plain stand-ins for their fields."""

from __future__ import annotations

import math
from types import SimpleNamespace

import cv2
import numpy as np

from tests.fixtures.tiny_checkpoint import made_up_picture

START_NS = 1_700_000_000_000_000_000
WALL = made_up_picture(240, 960, seed=5)


def at(seconds: float) -> int:
    """Stamp of ``seconds`` after the start."""
    return START_NS + round(seconds * 1e9)


def yaw_at(seconds: float) -> float:
    return 0.25 * math.sin(0.8 * seconds)


def picture_at(seconds: float, *, height: int = 240, width: int = 320) -> np.ndarray:
    """What the camera sees: the wall moves sideways as the robot turns."""
    left = round(320 + yaw_at(seconds) * 320 / (math.pi / 2))
    view = WALL[:, left : left + 320]
    return view if (height, width) == (240, 320) else cv2.resize(view, (width, height))


def plain_image(seconds: float, image: np.ndarray, *, encoding: str = "rgb8") -> SimpleNamespace:
    """An Image by its fields, without ROS."""
    height, width = image.shape[:2]
    return SimpleNamespace(
        header=plain_header(at(seconds)),
        height=height,
        width=width,
        encoding=encoding,
        step=3 * width,
        data=image.tobytes(),
    )


def plain_jpeg(seconds: float, image: np.ndarray) -> SimpleNamespace:
    """A CompressedImage by its fields, without ROS."""
    data = cv2.imencode(".jpg", image)[1].tobytes()
    return SimpleNamespace(header=plain_header(at(seconds)), format="jpeg", data=data)


def plain_odometry(seconds: float, x: float = 0.0, yaw: float = 0.0) -> SimpleNamespace:
    """An Odometry by its fields, without ROS."""
    orientation = SimpleNamespace(x=0.0, y=0.0, z=math.sin(yaw / 2), w=math.cos(yaw / 2))
    pose = SimpleNamespace(position=SimpleNamespace(x=x, y=0.0, z=0.0), orientation=orientation)
    return SimpleNamespace(header=plain_header(at(seconds)), pose=SimpleNamespace(pose=pose))


def plain_header(stamp_ns: int) -> SimpleNamespace:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id="camera")

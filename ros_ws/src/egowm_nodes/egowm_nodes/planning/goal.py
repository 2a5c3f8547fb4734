"""The goal: a picture from a message or a file, as the model would see it, and how far other pictures are from it.

Knows embodiments' cameras; knows no node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egowm_core.channels import Camera
from egowm_core.data.images import decode_compressed, decode_image
from egowm_core.data.preprocess import Preprocess
from egowm_core.errors import DataError
from egowm_core.planning import GoalCost, goal_cost
from egowm_core.types import ImageArray

MOST_SIDE = 4096  # px
MOST_BYTES = 32 << 20
_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class Goal:
    """``picture`` (H,W,3) uint8 as the model sees, and the ``cost`` of others."""

    picture: ImageArray
    cost: GoalCost
    preprocess: Preprocess

    def cost_of(self, image: ImageArray) -> float:
        """Of a camera's picture (h,w,3) uint8."""
        return float(self.cost(self.preprocess(image)[None, None])[0])


def goal_from_message(message: Any, camera: Camera) -> Goal:
    """Of a sensor_msgs/Image. Raises DataError where it is too large, no picture, or of another camera's aspect."""
    height, width = int(message.height), int(message.width)
    if not (0 < height <= MOST_SIDE and 0 < width <= MOST_SIDE) or len(message.data) > MOST_BYTES:
        raise DataError(f"the goal image has {height}x{width} pixels; expected sides of 1 to {MOST_SIDE}")
    return _goal(decode_image(message), camera)


def goal_from_file(path: Path, camera: Camera) -> Goal:
    """Of a JPEG or PNG file. Raises DataError as ``goal_from_message``, or where it cannot be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"goal_file {path} is over {MOST_BYTES >> 20} MB; give a JPEG or PNG of the camera's size")
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"goal_file {path} cannot be read: {error.strerror}; give a JPEG or PNG file") from error
    return _goal(decode_compressed(data, path.suffix.lower().lstrip(".")), camera)


def _goal(image: ImageArray, camera: Camera) -> Goal:
    height, width = image.shape[:2]
    if not math.isclose(width / height, camera.width / camera.height, rel_tol=_ASPECT_TOLERANCE):
        raise DataError(
            f"the goal image has {height}x{width} pixels, another aspect than the camera's"
            f" {camera.height}x{camera.width}; take it with the robot's own camera"
        )
    preprocess = Preprocess.for_camera(camera)
    picture = preprocess(image)
    return Goal(picture, goal_cost(picture), preprocess)

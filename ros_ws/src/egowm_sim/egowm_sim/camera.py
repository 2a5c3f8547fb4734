"""The simulated camera's frames, place on the robot and pinhole. Numpy only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ODOM_FRAME, BASE_FRAME = "odom", "base_link"
CAMERA_FRAME, OPTICAL_FRAME = "camera_link", "camera_optical_frame"

FORWARD_M = 0.15  # ahead of base_link
HEIGHT_M = 0.45  # above the floor
PITCH_RAD = math.radians(10.0)  # downwards positive
HFOV_RAD = math.radians(90.0)


def focal_px(width: int) -> float:
    """Focal length in pixels of a ``width`` px wide image."""
    return width / 2 / math.tan(HFOV_RAD / 2)


def vertical_fov_deg(height: int, width: int) -> float:
    """Vertical field of view in degrees of a ``height`` x ``width`` image with square pixels."""
    return math.degrees(2 * math.atan(height / 2 / focal_px(width)))


def camera_matrix(height: int, width: int) -> NDArray[np.float64]:
    """Pinhole matrix K (3,3); pixel centres at integer coordinates, so the axis is at ((W-1)/2, (H-1)/2)."""
    f = focal_px(width)
    return np.array([[f, 0.0, (width - 1) / 2], [0.0, f, (height - 1) / 2], [0.0, 0.0, 1.0]])


def mount_rotation() -> NDArray[np.float64]:
    """Base from camera in the OpenGL convention (3,3): columns are image right, image up and backwards."""
    s, c = math.sin(PITCH_RAD), math.cos(PITCH_RAD)
    return np.array([[0.0, s, -c], [-1.0, 0.0, 0.0], [0.0, c, s]])

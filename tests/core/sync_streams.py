"""Made-up streams of images and poses through a synchronizer, for tests of the ticks that come out."""

from __future__ import annotations

import numpy as np

from egowm_core.data.sync import Tick, TickSynchronizer

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND


def at(seconds: float) -> int:
    return BASE + round(seconds * SECOND)


def frame(i: int) -> np.ndarray:
    return np.full((2, 2, 3), i % 256, np.uint8)


def circle(seconds: float) -> np.ndarray:
    yaw = 0.3 * seconds
    return np.array([np.sin(yaw), 1 - np.cos(yaw), np.arctan2(np.sin(yaw), np.cos(yaw))])


def line(seconds: float) -> list[float]:
    return [0.4 * seconds, 0.0, 0.0]


def events(seconds: float, *, image_hz: float = 20.0, odom_hz: float = 50.0, pose=line) -> list[tuple]:
    images = [("image", at(i / image_hz), i) for i in range(int(seconds * image_hz) + 1)]
    poses = [("pose", at(i / odom_hz), pose(i / odom_hz)) for i in range(int(seconds * odom_hz) + 2)]
    return sorted(images + poses, key=lambda e: e[1])


def run(sync: TickSynchronizer, stream: list[tuple]) -> list[Tick]:
    ticks = []
    for kind, stamp, value in stream:
        ticks += sync.add_image(stamp, frame(value)) if kind == "image" else sync.add_pose(stamp, value)
    return ticks


def actions(ticks: list[Tick]) -> np.ndarray:
    return np.stack([t.action_from_previous for t in ticks[1:]])

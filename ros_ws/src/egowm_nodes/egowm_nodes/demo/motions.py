"""How a robot of joints moved in a rollout, by its actions, in numbers and words. Knows embodiments; draws nothing.

A planar base's motion is told by its odometry instead (``strip``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from egowm_core.channels import Channel
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import EgowmError
from egowm_core.types import FloatArray

MOST_NAMED, LEAST_SHARE = 3, 0.25  # channels in a description, and how much of the largest they must have
STILL = 0.05  # of a channel's scale a tick, all over the horizon


@lru_cache(maxsize=8)
def joint_channels(embodiment: str, width: int) -> tuple[Channel, ...]:
    """The ``width`` channels of a built-in robot whose actions are joints and the like; none for any other."""
    try:
        robot = load_embodiment(embodiment)
    except EgowmError:
        return ()
    return robot.channels if robot.integrate == "sum" and robot.action_dim == width else ()


def moved(actions: FloatArray, channels: Sequence[Channel], seconds: float) -> NDArray[np.float64]:
    """(D,) how far each channel went over the rows (T,D): deltas add up, velocities last ``seconds``, values end."""
    rows = np.asarray(actions, np.float64)
    by_kind = {"delta": rows.sum(axis=0), "velocity": rows.mean(axis=0) * seconds, "absolute": rows[-1]}
    return np.array([by_kind[channel.kind][index] for index, channel in enumerate(channels)])


def sizes(actions: FloatArray, channels: Sequence[Channel]) -> NDArray[np.float64]:
    """(D,) the mean of each channel's rows (T,D) over its scale: 1 is brisk, whatever the unit."""
    scales = np.array([channel.scale for channel in channels])
    return np.asarray(np.abs(np.asarray(actions, np.float64).mean(axis=0)) / scales)


def describe(actions: FloatArray, channels: Sequence[Channel], seconds: float) -> str:
    """The channels that moved most, such as ``right_elbow +0.62 rad, neck_pitch -0.20 rad``."""
    size, far = sizes(actions, channels), moved(actions, channels, seconds)
    largest = [index for index in np.argsort(-size)[:MOST_NAMED] if size[index] >= max(STILL, LEAST_SHARE * size.max())]
    units = {"m/s": "m", "rad/s": "rad", "1": ""}

    def words(index: int) -> str:
        channel = channels[index]
        unit = units.get(channel.unit, channel.unit) if channel.kind == "velocity" else channel.unit.replace("1", "")
        return f"{channel.name} {far[index]:+.2f} {unit}".rstrip()

    return ", ".join(words(int(index)) for index in largest) or "stands still"

"""A recording as a timetable: which message is due when, and with which stamp. Knows no ROS node and no clock.

Reads through ``egowm_core.data.bag``, like the converter: what is played is what a dataset would be made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from egowm_core.data.bag import Bag, choose_topic
from egowm_core.data.values import IMAGE_TYPES, ODOMETRY, TWIST_TYPES, Stamped, Topic
from egowm_core.errors import ConfigError, DataError

MOTION_TYPES = (ODOMETRY, *TWIST_TYPES)
LONGEST_PAUSE_S = 10.0
_LOOK_AT = 200  # images looked at for the rate


@dataclass(frozen=True)
class Recording:
    """What will be played of a recording. ``motion`` is odometry, or velocity commands where it has none."""

    path: Path
    image: Topic
    motion: Topic | None
    image_rate_hz: float
    duration_s: float


@dataclass(frozen=True)
class Due:
    """A message and when it is due, seconds after the first."""

    after_s: float
    item: Stamped


def look(path: str | Path, *, image_topic: str = "", odom_topic: str = "") -> Recording:
    """Open a recording, choose its topics and measure the image rate by header stamps.

    Raises:
        DataError: it cannot be read, or several topics could be meant; the message lists them.
        ConfigError: no path was given.
    """
    if not str(path):
        raise ConfigError("parameter bag is empty; name the recording to play, e.g. -p bag:=runs/office.mcap")
    with Bag(path) as bag:
        image = choose_topic(bag.topics, "image", IMAGE_TYPES, explicit=image_topic or None, option="image_topic")
        motion = _motion(bag, odom_topic)
        stamps: list[int] = []
        for item in bag.read([image.name]):
            stamps.append(item.stamp_ns)
            if len(stamps) == _LOOK_AT:
                break
        return Recording(Path(path), image, motion, _rate_hz(stamps), bag.duration_s)


def _motion(bag: Bag, odom_topic: str) -> Topic | None:
    if odom_topic:
        return choose_topic(bag.topics, "odom", MOTION_TYPES, explicit=odom_topic, option="odom_topic")
    for wanted, types in (("odom", (ODOMETRY,)), ("cmd_vel", TWIST_TYPES)):
        if any(topic.type in types and topic.count for topic in bag.topics.values()):
            return choose_topic(bag.topics, wanted, types, option="odom_topic")
    return None


def _rate_hz(stamps: list[int]) -> float:
    """By the median step, so that a pause does not count; 0 where it cannot be told."""
    steps = sorted(after - before for before, after in pairwise(stamps) if after > before)
    return 1e9 / steps[len(steps) // 2] if steps else 0.0


def timetable(recording: Recording, *, rate: float = 1.0) -> Iterator[Due]:
    """The recorded messages in order, each with its due time by header stamps at ``rate`` times real time.

    A stamp that goes back is due at once; a pause longer than ``LONGEST_PAUSE_S`` is skipped (its stamps stay).

    Raises:
        DataError: the recording has no message or breaks off.
    """
    topics = [recording.image.name, *([recording.motion.name] if recording.motion else [])]
    after_s, newest_ns = 0.0, None
    with Bag(recording.path) as bag:
        for item in bag.read(topics):
            if newest_ns is not None and item.stamp_ns > newest_ns:
                step_s = (item.stamp_ns - newest_ns) * 1e-9
                after_s += step_s / rate if step_s <= LONGEST_PAUSE_S else 0.0
            if newest_ns is None or item.stamp_ns > newest_ns or newest_ns - item.stamp_ns > LONGEST_PAUSE_S * 1e9:
                newest_ns = item.stamp_ns
            yield Due(after_s, item)
    if newest_ns is None:
        raise DataError(f"{recording.path} has no message on {', '.join(topics)}; look at it with egowm-inspect")

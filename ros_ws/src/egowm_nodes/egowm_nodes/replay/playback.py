"""A recording as a timetable: which message is due when, and with which stamp. Knows no ROS node and no clock.

Reads through ``egowm_core.data.bag``, like the converter: what is played is what a dataset would be made of. Of joint
states that is the positions by name; velocities and efforts stay behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from egowm_core.channels import ActionTopic
from egowm_core.data.bag import Bag, choose_topic
from egowm_core.data.motion import motion_sources
from egowm_core.data.values import IMAGE_TYPES, JOINT_STATE, ODOMETRY, POSE_STAMPED, TWIST_TYPES, Stamped, Topic
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError, DataError
from egowm_nodes.replay.plan import Commands, read_commands

LONGEST_PAUSE_S = 10.0
_LOOK_AT = 200  # images looked at for the rate
_TWIST = "geometry_msgs/msg/Twist"
_UNTOLD = (  # what may measure the motion where no embodiment says so; the first that was recorded is played
    (ActionTopic(topic="odom", type=ODOMETRY), (ODOMETRY,)),
    (ActionTopic(topic="cmd_vel", type=_TWIST), TWIST_TYPES),
    (ActionTopic(topic="joint_states", type=JOINT_STATE), (JOINT_STATE,)),
    (ActionTopic(topic="pose", type=POSE_STAMPED), (POSE_STAMPED,)),
)


@dataclass(frozen=True)
class Stream:
    """A recorded topic, the relative name that it is played on, and the message type that it is played as."""

    topic: Topic
    name: str
    type: str


@dataclass(frozen=True)
class Recording:
    """What will be played of a recording. ``motions`` measure the robot's motion; ``commands`` are its plan, if any."""

    path: Path
    image: Topic
    motions: tuple[Stream, ...]
    image_rate_hz: float
    duration_s: float
    commands: Commands | None = None

    @property
    def motion(self) -> Topic | None:
        """The recorded topic that the motion is mainly measured by."""
        return self.motions[0].topic if self.motions else None

    @property
    def streams(self) -> tuple[Stream, ...]:
        """All that is played message by message, the pictures first."""
        packed = self.image.type.endswith("CompressedImage")
        return (Stream(self.image, "image/compressed" if packed else "image", self.image.type), *self.motions)


@dataclass(frozen=True)
class Due:
    """A message and when it is due, seconds after the first."""

    after_s: float
    item: Stamped


def look(
    path: str | Path,
    *,
    image_topic: str = "",
    odom_topic: str = "",
    plan_topic: str = "",
    embodiment: Embodiment | None = None,
) -> Recording:
    """Open a recording, choose its topics and measure the image rate by header stamps.

    ``embodiment`` says which topics measure the motion, and under which names they are expected live. Without one it is
    odometry, or else velocity commands, joint states or poses, whichever was recorded. ``odom_topic`` names recorded
    topics in their place, several with commas between; each is played as the source of its type. ``plan_topic`` is a
    recorded joint command, which becomes a plan.

    Raises:
        DataError: it cannot be read, lacks a topic that the embodiment needs, or several topics could be meant; the
            message lists them.
        ConfigError: no path was given.
    """
    if not str(path):
        raise ConfigError("parameter bag is empty; name the recording to play, e.g. -p bag:=runs/office.mcap")
    with Bag(path) as bag:
        wanted = "image" if embodiment is None else embodiment.camera().topic
        image = choose_topic(bag.topics, wanted, IMAGE_TYPES, explicit=image_topic or None, option="image_topic")
        named = [name.strip() for name in odom_topic.split(",") if name.strip()]
        sources = _UNTOLD if embodiment is None else tuple(_fitting(s) for s in motion_sources(embodiment))
        motions = _named(bag, named, sources) if named else _found(bag, sources, all_of_them=embodiment is not None)
        commands = read_commands(bag, plan_topic) if plan_topic else None
        stamps: list[int] = []
        for item in bag.read([image.name]):
            stamps.append(item.stamp_ns)
            if len(stamps) == _LOOK_AT:
                break
        return Recording(Path(path), image, motions, _rate_hz(stamps), bag.duration_s, commands)


_Source = tuple[ActionTopic, tuple[str, ...]]  # a live topic and the recorded types that it can be played from


def _fitting(source: ActionTopic) -> _Source:
    live = ActionTopic(topic="odom", type=ODOMETRY) if source.type == ODOMETRY else source
    return live, TWIST_TYPES if source.type in TWIST_TYPES else (source.type,)


def _named(bag: Bag, named: list[str], sources: tuple[_Source, ...]) -> tuple[Stream, ...]:
    """The topics that the user named, each as the first source that can be played from its type."""
    known = (*sources, *(source for source in _UNTOLD if source[0].type not in {s.type for s, _ in sources}))
    types = tuple(dict.fromkeys(kind for _, fitting in known for kind in fitting))
    streams = []
    for name in named:
        topic = choose_topic(bag.topics, "odom", types, explicit=name, option="odom_topic")
        live = next(source for source, fitting in known if topic.type in fitting)
        streams.append(Stream(topic, live.topic, live.type))
    return tuple(streams)


def _found(bag: Bag, sources: tuple[_Source, ...], *, all_of_them: bool) -> tuple[Stream, ...]:
    """The sources' topics by type and name: ``all_of_them``, or the first that was recorded."""
    streams = []
    for source, types in sources:
        recorded = any(topic.type in types and topic.count for topic in bag.topics.values())
        if not recorded and source.type == ODOMETRY and all_of_them:
            return _found(bag, _UNTOLD[1:2], all_of_them=False)  # commands tell more than nothing
        if not recorded and not all_of_them:
            continue
        topic = choose_topic(bag.topics, source.topic, types, option="odom_topic")
        streams.append(Stream(topic, source.topic, source.type))
        if not all_of_them:
            break
    return tuple(streams)


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
    topics = [stream.topic.name for stream in recording.streams]
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

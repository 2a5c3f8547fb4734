"""Recordings as plain values: ROS 1 and ROS 2 bags (sqlite3, mcap), as directories or bare files, whole or damaged.

Yields stamped images (decoded on demand), poses, twists and joint positions of chosen topics. Bytes come from
``containers``, messages from ``message_types``; it knows no embodiment, no ticks and no episodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection

from egowm_core.data.containers import FILE_SUFFIXES, Container
from egowm_core.data.message_types import MessageType, MessageTypes
from egowm_core.data.messages import MOTION_READERS, stamp_ns
from egowm_core.data.values import (
    IMAGE_TYPES,
    TRUTH_PREFIX,
    ImageValue,
    Stamped,
    TextValue,
    Topic,
    Value,
)
from egowm_core.errors import DataError
from egowm_core.schema import nearest

_TRANSPORTS = ("/compressed", "/theora", "/ffmpeg", "/zstd")
_MAX_NOTES = 32
_REPAIR = "restore it or repair it (`mcap recover`, `ros2 bag reindex`)"
_MAX_BAD = 0.5  # of a topic's messages: with more of them unreadable, the rest is not to be trusted
_UNSTAMPED = ("geometry_msgs/msg/Twist", "std_msgs/msg/String")  # types without a header
_READERS: dict[str, Callable[[Any], Value]] = {
    **dict.fromkeys(IMAGE_TYPES, ImageValue),
    **MOTION_READERS,
    "std_msgs/msg/String": lambda m: TextValue(str(m.data)),
}


@dataclass(frozen=True)
class _Channel:
    """How one (topic, message type) of the bag is read."""

    topic: Topic
    message: MessageType
    build: Callable[[Any], Value]


class Bag:
    """One recording, opened as a context manager. Every failure to read is a DataError naming the bag and a remedy.

    Messages that cannot be read are skipped: ``skipped`` counts them by topic, ``damage`` has the first ones in words,
    with what else of the bag is lost; ``notes`` has what a reader should know, such as custom types read by fields. A
    topic is given up when more than half of its messages are unreadable.
    """

    task = ""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.skipped: Counter[str] = Counter()
        self._notes: list[str] = []
        self._skips: list[str] = []
        self._container_notes: list[str] = []
        self._container: Container | None = None

    @property
    def name(self) -> str:
        """The directory's name, or the file's without suffix."""
        return self.path.stem if self.path.is_file() else self.path.name

    @property
    def notes(self) -> list[str]:
        """What a reader should know, a line each; grows as the bag is read."""
        return list(self._notes)

    @property
    def damage(self) -> list[str]:
        """What could not be read so far, a line each that names the bag, the place where known, and a remedy."""
        found = [*(self._container.notes if self._container else self._container_notes), *self._skips]
        return [f"bag {self.name} is damaged: {text}; {_REPAIR}" for text in found]

    def __enter__(self) -> Bag:
        if not self.path.exists():
            raise DataError(
                f"bag {self.path} does not exist; give a bag directory or a {', '.join(FILE_SUFFIXES)} file"
            )
        try:
            self._container = Container(self.path)
        except OSError as error:
            raise DataError(f"bag {self.path} cannot be opened: {error}; check that it may be read") from error
        try:
            self._types = MessageTypes(ros2=self._container.ros2)
            self._topics = self._survey(self._container)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        container, self._container = self._container, None
        if container is not None:
            self._container_notes = list(container.notes)
            container.close()

    @property
    def topics(self) -> dict[str, Topic]:
        """Topics by name."""
        self._open_container()
        return {name: topic for name, (topic, _) in sorted(self._topics.items())}

    @property
    def duration_s(self) -> float:
        """Record time from first to last message."""
        return self._open_container().duration_ns * 1e-9

    def read(self, topics: Sequence[str]) -> Iterator[Stamped]:
        """Values of these topics in record order. Raises DataError on unknown topics, types or broken data."""
        container = self._open_container()
        channels = {key: channel for name in topics for key, channel in self._channel(name).items()}
        seen: Counter[str] = Counter()
        for name in topics:
            self.skipped[name] = 0
        for connection, log_ns, raw in container.messages(channels):
            channel = channels[connection.topic, connection.msgtype]
            seen[connection.topic] += 1
            try:
                message = channel.message.decode(raw)
                stamp = stamp_ns(message) if channel.message.has_header else int(log_ns)
                value = channel.build(message)
            except Exception as error:  # rosbags lets index, struct and unicode errors through
                self._skip(channel.topic, seen[connection.topic], log_ns, error)
                continue
            yield Stamped(connection.topic, stamp, value)

    def _survey(self, container: Container) -> dict[str, tuple[Topic, str]]:
        """Topics with the message type recorded; the most frequent one where a topic has several."""
        counts: dict[str, Counter[str]] = {}
        firsts: dict[tuple[str, str], Connection] = {}
        for connection in container.connections:
            counts.setdefault(connection.topic, Counter())[connection.msgtype] += connection.msgcount
            firsts.setdefault((connection.topic, connection.msgtype), connection)
        found: dict[str, tuple[Topic, str]] = {}
        for name, types in counts.items():
            msgtype, count = types.most_common(1)[0]
            read_as = msgtype
            if not self._types.is_standard(msgtype):
                try:
                    read_as = self._types.of(firsts[name, msgtype]).read_as
                except ValueError as error:
                    self._note(f"topic {name}: {error}")
            if read_as != msgtype:
                self._note(f"topic {name} is a {msgtype}, read as {read_as} because it has its fields")
            if len(types) > 1:
                others = ", ".join(f"{number} {other}" for other, number in types.items() if other != msgtype)
                self._note(f"topic {name} has several types: its {count} {msgtype} are read, {others} are not")
            found[name] = (Topic(name, read_as, count, msgtype if read_as != msgtype else ""), msgtype)
        self._firsts = firsts
        return found

    def _channel(self, name: str) -> dict[tuple[str, str], _Channel]:
        known = self.topics
        if name not in known:
            raise DataError(
                f"{self.path} has no topic {name!r}{nearest(name, known)}; it has {describe(known.values())}"
            )
        topic, msgtype = self._topics[name]
        if topic.type not in _READERS:
            raise DataError(f"topic {name!r} of {self.path} has type {topic.type}; readable are {', '.join(_READERS)}")
        try:
            message = self._types.of(self._firsts[name, msgtype])
        except ValueError as error:
            raise DataError(f"topic {name!r} of {self.path} cannot be read: {error}; record it again") from error
        if not message.has_header and topic.type not in _UNSTAMPED:
            self._note(f"topic {name} has no header: its messages get their record times")
        return {(name, msgtype): _Channel(topic, message, _READERS[topic.type])}

    def _skip(self, topic: Topic, number: int, log_ns: int, error: Exception) -> None:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        self.skipped[topic.name] += 1
        seconds, nanoseconds = divmod(int(log_ns), 1_000_000_000)
        where = f"topic {topic.name} message {number} at record time {seconds}.{nanoseconds:09d} s"
        line = f"{where} was skipped: {text}"
        if line not in self._skips and len(self._skips) < _MAX_NOTES:
            self._skips.append(line)
        if self.skipped[topic.name] > _MAX_BAD * topic.count:
            raise DataError(
                f"bag {self.path}, {where}: {text}; {self.skipped[topic.name]} of its {topic.count} messages cannot be"
                f" read: record it again, or choose another topic"
            ) from error

    def _note(self, text: str) -> None:
        if text not in self._notes and len(self._notes) < _MAX_NOTES:
            self._notes.append(text)

    def _open_container(self) -> Container:
        if self._container is None:
            raise DataError(f"{self.path} is not open; use `with Bag(path) as bag`")
        return self._container


def choose_topic(
    topics: dict[str, Topic], wanted: str, types: Sequence[str], *, explicit: str | None = None, option: str = "--topic"
) -> Topic:
    """The topic for an embodiment's ``wanted`` name: the ``explicit`` one, else the one whose type fits.

    Among several, one whose name is or ends in ``wanted`` wins, then one that has the type itself over one that only
    has its fields; a raw image wins over its own compressed twin.
    Raises DataError listing the candidates when none or several remain; the remedy names ``option``.
    """
    if explicit is not None:
        for name in (explicit, "/" + explicit):
            if name in topics:
                if topics[name].type not in types:
                    raise DataError(
                        f"topic {name!r} is a {topics[name].type}, expected {' or '.join(types)}; see {option}"
                    )
                return topics[name]
        raise DataError(f"no topic {explicit!r}{nearest(explicit, topics)}; recorded are {describe(topics.values())}")
    fitting = candidates(topics, types)
    if len(fitting) > 1:
        bare = wanted.strip("/")
        exact = [t for t in fitting if base_name(t.name).strip("/") == bare]
        ending = [t for t in fitting if base_name(t.name).endswith("/" + bare)]
        native = [t for t in fitting if not t.custom]
        fitting = exact or ending or native or fitting
    if len(fitting) == 1:
        return fitting[0]
    kinds = " or ".join(types)
    if fitting:
        raise DataError(f"several topics could be {wanted!r}: {describe(fitting)}; choose one with {option}")
    raise DataError(f"no topic of type {kinds} for {wanted!r}; recorded are {describe(topics.values())}")


def candidates(topics: Mapping[str, Topic], types: Sequence[str]) -> list[Topic]:
    """Topics of these types that have messages, but the simulator's truth, depth images and twins of raw images."""
    fitting = [
        t
        for t in topics.values()
        if t.type in types and t.count > 0 and not t.name.startswith(TRUTH_PREFIX) and "depth" not in t.name.lower()
    ]
    names = {t.name for t in fitting}
    return [t for t in fitting if base_name(t.name) == t.name or base_name(t.name) not in names]


def describe(topics: Any) -> str:
    """Topics as one line of text."""
    return ", ".join(f"{t.name} ({t.type}, {t.count})" for t in topics) or "none"


def base_name(name: str) -> str:
    """A topic's name without what image transports append to it."""
    for transport in _TRANSPORTS:
        name = name.removesuffix(transport)
    return name

"""Recordings as plain values: ROS 1 and ROS 2 bags (sqlite3, mcap), as directories or bare files.

Yields stamped images (decoded on demand), poses, twists and joint positions of chosen topics. It keeps rosbags and its
errors to itself; it knows no embodiment, no ticks and no episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from egowm_core.data.messages import joint_positions, odometry_pose, stamp_ns, twist_velocity
from egowm_core.data.values import (
    JOINT_STATE,
    ODOMETRY,
    TRUTH_PREFIX,
    ImageValue,
    JointsValue,
    OdometryValue,
    Stamped,
    TextValue,
    Topic,
    TwistValue,
    Value,
)
from egowm_core.errors import DataError
from egowm_core.schema import nearest

_FILE_SUFFIXES = (".mcap", ".db3", ".bag")
_TRANSPORTS = ("/compressed", "/theora", "/ffmpeg", "/zstd")


class Bag:
    """One recording, opened as a context manager. Every failure to read is a DataError naming the bag and a remedy."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._reader: AnyReader | None = None

    @property
    def name(self) -> str:
        """The directory's name, or the file's without suffix."""
        return self.path.stem if self.path.is_file() else self.path.name

    def __enter__(self) -> Bag:
        try:
            # Old sqlite3 bags carry no message definitions; the standard types have not changed since.
            self._reader = AnyReader([self.path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
            self._reader.open()
        except Exception as error:  # rosbags lets struct, index and type errors of broken files through
            raise self._unreadable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and reader.stack is not None:
            reader.close()

    @property
    def topics(self) -> dict[str, Topic]:
        """Topics by name."""
        found: dict[str, Topic] = {}
        for c in self._open_reader().connections:
            count = c.msgcount + (found[c.topic].count if c.topic in found else 0)
            found[c.topic] = Topic(c.topic, c.msgtype, count)
        return dict(sorted(found.items()))

    @property
    def duration_s(self) -> float:
        """Record time from first to last message."""
        reader = self._open_reader()
        return max(0.0, reader.duration * 1e-9) if reader.message_count else 0.0

    def read(self, topics: Sequence[str]) -> Iterator[Stamped]:
        """Values of these topics in record order. Raises DataError on unknown topics, types or broken data."""
        reader = self._open_reader()
        known = self.topics
        readers: dict[str, Callable[[Any], Value]] = {}
        for name in topics:
            if name not in known:
                raise DataError(
                    f"{self.path} has no topic {name!r}{nearest(name, known)}; it has {describe(known.values())}"
                )
            if known[name].type not in _READERS:
                raise DataError(
                    f"topic {name!r} of {self.path} has type {known[name].type}; readable are {list(_READERS)}"
                )
            readers[name] = _READERS[known[name].type]
        connections = [c for c in reader.connections if c.topic in readers]
        messages = reader.messages(connections=connections) if connections else iter(())
        while True:
            try:
                connection, log_ns, raw = next(messages)
                message: Any = reader.deserialize(raw, connection.msgtype)
                stamp = stamp_ns(message) if hasattr(message, "header") else int(log_ns)
                value = readers[connection.topic](message)
            except StopIteration:
                return
            except Exception as error:
                raise self._unreadable(error) from error
            yield Stamped(connection.topic, stamp, value)

    def _open_reader(self) -> AnyReader:
        if self._reader is None:
            raise DataError(f"{self.path} is not open; use `with Bag(path) as bag`")
        return self._reader

    def _unreadable(self, error: Exception) -> DataError:
        text = " ".join(str(error).split()) or type(error).__name__
        remedy = "record it again or repair it (`mcap recover` for mcap, `ros2 bag reindex` for sqlite3)"
        return DataError(f"bag {self.path} cannot be read: {text[:300]}; {remedy}")


def find_recordings(path: str | Path) -> list[Path]:
    """Recordings at or below ``path``: bag directories and bare .mcap, .db3, .bag files, in order of name.

    A directory of storage files without metadata.yaml counts by its files. Raises DataError when none is found.
    """
    root = Path(path)
    if not root.exists():
        raise DataError(f"{root} does not exist; give a bag directory, a .mcap file or a folder of bags")
    found = _recordings(root)
    if not found:
        raise DataError(f"{root} holds no recording; expected metadata.yaml or {', '.join(_FILE_SUFFIXES)} files")
    return found


def _recordings(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix in _FILE_SUFFIXES else []
    if (root / "metadata.yaml").is_file():
        return [root]
    below = [item for item in sorted(root.iterdir()) if not item.name.startswith(".")]
    return [found for item in below for found in _recordings(item)]


def choose_topic(
    topics: dict[str, Topic], wanted: str, types: Sequence[str], *, explicit: str | None = None, option: str = "--topic"
) -> Topic:
    """The topic for an embodiment's ``wanted`` name: the ``explicit`` one, else the one whose type fits.

    Among several, one whose name is or ends in ``wanted`` wins, and a raw image wins over its own compressed twin.
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
    fitting = [
        t
        for t in topics.values()
        if t.type in types and t.count > 0 and not t.name.startswith(TRUTH_PREFIX) and "depth" not in t.name.lower()
    ]
    names = {t.name for t in fitting}
    fitting = [t for t in fitting if _base_name(t.name) == t.name or _base_name(t.name) not in names]
    if len(fitting) > 1:
        bare = wanted.strip("/")
        exact = [t for t in fitting if _base_name(t.name).strip("/") == bare]
        ending = [t for t in fitting if _base_name(t.name).endswith("/" + bare)]
        fitting = exact or ending or fitting
    if len(fitting) == 1:
        return fitting[0]
    kinds = " or ".join(types)
    if fitting:
        raise DataError(f"several topics could be {wanted!r}: {describe(fitting)}; choose one with {option}")
    raise DataError(f"no topic of type {kinds} for {wanted!r}; recorded are {describe(topics.values())}")


def describe(topics: Any) -> str:
    """Topics as one line of text."""
    return ", ".join(f"{t.name} ({t.type}, {t.count})" for t in topics) or "none"


def _base_name(name: str) -> str:
    for transport in _TRANSPORTS:
        name = name.removesuffix(transport)
    return name


_READERS: dict[str, Callable[[Any], Value]] = {
    "sensor_msgs/msg/Image": ImageValue,
    "sensor_msgs/msg/CompressedImage": ImageValue,
    ODOMETRY: lambda m: OdometryValue(odometry_pose(m), twist_velocity(m)),
    "geometry_msgs/msg/TwistStamped": lambda m: TwistValue(twist_velocity(m)),
    "geometry_msgs/msg/Twist": lambda m: TwistValue(twist_velocity(m)),
    JOINT_STATE: lambda m: JointsValue(joint_positions(m)),
    "std_msgs/msg/String": lambda m: TextValue(str(m.data)),
}

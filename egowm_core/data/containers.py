"""The messages in a bag, as bytes with their connections: ROS 1, ROS 2 sqlite3 and mcap, compressed, split or damaged.

What rosbags reads, rosbags reads. Where it gives up on a damaged bag, the files are read one by one, mcap through
``mcap_salvage``; what was lost is told in ``notes``. Knows no message type.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader

from egowm_core.data.mcap_salvage import McapSalvage
from egowm_core.errors import DataError

FILE_SUFFIXES = (".mcap", ".db3", ".bag")

Message = tuple[Connection, int, bytes]
_REMEDIES = {
    ".mcap": "restore it or record it again (`mcap recover` saves what is left of a cut file)",
    ".db3": "restore it or record it again (`sqlite3 FILE .recover` saves what is left of a damaged database)",
    ".bag": "run `rosbag reindex` on it, restore it or record it again",
}


class _Part(Protocol):
    """What rosbags' readers and McapSalvage have in common."""

    connections: list[Connection]

    @property
    def start_time(self) -> int: ...

    @property
    def end_time(self) -> int: ...

    @property
    def message_count(self) -> int: ...

    def messages(self, connections: Collection[Connection]) -> Iterator[Message]: ...

    def close(self) -> None: ...


class Container:
    """An open bag. ``notes`` tells what of it could not be read. Raises DataError when nothing can."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._salvaged = False
        try:
            self._parts = [_open(path)]
        except Exception as error:  # rosbags lets struct, index, assertion and type errors of broken files through
            self._parts = self._salvage()
            if not self._parts:
                raise DataError(_unreadable(path, error)) from error
            self._note(f"{_one_line(error)}; read file by file")

    @property
    def ros2(self) -> bool:
        """Whether messages are CDR (ROS 2) rather than ROS 1's serialization."""
        return not _is_ros1(self.path)

    @property
    def connections(self) -> list[Connection]:
        """All connections; split files have one each for a topic."""
        return [connection for part in self._parts for connection in part.connections]

    @property
    def duration_ns(self) -> int:
        """Record time from first to last message."""
        filled = [part for part in self._parts if part.message_count]
        if not filled:
            return 0
        return max(0, max(p.end_time for p in filled) - 1 - min(p.start_time for p in filled))

    def messages(self, keys: Collection[tuple[str, str]]) -> Iterator[Message]:
        """Messages of these (topic, message type) in record order.

        A bag that breaks on the way is read on through its files where they allow it, else it ends there with a note.
        Raises DataError when it breaks before the first message.
        """
        given: Counter[tuple[str, str]] = Counter()
        try:
            for item in _read(self._parts, keys, Counter()):
                given[item[0].topic, item[0].msgtype] += 1
                yield item
            self._count(keys, given.total())
            return
        except Exception as error:  # as above
            broken = error
        parts = [] if self._salvaged else self._salvage()
        if parts:
            self.close()
            self._parts = parts
            self._note(f"{_one_line(broken)}; read on file by file")
            try:
                yield from _read(parts, keys, given)
                return
            except Exception as error:  # one of its files is no mcap
                broken = error
        if not given:
            raise DataError(_unreadable(self.path, broken)) from broken
        self._note(f"it breaks off after {given.total()} messages: {_one_line(broken)}; what follows is lost")

    def _count(self, keys: Collection[tuple[str, str]], given: int) -> None:
        """Damage that no checksum tells still leaves fewer messages than the bag's own index counts."""
        expected = sum(c.msgcount for c in self.connections if (c.topic, c.msgtype) in keys)
        if given < expected:
            self._note(f"{expected - given} of {expected} messages are missing")

    def close(self) -> None:
        """Release its files."""
        parts, self._parts = self._parts, []
        for part in parts:
            part.close()

    def _salvage(self) -> list[_Part]:
        """Readers of the single files that can be read at all; none where that would be no better."""
        self._salvaged = True
        parts: list[_Part] = []
        for file in storage_files(self.path):
            try:
                part: _Part = McapSalvage(file) if file.suffix == ".mcap" else _open(file)
            except Exception as error:
                self._note(f"{file.name} cannot be read: {_one_line(error)}")
                continue
            parts.append(part)
            if isinstance(part, McapSalvage):
                for damage in part.damage:
                    self._note(damage)
        return parts if any(part.message_count for part in parts) else []

    def _note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < 32:
            self.notes.append(text)


def storage_files(path: Path) -> list[Path]:
    """The storage files of a ROS 2 bag directory in order of their split number, or the file itself; none for ROS 1."""
    if path.is_file():
        return [path] if path.suffix in (".mcap", ".db3") else []
    files = [f for f in path.iterdir() if f.suffix in (".mcap", ".db3") and f.is_file()]
    return sorted(files, key=lambda f: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", f.name)])


def _is_ros1(path: Path) -> bool:
    return path.suffix == ".bag" and path.is_file()  # a ROS 2 bag's directory may be called so, too


def _open(path: Path) -> _Part:
    reader: Any = Ros1Reader(path) if _is_ros1(path) else Ros2Reader(path)
    reader.open()
    found: _Part = reader
    return found


def _read(parts: list[_Part], keys: Collection[tuple[str, str]], skip: Counter[tuple[str, str]]) -> Iterator[Message]:
    """Messages of the keys, but the first ``skip`` of each."""
    skip = Counter(skip)
    for part in parts:
        chosen = [c for c in part.connections if (c.topic, c.msgtype) in keys]
        for item in part.messages(connections=chosen) if chosen else ():
            key = (item[0].topic, item[0].msgtype)
            if skip[key]:
                skip[key] -= 1
                continue
            yield item


def _unreadable(path: Path, error: Exception) -> str:
    suffix = path.suffix if path.is_file() else next((f.suffix for f in storage_files(path)), "")
    remedy = _REMEDIES.get(suffix, "restore it, make its metadata.yaml anew (`ros2 bag reindex`) or record it again")
    return f"bag {path} cannot be read: {_one_line(error)}; {remedy}"


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")

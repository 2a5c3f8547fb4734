"""What can still be read of a damaged mcap file: every message of every record that is whole, in file order.

The counterpart of an indexed reader: it needs no footer, no index and no sorted stamps, checks each chunk's checksum,
skips what is broken and says at which byte. Knows records of the mcap container, nothing of what messages mean.
Record layouts: https://mcap.dev/spec.
"""

from __future__ import annotations

import struct
import sys
from binascii import crc32
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

import lz4.frame  # type: ignore[import-untyped]
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
_LAST = ((_DATA_END, 4), (_FOOTER, 20))  # with their lengths, as any opcode may be a flipped bit
_MAX_RECORD = 1 << 30  # bytes of one record or chunk, unpacked: more is no recording but a flipped bit or a trap
_MAX_DAMAGE = 8
_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}

Record = tuple[int, memoryview]
Key = tuple[str, str]  # topic and message type


class McapSalvage:
    """The whole records of one file; quacks like a rosbags reader. ``damage`` says what was skipped, a few at most.

    Opening it reads the file once, to count; raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self.connections: list[Connection] = []
        self.start_time, self.end_time = 2**63 - 1, 0
        counts: Counter[int] = Counter()
        self._keys: dict[int, Key] = {}
        self._schemas: dict[int, tuple[str, MessageDefinition]] = {}
        self._definitions: dict[Key, MessageDefinition] = {}
        with path.open("rb") as file:
            for opcode, body in self._records(file, note=True):
                if opcode == _MESSAGE:
                    channel, _, log_ns = struct.unpack_from("<HIQ", body)
                    counts[channel] += 1
                    self.start_time, self.end_time = min(self.start_time, log_ns), max(self.end_time, log_ns + 1)
                else:
                    self._define(opcode, body)
        totals: Counter[Key] = Counter()
        for channel, key in self._keys.items():
            totals[key] += counts[channel]
        for number, (key, count) in enumerate(sorted(totals.items())):
            extra = ConnectionExtRosbag2("cdr", [])
            self.connections.append(Connection(number, *key, self._definitions[key], "", count, extra, self))
        self.message_count = totals.total()

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, record time in ns and payload of these connections' messages, in file order."""
        wanted = {(c.topic, c.msgtype): c for c in connections}
        channels = {channel: wanted[key] for channel, key in self._keys.items() if key in wanted}
        with self.path.open("rb") as file:
            for opcode, body in self._records(file, note=False):
                if opcode == _MESSAGE:
                    channel, _, log_ns = struct.unpack_from("<HIQ", body)
                    if channel in channels:
                        yield channels[channel], log_ns, bytes(body[22:])

    def close(self) -> None:
        """Nothing is held open between reads."""

    def _define(self, opcode: int, body: memoryview) -> None:
        """Remember a schema or a channel; a broken one is as if it were absent, and its messages with it."""
        try:
            (number,) = struct.unpack_from("<H", body)
            if opcode == _SCHEMA:
                name, at = _text(body, 2)
                encoding, at = _text(body, at)
                text, _ = _text(body, at)
                form = _FORMATS.get(encoding, MessageDefinitionFormat.NONE)
                self._schemas[number] = (name, MessageDefinition(form, text))
            elif opcode == _CHANNEL and number not in self._keys:
                (schema,) = struct.unpack_from("<H", body, 2)
                topic, at = _text(body, 4)
                encoding, _ = _text(body, at)
                if encoding == "cdr" and schema in self._schemas:
                    name, definition = self._schemas[schema]
                    self._keys[number] = (topic, name)
                    self._definitions.setdefault((topic, name), definition)
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            self._note(f"schema or channel record unreadable ({error})")

    def _records(self, file: IO[bytes], *, note: bool) -> Iterator[Record]:
        """Schemas, channels and messages, those inside chunks too."""
        size = self.path.stat().st_size
        if file.read(8) != _MAGIC and note:
            self._note("byte 0: the mcap magic is damaged")
        offset = 8
        while offset + 9 <= size:
            file.seek(offset)
            opcode, length = struct.unpack("<BQ", file.read(9))
            if offset + 9 + length > size:
                if note and opcode != 0x89:  # 0x89 starts the closing magic
                    self._note(f"byte {offset}: a record of {length} bytes is cut short by the end of the file")
                if opcode == _CHUNK:
                    yield from self._chunk(file, offset, min(size - offset - 9, _MAX_RECORD), note=note, cut=True)
                return
            if (opcode, length) in _LAST:
                return
            if opcode in (_SCHEMA, _CHANNEL, _MESSAGE) and length <= _MAX_RECORD:
                if length >= 22 or opcode != _MESSAGE:
                    yield opcode, memoryview(file.read(length))
            elif opcode == _CHUNK:
                yield from self._chunk(file, offset, length, note=note)
            offset += 9 + length

    def _chunk(self, file: IO[bytes], offset: int, length: int, *, note: bool, cut: bool = False) -> Iterator[Record]:
        try:
            unpacked = _unpack(file, length, cut=cut)
        except (ValueError, RuntimeError, zstd.ZstdError, MemoryError) as error:
            if note:
                self._note(f"byte {offset}: a chunk of {length} bytes is damaged ({' '.join(str(error).split())[:80]})")
            return
        at = 0
        while at + 9 <= len(unpacked):
            opcode, size = struct.unpack_from("<BQ", unpacked, at)
            body = unpacked[at + 9 : at + 9 + size]
            if len(body) < size:
                return
            if opcode in (_SCHEMA, _CHANNEL) or (opcode == _MESSAGE and size >= 22):
                yield opcode, body
            at += 9 + size

    def _note(self, text: str) -> None:
        if len(self.damage) < _MAX_DAMAGE:
            self.damage.append(f"{self.path.name} {text}")


def _text(body: memoryview, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", body, at)
    end = at + 4 + length
    if end > len(body):
        raise ValueError(f"text of {length} bytes in a record of {len(body)}")
    return bytes(body[at + 4 : end]).decode(), end


def _unpack(file: IO[bytes], length: int, *, cut: bool) -> memoryview:
    """The records of the chunk of ``length`` bytes at the file's position; of one that is ``cut`` short, those there.

    Raises ValueError or what unpacking does.
    """
    if not 40 <= length <= _MAX_RECORD:
        raise ValueError(f"length {length}")
    body = memoryview(file.read(length))
    _, _, size, checksum = struct.unpack_from("<QQQI", body)
    compression, at = _text(body, 28)
    (packed_size,) = struct.unpack_from("<Q", body, at) if at + 8 <= length else (0,)
    packed = body[at + 8 : at + 8 + packed_size]
    if size > _MAX_RECORD or (len(packed) != packed_size and not cut):
        raise ValueError(f"{packed_size} bytes packed, {size} unpacked")
    if compression == "":
        unpacked = bytes(packed)
    elif compression == "zstd":
        unpacked = zstd.ZstdDecompressor().decompress(packed, max_length=size) if size else b""
    elif compression == "lz4":
        unpacked = lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=size) if size else b""
    else:
        raise ValueError(f"compression {compression!r}")
    if len(unpacked) != size:
        if not cut or len(unpacked) > size:
            raise ValueError(f"{len(unpacked)} of {size} bytes unpacked")
    elif checksum and crc32(unpacked) != checksum:
        raise ValueError("checksum mismatch")
    return memoryview(unpacked)

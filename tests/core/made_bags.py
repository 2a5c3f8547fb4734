"""Bags for the tests of reading them: raw payloads, small chunks, and what is read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from egowm_core.data.bag import Bag
from egowm_core.data.values import ODOMETRY
from tests.training import bag_fixtures as bags

POSES = np.array([bags.known_pose(i / 40) for i in range(82)])  # of a two-second drive


def poses_of(path: Path, topic: str = "/odom") -> np.ndarray:
    with Bag(path) as bag:
        return np.array([item.value.pose for item in bag.read([topic])])


def storage(path: Path) -> Path:
    (found,) = [file for file in path.iterdir() if file.suffix in (".mcap", ".db3")]
    return found


def overwrite(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def write_raw(
    path: Path, messages: list[tuple[int, str, str, bytes]], *, store=bags.STORE, plugin=StoragePlugin.MCAP
) -> Path:
    """Messages as (record time, topic, type, payload), whatever the payload is."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections = {}
        for log_ns, topic, kind, payload in messages:
            if (topic, kind) not in connections:
                connections[topic, kind] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic, kind], log_ns, payload)
    return path


def serialized(message: object, store=bags.STORE) -> bytes:
    return bytes(store.serialize_cdr(message, message.__msgtype__))


def chunked(path: Path, *, count: int = 400, chunk: int = 40, compress: bool = True, backwards: bool = False) -> Path:
    """``count`` poses at 40 Hz in an mcap of several chunks; ``backwards`` reverses the record times in each chunk."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    if compress:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/odom", ODOMETRY, typestore=bags.STORE)
        for i in range(count):
            stamp = bags.START_NS + i * 25_000_000
            at = stamp - (i % chunk) * 30_000_000 if backwards else stamp
            writer.write(connection, at, serialized(bags.odometry(stamp, (i, 0, 0))))
            if i % chunk == chunk - 1:
                writer.storage.close_chunk()
    return path


def xs_of(path: Path) -> tuple[list[int], list[str]]:
    """Which of the poses of ``chunked`` are read, and what the bag notes."""
    with Bag(path) as bag:
        return [round(item.value.pose[0]) for item in bag.read(["/odom"])], bag.damage


def second_chunk(data: bytes) -> int:
    """Where the second chunk record starts, by the walk that the format prescribes."""
    at, chunks = 8, 0
    while True:
        if data[at] == 0x06:
            chunks += 1
            if chunks == 2:
                return at
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")

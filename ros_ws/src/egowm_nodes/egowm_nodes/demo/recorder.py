"""All topics of the domain into one mcap bag, byte for byte as they arrive, with their definitions.

Topics are found while running; each is subscribed to as its publishers offer it. Knows rclpy and rosbags; knows no
particular topic. Message definitions other than the standard ones come from the installed egowm_msgs.
"""

from __future__ import annotations

import importlib
import os
import shutil
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import egowm_msgs
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from egowm_core.errors import DataError

SKIPPED = ("/parameter_events",)
DEPTH = 50
DISCOVERY_PERIOD_S = 0.2
Hear = Callable[[str, str, bytes, int], None]  # topic, type, CDR bytes, received_ns


def message_folder() -> Path:
    """Where egowm_msgs keeps its .msg files, below the prefix that it is installed in. Raises DataError."""
    file = Path(str(egowm_msgs.__file__)).resolve()
    for prefix in file.parents:
        folder = prefix / "share" / "egowm_msgs" / "msg"
        if folder.is_dir():
            return folder
    raise DataError(f"no share/egowm_msgs/msg above {file}; install it with `pip install ./ros_ws/src/egowm_msgs`")


def typestore() -> Any:
    """rosbags' types of ROS 2 Jazzy and those of egowm_msgs."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for file in sorted(message_folder().glob("*.msg")):
        types.update(get_types_from_msg(file.read_text(encoding="utf-8"), f"egowm_msgs/msg/{file.stem}"))
    store.register(types)
    return store


def message_class(name: str) -> Any:
    """The Python class of ``package/msg/Name``. Raises ImportError or AttributeError where it is not installed."""
    package, kind, message = name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), message)


def header_stamp_ns(data: bytes) -> int:
    """The stamp of a CDR message that begins with a std_msgs/Header."""
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


class Recorder:
    """Records until ``close``; the bag appears at ``path`` only then. ``hear`` is called for every message, too.

    All calls, and the node's executor, on one thread.
    """

    def __init__(self, node: Node, path: Path, hear: Hear | None = None) -> None:
        self._node, self.path, self._hear = node, path, hear
        self._types = typestore()
        self._partial = path.with_name(path.name + ".partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._writer = Writer(self._partial / path.name, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._subscriptions: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.unknown: dict[str, str] = {}  # topics of a type without a definition here
        self._timer = node.create_timer(DISCOVERY_PERIOD_S, self.discover)

    def discover(self) -> None:
        """Subscribe to topics that have appeared."""
        for topic, types in self._node.get_topic_names_and_types():
            if topic in self._subscriptions or topic in self.unknown or topic in SKIPPED:
                continue
            offers = self._node.get_publishers_info_by_topic(topic)
            if not offers:
                continue
            if types[0] not in self._types.types:
                self.unknown[topic] = types[0]
                continue
            try:
                kind = message_class(types[0])
            except (ImportError, AttributeError, ValueError):
                self.unknown[topic] = types[0]
                continue
            self._subscribe(topic, types[0], kind, [offer.qos_profile for offer in offers])

    def _subscribe(self, topic: str, name: str, kind: Any, offers: list[QoSProfile]) -> None:
        reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
        latched = all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        connection = self._writer.add_connection(topic, name, typestore=self._types)
        self.counts[topic] = 0

        def write(data: bytes, info: Mapping[str, Any]) -> None:
            received_ns = int(info["received_timestamp"]) or time.time_ns()
            self._writer.write(connection, received_ns, data)
            self.counts[topic] += 1
            if self._hear is not None:
                self._hear(topic, name, data, received_ns)

        self._subscriptions[topic] = self._node.create_subscription(kind, topic, write, qos, raw=True)

    def close(self) -> Path:
        """Finish the bag and move it to its place, replacing an older one; returns its path."""
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._writer.close()
        inner = self._partial / self.path.name
        for file in inner.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        shutil.rmtree(self.path, ignore_errors=True)
        inner.replace(self.path)
        self._partial.rmdir()
        return self.path

"""Message payloads into messages, by the definitions that the bag carries, and what kind of message a custom type is.

A custom type whose fields contain those of a type that egowm reads is read as that type. Knows no container, no value
and no topic.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat, Nodetype
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from egowm_core.data.values import IMAGE_TYPES, JOINT_STATE, ODOMETRY, POSE_STAMPED, TWIST_TYPES

_MAX_DEFINITION = 1 << 18  # characters
_MAX_ARRAY = 4096  # elements of a fixed array: rosbags writes code for each
_FIXED_ARRAY = re.compile(r"\[(\d+)\]|,\s*(\d+)\s*>")
_INTEGERS = {"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"}
_FLOATS = {"float32", "float64"}
_BYTES = {"uint8", "byte", "char", "octet", "int8"}
_MANY = (Nodetype.ARRAY, Nodetype.SEQUENCE)
_VECTORS = {"linear": "xyz", "angular": "xyz", "position": "xyz", "orientation": "xyzw"}


@dataclass(frozen=True)
class MessageType:
    """How the messages of one connection are read: ``read_as`` is their type or the one that theirs contains."""

    read_as: str
    has_header: bool
    decode: Callable[[bytes], Any]


class MessageTypes:
    """The types of one bag, made on demand. ``ros2`` says which serialization it has."""

    def __init__(self, *, ros2: bool) -> None:
        self._ros2 = ros2
        self._builtin = get_typestore(Stores.ROS2_HUMBLE if ros2 else Stores.ROS1_NOETIC)

    def is_standard(self, msgtype: str) -> bool:
        """Whether it is one of ROS's own types: those are what their name says, whatever their fields."""
        return msgtype in self._builtin.fielddefs

    def of(self, connection: Connection) -> MessageType:
        """How to read a connection. Raises ValueError in words when its definition is absent or broken."""
        msgtype = connection.msgtype
        try:
            store = self._carried(connection)
        except Exception as error:  # the grammar's errors are of many kinds
            if not self.is_standard(msgtype):
                raise ValueError(
                    f"its definition of {msgtype} is broken: {' '.join(str(error).split())[:200]}"
                ) from error
            store = None
        if store is None:  # old sqlite3 bags carry no definitions; ROS's own types have not changed since
            if not self.is_standard(msgtype):
                raise ValueError(f"it carries no definition of {msgtype}")
            store = self._builtin
        fields = _Fields(store.fielddefs, msgtype)
        read_as = msgtype if self.is_standard(msgtype) else (fields.like() or msgtype)
        deserialize = store.deserialize_cdr if self._ros2 else store.deserialize_ros1

        def decode(raw: bytes) -> Any:
            return deserialize(raw, msgtype)

        return MessageType(read_as, fields.base("header.stamp.sec") in _INTEGERS, decode)

    def _carried(self, connection: Connection) -> Any:
        form, text = connection.msgdef.format, connection.msgdef.data
        if form == MessageDefinitionFormat.NONE or not text.strip():
            return None
        sizes = (int(n) for match in _FIXED_ARRAY.findall(text) for n in match if n)
        if len(text) > _MAX_DEFINITION or any(size > _MAX_ARRAY for size in sizes):
            raise ValueError(f"its {len(text)} characters or an array of its are absurdly large")
        found: dict[str, Any] = {}
        if form == MessageDefinitionFormat.MSG:
            found.update(get_types_from_msg(text, connection.msgtype))
        else:
            separator = "=" * 80 + "\n"
            parts = [part for part in text.split(separator) if part.strip()]
            for part in parts:
                found.update(get_types_from_idl(part.split("\n", 1)[1] if part.startswith("IDL: ") else part))
        store = get_typestore(Stores.EMPTY)
        store.register({**self._nested(found), **found})
        store.get_msgdef(connection.msgtype)
        return store

    def _nested(self, found: dict[str, Any]) -> dict[str, Any]:
        """ROS's own types that the found ones are made of and that came without a definition."""
        added: dict[str, Any] = {}
        todo = list(found.values())
        while todo:
            for _, (kind, detail) in todo.pop()[1]:
                name = detail if kind == Nodetype.NAME else detail[0][1] if kind in _MANY else None
                if isinstance(name, str) and name not in found and name not in added and self.is_standard(name):
                    added[name] = self._builtin.fielddefs[name]
                    todo.append(added[name])
        return added


class _Fields:
    """The fields of a type, looked up by dotted paths."""

    def __init__(self, definitions: Any, msgtype: str) -> None:
        self._definitions, self._type = definitions, msgtype

    def like(self) -> str | None:
        """The type of ours whose fields this one has, if any."""
        data = self._sequence("data", _BYTES)
        pose = self._vectors("pose.pose.", "position", "orientation")
        velocity = ("linear", "angular")
        found = {
            IMAGE_TYPES[0]: data and self.base("encoding") == "string" and self._has(_INTEGERS, "height", "width"),
            IMAGE_TYPES[1]: data and self.base("format") == "string",
            JOINT_STATE: self._sequence("name", {"string"}) and self._sequence("position", _FLOATS),
            ODOMETRY: pose and self._vectors("twist.twist.", *velocity),
            TWIST_TYPES[0]: self._vectors("twist.", *velocity),
            TWIST_TYPES[1]: self._vectors("", *velocity) and "accel" not in self._type.lower(),
            POSE_STAMPED: pose or self._vectors("pose.", "position", "orientation"),
        }
        return next((name for name, fits in found.items() if fits), None)

    def base(self, path: str) -> str | None:
        """The primitive type at a dotted path, or None."""
        description = self._at(path)
        return str(description[1][0]) if description and description[0] == Nodetype.BASE else None

    def _has(self, kinds: set[str], *paths: str) -> bool:
        return all(self.base(path) in kinds for path in paths)

    def _vectors(self, prefix: str, *names: str) -> bool:
        return self._has(_FLOATS, *(f"{prefix}{name}.{axis}" for name in names for axis in _VECTORS[name]))

    def _sequence(self, path: str, kinds: set[str]) -> bool:
        description = self._at(path)
        if not description or description[0] not in _MANY:
            return False
        element = description[1][0]
        return bool(element[0] == Nodetype.BASE and element[1][0] in kinds)

    def _at(self, path: str) -> Any:
        name: str | None = self._type
        description: Any = None
        for step in path.split("."):
            if name not in self._definitions:
                return None
            description = dict(self._definitions[name][1]).get(step)
            if description is None:
                return None
            name = description[1] if description[0] == Nodetype.NAME else None
        return description

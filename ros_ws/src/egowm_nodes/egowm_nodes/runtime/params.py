"""Node parameters as frozen dataclasses: default, description, range, choices and when they may change, in one place.

Knows rclpy only where it declares and reads them; the nodes' own parameters stand beside the nodes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import Field, field, fields
from enum import Enum
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from egowm_core.errors import ConfigError

Params = TypeVar("Params")


class Change(Enum):
    """When a parameter may be set."""

    START = "only at the start of the process"
    UNCONFIGURED = "only while unconfigured (clean up first)"
    INACTIVE = "only while not active (deactivate first)"
    ANY = "at any time"


_LOCKED = {Change.UNCONFIGURED: ("inactive", "active"), Change.INACTIVE: ("active",)}


def param(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    change: Change = Change.ANY,
) -> Any:
    """A dataclass field that is a ROS parameter; ``low`` and ``high`` go together (numbers only)."""
    metadata = {"description": description, "low": low, "high": high, "choices": choices, "change": change}
    return field(default=default, metadata=metadata)


def declare(node: Node, kind: type[Params]) -> Params:
    """Declare every parameter of ``kind`` on ``node`` and return their values.

    Raises:
        ConfigError: a value that is none of its choices, or values that contradict each other.
        InvalidParameterTypeException, InvalidParameterValueException: from rclpy, naming the parameter.
    """
    for item in _fields(kind):
        default = list(item.default) if isinstance(item.default, tuple) else item.default
        node.declare_parameter(item.name, default, _descriptor(item))
    return read(node, kind)


def read(node: Node, kind: type[Params], proposed: Mapping[str, Any] | None = None) -> Params:
    """The node's present values, with the ``proposed`` ones in place of theirs.

    Raises:
        ConfigError: as ``declare``.
    """
    values: dict[str, Any] = {}
    for item in _fields(kind):
        is_new = proposed is not None and item.name in proposed
        value: Any = proposed[item.name] if proposed is not None and is_new else node.get_parameter(item.name).value
        values[item.name] = tuple(value) if isinstance(item.default, tuple) else value
        choices = item.metadata["choices"]
        if choices and value not in choices:
            raise ConfigError(f"parameter {item.name} is {value!r}; expected one of {', '.join(choices)}")
    return kind(**values)


def locked(kind: type[Any], names: Iterable[str], state: str) -> str | None:
    """Why a parameter of ``names`` may not be set in lifecycle ``state`` now; None when all may."""
    for item in _fields(kind):
        change = item.metadata["change"]
        if item.name in names and state in _LOCKED.get(change, ()):
            return f"parameter {item.name} can be set {change.value}; the node is {state}"
    return None


def unknown(kind: type[Any], given: Iterable[str]) -> list[str]:
    """A sentence for every given parameter name that the node doesn't have (say, a typo in a YAML file)."""
    known = [item.name for item in _fields(kind)]
    sentences = []
    for name in given:
        if name in known or name == "use_sim_time" or name.startswith(("qos_overrides.", "start_type_description")):
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
        sentences.append(f"parameter {name} is unknown and has no effect{hint}")
    return sentences


def _fields(kind: type[Any]) -> tuple[Field[Any], ...]:
    return fields(kind)


def _descriptor(item: Field[Any]) -> ParameterDescriptor:
    metadata = item.metadata
    descriptor = ParameterDescriptor(description=metadata["description"], read_only=metadata["change"] is Change.START)
    descriptor.additional_constraints = f"may be set {metadata['change'].value}"
    if metadata["choices"]:
        descriptor.additional_constraints = f"{' | '.join(metadata['choices'])}; {descriptor.additional_constraints}"
    low, high = metadata["low"], metadata["high"]
    if low is None:
        return descriptor
    if isinstance(item.default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    elif isinstance(item.default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    return descriptor

"""What the vectors of a LeRobot dataset measure, by the names of their values: joints, and poses and twists among them.

Knows features and rows of numbers; no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.measured import POSE_FIELDS, TWIST_FIELDS
from egowm_core.data.values import (
    JOINT_STATE,
    ODOMETRY,
    POSE_STAMPED,
    TWIST_TYPES,
    JointsValue,
    OdometryValue,
    PoseValue,
    Topic,
    TwistValue,
    Value,
)
from egowm_core.embodiment import Embodiment
from training.dataset.layout import ACTION, STATE
from training.sources.lerobot_meta import Feature

Row = NDArray[np.float64]
_NUMBERS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")


@dataclass(frozen=True)
class Vector:
    """A topic made of the rows of ``column``, which holds ``width`` numbers."""

    topic: Topic
    column: str
    width: int
    build: Callable[[Row], Value]


def vectors(
    features: Sequence[Feature], count: int, *, measured_by: Embodiment | None = None
) -> tuple[list[Vector], list[str]]:
    """The topics of ``count`` messages that a dataset's vectors make, and what a reader should know of them.

    ``observation.state`` and ``action`` (and parts of them, such as ``observation.state.arm``) are joint states by
    their names. Actions are commands rather than measurements, which their ``custom`` type says: what chooses among
    topics prefers the state. Where the state has x, y and yaw it also is the odometry ``odom``, with all of x, y, z,
    roll, pitch, yaw the pose ``pose``, with linear.x and angular.z the twist ``twist``.

    ``measured_by`` is the embodiment that the dataset was made for: its states then go by the names of their sources,
    which are what the robot called them.
    """
    found: list[Vector] = []
    notes: list[str] = []
    for feature in features:
        kind, _, _ = feature.name.removeprefix("observation.").partition(".")
        if feature.dtype not in _NUMBERS or len(feature.shape) != 1 or not feature.shape[0]:
            continue
        if kind not in ("state", ACTION) or not feature.name.startswith((STATE, ACTION)):
            continue
        names = feature.names
        if len(names) != feature.shape[0]:
            names = tuple(f"{kind}_{i}" for i in range(feature.shape[0]))
            notes.append(
                f"{feature.name} has {len(feature.names) or 'no'} names for {len(names)} values: they are called"
                f" {names[0]} to {names[-1]}; name them in meta/info.json"
            )
        if kind == "state" and measured_by is not None:
            names = _sources(names, measured_by)
        custom = "a command" if kind == ACTION else ""
        found.append(Vector(Topic(feature.name, JOINT_STATE, count, custom), feature.name, len(names), _joints(names)))
        if feature.name == STATE:
            found += _rigid(names, count)
    return found, notes


def _sources(names: Sequence[str], embodiment: Embodiment) -> tuple[str, ...]:
    channels = embodiment.states or embodiment.channels
    sources = {channel.name: channel.source or channel.name for channel in channels}
    return tuple(sources.get(name, name) for name in names)


def _joints(names: Sequence[str]) -> Callable[[Row], Value]:
    counts = Counter(names)
    repeated = tuple(name for name, number in counts.items() if number > 1)
    kept = [(index, name) for index, name in enumerate(names) if counts[name] == 1]

    def build(row: Row) -> Value:
        values = row.tolist()
        differing = tuple(
            name for name in repeated if len({values[i] for i, other in enumerate(names) if other == name}) > 1
        )
        same = {name: values[names.index(name)] for name in repeated if name not in differing}
        return JointsValue({**{name: values[index] for index, name in kept}, **same}, differing)

    return build


def _rigid(names: Sequence[str], count: int) -> list[Vector]:
    """Poses and twists of a state that has the fields; what it does not have of them is NaN, never assumed."""
    has, width = set(names), len(names)
    pose6 = [names.index(name) for name in POSE_FIELDS] if has.issuperset(POSE_FIELDS) else None
    twist = [names.index(name) if name in has else None for name in TWIST_FIELDS]

    def twist_of(row: Row, otherwise: float) -> Row:
        return np.array([otherwise if index is None else row[index] for index in twist], np.float64)

    found: list[Vector] = []
    if has.issuperset(("x", "y", "yaw")):
        pose = [names.index(name) for name in ("x", "y", "yaw")]

        def odometry(row: Row) -> Value:
            return OdometryValue(row[pose], twist_of(row, np.nan), None if pose6 is None else row[pose6])

        found.append(Vector(Topic("odom", ODOMETRY, count), STATE, width, odometry))
    if pose6 is not None:
        found.append(Vector(Topic("pose", POSE_STAMPED, count), STATE, width, lambda row: PoseValue(row[pose6])))
    if has.issuperset(("linear.x", "angular.z")):
        # a base that tells no sideways velocity has none
        found.append(
            Vector(Topic("twist", TWIST_TYPES[0], count), STATE, width, lambda row: TwistValue(twist_of(row, 0.0)))
        )
    return found

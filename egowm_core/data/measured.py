"""Which measured values an embodiment's actions and states are made of, and where they come from.

Channels name a source: a joint, or a field of a pose or twist message. This module finds the topic type that has it
and lays the values out as columns of a pose. It reads no message and feeds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from egowm_core.channels import ActionTopic, Channel, StateChannel
from egowm_core.data.poses import RIGID_WIDTHS, PoseSpace
from egowm_core.data.values import JOINT_STATE, ODOMETRY, POSE_STAMPED, TWIST_TYPES
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from egowm_core.schema import nearest

POSE_FIELDS = ("x", "y", "z", "roll", "pitch", "yaw")  # m and rad
TWIST_FIELDS = ("linear.x", "linear.y", "angular.z")  # m/s and rad/s where the robot keeps to REP-103
ANGLES = ("roll", "pitch", "yaw")
TURNED = "turned."  # with an angle's name: the rotation so far about that axis of the frame the pose is given in
FIELDS: dict[str, tuple[str, ...]] = {
    ODOMETRY: (*POSE_FIELDS, *TWIST_FIELDS),
    POSE_STAMPED: POSE_FIELDS,
    **dict.fromkeys(TWIST_TYPES, TWIST_FIELDS),
}
_SOURCES = {
    "se2": (ODOMETRY, POSE_STAMPED, *TWIST_TYPES),
    "se3": (ODOMETRY, POSE_STAMPED),
    "sum": (JOINT_STATE, ODOMETRY, POSE_STAMPED, *TWIST_TYPES),
}


@dataclass(frozen=True)
class Measured:
    """``names`` are the plain columns of a pose after its rigid part; running integrals of ``integrals`` follow them.

    ``joints`` are the names that joint states give, the others are fields. ``held`` names keep their value until the
    next message; ``angles`` are taken the short way round.
    """

    names: tuple[str, ...]
    joints: frozenset[str]
    integrals: tuple[str, ...]
    held: frozenset[str]
    angles: frozenset[str]
    space: PoseSpace


def motion_sources(embodiment: Embodiment) -> tuple[ActionTopic, ...]:
    """Every topic that an embodiment's motion is measured by, the main one first."""
    return (embodiment.action_source, *embodiment.further_sources)


def measured(embodiment: Embodiment) -> Measured:
    """The values that an embodiment's actions and states need.

    Raises ConfigError where a topic's type cannot measure the actions, or a channel's source is in none of the topics.
    """
    _check_types(embodiment)
    rigid = RIGID_WIDTHS[embodiment.integrate]
    moving = [] if rigid else list(embodiment.channels)
    standing: list[Channel | StateChannel] = list(embodiment.states) or list(moving)
    columns = [_action_column(embodiment, channel) for channel in moving]
    states = [_field(embodiment, channel)[0] for channel in standing]
    names = tuple(dict.fromkeys([*columns, *states]))
    found = [_field(embodiment, channel) for channel in (*moving, *standing)]
    integrals = tuple(dict.fromkeys(name for c, name in zip(moving, columns, strict=True) if _integrates(c, name)))
    place = {name: rigid + index for index, name in enumerate(names)}
    running = {name: rigid + len(names) + index for index, name in enumerate(integrals)}
    held = frozenset(name for name, kind in found if kind in TWIST_TYPES)
    actions = [
        (running[name] if name in running and channel.kind == "velocity" else place[name], _KINDS[channel.kind])
        for channel, name in zip(moving, columns, strict=True)
    ]
    pose_angles = frozenset(name for name, kind in found if kind in (ODOMETRY, POSE_STAMPED) and name in ANGLES)
    space = PoseSpace(
        embodiment.integrate,
        actions=None if rigid else actions,
        states=[place[name] for name in states] if states else None,
        angles=[place[name] for name in names if name in pose_angles],
        held=[place[name] for name in names if name in held],
    )
    joints = frozenset(name for name, kind in found if kind == JOINT_STATE)
    return Measured(names, joints, integrals, held, pose_angles, space)


_KINDS = {"delta": "delta", "velocity": "mean", "absolute": "absolute"}


def _check_types(embodiment: Embodiment) -> None:
    allowed = _SOURCES[embodiment.integrate]
    for source in motion_sources(embodiment):
        if source.type not in allowed:
            raise ConfigError(
                f"embodiment {embodiment.name!r} takes actions from {source.topic} ({source.type}) with integrate"
                f" {embodiment.integrate}; expected one of {', '.join(allowed)}"
            )
    if embodiment.integrate != "sum" and embodiment.further_sources:
        raise ConfigError(
            f"embodiment {embodiment.name!r} has further_sources with integrate {embodiment.integrate}; they go with"
            " integrate: sum alone, so leave them out"
        )


def _field(embodiment: Embodiment, channel: Channel | StateChannel) -> tuple[str, str]:
    """The name under which a channel's source comes, and the type of the message that has it."""
    name = channel.source or channel.name
    types = [source.type for source in motion_sources(embodiment)]
    for kind in types:
        if name in FIELDS.get(kind, ()):
            return name, kind
    if JOINT_STATE in types:
        return name, JOINT_STATE
    fields = [field for kind in types for field in FIELDS[kind]]
    raise ConfigError(
        f"channel {channel.name!r} of {embodiment.name!r}: source {name!r} is no field of"
        f" {' or '.join(types)}{nearest(name, fields)}; they have {', '.join(fields)}: name one as the channel's"
        " source, or the topic that measures it under further_sources"
    )


def _action_column(embodiment: Embodiment, channel: Channel) -> str:
    """The plain column that an action channel follows.

    Angles of a pose do not simply subtract (they wrap, and near a pitch of 90 degrees they jump), so that their change
    follows the rotation itself, summed up.
    """
    name, kind = _field(embodiment, channel)
    turns = kind in (ODOMETRY, POSE_STAMPED) and name in ANGLES and channel.kind != "absolute"
    return TURNED + name if turns else name


def _integrates(channel: Channel, column: str) -> bool:
    """Whether a velocity channel's source is itself a velocity; a position gives its mean velocity by difference."""
    return channel.kind == "velocity" and column not in POSE_FIELDS and not column.startswith(TURNED)

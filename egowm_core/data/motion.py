"""Motion messages of every kind into ticks: the converter and the live node hand theirs to the same ``Motion``.

Odometry, poses and twists become rigid poses for ``se2`` and ``se3``; for ``sum``, joints and message fields become
named values, assembled into full vectors. Knows values, not messages, and nothing of images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.jitter import SourceStats
from egowm_core.data.joints import JointAssembler
from egowm_core.data.measured import ANGLES, POSE_FIELDS, TURNED, TWIST_FIELDS, measured, motion_sources
from egowm_core.data.messages import MotionValue
from egowm_core.data.sync import TickSynchronizer
from egowm_core.data.ticks import Tick
from egowm_core.data.values import (
    ODOMETRY,
    POSE_STAMPED,
    TWIST_TYPES,
    JointsValue,
    OdometryValue,
    PoseValue,
    TwistValue,
)
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from egowm_core.geometry import quaternion_from_rpy, rotation_between

__all__ = ["Motion", "motion_sources", "motion_types"]

Vector = NDArray[np.float64]
_FASTEST = 1e9


def motion_types(embodiment: Embodiment, *, explicit: bool) -> tuple[str, ...]:
    """Topic types that can measure this embodiment's actions by its ``action_source``.

    Velocities in place of odometry, and bare poses, only where a topic was named ``explicit``ly. Raises ConfigError for
    an embodiment that cannot be converted, naming the channel or the source.
    """
    measured(embodiment)
    source = embodiment.action_source.type
    if source in TWIST_TYPES:
        return TWIST_TYPES
    if not explicit or embodiment.integrate == "sum":
        return (source,)
    others = {"se2": (ODOMETRY, *TWIST_TYPES, POSE_STAMPED), "se3": (ODOMETRY, POSE_STAMPED)}[embodiment.integrate]
    return (source, *(kind for kind in others if kind != source))


class Motion:
    """Feeds ``sync`` from an embodiment's motion topics.

    ``stats`` are intervals and gaps of each topic's messages, ``joints`` the assembler where actions are sums of named
    values. Raises ConfigError for an embodiment that cannot be measured.
    """

    def __init__(self, embodiment: Embodiment, sync: TickSynchronizer) -> None:
        self._embodiment, self._sync = embodiment, sync
        self._measured = measured(embodiment)
        self.stats: dict[str, SourceStats] = {}
        self.joints: JointAssembler | None = None
        if embodiment.integrate == "sum":
            self.joints = JointAssembler(
                self._measured.names,
                max_age_s=sync.max_odom_gap_s,
                held=self._measured.held,
                angles=self._measured.angles,
                fields=set(self._measured.names) - self._measured.joints,
                drops=sync.drops,
            )
        self._integrals = _Integrals(self._measured.names, self._measured.integrals, self._measured.held)
        self._turns: dict[str, _Turns] = {}  # by topic

    def add(self, stamp_ns: int, value: MotionValue, *, topic: str = "") -> list[Tick]:
        """Offer a measured value; returns the ticks that it completes.

        Raises DataError for a value that does not measure this embodiment's motion.
        """
        if topic not in self.stats:
            self.stats[topic] = SourceStats(round(self._sync.max_odom_gap_s * 1e9))
        self.stats[topic].add(stamp_ns)
        if self.joints is None:
            return self._add_rigid(stamp_ns, value, topic)
        if isinstance(value, JointsValue):
            vectors = self.joints.add_message(stamp_ns, self._only_joints(value), topic=topic)
        else:
            vectors = self.joints.add(stamp_ns, self._fields(value, topic), topic=topic)
        ticks: list[Tick] = []
        for at_ns, vector in vectors:
            ticks += self._sync.add_pose(at_ns, self._integrals.extend(at_ns, vector))
        return ticks

    def finish(self) -> None:
        """Count what was still waited for; call at the end of a recording, before the synchronizer's ``finish``."""
        if self.joints is not None:
            self.joints.finish()

    def problems(self) -> list[str]:
        """What a reader of the dataset should know of the motion, a line each; empty when all is well."""
        return [] if self.joints is None else self.joints.problems()

    def _add_rigid(self, stamp_ns: int, value: MotionValue, topic: str) -> list[Tick]:
        planar = self._embodiment.integrate == "se2"
        match value:
            case TwistValue(twist=twist) if planar:
                return self._sync.add_twist(stamp_ns, twist, self._extra(value, topic))
            case OdometryValue(pose=pose) if planar:
                rigid = pose
            case PoseValue(pose6=pose6) if planar:
                rigid = pose6[[0, 1, 5]]
            case PoseValue(pose6=pose6):
                rigid = pose6
            case OdometryValue(pose6=pose6) if pose6 is not None:
                rigid = pose6
            case _:
                raise self._unfit(value, topic)
        return self._sync.add_pose(stamp_ns, np.concatenate([rigid, self._extra(value, topic)]))

    def _extra(self, value: MotionValue, topic: str) -> Vector:
        """The states that come with a rigid pose, from the fields of the same message."""
        if not self._measured.names:
            return np.zeros(0)
        fields = self._fields(value, topic)
        if missing := [name for name in self._measured.names if name not in fields]:
            raise self._unfit(value, topic, f": it has no {missing[0]}")
        return np.array([fields[name] for name in self._measured.names])

    def _only_joints(self, value: JointsValue) -> JointsValue:
        """Without names that are another message's field here: a joint called x must not pass for a pose's x."""
        taken = set(self._measured.names) - self._measured.joints
        if taken.isdisjoint(value.positions):
            return value
        positions = {name: position for name, position in value.positions.items() if name not in taken}
        return JointsValue(positions, value.repeated, value.fault)

    def _fields(self, value: MotionValue, topic: str) -> Mapping[str, float]:
        found: dict[str, float] = {}
        pose6: Vector | None = None
        if isinstance(value, TwistValue | OdometryValue):
            found.update(zip(TWIST_FIELDS, value.twist.tolist(), strict=True))
        if isinstance(value, PoseValue | OdometryValue):
            pose6 = value.pose6
        if pose6 is not None:
            found.update(zip(POSE_FIELDS, pose6.tolist(), strict=True))
            if any(name.startswith(TURNED) for name in self._measured.names):
                found.update(self._turns.setdefault(topic, _Turns()).add(pose6[3:]))
        elif isinstance(value, OdometryValue):
            found.update(zip(("x", "y", "yaw"), value.pose.tolist(), strict=True))
        wanted = {
            name: found[name] for name in self._measured.names if name in found and name not in self._measured.joints
        }
        if not wanted:
            raise self._unfit(value, topic)
        return wanted

    def _unfit(self, value: object, topic: str, why: str = "") -> DataError:
        kind = type(value).__name__.removesuffix("Value").lower()
        sources = ", ".join(f"{s.topic} ({s.type})" for s in motion_sources(self._embodiment))
        return DataError(
            f"{topic or 'a topic'} gives a {kind}, which does not measure the motion of {self._embodiment.name!r}{why};"
            f" expected {sources}"
        )


class _Integrals:
    """Running integrals of some columns: what holds until the next value by steps, the others by the trapezoid rule."""

    def __init__(self, names: tuple[str, ...], integrals: tuple[str, ...], held: frozenset[str]) -> None:
        self._columns = [names.index(name) for name in integrals]
        self._held = np.array([name in held for name in integrals], bool)
        self._sums = np.zeros(len(integrals))
        self._last: tuple[int, Vector] | None = None

    def extend(self, stamp_ns: int, vector: Vector) -> Vector:
        """The vector with the integrals up to its stamp behind it."""
        if not self._columns:
            return vector
        values = vector[self._columns]
        if self._last is not None and stamp_ns > self._last[0]:
            before = self._last[1]
            mean = np.where(self._held, before, (before + values) / 2.0)
            mean = np.clip(mean, -_FASTEST, _FASTEST)  # one wild value must not swallow the digits of all later ones
            self._sums = self._sums + mean * ((stamp_ns - self._last[0]) * 1e-9)
        self._last = (stamp_ns, values)
        return np.concatenate([vector, self._sums])


class _Turns:
    """The rotation of a pose so far, as rotation vectors about the axes of its frame, summed up message by message.

    Differences of these sums are what the orientation did between two ticks, without the wrapping of angles and the
    jumps that roll and yaw make where the pitch passes 90 degrees.
    """

    def __init__(self) -> None:
        self._last: Vector | None = None
        self._sum = np.zeros(3)

    def add(self, angles: Vector) -> dict[str, float]:
        """Take roll, pitch, yaw (3,); empty where they are not finite."""
        if not np.isfinite(angles).all():
            return {}
        now = quaternion_from_rpy(*angles)
        if self._last is not None:
            self._sum = self._sum + rotation_between(self._last, now, world=True)
        self._last = now
        return dict(zip((TURNED + name for name in ANGLES), self._sum.tolist(), strict=True))

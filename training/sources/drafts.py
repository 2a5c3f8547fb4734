"""A first draft of an embodiment for each kind of motion message: which channels there are, not how large they get.

Knows what a survey of the first messages tells; limits and scales are ``fitting``'s.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field

from egowm_core.channels import ActionTopic, Camera, Channel, StateChannel
from egowm_core.data.jitter import SourceStats
from egowm_core.data.measured import TWIST_FIELDS
from egowm_core.data.messages import MotionValue
from egowm_core.data.values import JOINT_STATE, TWIST_TYPES, JointsValue, OdometryValue, PoseValue, Topic, TwistValue
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from training.sources.proposal import Remark

_MAX_JOINTS = 256
_NAMED = 8  # joints in one sentence
_UNITLESS = 1.0 + 1e-6  # commands that never exceed it may be fractions of full throttle
_CLIMB_M, _TILT = 1.0, 0.7  # m, rad: a base on wheels stays below, but for ramps
_RIGID = {"se2": ("dx", "dy", "dyaw"), "se3": ("dx", "dy", "dz", "droll", "dpitch", "dyaw")}
_NOT_RAD = re.compile(r"grip|finger|thumb|pinky|closure|hand|prismatic|slide|lift", re.IGNORECASE)


@dataclass
class Survey:
    """What the first messages tell: stamps of images and motion, and ranges of the measured values."""

    images: SourceStats
    motion: SourceStats
    joints: Counter[str] = field(default_factory=Counter)  # finite positions by name, in the order of first sight
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)

    def add_motion(self, stamp_ns: int, value: MotionValue) -> None:
        """Take a measured value."""
        self.motion.add(stamp_ns)
        if isinstance(value, JointsValue):
            sound = {name: at for name, at in value.positions.items() if name and math.isfinite(at)}
            known = {name: at for name, at in sound.items() if name in self.joints or len(self.joints) < _MAX_JOINTS}
            self.joints.update(known.keys())
            self._extend(known)
        elif isinstance(value, TwistValue):
            self._extend(dict(zip(TWIST_FIELDS, value.twist.tolist(), strict=True)))
        elif isinstance(value, OdometryValue | PoseValue) and value.pose6 is not None:
            self._extend(dict(zip(("z", "roll", "pitch"), value.pose6[2:5].tolist(), strict=True)))

    def span(self, name: str) -> float:
        """From the lowest to the highest value of a name; 0 where it never came."""
        return self.high.get(name, 0.0) - self.low.get(name, 0.0)

    def largest(self, name: str) -> float:
        """The largest magnitude of a name; 0 where it never came."""
        return max(abs(self.high.get(name, 0.0)), abs(self.low.get(name, 0.0)))

    def _extend(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self.low[name] = min(value, self.low.get(name, value))
                self.high[name] = max(value, self.high.get(name, value))


@dataclass(frozen=True)
class Draft:
    """An embodiment whose limits exclude nothing, and what a person should know of its channels."""

    embodiment: Embodiment
    remarks: tuple[Remark, ...]


def draft(topic: Topic, survey: Survey, rate_hz: float, *, camera: Camera, limit: float) -> Draft:
    """The channels that ``topic`` can measure, all limited to ``limit``. Raises DataError where it measures none."""
    remarks = [
        Remark("action_source", f"Recorded: {topic.name} ({topic.custom or topic.type})."),
        Remark("base_frame", "the name of the robot's own frame is assumed", check=True),
    ]
    integrate, states = "sum", tuple[StateChannel, ...]()
    if topic.type == JOINT_STATE:
        named, states, more = _joints(survey, rate_hz)
    elif topic.type in TWIST_TYPES:
        named, more = _twist(survey)
    else:
        integrate, named, more = _rigid(topic, survey)
    channels = tuple(
        Channel(name=name, unit=unit, kind=kind, limits=(-limit, limit), scale=1.0, source=source)
        for name, unit, kind, source in named
    )
    embodiment = Embodiment(
        name="draft",
        base_frame="base_link",
        rate_hz=rate_hz,
        integrate=integrate,
        action_source=ActionTopic(topic=topic.name.strip("/"), type=topic.type),
        channels=channels,
        states=states,
        cameras=(camera,),
    )
    return Draft(embodiment, (*remarks, *more))


_Named = list[tuple[str, str, str, str | None]]  # channels: name, unit, kind, source


def _rigid(topic: Topic, survey: Survey) -> tuple[str, _Named, list[Remark]]:
    """Planar, unless it climbs or tilts like nothing on wheels."""
    climb, tilt = survey.span("z"), max(survey.span("roll"), survey.span("pitch"))
    free = climb > _CLIMB_M or tilt > _TILT
    remarks = []
    if free:
        text = f"it climbs {climb:.2g} m and tilts {tilt:.2g} rad: free motion is assumed, integrate: se2 is for wheels"
        remarks.append(Remark("integrate", text, check=True))
    integrate = "se3" if free else "se2"
    named: _Named = [(name, "rad" if name[1:] in _ANGLES else "m", "delta", None) for name in _RIGID[integrate]]
    remarks.append(Remark("channels", "m and rad a tick, as REP-103 has them, in the body's previous frame."))
    return integrate, named, remarks


_ANGLES = ("roll", "pitch", "yaw")


def _twist(survey: Survey) -> tuple[_Named, list[Remark]]:
    """Means of the commanded velocities, a channel for each field that is ever used."""
    used = [name for name in TWIST_FIELDS if survey.span(name) > 0 or survey.largest(name) > 0]
    if not used:
        raise DataError("all of its velocities are 0")
    unitless = all(survey.largest(name) <= _UNITLESS for name in used)
    units = {"linear.x": "m/s", "linear.y": "m/s", "angular.z": "rad/s"}
    named: _Named = [(name.replace(".", "_"), "1" if unitless else units[name], "velocity", name) for name in used]
    remarks = [Remark("channels", "what the robot was told, not what it did: measured motion is better", check=True)]
    if unitless:
        text = "no value exceeds 1, so they may be fractions of full throttle and steering: if not, say m/s and rad/s"
        remarks.append(Remark("channels", text, check=True))
    if unused := [name for name in TWIST_FIELDS if name not in used]:
        remarks.append(Remark("channels", f"left out, as always 0: {', '.join(unused)}", check=True))
    return named, remarks


def _joints(survey: Survey, rate_hz: float) -> tuple[_Named, tuple[StateChannel, ...], list[Remark]]:
    """Changes of all joints that come often enough for the rate, and their positions as states."""
    first, last = survey.motion.first_ns, survey.motion.last_ns
    seconds = 0.0 if first is None or last is None else (last - first) * 1e-9
    enough = max(2.0, 0.6 * rate_hz * seconds)  # a gap of two ticks is the longest that may be
    names = [name for name, count in survey.joints.items() if count >= enough]
    if not names:
        raise DataError(f"none of its {len(survey.joints)} joints comes at {rate_hz:g} Hz with finite positions")
    remarks = []
    if rare := [name for name in survey.joints if name not in names]:
        remarks.append(Remark("channels", f"left out, as they come too seldom: {_list(rare)}", check=True))
    if len(survey.joints) == _MAX_JOINTS:
        remarks.append(Remark("channels", f"there may be more than these {_MAX_JOINTS} joints", check=True))
    units = {name: _joint_unit(name, survey) for name in names}
    remarks.append(Remark("channels", "Changes from one tick to the next, in the order of the first message."))
    text = "rad is assumed; a joint that slides is in m"
    if plain := [name for name in names if units[name] == "1"]:
        text += f', and what goes from 0 to 1 has unit "1", as is assumed of {_list(plain)}'
    remarks.append(Remark("channels", text, check=True))
    remarks.append(Remark("states", "Positions at a tick; scales are the largest ones seen."))
    states = tuple(StateChannel(name=name, unit=units[name]) for name in names)
    return [(name, units[name], "delta", None) for name in names], states, remarks


def _joint_unit(name: str, survey: Survey) -> str:
    fraction = survey.low[name] >= -0.05 and survey.high[name] <= 1.05
    return "1" if fraction and _NOT_RAD.search(name) else "rad"


def _list(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")

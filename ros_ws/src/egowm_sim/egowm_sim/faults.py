"""What can go wrong with the robot, and when: faults as data.

A fault is a kind, a severity and a time span; written ``KIND[.WHEEL][:SEVERITY]@START[-END]``, in seconds from the
simulation's start. Knows no MuJoCo, no pictures and no ROS (faulty.py carries faults out).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from egowm_core.schema import nearest
from egowm_sim.backend import SimulationError

WHEELS = ("left", "right", "both")


class FaultKind(str, Enum):
    """The faults on tap; what ``severity`` means for each is in ``RANGES``."""

    WHEEL_SLIP = "wheel_slip"
    STUCK_WHEEL = "stuck_wheel"
    CAMERA_YAW = "camera_yaw"
    CAMERA_PITCH = "camera_pitch"
    OCCLUSION = "occlusion"
    FROZEN_FRAME = "frozen_frame"
    TIME_LAG = "time_lag"
    ENCODER_BIAS = "encoder_bias"
    LIGHTS_OUT = "lights_out"
    GAIN_CHANGE = "gain_change"
    PEOPLE = "people"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Range:
    """A kind's severities: ``usual`` where none is given, ``low`` to ``high``, never ``idle`` (which is no fault)."""

    usual: float
    low: float
    high: float
    meaning: str
    idle: float = 0.0
    whole: bool = False
    wheel: str = ""  # which wheel where none is named; "" for kinds without wheels


RANGES: dict[FaultKind, Range] = {
    FaultKind.WHEEL_SLIP: Range(
        0.95, 0.0, 1.0, "share of the grip lost, while the body drags: wheels turn, the robot hardly", wheel="both"
    ),
    FaultKind.STUCK_WHEEL: Range(1.0, 0.0, 1.0, "share of one wheel's speed lost; its encoder tells so", wheel="right"),
    FaultKind.CAMERA_YAW: Range(10.0, -90.0, 90.0, "degrees that the mount is turned, left positive"),
    FaultKind.CAMERA_PITCH: Range(10.0, -60.0, 60.0, "degrees that the mount is tilted, down positive"),
    FaultKind.OCCLUSION: Range(0.5, 0.0, 1.0, "share of the picture that something on the lens covers"),
    FaultKind.FROZEN_FRAME: Range(1.0, 1.0, 1.0, "none: the last picture is repeated under fresh stamps"),
    FaultKind.TIME_LAG: Range(0.5, 0.0, 5.0, "seconds by which pictures are older than their stamps"),
    FaultKind.ENCODER_BIAS: Range(0.2, -1.0, 4.0, "share that one wheel's encoder counts too much", wheel="right"),
    FaultKind.LIGHTS_OUT: Range(0.95, 0.0, 1.0, "share of the room's light lost"),
    FaultKind.GAIN_CHANGE: Range(2.0, 0.05, 20.0, "factor by which the exposure jumps", idle=1.0),
    FaultKind.PEOPLE: Range(1.0, 1.0, 2.0, "how many people walk about in front of the robot", whole=True),
}

MOST_PEOPLE = int(RANGES[FaultKind.PEOPLE].high)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_WHAT = rf"(?P<kind>[a-z_]+)(?:\.(?P<wheel>[a-z]+))?(?::(?P<severity>{_NUMBER}))?"
_WHEN = r"@(?P<start>\d+\.?\d*|\.\d+)(?:-(?P<end>\d+\.?\d*|\.\d+))?"


@dataclass(frozen=True)
class Fault:
    """``kind`` of ``severity`` (NaN: the kind's usual one) from ``start_s`` to before ``end_s`` (inf: to the end).

    Times are seconds from the simulation's start. ``wheel`` ("left", "right", "both") only for kinds that have one;
    empty means the kind's usual one.

    Raises:
        SimulationError: a value is out of the kind's range.
    """

    kind: FaultKind
    start_s: float = 0.0
    end_s: float = math.inf
    severity: float = math.nan
    wheel: str = ""

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "kind", FaultKind(self.kind))
        except ValueError:
            kinds = [kind.value for kind in FaultKind]
            raise SimulationError(
                f"fault {self.kind!r} is unknown; expected one of {', '.join(kinds)}{nearest(str(self.kind), kinds)}"
            ) from None
        limits = RANGES[self.kind]
        if math.isnan(self.severity):
            object.__setattr__(self, "severity", limits.usual)
        object.__setattr__(self, "wheel", self.wheel or limits.wheel)
        value = self.severity
        if not limits.low <= value <= limits.high or value == limits.idle or (limits.whole and value != round(value)):
            raise SimulationError(
                f"{self.kind} of severity {value:g}: expected {'a whole number of ' if limits.whole else ''}"
                f"{limits.low:g} to {limits.high:g}, not {limits.idle:g} ({limits.meaning})"
            )
        if bool(self.wheel) != bool(limits.wheel) or self.wheel not in ("", *WHEELS):
            raise SimulationError(
                f"{self.kind} of wheel {self.wheel!r}: "
                + (f"expected one of {', '.join(WHEELS)}" if limits.wheel else "this kind has no wheel; leave it out")
            )
        if not 0 <= self.start_s < self.end_s or math.isnan(self.end_s):
            raise SimulationError(f"{self.kind} from {self.start_s:g} to {self.end_s:g} s: expected 0 <= start < end")

    @property
    def what(self) -> str:
        """The fault without its times, as ``parse`` reads it."""
        limits = RANGES[self.kind]
        wheel = f".{self.wheel}" if self.wheel != limits.wheel else ""
        return f"{self.kind}{wheel}" + (f":{self.severity:g}" if limits.low < limits.high else "")

    def __str__(self) -> str:
        return f"{self.what}@{self.start_s:g}" + ("" if math.isinf(self.end_s) else f"-{self.end_s:g}")


def parse_fault(text: str) -> Fault:
    """``KIND[.WHEEL][:SEVERITY]@START[-END]`` to a fault; seconds from the simulation's start.

    Raises:
        SimulationError: the text has another form, or a value is out of range.
    """
    match = re.fullmatch(_WHAT + _WHEN, text.strip())
    if match is None:
        raise SimulationError(
            f"{text!r} is no fault; expected KIND[.WHEEL][:SEVERITY]@START[-END], e.g. wheel_slip:0.9@20-30"
        )
    end = match["end"]
    return _fault(match, float(match["start"]), math.inf if end is None else float(end))


def parse_order(text: str, *, now_s: float) -> Fault | FaultKind | None:
    """A live order: ``KIND[.WHEEL][:SEVERITY]`` begins a fault now, ``KIND off`` ends it, ``clear`` ends all (None).

    Raises:
        SimulationError: the text has another form, or a value is out of range.
    """
    words = text.split()
    if words == ["clear"]:
        return None
    match = re.fullmatch(_WHAT, words[0]) if words else None
    if match is None or len(words) > 2 or (len(words) == 2 and words[1] not in ("on", "off")):
        raise SimulationError(
            f"{text!r} is no order; expected KIND[.WHEEL][:SEVERITY], KIND off or clear, e.g. 'wheel_slip:0.9'"
        )
    fault = _fault(match, now_s, math.inf)
    return fault.kind if words[-1] == "off" else fault


def _fault(match: re.Match[str], start_s: float, end_s: float) -> Fault:
    severity = math.nan if match["severity"] is None else float(match["severity"])
    return Fault(match["kind"], start_s, end_s, severity, match["wheel"] or "")  # type: ignore[arg-type]


@dataclass(frozen=True)
class FaultChange:
    """A fault that began (``active``) or ended at ``time_s``; ``now`` are all that are active after it."""

    fault: Fault
    active: bool
    time_s: float
    now: tuple[Fault, ...]


class FaultPlan:
    """The faults of one run: which are active, and what changed since it was last asked. One of each kind at a time.

    Raises:
        SimulationError: two faults of one kind overlap.
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._coming = sorted(faults, key=lambda fault: fault.start_s)
        last: dict[FaultKind, Fault] = {}
        for fault in self._coming:
            before = last.get(fault.kind)
            if before is not None and before.end_s > fault.start_s:
                raise SimulationError(f"{before} and {fault} overlap; give one fault of a kind at a time")
            last[fault.kind] = fault
        self.active: dict[FaultKind, Fault] = {}

    def advance(self, now_s: float) -> list[FaultChange]:
        """What begins and ends up to ``now_s`` (not before the last call's), in order."""
        changes = []
        for fault in [fault for fault in self.active.values() if fault.end_s <= now_s + 1e-9]:
            changes.append(self._end(fault, now_s))
        while self._coming and self._coming[0].start_s <= now_s + 1e-9:
            changes += self.begin(self._coming.pop(0), now_s)
        return changes

    def begin(self, fault: Fault, now_s: float) -> list[FaultChange]:
        """Start ``fault`` now, in place of one of its kind."""
        changes = self.end(fault.kind, now_s)
        self.active[fault.kind] = fault
        return [*changes, FaultChange(fault, True, now_s, tuple(self.active.values()))]

    def end(self, kind: FaultKind, now_s: float) -> list[FaultChange]:
        """Stop the fault of ``kind`` now, if there is one."""
        return [self._end(self.active[kind], now_s)] if kind in self.active else []

    def _end(self, fault: Fault, now_s: float) -> FaultChange:
        del self.active[fault.kind]
        return FaultChange(fault, False, now_s, tuple(self.active.values()))


def change_json(change: FaultChange | None) -> str:
    """The text of a faults topic: the change's kind, severity, wheel and active, and all that is active ``now``.

    ``None`` (nothing has happened yet) gives kind "none".
    """
    if change is None:
        return json.dumps({"kind": "none", "severity": 0.0, "wheel": "", "active": False, "now": []})
    fault = change.fault
    return json.dumps(
        {
            "kind": str(fault.kind), "severity": fault.severity, "wheel": fault.wheel, "active": change.active,
            "now": [other.what for other in change.now],
        }
    )  # fmt: skip


def describe_kinds() -> str:
    """One line a kind with its range, for help texts."""
    return "\n".join(
        f"  {kind:<13} {limits.usual:g}{f' ({limits.wheel})' if limits.wheel else ''}: {limits.meaning}"
        for kind, limits in RANGES.items()
    )


def most_people(faults: Sequence[Fault]) -> int:
    """How many people a run with ``faults`` needs in its room."""
    return max((int(fault.severity) for fault in faults if fault.kind is FaultKind.PEOPLE), default=0)

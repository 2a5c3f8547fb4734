"""What a lag is estimated on: how the picture changed between images, and how the robot moved, on their own stamps.

Reads a recording once, decodes few images and those only around motion. Knows nothing of correlation.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.data.preprocess import Preprocess
from egowm_core.data.values import (
    JOINT_STATE,
    ODOMETRY,
    POSE_STAMPED,
    TWIST_TYPES,
    ImageValue,
    JointsValue,
    OdometryValue,
    PoseValue,
    Recording,
    Stamped,
    Topic,
    TwistValue,
    Value,
)
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError

_THUMBNAIL = Preprocess(60, 80)
_MIN_STEP_NS, _MAX_STEP_NS = 45_000_000, 1_000_000_000  # between compared images: less hides a motion in a pixel
_MAX_SCANNED, _MAX_MOTION = 20_000, 200_000  # images looked at, decoded or not; motion messages kept
_MIN_MOTION_STEP_NS = 4_000_000  # between motion messages kept: more often tells no more
_ACTIVE_NS = 2_000_000_000  # decode only this long after motion
_LEAST_RESPONSE = 0.2  # of phase correlation; below it the two pictures hardly overlap
_LARGEST_SHIFT = 0.45  # of the picture's width: beyond it, left and right are confused

Floats = NDArray[np.float64]


class Cue(str, Enum):
    """What of picture and motion is compared, in words."""

    TURN = "sideways shift of the picture against the robot's turning"
    STEERING = "sideways shift of the picture against steering, whichever sign fits"
    CHANGE = "change of the picture against the speed of motion"


_ACTIVE = {Cue.TURN: 0.05, Cue.STEERING: 0.05, Cue.CHANGE: 0.5}  # rad; else in scales of the channels


@dataclass(frozen=True)
class Signals:
    """N compared pairs of images and M motion messages; times are nanoseconds since ``origin_ns``, float64.

    ``picture`` (N,): pixels of a thumbnail to the right (TURN, STEERING), or the mean change of brightness (CHANGE).
    ``motion`` (M,J): a heading in rad (TURN), its integral where only a rate is known (STEERING), or J coordinates
    over their scales (CHANGE).
    """

    cue: Cue
    origin_ns: int
    interval_ns: float
    starts: Floats
    ends: Floats
    picture: Floats
    times: Floats
    motion: Floats


def cues(motion: Topic, embodiment: Embodiment) -> tuple[Cue, ...]:
    """What to compare for a motion topic, the most telling first."""
    if motion.type == ODOMETRY:
        return Cue.TURN, Cue.CHANGE
    if motion.type == POSE_STAMPED and embodiment.integrate != "sum":
        return Cue.TURN, Cue.CHANGE
    if motion.type in TWIST_TYPES:
        turns = [c for c in embodiment.channels if "angular" in (c.source or "")]
        known = embodiment.integrate != "sum" or any(c.unit.startswith("rad") for c in turns)
        return (Cue.TURN, Cue.CHANGE) if known else (Cue.STEERING,)
    return (Cue.CHANGE,)


def collect(
    recording: Recording, image: Topic, motion: Topic, embodiment: Embodiment, cue: Cue, *, max_images: int
) -> Signals | None:
    """Pairs of images around motion, at most ``max_images`` decoded; None where there is no such pair.

    Raises DataError when the recording cannot be read.
    """
    track, pictures = _Track(_Coordinates.of(cue, motion, embodiment)), _Pictures(cue)
    for item in recording.read([image.name, motion.name]):
        if not isinstance(item.value, ImageValue):
            track.add(item)
        elif pictures.decoded >= max_images or len(pictures.stamps_ns) >= _MAX_SCANNED or track.full:
            break
        else:
            pictures.add(item.stamp_ns, item.value, active=track.active)
    if not pictures.pairs or len(track.stamps_ns) < 2:
        return None
    origin_ns = track.stamps_ns[0]
    return Signals(
        cue=cue,
        origin_ns=origin_ns,
        interval_ns=float(np.median(np.diff(pictures.stamps_ns))),
        starts=np.array([start - origin_ns for start, _, _ in pictures.pairs], np.float64),
        ends=np.array([end - origin_ns for _, end, _ in pictures.pairs], np.float64),
        picture=np.array([value for _, _, value in pictures.pairs], np.float64),
        times=np.array([stamp - origin_ns for stamp in track.stamps_ns], np.float64),
        motion=track.values,
    )


@dataclass(frozen=True)
class _Coordinates:
    """How a motion message becomes coordinates: ``joints`` by name, ``scales`` (J,), which are ``rates`` (J,) bool."""

    cue: Cue
    joints: tuple[str, ...]
    scales: Floats
    rates: NDArray[np.bool_]

    @classmethod
    def of(cls, cue: Cue, motion: Topic, embodiment: Embodiment) -> _Coordinates:
        channels, scales = embodiment.channels, embodiment.scales
        if motion.type == JOINT_STATE:
            velocities = np.array([channel.kind == "velocity" for channel in channels])
            scales = np.where(velocities, scales / embodiment.rate_hz, scales)
            return cls(cue, tuple(channel.source or channel.name for channel in channels), scales, velocities)
        count = 1 if cue is not Cue.CHANGE else 6 if motion.type == POSE_STAMPED else 3
        if cue is Cue.TURN:
            scales = np.ones(1)
        elif len(scales) < count or cue is Cue.STEERING:
            scales = np.full(count, scales[-1])
        return cls(cue, (), scales[:count], np.full(count, motion.type in TWIST_TYPES))

    def seen_in(self, value: Value) -> _Coordinates:
        """These, without the joints that a message does not have: other topics may have them."""
        if not isinstance(value, JointsValue):
            return self
        here = np.array([joint in value.positions for joint in self.joints], np.bool_)
        joints = tuple(joint for joint, found in zip(self.joints, here, strict=True) if found)
        return replace(self, joints=joints, scales=self.scales[here], rates=self.rates[here])

    def read(self, value: Value) -> Floats | None:
        """(J,) in units; None for a value of another kind. What is missing is NaN."""
        match value:
            case OdometryValue(pose=coordinates) | TwistValue(twist=coordinates) | PoseValue(pose6=coordinates):
                return coordinates[-len(self.scales) :]
            case JointsValue(positions=positions):
                return np.array([positions.get(joint, np.nan) for joint in self.joints], np.float64)
            case _:
                return None


class _Track:
    """Motion messages as coordinates on their stamps, and whether the robot has just been moving."""

    def __init__(self, coordinates: _Coordinates) -> None:
        self.stamps_ns: list[int] = []
        self._values: list[Floats] = []
        self._all = self._coordinates = coordinates
        self._recent: deque[tuple[int, Floats]] = deque()
        self._rates: Floats | None = None

    @property
    def active(self) -> bool:
        if not self._recent:
            return False
        moved = np.ptp(self._scaled([values for _, values in self._recent]), axis=0)
        return float(moved.sum()) > _ACTIVE[self._coordinates.cue]

    @property
    def full(self) -> bool:
        return len(self.stamps_ns) >= _MAX_MOTION

    @property
    def values(self) -> Floats:
        """(M,J) over their scales, without the jumps of angles."""
        return self._scaled(self._values)

    def add(self, item: Stamped) -> None:
        if (self.stamps_ns and item.stamp_ns < self.stamps_ns[-1] + _MIN_MOTION_STEP_NS) or self.full:
            return
        if not self.stamps_ns:
            self._coordinates = self._all.seen_in(item.value)
        values = self._coordinates.read(item.value)
        if (
            values is None
            or not len(values)
            or len(values) != len(self._coordinates.scales)
            or not np.isfinite(values).all()
        ):
            return  # a joint that is missing here, or an orientation never filled in
        values, self._rates = self._integrated(item.stamp_ns, values), values
        self.stamps_ns.append(item.stamp_ns)
        self._values.append(values)
        self._recent.append((item.stamp_ns, values))
        while item.stamp_ns - self._recent[0][0] > _ACTIVE_NS:
            self._recent.popleft()

    def _integrated(self, stamp_ns: int, values: Floats) -> Floats:
        """Rates summed up, each held until the next one."""
        if self._rates is None:
            return np.where(self._coordinates.rates, 0.0, values)
        moved = self._values[-1] + self._rates * ((stamp_ns - self.stamps_ns[-1]) * 1e-9)
        return np.where(self._coordinates.rates, moved, values)

    def _scaled(self, values: list[Floats]) -> Floats:
        return np.asarray(np.unwrap(np.stack(values), axis=0) / self._coordinates.scales, np.float64)


class _Pictures:
    """Stamps of all images, and of compared pairs both stamps with what changed between them."""

    def __init__(self, cue: Cue) -> None:
        self.stamps_ns: list[int] = []
        self.pairs: list[tuple[int, int, float]] = []
        self.decoded = 0
        self._cue = cue
        self._window = cv2.createHanningWindow((_THUMBNAIL.width, _THUMBNAIL.height), cv2.CV_32F)
        self._last: tuple[int, NDArray[np.float32]] | None = None

    def add(self, stamp_ns: int, image: ImageValue, *, active: bool) -> None:
        if self.stamps_ns and stamp_ns <= self.stamps_ns[-1]:
            return
        self.stamps_ns.append(stamp_ns)
        last = self._last
        if not active or (last is not None and stamp_ns - last[0] < _MIN_STEP_NS):
            return
        try:
            thumbnail = _THUMBNAIL(image.decode())
        except DataError:
            return
        self.decoded += 1
        gray = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY).astype(np.float32)
        if last is not None and stamp_ns - last[0] < _MAX_STEP_NS:
            value = self._compare(last[1], gray)
            if value is not None:
                self.pairs.append((last[0], stamp_ns, value))
        self._last = (stamp_ns, gray)

    def _compare(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> float | None:
        if self._cue is Cue.CHANGE:
            return float(np.abs(after - before).mean())
        (shift, _), response = cv2.phaseCorrelate(before, after, self._window)
        sure = response >= _LEAST_RESPONSE and abs(shift) <= _LARGEST_SHIFT * _THUMBNAIL.width
        return float(shift) if sure else None

"""How late a recording's camera is against its odometry, from the picture's sideways shift and the robot's turning.

A robot that turns left shifts its picture to the right, by phase correlation of successive thumbnails; the lag is the
delay at which shift and turn correlate best. Robots without a heading, and recordings that never turn, give no answer.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.data.bag import Bag
from egowm_core.data.preprocess import Preprocess
from egowm_core.data.values import ImageValue, OdometryValue, Stamped, Topic, TwistValue
from egowm_core.errors import DataError

_THUMBNAIL = Preprocess(60, 80)
_MIN_STEP_NS, _MAX_STEP_NS = 45_000_000, 1_000_000_000  # between compared images: less hides a turn in a pixel
_MIN_PAIRS = 30
_MAX_SCANNED = 20_000  # images looked at, decoded or not
_ACTIVE_NS, _ACTIVE_RAD = 2_000_000_000, 0.05  # decode only around turns
_MAX_LAG_S, _MAX_LEAD_FRAMES = 1.5, 2
_CONFIDENT, _GAIN = 0.7, 0.1


@dataclass(frozen=True)
class LagEstimate:
    """A lag of ``frames`` image intervals of ``interval_s``, and the correlation of shift and turn there.

    Zero frames with the correlation at zero where no other delay is clearly better.
    """

    frames: int
    interval_s: float
    confidence: float

    @property
    def convincing(self) -> bool:
        """Whether the stamps are better corrected by it than left alone."""
        return self.frames != 0 and self.confidence >= _CONFIDENT

    @property
    def seconds(self) -> float:
        """The lag in seconds."""
        return self.frames * self.interval_s


def estimate_lag(bag: Bag, image: Topic, motion: Topic, *, max_images: int = 200) -> LagEstimate | None:
    """The lag of ``image`` behind ``motion``, decoding at most ``max_images``; None where nothing can be said."""
    pictures, headings = _Pictures(), _Headings()
    for item in bag.read([image.name, motion.name]):
        if not isinstance(item.value, ImageValue):
            headings.add(item)
        elif pictures.decoded >= max_images or len(pictures.stamps_ns) >= _MAX_SCANNED:
            break
        else:
            pictures.add(item.stamp_ns, item.value, turning=headings.turning)
    if len(pictures.pairs) < _MIN_PAIRS or len(headings.stamps_ns) < 2:
        return None
    interval_ns = float(np.median(np.diff(pictures.stamps_ns)))
    origin = headings.stamps_ns[0]
    times, yaw = np.array(headings.stamps_ns) - origin, np.unwrap(headings.yaw)
    first, second = (np.array([pair[i] for pair in pictures.pairs]) - origin for i in (0, 1))
    shift = np.array([pair[2] for pair in pictures.pairs])
    correlations: dict[int, float] = {}
    for frames in range(-_MAX_LEAD_FRAMES, max(1, min(45, int(_MAX_LAG_S * 1e9 / interval_ns))) + 1):
        early, late = first - frames * interval_ns, second - frames * interval_ns
        known = (early >= times[0]) & (late <= times[-1])
        if known.sum() >= _MIN_PAIRS:
            turn = np.interp(late[known], times, yaw) - np.interp(early[known], times, yaw)
            correlations[frames] = _correlation(shift[known], turn)
    if 0 not in correlations:
        return None
    best = max(correlations, key=lambda frames: correlations[frames])
    if correlations[best] - correlations[0] < _GAIN:
        best = 0
    return LagEstimate(best, interval_ns * 1e-9, correlations[best])


class _Headings:
    """Stamps and headings of a motion topic, and whether the robot has just been turning."""

    def __init__(self) -> None:
        self.stamps_ns: list[int] = []
        self.yaw: list[float] = []
        self._recent: deque[tuple[int, float]] = deque()
        self._turn_rate = 0.0

    @property
    def turning(self) -> bool:
        if not self._recent:
            return False
        recent = np.unwrap([heading for _, heading in self._recent])
        return float(np.ptp(recent)) > _ACTIVE_RAD

    def add(self, item: Stamped) -> None:
        if self.stamps_ns and item.stamp_ns <= self.stamps_ns[-1]:
            return
        if isinstance(item.value, OdometryValue):
            heading = float(item.value.pose[2])
        elif isinstance(item.value, TwistValue):
            elapsed_s = (item.stamp_ns - self.stamps_ns[-1]) * 1e-9 if self.stamps_ns else 0.0
            heading = (self.yaw[-1] if self.yaw else 0.0) + self._turn_rate * elapsed_s
            self._turn_rate = float(item.value.twist[2])
        else:
            return
        if not math.isfinite(heading):
            return
        self.stamps_ns.append(item.stamp_ns)
        self.yaw.append(heading)
        self._recent.append((item.stamp_ns, heading))
        while item.stamp_ns - self._recent[0][0] > _ACTIVE_NS:
            self._recent.popleft()


class _Pictures:
    """Stamps of all images, and of compared pairs both stamps with the sideways shift in thumbnail pixels."""

    def __init__(self) -> None:
        self.stamps_ns: list[int] = []
        self.pairs: list[tuple[int, int, float]] = []
        self.decoded = 0
        self._window = cv2.createHanningWindow((_THUMBNAIL.width, _THUMBNAIL.height), cv2.CV_32F)
        self._last: tuple[int, NDArray[np.float32]] | None = None

    def add(self, stamp_ns: int, image: ImageValue, *, turning: bool) -> None:
        if self.stamps_ns and stamp_ns <= self.stamps_ns[-1]:
            return
        self.stamps_ns.append(stamp_ns)
        last = self._last
        if not turning or (last is not None and stamp_ns - last[0] < _MIN_STEP_NS):
            return
        try:
            thumbnail = _THUMBNAIL(image.decode())
        except DataError:
            return
        self.decoded += 1
        gray = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY).astype(np.float32)
        if last is not None and stamp_ns - last[0] < _MAX_STEP_NS:
            (shift, _), _ = cv2.phaseCorrelate(last[1], gray, self._window)
            self.pairs.append((last[0], stamp_ns, float(shift)))
        self._last = (stamp_ns, gray)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 1e-12 else 0.0

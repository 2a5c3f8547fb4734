"""Live messages to contexts: the synchroniser and window of the dataset, plus words for all that is skipped.

Every image and motion message goes through ``egowm_core.data`` exactly as a recording does. What is skipped comes
back as ``Skip`` with a sentence for the log. Knows no ROS (messages are duck-typed) and no model; calls must be
serialised by the caller.

Resolutions: the first picture fixes the aspect ratio. Other sizes of that aspect are fine (the preprocessing scales
them); another aspect would show the model another field of view, so it is refused until the node is activated anew.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from egowm_core.data.images import decode_image
from egowm_core.data.messages import motion_value, stamp_ns
from egowm_core.data.motion import Motion
from egowm_core.data.preprocess import Preprocess
from egowm_core.data.sync import Drop, Tick, TickSynchronizer
from egowm_core.data.values import ODOMETRY
from egowm_core.data.window import ContextBuffer, Sample
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from egowm_core.types import NANOSECONDS_PER_SECOND, FloatArray, Frames, ImageArray

_JOINT_DROPS = frozenset(
    {
        Drop.JOINTS_MALFORMED,
        Drop.JOINTS_EMPTY,
        Drop.JOINTS_INCOMPLETE,
        Drop.JOINT_NOT_FINITE,
        Drop.JOINT_REPEATED,
    }
)
_ASPECT_TOLERANCE = 0.01
_MAX_ARRIVALS = 256
_STARTUP_POSES = 10  # pictures from before the first odometry are no trouble


@dataclass(frozen=True)
class Skip:
    """Something that was not used: a stable ``key`` and a sentence with value, expectation and remedy."""

    key: str
    text: str


@dataclass(frozen=True)
class Progress:
    """What one message led to: ``ticks`` new frames on the model's rate, and what was skipped."""

    ticks: int = 0
    skips: list[Skip] = field(default_factory=list)
    clock_reset: bool = False


class LiveContext:
    """The newest consistent context of one camera and the topics that measure the robot's motion.

    ``context_frames`` and ``horizon`` say how much is kept: a context, and a hindsight sample of ``horizon`` frames.
    """

    def __init__(self, embodiment: Embodiment, *, context_frames: int, horizon: int, image_lag_s: float = 0.0) -> None:
        self._embodiment = embodiment
        self.preprocess = Preprocess.for_camera(embodiment.camera())
        self._sync = TickSynchronizer.for_embodiment(embodiment, image_lag_s=image_lag_s)
        self._motion = Motion(embodiment, self._sync)
        self._buffer = ContextBuffer(context_frames, horizon)
        self._states: deque[tuple[int, FloatArray]] = deque(maxlen=context_frames + horizon)
        self._size: tuple[int, int] | None = None  # of the first picture
        self._undecodable = ""
        self._arrivals: OrderedDict[int, float] = OrderedDict()
        self._image_ns = self._pose_ns = 0  # newest stamps
        self._used_ns = self._used_before_ns = 0  # of the last two pictures that could be decoded
        self._newest: Tick | None = None
        self.newest_arrived_s: float | None = None
        self.num_ticks = 0

    @property
    def drops(self) -> Counter[Drop]:
        """How much was skipped, by reason."""
        return self._sync.drops

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest tick."""
        return None if self._newest is None else self._newest.stamp_ns

    @property
    def last_action(self) -> FloatArray | None:
        """(D,) motion that led to the newest tick; None on the first of a segment."""
        return None if self._newest is None else self._newest.action_from_previous

    @property
    def picture_size(self) -> tuple[int, int] | None:
        """Height and width of the first picture, whose aspect all others have; None before it."""
        return self._size

    def state_at(self, stamp_ns: int) -> FloatArray | None:
        """(S,) state measured at the tick of this stamp; None once it is longer ago than a hindsight sample."""
        return next((state for at_ns, state in self._states if at_ns == stamp_ns), None)

    def problems(self) -> list[str]:
        """What is wrong with the motion's sources so far, a line each, such as a joint that vanished."""
        return self._motion.problems()

    def context(self) -> Frames | None:
        """The newest context frames, or None while there are too few since the last break."""
        return self._buffer.context()

    def hindsight(self) -> Sample | None:
        """The context ``horizon`` ticks ago and what was done and seen since; None until there is as much."""
        return self._buffer.hindsight()

    def add_image(self, message: Any, *, arrived_s: float) -> Progress:
        """Offer an Image or CompressedImage; decoded only if it becomes a tick."""
        stamp = stamp_ns(message)
        self._arrivals[stamp] = arrived_s
        while len(self._arrivals) > _MAX_ARRIVALS:
            self._arrivals.popitem(last=False)
        before, last_ns = self._before(), self._image_ns
        ticks = self._sync.add_image(stamp, partial(self._decode, message))
        progress = self._progress(ticks, before, "image", stamp, last_ns)
        self._image_ns = stamp if progress.clock_reset else max(stamp, last_ns)
        return progress

    def add_odometry(self, message: Any) -> Progress:
        """Offer a nav_msgs/Odometry."""
        return self.add_motion(message, ODOMETRY)

    def add_motion(
        self, message: Any, message_type: str, *, topic: str = "odom", received_ns: int | None = None
    ) -> Progress:
        """Offer a message that measures motion; ``received_ns`` stands in for the stamp where the type has no header.

        Raises DataError for a type that does not measure this embodiment's motion.
        """
        stamp = stamp_ns(message) if hasattr(message, "header") or received_ns is None else received_ns
        before, last_ns = self._before(), self._pose_ns
        ticks = self._motion.add(stamp, motion_value(message, message_type), topic=topic)
        progress = self._progress(ticks, before, topic, stamp, last_ns)
        self._pose_ns = stamp if progress.clock_reset else max(stamp, last_ns)
        return progress

    def _before(self) -> Counter[Drop]:
        self._sync.largest_action = None
        return self._sync.drops.copy()

    def _decode(self, message: Any) -> ImageArray:
        try:
            image = decode_image(message)
            self._check_aspect(image)
            frame = self.preprocess(image)
        except DataError as error:
            self._undecodable = str(error)
            raise
        self._used_before_ns, self._used_ns = self._used_ns, stamp_ns(message)
        return frame

    def _check_aspect(self, image: ImageArray) -> None:
        height, width = image.shape[:2]
        if self._size is None:
            self._size = (height, width)
            return
        first_height, first_width = self._size
        if abs(width * first_height / (height * first_width) - 1) > _ASPECT_TOLERANCE:
            raise DataError(
                f"image is now {height}x{width}, the first was {first_height}x{first_width}: the aspect ratio changed"
                " and with it the field of view; set the camera back, or deactivate and activate this node to accept it"
            )

    def _progress(self, ticks: list[Tick], before: Counter[Drop], stream: str, stamp: int, last_ns: int) -> Progress:
        for tick in ticks:
            self._buffer.push(tick)
            self._states.append((tick.stamp_ns, tick.state))
            self.newest_arrived_s = self._arrivals.pop(tick.stamp_ns, None)
            self._newest = tick
        self.num_ticks += len(ticks)
        new = self._sync.drops - before
        skips = [Skip(reason.value, self._words(reason, stream, stamp, last_ns)) for reason in new]
        if self._sync.poses_in <= _STARTUP_POSES and not self.num_ticks:
            skips = [skip for skip in skips if skip.key != Drop.NO_ODOM.value]
        return Progress(len(ticks), skips, Drop.CLOCK_RESET in new)

    def _words(self, reason: Drop, stream: str, stamp: int, last_ns: int) -> str:
        step_s = (stamp - last_ns) / NANOSECONDS_PER_SECOND
        at = f"stamp {stamp / NANOSECONDS_PER_SECOND:.3f} s"
        gap_s = (self._used_ns - self._used_before_ns) / NANOSECONDS_PER_SECOND
        period_s = 1.0 / self._embodiment.rate_hz
        if reason is Drop.IMAGE_UNDECODABLE:
            return f"image skipped: {self._undecodable}"
        if reason is Drop.OUTSIDE_LIMITS:
            return f"{self._measured()}; started over. Check the odometry's units and the embodiment's limits"
        if reason in _JOINT_DROPS:
            return self._joint_words(reason, stream)
        if reason in (Drop.NO_ODOM, Drop.ODOM_GAP) and (known := self._motion.problems()):
            return f"image skipped: {known[0]}"
        return {
            Drop.IMAGE_BACKWARDS: f"image {at} lies {-step_s:.3f} s before the last one: skipped; stamps must increase,"
            " check that one camera alone publishes and its clock",
            Drop.IMAGE_DUPLICATE: f"image {at} came twice: one was skipped; check that one camera alone publishes",
            Drop.IMAGE_UNSTAMPED: "image has stamp 0: skipped; the camera driver must fill in header.stamp",
            Drop.POSE_BACKWARDS: f"odometry {at} lies {-step_s:.3f} s before the last one: skipped; stamps must"
            " increase",
            Drop.POSE_DUPLICATE: f"odometry {at} came twice: one was skipped; check that one source alone publishes",
            Drop.POSE_NOT_FINITE: "odometry is not finite or its orientation no unit quaternion: skipped; check its"
            " source",
            Drop.ODOM_GAP: f"image skipped: odometry around it is more than {2 * period_s:.2f} s apart; check its rate",
            Drop.NO_ODOM: f"image skipped: no odometry around its stamp (newest {stream} {at}); check that the clocks"
            " of camera and odometry agree",
            Drop.IMAGE_GAP: f"images are {gap_s:.2f} s apart, expected at most {2 * period_s:.2f} s: started over",
            Drop.MOTION_GAP: f"odometry paused for more than {2 * period_s:.2f} s: started over; check its rate",
            Drop.CLOCK_RESET: f"{stream} {at} jumped {step_s:.1f} s: the clock was reset, started over",
        }[reason]

    def _joint_words(self, reason: Drop, stream: str) -> str:
        known = "; ".join(self._motion.problems()[:1])
        return {
            Drop.JOINTS_MALFORMED: f"a message on {stream} was skipped: its names and positions differ in number;"
            " fix the driver's message",
            Drop.JOINTS_EMPTY: f"a message on {stream} names no joint; fix its publisher",
            Drop.JOINTS_INCOMPLETE: f"not every joint is known: {known or 'a joint paused'}",
            Drop.JOINT_NOT_FINITE: f"a joint on {stream} is not finite: {known or 'check its driver'}",
            Drop.JOINT_REPEATED: f"a joint on {stream} has several positions: {known or 'check its driver'}",
        }[reason]

    def _measured(self) -> str:
        action = self._sync.largest_action
        if action is None:
            return "measured motion is outside its limits"
        outside = np.asarray(action) > np.abs(self._embodiment.limits).max(axis=1)
        column = int(np.argmax(outside)) if outside.any() else int(np.argmax(np.abs(action)))
        channel = self._embodiment.channels[column]
        low, high = channel.limits
        return (
            f"measured motion {channel.name} of {float(action[column]):.3g} {channel.unit} a tick is outside"
            f" {low:g}..{high:g}"
        )

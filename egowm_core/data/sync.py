"""Images and measured motion, arriving in any interleaving, onto the model's ticks by header stamps alone.

The converter and the live node feed the same class message by message. It does no I/O, reads no clock, starts no
thread and takes no lock: a caller with several threads serialises its calls.

What it decides depends on stamps only, never on arrival order across the two streams, as long as its bounded buffers
suffice: which images are ticks is settled by the image stamps, the pose of each by the two poses around it.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter, deque
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egowm_core.data.jitter import LogHistogram, SourceStats
from egowm_core.data.measured import measured
from egowm_core.data.poses import Pose, PoseSpace
from egowm_core.data.ticks import Drop, Tick
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError, DataError
from egowm_core.geometry import se2_compose
from egowm_core.types import FloatArray, ImageArray

__all__ = ["Drop", "FrameSource", "Tick", "TickSynchronizer"]

FrameSource = ImageArray | Callable[[], ImageArray]
_FINITE = 1e30  # beyond it float32 and squares overflow: no measurement of a robot
_FASTEST = 1e6  # m/s, rad/s: integrated, more would swallow the digits of all later motion
_SIZE_UNIT = 1e9  # sizes of actions are counted in billionths


class TickSynchronizer:
    """Decimates images onto ``rate_hz`` and pairs each with the motion since the previous tick.

    A tick is the first image at least ``(1 - tolerance)`` of a period after the previous tick. More than ``max_gap_s``
    (default two periods) between ticks starts a new segment. The pose is interpolated linearly at the image's stamp
    (yaw the short way round) between two poses at most ``max_odom_gap_s`` apart (default two periods), so a tick comes
    out only once odometry has reached its stamp. Actions outside ``limits`` (D,2) start a new segment, too.

    ``image_lag_s`` is how late the camera is against odometry: a picture stamped t was taken at t - image_lag_s, and is
    paired with the pose at that time. Its tick keeps the stamp t.

    ``integrate`` says what a pose is: ``se2`` (x, y, yaw) in m, m, rad, whose action is the body-frame delta; ``se3``
    (x, y, z, roll, pitch, yaw); ``sum`` (D,) values whose action is the difference. ``space`` says more, see there.

    ``drops`` counts by reason. A stamp more than ``reset_s`` backwards means that the clock was reset (a bag looped, a
    simulator restarted): everything buffered is forgotten and a new segment starts. ``image_stats`` are the images'
    intervals and gaps (those beyond ``max_gap_s``).
    """

    def __init__(
        self,
        rate_hz: float,
        *,
        integrate: str = "se2",
        space: PoseSpace | None = None,
        tolerance: float = 0.1,
        max_gap_s: float | None = None,
        max_odom_gap_s: float | None = None,
        image_lag_s: float = 0.0,
        limits: NDArray[np.float64] | None = None,
        reset_s: float = 1.0,
        history_s: float = 10.0,
        max_pending: int = 32,
        max_poses: int = 20_000,
        on_action: Callable[[FloatArray], None] | None = None,
    ) -> None:
        if not (math.isfinite(rate_hz) and rate_hz > 0):
            raise ConfigError(f"rate_hz {rate_hz} must be a positive number")
        if not 0 <= tolerance < 1:
            raise ConfigError(f"tolerance {tolerance} must lie in [0, 1)")
        if not math.isfinite(image_lag_s):
            raise ConfigError(f"image_lag_s {image_lag_s} must be a finite number of seconds")
        for name, gap_s in (("max_gap_s", max_gap_s), ("max_odom_gap_s", max_odom_gap_s)):
            if gap_s is not None and not 0 < gap_s < math.inf:
                raise ConfigError(f"{name} {gap_s} must be a positive number of seconds")
        period_s = 1.0 / rate_hz
        self._space = PoseSpace(integrate) if space is None else space
        self._min_step_ns = round((1.0 - tolerance) * period_s * 1e9)
        self._max_gap_ns = round((2.0 * period_s if max_gap_s is None else max_gap_s) * (1 + 1e-6) * 1e9)
        self._max_odom_gap_ns = round((2.0 * period_s if max_odom_gap_s is None else max_odom_gap_s) * (1 + 1e-6) * 1e9)
        self.max_odom_gap_s = 2.0 * period_s if max_odom_gap_s is None else max_odom_gap_s
        self._lag_ns = round(image_lag_s * 1e9)
        self._limits = None if limits is None else np.asarray(limits, np.float64)
        self._reset_ns = round(reset_s * 1e9)
        self._history_ns = round(history_s * 1e9)
        self._max_pending = max_pending
        self._max_poses = max_poses
        self.drops: Counter[Drop] = Counter()
        self.images_in = 0
        self.poses_in = 0
        self._on_action = on_action
        self.largest_action: FloatArray | None = None  # (D,) of magnitudes, within limits or not
        self.largest_state: FloatArray | None = None  # (S,) of magnitudes
        self._sizes: list[LogHistogram] = []  # of the actions, by channel
        self.image_stats = SourceStats(self._max_gap_ns, reset_ns=self._reset_ns)
        self.reset()

    @classmethod
    def for_embodiment(
        cls,
        embodiment: Embodiment,
        *,
        image_lag_s: float = 0.0,
        max_gap_s: float | None = None,
        max_odom_gap_s: float | None = None,
        on_action: Callable[[FloatArray], None] | None = None,
    ) -> TickSynchronizer:
        """The synchronizer of an embodiment: its rate, its limits, its way of integrating.

        Raises ConfigError where the embodiment's actions cannot be measured, see ``measured``.
        """
        return cls(
            embodiment.rate_hz,
            space=measured(embodiment).space,
            limits=embodiment.limits,
            image_lag_s=image_lag_s,
            max_gap_s=max_gap_s,
            max_odom_gap_s=max_odom_gap_s,
            on_action=on_action,
        )

    def typical_action(self, fraction: float = 0.9) -> FloatArray | None:
        """(D,) quantile of the magnitudes of each action channel, within 3 %; None while no action was measured."""
        if not self._sizes:
            return None
        return np.array([sizes.quantile(fraction) / _SIZE_UNIT for sizes in self._sizes], np.float32)

    def reset(self) -> None:
        """Forget all that is buffered; the next tick starts a new segment. Counts stay."""
        self._last_image_ns: int | None = None  # newest image seen
        self._last_candidate_ns: int | None = None  # newest image chosen for a tick
        self._pending: deque[tuple[int, ImageArray, bool]] = deque()  # stamp, frame, starts a segment
        self._pose_stamps: list[int] = []
        self._poses: list[Pose] = []
        self._previous: tuple[int, Pose] | None = None  # time and pose of the last tick of this segment
        self._gap_ends: deque[int] = deque(maxlen=64)  # of the poses' gaps, for what is integrated over them
        self._twist_pose: Pose = np.zeros(3)
        self._twist: Pose | None = None
        self._break_next = True
        self._candidate_break = True

    def add_image(self, stamp_ns: int, frame: FrameSource) -> list[Tick]:
        """Offer an image; returns the ticks it completes (usually none: odometry completes them).

        ``frame`` is (H,W,3) uint8 RGB or a function that decodes it, called only when the image becomes a tick; a
        DataError it raises is counted and the next image takes its place.
        """
        self.images_in += 1
        self.image_stats.add(stamp_ns)
        last = self._last_image_ns
        if last is not None and stamp_ns <= last:
            if stamp_ns == last:
                self.drops[Drop.IMAGE_DUPLICATE] += 1
                return []
            if stamp_ns == 0:
                self.drops[Drop.IMAGE_UNSTAMPED] += 1
                return []
            if last - stamp_ns <= self._reset_ns:
                self.drops[Drop.IMAGE_BACKWARDS] += 1
                return []
            self._clock_reset(stamp_ns)
        self._last_image_ns = stamp_ns
        previous = self._last_candidate_ns
        if previous is not None and stamp_ns - previous < self._min_step_ns:
            return []
        try:
            decoded = frame() if callable(frame) else frame
        except DataError:
            self.drops[Drop.IMAGE_UNDECODABLE] += 1
            return []
        starts = self._candidate_break
        if previous is not None and stamp_ns - previous > self._max_gap_ns:
            self.drops[Drop.IMAGE_GAP] += 1
            starts = True
        self._candidate_break = False
        self._last_candidate_ns = stamp_ns
        self._pending.append((stamp_ns, decoded, starts))
        ticks = self._emit()
        if len(self._pending) > self._max_pending:
            self._drop_pending(Drop.NO_ODOM)
        return ticks

    def add_pose(self, stamp_ns: int, pose: ArrayLike) -> list[Tick]:
        """Offer a measured pose: (3,) x m, y m, yaw rad for se2, else as in ``space``. Returns the ticks it completes.

        Raises DataError when its width changes.
        """
        self.poses_in += 1
        value = np.array(pose, np.float64)
        if not (np.abs(value) < _FINITE).all():
            self.drops[Drop.POSE_NOT_FINITE] += 1
            return []
        if self._pose_stamps and stamp_ns <= self._pose_stamps[-1]:
            last = self._pose_stamps[-1]
            if stamp_ns == last:
                self.drops[Drop.POSE_DUPLICATE] += 1
                return []
            if last - stamp_ns <= self._reset_ns or stamp_ns == 0:
                self.drops[Drop.POSE_BACKWARDS] += 1
                return []
            self._clock_reset(stamp_ns)
        if self._poses and value.shape != self._poses[-1].shape:
            raise DataError(f"a pose has shape {value.shape}, the one before {self._poses[-1].shape}; feed one source")
        if self._pose_stamps and stamp_ns - self._pose_stamps[-1] > self._max_odom_gap_ns:
            self._gap_ends.append(stamp_ns)
        self._pose_stamps.append(stamp_ns)
        self._poses.append(value)
        ticks = self._emit()
        self._prune(stamp_ns)
        return ticks

    def add_twist(self, stamp_ns: int, twist: ArrayLike, extra: ArrayLike = ()) -> list[Tick]:
        """Offer a body velocity (3,) m/s, m/s, rad/s that holds until the next one; integrated into a pose (se2).

        ``extra`` are further columns of the pose.
        """
        value = np.array(twist, np.float64)
        if not (np.abs(value) < _FASTEST).all():
            self.poses_in += 1
            self.drops[Drop.POSE_NOT_FINITE] += 1
            return []
        if self._twist is not None and self._pose_stamps and stamp_ns > self._pose_stamps[-1]:
            elapsed_s = (stamp_ns - self._pose_stamps[-1]) * 1e-9
            vx, vy, turn_rate = self._twist
            turn = turn_rate * elapsed_s / 2.0  # midpoint rule: move along the mean heading
            cos, sin = math.cos(turn), math.sin(turn)
            step = np.array([cos * vx - sin * vy, sin * vx + cos * vy, turn_rate]) * elapsed_s
            self._twist_pose = np.asarray(se2_compose(self._twist_pose, step), np.float64)
        self._twist = value
        return self.add_pose(stamp_ns, np.concatenate([self._twist_pose, np.asarray(extra, np.float64)]))

    def start_segment(self) -> None:
        """Make the next tick the first of a new segment (the caller knows of a break, such as a paused robot)."""
        self._break_next = True

    def finish(self) -> None:
        """Count the images that no odometry came for; call at the end of a recording."""
        while self._pending:
            self._drop_pending(Drop.NO_ODOM)

    def _clock_reset(self, stamp_ns: int) -> None:
        # The other stream may already have jumped; then its few buffered poses belong to the new clock and stay.
        kept = [
            (stamp, pose)
            for stamp, pose in zip(self._pose_stamps, self._poses, strict=True)
            if stamp <= stamp_ns + self._reset_ns and stamp >= stamp_ns - self._reset_ns
        ]
        newest = self._pose_stamps[-1] if self._pose_stamps else None
        twist_pose, twist = self._twist_pose, self._twist
        self.reset()
        self.drops[Drop.CLOCK_RESET] += 1
        if kept and kept[-1][0] == newest:
            self._pose_stamps = [stamp for stamp, _ in kept]
            self._poses = [pose for _, pose in kept]
            self._twist_pose, self._twist = twist_pose, twist

    def _emit(self) -> list[Tick]:
        ticks: list[Tick] = []
        while self._pending and self._pose_stamps:
            stamp_ns, frame, starts = self._pending[0]
            taken_ns = stamp_ns - self._lag_ns
            after = bisect.bisect_left(self._pose_stamps, taken_ns)
            if after == len(self._pose_stamps):
                break  # odometry has not reached this image yet
            if self._pose_stamps[after] == taken_ns:
                pose = self._poses[after]
            elif after == 0:
                self._drop_pending(Drop.NO_ODOM)
                continue
            elif self._pose_stamps[after] - self._pose_stamps[after - 1] > self._max_odom_gap_ns:
                self._drop_pending(Drop.ODOM_GAP)
                continue
            else:
                pose = self._interpolate(after, taken_ns)
            self._pending.popleft()
            action = self._action(taken_ns, pose, starts=starts)
            state = self._space.state(pose)
            size = np.abs(state)
            self.largest_state = size if self.largest_state is None else np.maximum(self.largest_state, size)
            ticks.append(Tick(stamp_ns, frame, action, state))
        return ticks

    def _interpolate(self, after: int, stamp_ns: int) -> Pose:
        first, second = self._pose_stamps[after - 1], self._pose_stamps[after]
        fraction = (stamp_ns - first) / (second - first)
        return self._space.interpolate(self._poses[after - 1], self._poses[after], fraction)

    def _action(self, taken_ns: int, pose: Pose, *, starts: bool) -> FloatArray | None:
        previous, self._previous = self._previous, (taken_ns, pose)
        starts, self._break_next = starts or self._break_next, False
        if starts or previous is None:
            return None
        if self._unmeasured(previous[0], taken_ns):
            self.drops[Drop.MOTION_GAP] += 1
            return None
        action = self._space.action(previous[1], pose, (taken_ns - previous[0]) * 1e-9)
        size = np.abs(action).astype(np.float32)
        self.largest_action = size if self.largest_action is None else np.maximum(self.largest_action, size)
        if self._on_action is not None:
            self._on_action(action.astype(np.float32))
        self._sizes = self._sizes or [LogHistogram() for _ in size]
        for sizes, value in zip(self._sizes, size, strict=True):
            sizes.add(round(float(value) * _SIZE_UNIT))
        if self._limits is not None:
            slack = 1e-5 * (self._limits[:, 1] - self._limits[:, 0])
            if np.any(action < self._limits[:, 0] - slack) or np.any(action > self._limits[:, 1] + slack):
                self.drops[Drop.OUTSIDE_LIMITS] += 1
                return None
        return action.astype(np.float32)

    def _unmeasured(self, start_ns: int, end_ns: int) -> bool:
        """Whether something that is integrated over time was not measured somewhere between two ticks."""
        if self._twist is None and not self._space.integrals:
            return False
        while self._gap_ends and self._gap_ends[0] <= start_ns:
            self._gap_ends.popleft()
        return bool(self._gap_ends) and self._gap_ends[0] <= end_ns

    def _drop_pending(self, reason: Drop) -> None:
        self._pending.popleft()
        self.drops[reason] += 1
        self._break_next = True

    def _prune(self, newest_ns: int) -> None:
        """Keep the poses that an image of the last ``history_s`` could need, and never more than ``max_poses``."""
        if len(self._pose_stamps) < 256:
            return
        cut = bisect.bisect_left(self._pose_stamps, newest_ns - self._history_ns) - 1
        cut = max(cut, len(self._pose_stamps) - self._max_poses)
        if cut >= 128:
            del self._pose_stamps[:cut], self._poses[:cut]

"""Where a planar base was when, and paths of other frames brought into the odometry frame.

Frames known without help are the odometry's own and the robot's base; any other needs the transform tree, that is
tf2_ros, which is used where it can be imported. Knows poses and frame names; of ROS only tf2, and that on demand.
"""

from __future__ import annotations

import bisect
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import EmbodimentError
from egowm_core.geometry import se2_compose, wrap_angle, yaw_from_quaternion
from egowm_core.types import NANOSECONDS_PER_SECOND

Array = NDArray[np.float64]
_SPACING_NS = 10_000_000
_MOST_POSES = 2048
_RESET_NS = NANOSECONDS_PER_SECOND
_LATE_NS = 500_000_000  # a path may be stamped a little later than the newest odometry


class TransformTree(Protocol):
    """What is asked of tf2."""

    def pose_of(self, frame: str, *, seen_from: str, stamp_ns: int) -> Array:
        """(3,) x, y, yaw of a frame's origin; raises EmbodimentError where the tree does not know it."""

    def close(self) -> None: ...


class PoseHistory:
    """The newest poses (3,) x, y, yaw of the base in ``odometry_frame``, by stamp; about 20 s of them."""

    def __init__(self, base_frame: str) -> None:
        self.odometry_frame = ""
        self.base_frames = {base_frame}
        self._stamps: list[int] = []
        self._poses: list[Array] = []

    def add(self, stamp_ns: int, pose: Array, *, frame: str, child: str = "") -> None:
        """Take a measured pose; those not finite, and older than the newest, are passed over."""
        if not np.isfinite(pose).all() or stamp_ns <= 0:
            return
        if self._stamps and stamp_ns < self._stamps[-1] - _RESET_NS:
            self._stamps, self._poses = [], []  # a new clock
        self.odometry_frame = _plain(frame) or self.odometry_frame
        if child:
            self.base_frames = {*list(self.base_frames)[:4], _plain(child)}
        if self._stamps and stamp_ns < self._stamps[-1] + _SPACING_NS:
            return
        self._stamps.append(stamp_ns)
        self._poses.append(np.asarray(pose, np.float64))
        if len(self._stamps) > _MOST_POSES:
            del self._stamps[: _MOST_POSES // 4], self._poses[: _MOST_POSES // 4]

    def at(self, stamp_ns: int) -> Array | None:
        """The pose at a stamp, interpolated; None before the oldest, or long after the newest."""
        if not self._stamps or not self._stamps[0] <= stamp_ns <= self._stamps[-1] + _LATE_NS:
            return None
        after = bisect.bisect_left(self._stamps, stamp_ns)
        if after == len(self._stamps):
            return self._poses[-1]
        if after == 0:
            return self._poses[0]
        first, second = self._poses[after - 1], self._poses[after]
        span = self._stamps[after] - self._stamps[after - 1]
        share = (stamp_ns - self._stamps[after - 1]) / span
        way = second - first
        return np.array([*(first[:2] + share * way[:2]), first[2] + share * float(wrap_angle(way[2]))])

    def place(self, poses: Array, *, frame: str, stamp_ns: int, tree: TransformTree | None) -> Array:
        """``poses`` (N,3) of ``frame`` in the odometry frame.

        Raises:
            EmbodimentError: no frame, no odometry yet (or none at the stamp of a path in the base frame), or a frame
                that only a transform tree could know.
        """
        name = _plain(frame)
        if not name:
            known = self.odometry_frame or "odom"
            raise EmbodimentError(
                f"the path names no frame_id; expected {known}, or {self._base()} for one ahead of it"
            )
        if not self.odometry_frame:
            raise EmbodimentError("there is no odometry yet to follow the path by; check odom and its frame_id")
        if name == self.odometry_frame:
            return poses
        if name in self.base_frames:
            if (origin := self.at(stamp_ns)) is None:
                at = f"{stamp_ns / NANOSECONDS_PER_SECOND:.3f} s"
                raise EmbodimentError(
                    f"the path lies in {name!r} at stamp {at}, and the odometry says nothing of that time; check the"
                    " clocks, or send it in the odometry's frame"
                )
            return np.asarray(se2_compose(origin, poses))
        if tree is None:
            raise EmbodimentError(
                f"the path lies in frame {name[:80]!r}, expected {self.odometry_frame!r} or {self._base()}; install"
                f" tf2_ros, so that TF is asked, or transform the path to {self.odometry_frame!r}"
            )
        origin = tree.pose_of(name, seen_from=self.odometry_frame, stamp_ns=stamp_ns)
        return np.asarray(se2_compose(origin, poses))

    def clear(self) -> None:
        """Forget the poses (the clock was reset)."""
        self._stamps, self._poses = [], []

    def _base(self) -> str:
        return " or ".join(repr(name) for name in sorted(self.base_frames))


class Tf2Tree:
    """tf2_ros as a TransformTree: listens to /tf and /tf_static of ``node`` until it is closed."""

    def __init__(self, node: Any, tf2_ros: Any) -> None:
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def pose_of(self, frame: str, *, seen_from: str, stamp_ns: int) -> Array:
        from rclpy.time import Time

        try:
            # A path waits for nobody: the newest transform serves where that of its stamp is not there yet.
            wanted = Time(nanoseconds=stamp_ns)
            known = self._buffer.can_transform(seen_from, frame, wanted)
            found = self._buffer.lookup_transform(seen_from, frame, wanted if known else Time())
        except Exception as error:  # tf2 has a family of its own; none of them may end a callback
            raise EmbodimentError(
                f"TF does not know where {frame[:80]!r} is from {seen_from!r}: {str(error)[:200]}; check who"
                " publishes it"
            ) from error
        move, turn = found.transform.translation, found.transform.rotation
        return np.array([move.x, move.y, yaw_from_quaternion(turn.x, turn.y, turn.z, turn.w)])

    def close(self) -> None:
        self._listener.unregister()


def transform_tree(node: Any) -> TransformTree | None:
    """tf2 where it is installed, else None."""
    try:
        import tf2_ros
    except ImportError:
        return None
    return Tf2Tree(node, tf2_ros)


def _plain(frame: str) -> str:
    return frame.strip().lstrip("/")

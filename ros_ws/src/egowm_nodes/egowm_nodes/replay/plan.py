"""Recorded joint commands as a plan: what the robot was about to be told, at any moment of a recording.

A teleoperated or scripted robot's commands were in somebody's mind before they were sent; played back, the next
seconds of them stand for a planner's trajectory. Knows recorded values; no ROS message and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.bag import Bag, choose_topic
from egowm_core.data.values import JOINT_STATE, JointsValue
from egowm_core.errors import DataError

MOST_MESSAGES = 200_000  # over an hour at 50 Hz


@dataclass(frozen=True)
class Commands:
    """Commanded positions (N,D) of joints ``names`` (rad; hands as the driver has them) at ``stamps_ns`` (N,).

    ``skipped`` messages lacked a joint of the first one, were not finite, or came out of order.
    """

    topic: str
    names: tuple[str, ...]
    stamps_ns: NDArray[np.int64]
    positions: NDArray[np.float64]
    skipped: int = 0

    def ahead(self, at_ns: int, *, seconds: float, rate_hz: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What is commanded from ``at_ns`` on: times after it (P,) in s, ``rate_hz`` a second, and positions (P,D).

        Linear between messages. P is 0 before the first message; the end of the recording makes the plan shorter.
        """
        times_s = np.arange(round(seconds * rate_hz) + 1) / rate_hz
        at = at_ns - int(self.stamps_ns[0])
        offsets_s = (self.stamps_ns - self.stamps_ns[0]) * 1e-9
        wanted_s = at * 1e-9 + times_s
        inside = (wanted_s >= 0.0) & (wanted_s <= offsets_s[-1] + 1e-6) if at >= 0 else np.zeros(len(times_s), bool)
        columns = [np.interp(wanted_s[inside], offsets_s, column) for column in self.positions.T]
        return times_s[inside], np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def read_commands(bag: Bag, topic: str) -> Commands:
    """All of a recorded JointState topic's commands, in order of stamp.

    Raises:
        DataError: no such topic, another type, nothing usable on it, or more than ``MOST_MESSAGES``.
    """
    chosen = choose_topic(bag.topics, "joint_commands", (JOINT_STATE,), explicit=topic, option="plan_topic")
    names: tuple[str, ...] = ()
    stamps: list[int] = []
    rows: list[list[float]] = []
    skipped = 0
    if chosen.count > MOST_MESSAGES:
        raise DataError(
            f"plan_topic {chosen.name} has {chosen.count} messages, expected at most {MOST_MESSAGES}; cut the recording"
        )
    for item in bag.read([chosen.name]):
        value = item.value
        if not isinstance(value, JointsValue) or not value.positions:
            skipped += 1
            continue
        names = names or tuple(value.positions)
        row = [value.positions.get(name, np.nan) for name in names]
        if not np.isfinite(row).all() or (stamps and item.stamp_ns <= stamps[-1]):
            skipped += 1
            continue
        stamps.append(item.stamp_ns)
        rows.append(row)
    if not rows:
        raise DataError(
            f"plan_topic {chosen.name} of {bag.path} has no usable command ({skipped} skipped); leave plan_topic empty"
        )
    return Commands(chosen.name, names, np.array(stamps, np.int64), np.array(rows, np.float64), skipped)

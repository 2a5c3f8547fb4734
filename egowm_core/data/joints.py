"""Named values that come in parts, from several publishers, at differing rates: into full vectors at one stamp.

Joint states above all. A vector comes out at every stamp at which some value was measured, as soon as every other value
has been measured at or after it, and holds each interpolated linearly between its own two neighbouring samples. So what
comes out depends on stamps alone, never on the order of arrival; one publisher that sends all gets its own messages
back unchanged.

Where one value's neighbouring samples lie further apart than the limit, there is no vector: a value from longer ago
would be made up. The caller gives the limit that holds for gaps of the whole source, too (two periods of the model by
default), so that a joint that pauses and a source that pauses are one and the same to what follows.

Knows values by name; no embodiment, no message and no tick.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.ticks import Drop
from egowm_core.data.values import JointsValue
from egowm_core.schema import nearest

Vector = NDArray[np.float64]
_FINITE = 1e30  # beyond it float32 and squares overflow: no measurement of a robot
_MAX_OTHERS, _LONGEST_NAME = 256, 128  # names beside the wanted ones that are remembered, and how much of each
_NAMED = 8  # of them in one sentence


@dataclass
class _Trouble:
    """How often something happened to a value, and when first."""

    first_ns: int
    count: int = 0
    longest_ns: int = 0


class JointAssembler:
    """Full vectors (N,) in the order of ``names`` out of partial messages.

    Args:
        max_age_s: how far apart two samples of a value may lie for it to be known in between.
        held: names that keep their value until the next sample, such as commands.
        angles: names of angles in rad, taken the short way round.
        fields: names that are fields of a message rather than joints, for the words.
        reset_s: a stamp that much before the last one means that the clock was reset: all buffered is forgotten.
        history_s: how long a stamp waits for the slowest publisher before it is given up.
        max_pending: how many stamps wait at most.
        drops: where reasons are counted; the synchronizer's, so that they come in one table.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        max_age_s: float,
        held: Collection[str] = (),
        angles: Collection[str] = (),
        fields: Collection[str] = (),
        reset_s: float = 1.0,
        history_s: float = 10.0,
        max_pending: int = 2048,
        drops: Counter[Drop] | None = None,
    ) -> None:
        self.names = tuple(names)
        self._index = {name: index for index, name in enumerate(self.names)}
        self._held = [name in held for name in self.names]
        self._fields = frozenset(fields)
        self._angle = [name in angles for name in self.names]
        self._max_age_ns = round(max_age_s * (1 + 1e-6) * 1e9)
        self._reset_ns = round(reset_s * 1e9)
        self._history_ns = round(history_s * 1e9)
        self._max_pending = max_pending
        self.drops: Counter[Drop] = Counter() if drops is None else drops
        self.messages = 0
        self._first_ns: int | None = None
        self._topics: dict[str, None] = {}
        self._others: dict[str, int] = {}  # unwanted names and when they were first seen
        self._epoch = 0  # how often the clock was reset
        self._seen: dict[str, tuple[int, int, str]] = {}  # epoch, newest stamp and topic of each wanted name
        self._not_finite: dict[str, _Trouble] = {}
        self._repeated: dict[str, _Trouble] = {}
        self._holes: dict[str, _Trouble] = {}
        self._malformed: dict[str, tuple[_Trouble, str]] = {}  # by topic
        self.reset()

    def reset(self) -> None:
        """Forget what is buffered. Counts and what ``problems`` tells stay."""
        self._newest: list[int | None] = [None] * len(self.names)
        self._now_ns: int | None = None  # newest stamp of all
        self._stamps: list[list[int]] = [[] for _ in self.names]  # of each value's samples that may still be needed
        self._values: list[list[float]] = [[] for _ in self.names]
        self._due: list[int] = []  # stamps for which no vector has come out yet, in order

    def add_message(self, stamp_ns: int, value: JointsValue, *, topic: str = "") -> list[tuple[int, Vector]]:
        """Offer a joint state; what is wrong with it is counted, and all that is right is used."""
        if value.fault:
            self.drops[Drop.JOINTS_MALFORMED] += 1
            self._topics.setdefault(topic)
            trouble, _ = self._malformed.setdefault(topic, (_Trouble(stamp_ns), value.fault))
            trouble.count += 1
            return []
        for name in value.repeated:
            if name in self._index:
                self.drops[Drop.JOINT_REPEATED] += 1
                self._repeated.setdefault(name, _Trouble(stamp_ns)).count += 1
        if not value.positions and not value.repeated:
            self.drops[Drop.JOINTS_EMPTY] += 1
        return self.add(stamp_ns, value.positions, topic=topic)

    def add(self, stamp_ns: int, values: Mapping[str, float], *, topic: str = "") -> list[tuple[int, Vector]]:
        """Offer values by name, as many as there are; returns the full vectors (stamp, (N,)) that they complete."""
        self.messages += 1
        self._topics.setdefault(topic)
        if self._first_ns is None:
            self._first_ns = stamp_ns
        part = self._wanted(stamp_ns, values)
        part = self._in_order(stamp_ns, part)
        if not part:
            return []
        for index in part:
            self._seen[self.names[index]] = (self._epoch, stamp_ns, topic)
        if len(part) == len(self.names) and not self._due and self._even():
            return [(stamp_ns, self._take_all(stamp_ns, part))]
        for index, value in part.items():
            before = self._newest[index]
            if before is not None and stamp_ns - before > self._max_age_ns and self._now_ns != before:
                hole = self._holes.setdefault(self.names[index], _Trouble(before))
                hole.count += 1
                hole.longest_ns = max(hole.longest_ns, stamp_ns - before)
            self._newest[index] = stamp_ns
            self._stamps[index].append(stamp_ns)
            self._values[index].append(value)
        self._now_ns = stamp_ns if self._now_ns is None else max(self._now_ns, stamp_ns)
        at = bisect.bisect_left(self._due, stamp_ns)
        if at == len(self._due) or self._due[at] != stamp_ns:
            self._due.insert(at, stamp_ns)
        return self._emit()

    def finish(self) -> None:
        """Count the stamps for which no vector came; call at the end of a recording."""
        if self._now_ns is not None:
            lost = sum(self._now_ns - stamp_ns > self._max_age_ns for stamp_ns in self._due)
            self.drops[Drop.JOINTS_INCOMPLETE] += lost
            if not self.drops[Drop.JOINTS_INCOMPLETE]:
                del self.drops[Drop.JOINTS_INCOMPLETE]
        self._due.clear()

    def problems(self) -> list[str]:
        """What a reader of the dataset should know, one line each: value, topic, stamp, remedy. Empty when all is well.

        Says for every value that never came or vanished for good which names came in its place.
        """
        end = max(((epoch, stamp_ns) for epoch, stamp_ns, _ in self._seen.values()), default=(0, 0))
        lines = []
        for name in self.names:
            if name not in self._seen:
                lines.append(self._never(name))
                continue
            epoch, last_ns, _ = self._seen[name]
            if epoch < end[0] or end[1] - last_ns > self._max_age_ns:
                lines.append(self._vanished(name, end))
        for topic, (trouble, fault) in self._malformed.items():
            lines.append(
                f"{topic or 'the joint state'}: {trouble.count} messages were dropped, the first at"
                f" {self._when(trouble.first_ns)}: {fault}; fix the driver's message"
            )
        for name, trouble in self._not_finite.items():
            lines.append(
                f"{self._called(name)} was not finite {trouble.count} times, first at"
                f" {self._when(trouble.first_ns)}; check its encoder or driver"
            )
        for name, trouble in self._repeated.items():
            lines.append(
                f"{self._called(name)} was given several positions in one message {trouble.count}"
                f" times, first at {self._when(trouble.first_ns)}; give each joint a name of its own"
            )
        for name, trouble in self._holes.items():
            lines.append(
                f"{self._called(name)} was missing for longer than {self._max_age_ns * 1e-9:.3g} s"
                f" {trouble.count} times, first after {self._when(trouble.first_ns)} and for up to"
                f" {trouble.longest_ns * 1e-9:.3g} s; check its publisher"
            )
        return lines

    # ---- one message --------------------------------------------------------------------------------------------

    def _wanted(self, stamp_ns: int, values: Mapping[str, float]) -> dict[int, float]:
        """The finite ones of the wanted values by index; remembers the names of the others."""
        part: dict[int, float] = {}
        for name, value in values.items():
            index = self._index.get(name)
            if index is None:
                if len(self._others) < _MAX_OTHERS:
                    self._others.setdefault(name[:_LONGEST_NAME], stamp_ns)
            elif abs(value) < _FINITE:
                part[index] = value
            else:
                self.drops[Drop.JOINT_NOT_FINITE] += 1
                self._not_finite.setdefault(name, _Trouble(stamp_ns)).count += 1
        return part

    def _in_order(self, stamp_ns: int, part: dict[int, float]) -> dict[int, float]:
        """Those of a message's values that are newer than what is known; forgets all where the clock was reset."""
        last_ns = max((newest for index in part if (newest := self._newest[index]) is not None), default=None)
        if last_ns is None or stamp_ns > last_ns:
            return part
        if last_ns - stamp_ns > self._reset_ns and stamp_ns != 0:
            self.reset()
            self._epoch += 1
            return part
        fresh = {i: value for i, value in part.items() if (newest := self._newest[i]) is None or newest < stamp_ns}
        if not fresh:
            self.drops[Drop.POSE_DUPLICATE if stamp_ns == last_ns else Drop.POSE_BACKWARDS] += 1
        return fresh

    def _even(self) -> bool:
        """Whether all values were last measured at one and the same stamp, or none ever was."""
        return all(newest == self._now_ns for newest in self._newest)

    def _take_all(self, stamp_ns: int, part: dict[int, float]) -> Vector:
        vector = np.array([part[index] for index in range(len(self.names))], np.float64)
        self._now_ns = stamp_ns
        self._newest = [stamp_ns] * len(self.names)
        self._stamps = [[stamp_ns] for _ in self.names]
        self._values = [[part[index]] for index in range(len(self.names))]
        return vector

    # ---- vectors ------------------------------------------------------------------------------------------------

    def _emit(self) -> list[tuple[int, Vector]]:
        found: list[tuple[int, Vector]] = []
        front_ns = min((-1 if newest is None else newest for newest in self._newest), default=-1)
        ready = bisect.bisect_right(self._due, front_ns) if None not in self._newest else 0
        for stamp_ns in self._due[:ready]:
            vector = self._at(stamp_ns)
            if vector is None:
                self.drops[Drop.JOINTS_INCOMPLETE] += 1
            else:
                found.append((stamp_ns, vector))
        if ready:
            self._prune(self._due[ready - 1])
            del self._due[:ready]
        late = bisect.bisect_left(self._due, (self._now_ns or 0) - self._history_ns)
        if len(self._due) > self._max_pending:
            late = max(late, self._max_pending // 4)  # several at once, as pruning touches every value
        if late:
            self.drops[Drop.JOINTS_INCOMPLETE] += late
            self._prune(self._due[late - 1])
            del self._due[:late]
        return found

    def _at(self, stamp_ns: int) -> Vector | None:
        vector = np.empty(len(self.names))
        for index, (stamps, values) in enumerate(zip(self._stamps, self._values, strict=True)):
            after = bisect.bisect_left(stamps, stamp_ns)
            if stamps[after] == stamp_ns:
                vector[index] = values[after]
                continue
            if after == 0 or stamps[after] - stamps[after - 1] > self._max_age_ns:
                return None
            change = 0.0 if self._held[index] else values[after] - values[after - 1]
            if self._angle[index]:
                change = math.remainder(change, 2.0 * math.pi)
            fraction = (stamp_ns - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
            vector[index] = values[after - 1] + fraction * change
        return vector

    def _prune(self, done_ns: int) -> None:
        """Keep of each value the last sample at or before ``done_ns`` and all later ones."""
        for stamps, values in zip(self._stamps, self._values, strict=True):
            cut = bisect.bisect_right(stamps, done_ns) - 1
            if cut > 0:
                del stamps[:cut], values[:cut]

    # ---- words --------------------------------------------------------------------------------------------------

    def _called(self, name: str) -> str:
        topic = self._seen[name][2] if name in self._seen else ""
        return f"{'field' if name in self._fields else 'joint'} {name!r} on {topic or self._all_topics()}"

    def _all_topics(self) -> str:
        return ", ".join(topic for topic in self._topics if topic) or "its topic"

    def _when(self, stamp_ns: int) -> str:
        begin_ns = stamp_ns if self._first_ns is None else self._first_ns
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        return f"stamp {seconds}.{nanoseconds:09d} ({(stamp_ns - begin_ns) * 1e-9:.3f} s in)"

    def _never(self, name: str) -> str:
        others = self._others or dict.fromkeys(self._seen, 0)
        return (
            f"{self._called(name)} never came ({self.messages} messages){nearest(name, others)}; beside"
            f" the wanted ones it has {_listed(self._others)}: name the right one as the channel's source in the"
            " embodiment"
        )

    def _vanished(self, name: str, end: tuple[int, int]) -> str:
        epoch, last_ns, _ = self._seen[name]
        new = [other for other, first_ns in self._others.items() if first_ns > last_ns]
        came = (
            f"since then {_listed(new)} came: if it was renamed, convert the part after it with an embodiment whose"
            " source says so"
            if new
            else "no new name came: check its publisher"
        )
        before = f"{(end[1] - last_ns) * 1e-9:.3g} s before the end" if epoch == end[0] else "before a clock reset"
        return (
            f"{self._called(name)} was last seen at {self._when(last_ns)}, {before}, and nothing after it is used;"
            f" {came}"
        )


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(repr(name) for name in known[:_NAMED]) + more or "no other"

"""A stream of ticks into runs worth keeping: cut at jumps, pauses and frozen or unusable pictures, each told of.

Decides with a bounded lookahead and holds no episode: a tick that may belong to a pause or a freeze waits until that is
known, ``MOST_HELD`` at most. Knows one recording at a time, and nothing of how ticks came about or are stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from egowm_core.data.sync import Tick
from egowm_core.embodiment import Embodiment
from training.curation.config import CurationConfig
from training.curation.cuts import CutFinder, Seen
from training.curation.exclusion import Exclusion, Reason
from training.curation.looks import Look
from training.curation.motion import MotionMeter

MOST_HELD = 64
_MOST_IN_RUN = MOST_HELD - 4  # the rest waits for cuts
_STILL_LEVELS = 1.0  # where actions alone don't tell that the robot stands: its picture must hardly change
_REMEMBERED, _LEAST_REMEMBERED = 480, 20  # pictures whose sharpness is the recording's own measure

__all__ = ["MOST_HELD", "Exclusion", "Placed", "Splitter"]


@dataclass(frozen=True)
class Placed:
    """A tick that is kept. ``starts``: nothing before it may be used together with it; its action is None then."""

    tick: Tick
    starts: bool


@dataclass
class _Run:
    """Consecutive ticks of which it is not known yet whether they are a pause (or a freeze), or the end of one."""

    reason: Reason
    since_ns: int  # the robot stands, or the picture is the same, since then
    ticks: list[Tick]
    motion: float = 0.0
    confirmed: bool = False


class Splitter:
    """Takes the ticks of a recording in order and gives back those to keep, later.

    ``exclusions`` are complete after ``finish``. Of a pause, the last tick is kept: the next episode starts from
    standstill, and has the action that ended it.
    """

    def __init__(self, config: CurationConfig, embodiment: Embodiment) -> None:
        self.exclusions: list[Exclusion] = []
        self._config = config
        self._finder = CutFinder(config)
        self._meter = MotionMeter(embodiment)
        self._run: _Run | None = None
        self._previous: tuple[int, Look] | None = None  # of this segment
        self._sharpness: deque[float] = deque(maxlen=_REMEMBERED)
        self._open: Exclusion | None = None  # may still grow
        self._starts = True

    def add(self, tick: Tick) -> list[Placed]:
        """Offer the next tick; returns those that are now known to be kept, in order."""
        look = Look(tick.frame)
        unusable = self._unusable(look)
        if self._config.min_sharpness_share is not None and look.sharpness is not None:
            self._sharpness.append(look.sharpness)  # unusable or not: a camera that stays so becomes its own measure
        if unusable is None:
            return self._take_all(self._finder.add(tick, look))
        # Nothing is compared across such a picture: what follows it starts anew anyway.
        placed = self._take_all(self._finder.finish()) + self._end_run(resumes=False)
        if tick.action_from_previous is None:
            self._close()
        self._previous = None
        self._exclude(unusable[0], [tick], unusable[1], unusable[2])
        return placed

    def finish(self) -> list[Placed]:
        """The recording has ended: what is kept of the ticks that waited."""
        placed = self._take_all(self._finder.finish()) + self._end_run(resumes=False)
        self._close()
        return placed

    def _take_all(self, seen: Sequence[Seen]) -> list[Placed]:
        return [placed for item in seen for placed in self._take(item)]

    def _take(self, seen: Seen) -> list[Placed]:
        tick, look = seen.tick, seen.look
        motion = self._meter.add(tick.action_from_previous)
        previous, self._previous = self._previous, (tick.stamp_ns, look)
        placed: list[Placed] = []
        if tick.action_from_previous is None or seen.cut is not None:
            placed += self._end_run(resumes=False)
            self._close()
            self._starts, previous, motion = True, None, 0.0
        if seen.cut is not None:
            limit = self._config.cut_tracked_share
            self.exclusions.append(Exclusion(Reason.CUT.value, tick.stamp_ns, tick.stamp_ns, 0, seen.cut, limit))
        return placed + self._follow(tick, look, motion, previous)

    def _follow(self, tick: Tick, look: Look, motion: float, previous: tuple[int, Look] | None) -> list[Placed]:
        """Take a usable tick into the run that it belongs to, or keep it."""
        reason = self._suspicion(look, motion, previous)
        if reason is None:
            return [*self._end_run(resumes=True), self._emit(tick)]
        placed: list[Placed] = []
        if self._run is None or self._run.reason is not reason:
            placed += self._end_run(resumes=True)
            self._run = _Run(reason, previous[0] if previous is not None else tick.stamp_ns, [])
        run = self._run
        run.ticks.append(tick)
        run.motion += motion
        elapsed_s, limit_s = (tick.stamp_ns - run.since_ns) * 1e-9, self._limit_s(reason)
        enough = reason is Reason.PAUSE or run.motion >= self._config.frozen_motion_scales
        run.confirmed = run.confirmed or (elapsed_s > limit_s and enough)
        if run.confirmed:
            kept = 1 if reason is Reason.PAUSE else 0
            gone, run.ticks = run.ticks[: len(run.ticks) - kept], run.ticks[len(run.ticks) - kept :]
            self._exclude(reason, gone, elapsed_s, limit_s)
        elif len(run.ticks) > _MOST_IN_RUN:
            placed.append(self._emit(run.ticks.pop(0)))
        return placed

    def _suspicion(self, look: Look, motion: float, previous: tuple[int, Look] | None) -> Reason | None:
        """What a tick may be part of. The first one of a segment stands still until the next one moves."""
        config = self._config
        change = look.change(previous[1]) if previous is not None else 0.0
        stands = motion < config.pause_motion_scales and (self._meter.sure or change <= _STILL_LEVELS)
        if config.pause_s is not None and stands:
            return Reason.PAUSE
        same = previous is not None and look.same(previous[1], config.frozen_change_levels)
        if config.frozen_s is not None and same:
            return Reason.FROZEN
        return None

    def _limit_s(self, reason: Reason) -> float:
        limit_s = self._config.pause_s if reason is Reason.PAUSE else self._config.frozen_s
        return 0.0 if limit_s is None else limit_s

    def _unusable(self, look: Look) -> tuple[Reason, float, float] | None:
        """Why a picture is of no use: reason, value and limit."""
        config = self._config
        for reason, sign, value, limit in (
            (Reason.DARK, 1, look.brightness, config.min_brightness_levels),
            (Reason.BRIGHT, -1, look.brightness, config.max_brightness_levels),
            (Reason.SATURATED, -1, look.saturated, config.max_saturated_share),
            (Reason.FLAT, 1, look.contrast, config.min_contrast_levels),
        ):
            if limit is not None and sign * value < sign * limit:
                return reason, value, limit
        limit, enough = config.min_sharpness_share, len(self._sharpness) >= _LEAST_REMEMBERED
        if limit is not None and enough and look.sharpness is not None:
            share = look.sharpness / max(float(np.median(self._sharpness)), 1e-9)
            if share < limit:
                return Reason.BLURRED, share, limit
        return None

    def _end_run(self, *, resumes: bool) -> list[Placed]:
        """Settle the ticks that wait. ``resumes``: the robot moves on from there, in the same scene."""
        run, self._run = self._run, None
        if run is None:
            return []
        if run.confirmed and not resumes and run.ticks:
            self._exclude(
                run.reason, run.ticks, (run.ticks[-1].stamp_ns - run.since_ns) * 1e-9, self._limit_s(run.reason)
            )
            return []
        return [self._emit(tick) for tick in run.ticks]

    def _emit(self, tick: Tick) -> Placed:
        self._close()
        starts, self._starts = self._starts, False
        if starts and tick.action_from_previous is not None:
            tick = replace(tick, action_from_previous=None)  # it leads here from a tick that is not kept
        return Placed(tick, starts)

    def _exclude(self, reason: Reason, ticks: Sequence[Tick], value: float, limit: float) -> None:
        """Leave ticks out; what follows each other for the same reason is one exclusion, with its worst value."""
        self._starts = True
        if not ticks:
            return
        first, last, count = ticks[0].stamp_ns, ticks[-1].stamp_ns, len(ticks)
        if self._open is not None and self._open.reason != reason.value:
            self._close()
        if (open_ := self._open) is not None:
            worst = max(open_.value, value) if value > limit else min(open_.value, value)
            self._open = replace(open_, end_ns=last, frames=open_.frames + count, value=worst)
        else:
            self._open = Exclusion(reason.value, first, last, count, value, limit)

    def _close(self) -> None:
        if self._open is not None:
            self.exclusions.append(replace(self._open, value=round(self._open.value, 6)))
            self._open = None

"""The channels of the detector: each adds up one kind of evidence into one number, 1 being the alarm.

Lasting changes go through CUSUMs; events (a jump of the picture or of the exposure) raise their channel at once and
are held for a while. Knows signs and a baseline; knows no cause and no words.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from egowm_core.drift.baseline import DriftBaseline, moved_px
from egowm_core.drift.cusum import Cusum, CusumLimits
from egowm_core.drift.evidence import Evidence
from egowm_core.drift.signs import TickSigns
from egowm_core.types import FloatArray

# What a tick may add (most) and is forgiven (drift), in spreads, and what makes the alarm; set on drives without fault.
LIMITS: Mapping[str, CusumLimits] = {
    "motion": CusumLimits(drift=1.2, threshold=12.0, most=6.0),
    "scs": CusumLimits(drift=1.2, threshold=13.0, most=3.0),
    "fixed": CusumLimits(drift=2.0, threshold=16.0, most=6.0),
    "torn": CusumLimits(drift=1.5, threshold=17.0, most=4.0),
    "dim": CusumLimits(drift=4.0, threshold=8.0, most=8.0),
    "plan": CusumLimits(drift=1.0, threshold=6.0, most=3.0),
}
CHANNELS = (*LIMITS, "frozen", "jump", "gain")
FROZEN_CHANGE = 0.05  # gray levels: a camera's own noise is more
FROZEN_TICKS = 2
MOVING = 3.0  # sigmas of expected motion: the picture ought to move
JUMP_OFF = 8.0  # sigmas by which one tick's motion differs from both its neighbours'
GAIN_Z = 8.0
CUT_Z = 18.0
CUT_TICKS = 40  # how long ago the picture may have changed at once for what followed to be its doing
DOUBT_Z = 1.1  # off motion counts when the latest predicted frames are that far below their usual score, ...
UNCONFIRMED = 0.8  # ... otherwise it gets no further than this
FORETOLD = 0.9  # components that the actions explain less have no say in lasting disagreement
_STRONGEST = 2.0
_BESIDE = 0.5
_JERK_PX = 0.3


class Channels:
    """``values``: channel to strength, 1 at the alarm. ``history``: the newest ticks' signs.

    ``jump`` (4,) px and ``gain`` (natural logarithm) are those of the last such event; ``jump_at`` is the tick's sign.
    ``since_cut``: ticks since the picture last changed in a way that no motion explains. ``hold_ticks``: how long an
    event stays raised.
    """

    def __init__(self, baseline: DriftBaseline, *, hold_ticks: int = 20, keep: int = 48) -> None:
        self.baseline = baseline
        self.history: deque[TickSigns] = deque(maxlen=keep)
        self.frozen_ticks = 0
        self.jump: FloatArray | None = None
        self.jump_at: TickSigns | None = None
        self.gain: float | None = None
        self.since_cut = math.inf
        self.covered = False  # told so already: it stays the cause while anything is raised
        self.values: dict[str, float] = dict.fromkeys(CHANNELS, 0.0)
        self._off = 0.0
        self._doubts: deque[float] = deque(maxlen=2)  # of the newest comparisons, in spreads of their latest frames
        self._hold = hold_ticks
        self._sums = {name: Cusum(limits) for name, limits in LIMITS.items() if name != "motion"}
        self._motion = [(Cusum(LIMITS["motion"]), Cusum(LIMITS["motion"])) for _ in range(4)]
        self._held = {"jump": (0.0, 0), "gain": (0.0, 0)}  # strength, ticks left

    def add_tick(self, sign: TickSigns, *, plan_gap: float = math.nan) -> None:
        """Take one tick; ``plan_gap``: difference of executed and planned action in scales, NaN without a plan."""
        baseline, values = self.baseline, self.values
        self.history.append(sign)
        cut = baseline.levels["surprise"].z(sign.surprise) > CUT_Z
        self.since_cut = 0 if cut else self.since_cut + 1
        for name in ("fixed", "torn", "dim"):
            z = baseline.levels[name].z(sign.value(name, baseline.brightness, baseline.texture))
            values[name] = self._sums[name].add(z)
        values["plan"] = self._sums["plan"].add(baseline.levels["plan"].z(plan_gap))
        self._off = self._add_motion(sign)
        ought = float(np.max(np.abs(sign.expected) / baseline.expectation.sigma0))
        self.frozen_ticks = self.frozen_ticks + 1 if sign.change < FROZEN_CHANGE and ought > MOVING else 0
        values["frozen"] = min(self.frozen_ticks / FROZEN_TICKS, _STRONGEST)
        self._add_events(sign)

    def add_scores(self, evidence: Evidence) -> None:
        """Take the SCS of one comparison, after its ticks."""
        baseline = self.baseline
        z = [
            level.z(evidence.scs.get(horizon, math.nan), moved_px(baseline.expectation, evidence, horizon))
            for horizon, level in baseline.scs.items()
        ]
        known = [value for value in z if math.isfinite(value)]
        if known:
            self.values["scs"] = self._sums["scs"].add(float(np.mean(known)))
        moved = moved_px(baseline.expectation, evidence, len(evidence.actions))
        self._doubts.append(baseline.latest.z(evidence.latest_scs, moved))
        agrees = all(doubt < DOUBT_Z for doubt in self._doubts)  # False where nothing could be judged
        self.values["motion"] = min(self._off, UNCONFIRMED) if agrees else self._off

    def _add_motion(self, sign: TickSigns) -> float:
        for component, sums in enumerate(self._motion):
            off = float(sign.off[component]) * sign.trust
            if self.baseline.expectation.foretold[component] >= FORETOLD:
                sums[0].add(off)
                sums[1].add(-off)
        return max(one.value for sums in self._motion for one in sums)

    def _add_events(self, sign: TickSigns) -> None:
        apart = self._apart()
        strength = float(np.nanmax(np.abs(apart), initial=0.0)) / JUMP_OFF
        if strength >= 1:
            self.jump_at = self.history[-2]
            self.jump = (self.history[-2].observed - self.history[-3].observed).astype(np.float32)
        self._hold_event("jump", strength)
        strength = self.baseline.levels["gain"].z(abs(sign.gain)) / GAIN_Z
        if strength >= 1:
            self.gain = sign.gain
        self._hold_event("gain", strength)

    def _hold_event(self, name: str, strength: float) -> None:
        held, left = self._held[name]
        if strength >= 1:
            held, left = max(min(strength, _STRONGEST), held if left else 0.0), self._hold
        self._held[name] = (held, max(0, left - 1))
        self.values[name] = held if left > 0 else min(max(strength, 0.0), 1.0)

    def _apart(self) -> NDArray[np.float64]:
        """(4,) sigmas by which the last tick but one differs from both its neighbours: a knock is one tick long."""
        if len(self.history) < 3:
            return np.zeros(4)
        before, middle, after = (self.history[i] for i in (-3, -2, -1))
        if before.change < FROZEN_CHANGE:  # pictures go on after a standstill: where they jump to was never a knock
            return np.zeros(4)
        unlike = np.minimum(np.abs(middle.off - before.off), np.abs(middle.off - after.off))
        beside = np.maximum(np.abs(before.off), np.abs(after.off))
        unlike = np.where(beside < _BESIDE * np.abs(middle.off), unlike, 0.0)  # a stop or a slip lasts
        seen = np.minimum(np.abs(middle.observed - before.observed), np.abs(middle.observed - after.observed))
        unlike = np.minimum(unlike, seen / np.maximum(self.baseline.expectation.sigma0, _JERK_PX))  # not an odd action
        return np.asarray(unlike * min(before.trust, after.trust), np.float64)

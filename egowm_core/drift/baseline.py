"""What is usual: learned from comparisons while all is well, or read from a checkpoint's own validation.

Three parts: how the picture moves when the robot does (``expectation``), how large every other figure usually is, and
which SCS such motion usually gets (turning fast costs score, in the best of worlds). All by medians and upper
quantiles: a short disturbance while learning does no harm.

Knows evidence; decides nothing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.drift.evidence import Evidence
from egowm_core.drift.expectation import LEAST_TICKS, MotionExpectation, fit_expectation
from egowm_core.drift.signs import SIGNS, tick_signs
from egowm_core.errors import DataError, ScoreError
from egowm_core.files import read_json, write_text

FILE = "drift_baseline.json"
FORMAT, VERSION = "egowm-drift-baseline", 1
_UPPER, _UPPER_SIGMA = 95.0, 1.645  # a normal distribution's 95th percentile lies so many sigmas above its median
PLAN = "plan"
_FLOORS: Mapping[str, float] = {  # spreads are never taken for smaller than this, however quiet the lesson was
    "surprise": 0.01,
    "gain": 0.02,
    "fixed": 0.02,
    "torn": 3.0,
    "bare": 0.05,
    "dim": 0.08,
    PLAN: 0.15,
}
_SCS_SPREAD = 4.0  # points


@dataclass(frozen=True)
class Level:
    """``median``, and ``spread``: the upper half's robust sigma."""

    median: float
    spread: float

    def z(self, value: float) -> float:
        """Spreads above the median."""
        return (value - self.median) / self.spread


@dataclass(frozen=True)
class ScsLevel:
    """Usual SCS of a horizon: ``still`` points at rest, ``per_px`` fewer for each px moved; ``spread`` points."""

    still: float
    per_px: float
    spread: float

    def usual(self, moved_px: float) -> float:
        """Points that a comparison in which the picture moves ``moved_px`` in all usually gets."""
        return min(100.0, max(0.0, self.still - self.per_px * moved_px))

    def z(self, score: float, moved_px: float) -> float:
        """Spreads below the usual; NaN for an unknown score."""
        return (self.usual(moved_px) - score) / self.spread

    def to_json(self) -> dict[str, float]:
        """Plain numbers."""
        return {"still": round(self.still, 3), "per_px": round(self.per_px, 5), "spread": round(self.spread, 3)}

    @staticmethod
    def from_json(data: Any) -> ScsLevel:
        """Raises KeyError, TypeError or ValueError for anything else."""
        return ScsLevel(float(data["still"]), float(data["per_px"]), float(data["spread"]))


@dataclass(frozen=True)
class DriftBaseline:
    """See the module. ``latest`` is the level of ``Evidence.latest_scs``. ``brightness`` (mean gray) and ``texture``
    (share of blocks) are the usual picture's.
    """

    expectation: MotionExpectation
    levels: dict[str, Level]
    scs: dict[int, ScsLevel]
    latest: ScsLevel
    brightness: float
    texture: float
    ticks: int

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` reads it."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "ticks": self.ticks,
            "brightness": round(self.brightness, 3),
            "texture": round(self.texture, 4),
            "expectation": self.expectation.to_json(),
            "levels": {k: {"median": round(v.median, 5), "spread": round(v.spread, 5)} for k, v in self.levels.items()},
            "scs": {str(h): level.to_json() for h, level in self.scs.items()},
            "latest": self.latest.to_json(),
        }

    @staticmethod
    def from_json(data: Any) -> DriftBaseline:
        """Raises ScoreError for anything but what ``to_json`` gives."""
        if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
            raise ScoreError(f"not a drift baseline of format {FORMAT}, version {VERSION}; write it anew")
        try:
            baseline = DriftBaseline(
                MotionExpectation.from_json(data["expectation"]),
                {
                    name: Level(float(data["levels"][name]["median"]), float(data["levels"][name]["spread"]))
                    for name in (*SIGNS, PLAN)
                },
                {int(horizon): ScsLevel.from_json(level) for horizon, level in data["scs"].items()},
                ScsLevel.from_json(data["latest"]),
                float(data["brightness"]),
                float(data["texture"]),
                int(data["ticks"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ScoreError(f"the drift baseline is damaged ({error!r}); write it anew") from error
        numbers = [x for v in baseline.levels.values() for x in (v.median, v.spread)]
        numbers += [x for s in (baseline.latest, *baseline.scs.values()) for x in (s.still, s.per_px, s.spread)]
        spreads = [v.spread for v in baseline.levels.values()] + [
            s.spread for s in (baseline.latest, *baseline.scs.values())
        ]
        if not np.all(np.isfinite([*numbers, baseline.brightness, baseline.texture])) or min(spreads, default=0) <= 0:
            raise ScoreError("the drift baseline holds impossible numbers; write it anew")
        return baseline

    def save(self, path: Path) -> None:
        """Write ``path`` whole or not at all."""
        write_text(path, json.dumps(self.to_json(), indent=1))


def load_baseline(path: Path, *, channels: int) -> DriftBaseline:
    """Read a baseline for a robot of so many action channels.

    Raises:
        ScoreError: the file is absent, damaged or made for another number of channels.
    """
    try:
        data = read_json(path)
    except DataError as error:
        raise ScoreError(f"{path} cannot be read as a drift baseline: {error}") from error
    baseline = DriftBaseline.from_json(data)
    if len(baseline.expectation.scales) != channels:
        raise ScoreError(
            f"{path} was made for {len(baseline.expectation.scales)} action channels, this robot has {channels}; give"
            " the baseline of its own checkpoint"
        )
    return baseline


class BaselineLearner:
    """Collects comparisons of executed actions and makes the baseline of them.

    ``scales`` (D,) are the channels'; ``keep``: only so many comparisons, the newest, are kept (None: all).
    """

    def __init__(self, scales: NDArray[np.floating[Any]], *, keep: int | None = None) -> None:
        self._scales = scales
        self._evidence: deque[Evidence] = deque(maxlen=keep)
        self._gaps: deque[NDArray[np.float64]] = deque(maxlen=keep)
        self._newest_ns = -1
        self._ticks = 0

    @property
    def ticks(self) -> int:
        """Different ticks seen so far, of all recordings."""
        return self._ticks

    def add(self, evidence: Evidence, plan_gaps: NDArray[np.float64] | None = None) -> None:
        """Take one comparison, with how far each tick's action was off the plan (T,) where there was one."""
        self._evidence.append(evidence)
        self._gaps.append(np.zeros(0) if plan_gaps is None else plan_gaps)
        if int(evidence.stamps_ns[-1]) < self._newest_ns:
            self._newest_ns = -1  # another recording
        self._ticks += int(np.count_nonzero(evidence.stamps_ns > self._newest_ns))
        self._newest_ns = int(evidence.stamps_ns[-1])

    def learn(self) -> DriftBaseline:
        """The baseline of all that was added.

        Raises:
            ScoreError: too few ticks with known motion.
        """
        if not self._evidence:
            raise ScoreError("no comparison to learn a baseline from")
        actions, motion = (np.concatenate([getattr(e, name) for e in self._evidence]) for name in ("actions", "motion"))
        expectation = fit_expectation(actions, motion, self._scales)
        signs = [sign for evidence in self._evidence for sign in tick_signs(evidence, expectation)]
        brightness = float(np.median([sign.brightness for sign in signs]))
        texture = float(np.median([sign.texture for sign in signs]))
        levels = {name: _level(name, [sign.value(name, brightness, texture) for sign in signs]) for name in SIGNS}
        levels[PLAN] = _level(PLAN, np.concatenate(list(self._gaps)).tolist())
        horizons = sorted({h for evidence in self._evidence for h in evidence.scs})
        scs = {}
        for horizon in horizons:
            moved = [moved_px(expectation, e, horizon) for e in self._evidence]
            scs[horizon] = _scs_level(moved, [e.scs[horizon] for e in self._evidence])
        moved = [moved_px(expectation, e, len(e.actions)) for e in self._evidence]
        latest = _scs_level(moved, [e.latest_scs for e in self._evidence])
        if latest is None:
            raise ScoreError("hardly any structure could be judged; drive where there is something to see")
        known = {horizon: level for horizon, level in scs.items() if level is not None}
        return DriftBaseline(expectation, levels, known, latest, brightness, texture, self.ticks)


def moved_px(expectation: MotionExpectation, evidence: Evidence, horizon: int) -> float:
    """How far the actions up to ``horizon`` make the picture move in all, px."""
    return float(np.linalg.norm(expectation.expected(evidence.actions[:horizon]), axis=1).sum())


def _level(name: str, values: Sequence[float]) -> Level:
    known = np.asarray([value for value in values if np.isfinite(value)] or [0.0])
    median = float(np.median(known))
    upper = (float(np.percentile(known, _UPPER)) - median) / _UPPER_SIGMA
    return Level(median, max(upper, _FLOORS[name]))


def _scs_level(moved: Sequence[float], scores: Sequence[float]) -> ScsLevel | None:
    known = np.isfinite(scores)
    if np.count_nonzero(known) < LEAST_TICKS // 4:
        return None
    x, y = np.asarray(moved)[known], np.asarray(scores, np.float64)[known]
    spread_px = float(np.var(x))
    slope = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread_px if spread_px > 1.0 else 0.0
    per_px = max(0.0, -slope)  # motion never helps
    still = float(np.median(y + per_px * x))
    below = still - per_px * x - y
    return ScsLevel(still, per_px, max(_SCS_SPREAD, float(np.percentile(below, _UPPER)) / _UPPER_SIGMA))

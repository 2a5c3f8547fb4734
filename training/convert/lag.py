"""How late a recording's camera is against its motion, how sure that is, and what it does to their correlation.

A robot that turns left shifts its picture to the right; arms that move change it. The lag is the delay at which picture
and motion correlate best. Says nothing where the robot hardly moves, and knows no way to correct a lag.

Chance and error are judged on blocks of consecutive pairs, because neighbours in time are alike: shuffled blocks of the
picture give the correlations that unrelated signals reach (a permutation test), resampled blocks the spread of the best
delay (the moving block bootstrap; H. R. Kuensch, Annals of Statistics 17, 1989).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.values import Recording, Topic
from egowm_core.embodiment import Embodiment
from training.convert.lag_signals import Cue, Floats, Signals, collect, cues

_MIN_PAIRS = 30
_MAX_LAG_S, _LAG_SHARE = 1.5, 6  # delays looked at: this long, and at most this part of the time compared
_MAX_LEAD_FRAMES, _MAX_LAG_FRAMES = 2, 60
_CONVINCING, _GAIN, _SURE = 0.7, 0.05, 0.95
_NEAR_S = 0.05  # two delays this close are the same
_BLOCK_S, _TREND_S = 2.0, 1.0
_SHUFFLES, _RESAMPLES = 99, 200
_LIKE_THE_BEST = (
    0.7  # joints at least this well correlated, relative to the best one, are the ones that the camera sees
)


@dataclass(frozen=True)
class LagEstimate:
    """A lag of ``frames`` image intervals of ``interval_s``; positive where the picture comes after the motion.

    Zero frames where no other delay is reliably and clearly better. ``offsets_s`` (K,) and ``correlations`` (K,) are
    the curve that it was found on. ``confidence`` in [0, 1] is the share of resampled recordings in which this delay is
    the best one or as good, times the probability that the correlation is not chance; ``low_s`` to ``high_s`` hold the
    best delay in 90 % of them. ``chance`` is the p-value: how often shuffled pictures correlate as well.
    """

    frames: int
    interval_s: float
    confidence: float
    offsets_s: tuple[float, ...]
    correlations: tuple[float, ...]
    method: str
    low_s: float
    high_s: float
    chance: float

    @property
    def convincing(self) -> bool:
        """Whether the stamps are better corrected by it than left alone."""
        return self.frames != 0 and self.confidence >= _CONVINCING

    @property
    def seconds(self) -> float:
        """The lag in seconds."""
        return self.frames * self.interval_s

    @property
    def correlation_before(self) -> float:
        """Correlation of picture and motion as they are stamped."""
        return self.correlation_at(0.0)

    @property
    def correlation_best(self) -> float:
        """Their correlation once the lag is corrected."""
        return self.correlation_at(self.seconds)

    def correlation_at(self, lag_s: float) -> float:
        """Their correlation once ``lag_s`` is corrected, interpolated; beyond the curve, its end."""
        return float(np.interp(lag_s, self.offsets_s, self.correlations))

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded far below what the estimate is good for, so that they are the same everywhere."""
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 9),
            "interval_s": round(self.interval_s, 9),
            "confidence": round(self.confidence, 4),
            "convincing": self.convincing,
            "low_s": round(self.low_s, 6),
            "high_s": round(self.high_s, 6),
            "chance": round(self.chance, 4),
            "correlation_before": round(self.correlation_before, 4),
            "correlation_best": round(self.correlation_best, 4),
            "offsets_s": [round(value, 6) for value in self.offsets_s],
            "correlations": [round(value, 4) for value in self.correlations],
            "method": self.method,
        }


def estimate_lag(
    recording: Recording, image: Topic, motion: Topic, embodiment: Embodiment, *, max_images: int = 300
) -> LagEstimate | None:
    """The lag of ``image`` behind ``motion``, decoding at most ``max_images``; None where nothing can be said.

    Headings (Odometry, Twist in rad/s) are compared with the sideways shift of the picture; unitless steering, too,
    whichever the sign; joints, poses, and bases that hardly turn by their speed with how much the picture changes.
    Raises DataError when the recording cannot be read.
    """
    for cue in cues(motion, embodiment):
        signals = collect(recording, image, motion, embodiment, cue, max_images=max_images)
        if signals is not None and (found := estimate(signals)) is not None:
            return found
    return None


def estimate(signals: Signals) -> LagEstimate | None:
    """The lag between two collected signals; None with too few pairs, or where either of them never changes."""
    if len(signals.picture) < _MIN_PAIRS or signals.interval_ns <= 0:
        return None
    frames = _offsets(signals)
    offsets = np.asarray(frames * signals.interval_ns, np.float64)
    inside = (signals.starts - offsets[-1] >= signals.times[0]) & (signals.ends - offsets[0] <= signals.times[-1])
    if inside.sum() < _MIN_PAIRS:
        return None
    starts, ends = signals.starts[inside], signals.ends[inside]
    steps = _clipped(_steps(signals, starts, ends, offsets))
    comparison = _Comparison(signals.cue, (starts + ends) / 2, steps)
    picture = _clipped(signals.picture[inside])
    measured, moved = comparison.series(picture)
    if measured.std() < 1e-9 or moved.std() < 1e-9:
        return None
    curve = _correlations(moved, measured)
    sign = -1.0 if signals.cue is Cue.STEERING and -curve.min() > curve.max() else 1.0
    curve = sign * curve
    rng = np.random.default_rng(0)  # the same recording gives the same estimate
    block = _block_length(starts)
    chance = _chance(comparison, picture, float(curve.max()), block, rng)
    drawn = np.stack(
        [sign * _correlations(moved[:, at], measured[at]) for at in _resampled(len(measured), block, rng)]
    )  # (resamples,K)
    zero, best = int(np.flatnonzero(frames == 0)[0]), int(np.argmax(curve))
    clear = curve[best] - curve[zero] >= _GAIN and (drawn[:, best] > drawn[:, zero]).mean() >= _SURE
    chosen = best if clear else zero
    peaks = frames[drawn.argmax(axis=1)] * signals.interval_ns * 1e-9
    near = np.abs(peaks - offsets[chosen] * 1e-9) <= _NEAR_S
    as_good = drawn[:, chosen] >= drawn.max(axis=1) - _GAIN / 2
    low, high = np.percentile(peaks, [5, 95], method="nearest")
    return LagEstimate(
        frames=int(frames[chosen]),
        interval_s=signals.interval_ns * 1e-9,
        confidence=float((near | as_good).mean()) * (1.0 - chance),
        offsets_s=tuple((offsets * 1e-9).tolist()),
        correlations=tuple(curve.tolist()),
        method=signals.cue.value,
        low_s=float(low),
        high_s=float(high),
        chance=chance,
    )


class _Comparison:
    """Picture and motion made comparable, for any order of the pictures: what a shuffled one is put through, too."""

    def __init__(self, cue: Cue, middles: Floats, steps: Floats) -> None:
        """``middles`` (N,) of the pairs in ns, ``steps`` (K,N,J) moved meanwhile, by delay."""
        self.cue, self._steps = cue, steps
        if cue is Cue.CHANGE:
            # Slow changes of pace look alike at any delay: what is left after a running mean has a sharp peak.
            near = np.clip(np.abs(middles[:, None] - middles[None, :]) / (_TREND_S * 1e9), 0.0, 1.0)
            weights = 0.5 + 0.5 * np.cos(np.pi * near)
            self._detrend = np.eye(len(middles)) - weights / weights.sum(axis=1, keepdims=True)
            self._speeds = self._detrend @ np.sqrt(np.abs(steps))

    def series(self, picture: Floats) -> tuple[Floats, Floats]:
        """What to correlate: (N,) of the picture and (K,N) of the motion, by delay."""
        if self.cue is not Cue.CHANGE:
            return picture, self._steps[:, :, 0]
        measured = self._detrend @ np.sqrt(np.abs(picture))
        # Only some joints move the picture; noise of the others would drown them.
        each = _correlations(np.moveaxis(self._speeds, 2, 1), measured).max(axis=0)
        seen = each >= max(_LIKE_THE_BEST * each.max(), 1e-6)
        together = np.sqrt((self._steps[:, :, seen] ** 2).sum(axis=2))
        return measured, (self._detrend @ np.sqrt(together)[:, :, None])[:, :, 0]


def _offsets(signals: Signals) -> NDArray[np.int64]:
    """Delays to try, in frames."""
    longest_ns = min(_MAX_LAG_S * 1e9, (signals.ends[-1] - signals.starts[0]) / _LAG_SHARE)
    most = int(np.clip(longest_ns / signals.interval_ns, 1, _MAX_LAG_FRAMES))
    return np.arange(-_MAX_LEAD_FRAMES, most + 1)


def _steps(signals: Signals, starts: Floats, ends: Floats, offsets: Floats) -> Floats:
    """(K,N,J): how far each coordinate moved between the two images of a pair, were these ``offsets`` late."""
    columns = []
    for column in signals.motion.T:
        at = [np.interp(stamps - offsets[:, None], signals.times, column) for stamps in (starts, ends)]
        columns.append(at[1] - at[0])
    return np.stack(columns, axis=2)


def _clipped(values: Floats) -> Floats:
    """Without its wildest values: a wrong shift or a jump of localisation must not make the correlation. Along N."""
    axis = 1 if values.ndim == 3 else 0
    low, high = np.percentile(values, [2, 98], axis=axis, keepdims=True)
    return np.asarray(np.clip(values, low, high), np.float64)


def _correlations(rows: Floats, series: Floats) -> Floats:
    """Pearson's correlation of each of ``rows`` (...,N) with ``series`` (N,); 0 where either is constant."""
    rows, series = rows - rows.mean(axis=-1, keepdims=True), series - series.mean()
    size = np.sqrt((rows * rows).sum(axis=-1) * (series @ series))
    return np.asarray(np.where(size > 1e-12, rows @ series / np.maximum(size, 1e-12), 0.0), np.float64)


def _block_length(starts: Floats) -> int:
    """Pairs in a block: as many as last ``_BLOCK_S``, but few enough for a handful of blocks."""
    step = float(np.median(np.diff(starts)))
    return int(np.clip(_BLOCK_S * 1e9 / max(step, 1.0), 2, max(2, len(starts) // 8)))


def _chance(comparison: _Comparison, picture: Floats, reached: float, block: int, rng: np.random.Generator) -> float:
    """How often pictures whose blocks are shuffled reach this correlation at some delay."""
    count = 0
    for _ in range(_SHUFFLES):
        turned = np.roll(np.arange(len(picture)), int(rng.integers(len(picture))))
        blocks = [turned[i : i + block] for i in range(0, len(turned), block)]
        order = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
        measured, moved = comparison.series(picture[order])
        curve = _correlations(moved, measured)
        top = np.abs(curve).max() if comparison.cue is Cue.STEERING else curve.max()
        count += bool(top >= reached)
    return (1 + count) / (1 + _SHUFFLES)


def _resampled(length: int, block: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(resamples,length) indices: random blocks of consecutive ones, joined."""
    firsts = rng.integers(0, length - block + 1, (_RESAMPLES, -(-length // block)))
    return (firsts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, :length]

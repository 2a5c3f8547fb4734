"""From raised channels to the likeliest cause, in words. Knows the channels and their history; takes no decision.

Rules, most specific first: what the pictures alone prove (frozen, dark, covered, jumped), then how observed motion
relates to the expected one over the last ticks (at another time, not at all, otherwise), then what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.drift.channels import CUT_TICKS, Channels
from egowm_core.drift.signs import TickSigns
from egowm_core.drift.states import Cause

_RECENT = 8  # ticks that say how motion relates to what was expected
_LONG = 32  # ticks in which a lag must show
_ENERGY_PX = 1.0  # mean expected motion from which on a ratio means something
_SLIPPING = 0.6  # less of the expected motion than this is slip
_LAGS = range(-3, 9)  # ticks by which pictures may lead or lag their stamps
_LAG_GAIN = 0.35  # error left at the best offset, of that at none
_STILL_PX = 0.5
_BACK_PX, _BACK_ERROR = 1.2, 0.35
_DARK = 0.35  # of the usual brightness
_RIGHT, _GROWTH = 0, 2


@dataclass(frozen=True)
class Explanation:
    """``cause`` with a sentence for people; ``lag_s`` where pictures are that much older than their stamps say."""

    cause: Cause
    words: str
    lag_s: float | None = None


def explain(channels: Channels, *, tick_s: float) -> Explanation | None:
    """The likeliest cause of the channels that are raised, or None while none is."""
    raised = {name for name, value in channels.values.items() if value >= 1}
    if not raised:
        return None
    rules: Sequence[Callable[[Channels, set[str], float], Explanation | None]] = (
        _frozen, _dark, _occluded, _jumped, _exposed, _lagging, _slipping, _misled, _moving_things, _not_following,
    )  # fmt: skip
    found = (rule(channels, raised, tick_s) for rule in rules)
    return next((one for one in found if one is not None), None) or Explanation(
        Cause.NOVEL_SCENE,
        "the picture moves as it should, but is predicted badly: a scene unlike those the model was trained on, or an"
        " obstructed view",
    )


def _frozen(channels: Channels, raised: set[str], tick_s: float) -> Explanation | None:
    if "frozen" not in raised:
        return None
    still_s = channels.frozen_ticks * tick_s
    return Explanation(Cause.FROZEN, f"the same picture for {still_s:.1f} s while the robot moves; check the camera")


def _dark(channels: Channels, raised: set[str], _tick_s: float) -> Explanation | None:
    now, usual = channels.history[-1].brightness, channels.baseline.brightness
    if not raised & {"dim", "gain"} or now > _DARK * usual:
        return None
    return Explanation(
        Cause.DARK, f"hardly any light (mean gray {now:.0f}, usually {usual:.0f}): lights out, or the lens is covered"
    )


def _occluded(channels: Channels, raised: set[str], _tick_s: float) -> Explanation | None:
    recent = list(channels.history)[-_RECENT:]
    cut, share = channels.covered or channels.since_cut <= CUT_TICKS, _moving_share(recent)
    if "fixed" in raised and (cut or (share is not None and share >= _SLIPPING)):
        fixed = float(np.mean([sign.fixed for sign in recent[-4:]]))
        return Explanation(
            Cause.OCCLUDED, f"{fixed:.0%} of the picture stands still where it should move: the lens is covered"
        )
    if cut and raised & {"motion", "scs"} and _stands_still(recent):
        return Explanation(Cause.OCCLUDED, "the picture changed at once and hardly moved since: the lens is covered")
    return None


def _jumped(channels: Channels, raised: set[str], tick_s: float) -> Explanation | None:
    if "jump" not in raised or channels.jump is None:
        return None
    if (back := _went_back(channels)) is not None:
        late = back * tick_s
        return Explanation(Cause.LAG, f"the picture went back by {late:.2f} s: pictures are older than stamped", late)
    right, down = (float(value) for value in channels.jump[:2])
    return Explanation(
        Cause.CAMERA_MOVED,
        f"the whole picture jumped by {math.hypot(right, down):.0f} px ({right:+.0f} right, {down:+.0f} down)"
        " within one tick: the camera was knocked; check its mount, then reset",
    )


def _exposed(channels: Channels, raised: set[str], _tick_s: float) -> Explanation | None:
    if "gain" not in raised or channels.gain is None:
        return None
    factor = math.exp(channels.gain)
    return Explanation(
        Cause.EXPOSURE, f"everything became {factor:.2g} times as bright at once: exposure or light changed"
    )


def _lagging(channels: Channels, raised: set[str], tick_s: float) -> Explanation | None:
    if "motion" not in raised:
        return None
    found = lag_ticks(list(channels.history)[-_LONG:])
    if found is None:
        return None
    late = found * tick_s
    word = "older" if late > 0 else "newer"
    return Explanation(
        Cause.LAG,
        f"pictures agree with the motion of another time: they are {abs(late):.2f} s {word} than stamped",
        late,
    )


def _slipping(channels: Channels, raised: set[str], _tick_s: float) -> Explanation | None:
    share = _moving_share(list(channels.history)[-_RECENT:])
    if not raised & {"motion", "fixed"} or share is None or share >= _SLIPPING:
        return None
    return Explanation(
        Cause.SLIP, f"odometry moves but the picture hardly does ({share:.0%} of what is expected): the wheels slip"
    )


def _misled(channels: Channels, raised: set[str], _tick_s: float) -> Explanation | None:
    if "motion" not in raised:
        return None
    recent = list(channels.history)[-_RECENT:]
    known = [sign for sign in recent if np.isfinite(sign.observed[_RIGHT])] or recent
    expected = float(np.mean([np.abs(sign.expected[_RIGHT]) for sign in known]))
    observed = float(np.mean([np.abs(sign.observed[_RIGHT]) for sign in known]))
    if expected < _ENERGY_PX and observed > 3 * expected:
        return Explanation(
            Cause.PUSHED,
            f"the picture moves {observed:.1f} px a tick, odometry hardly does: the robot is pushed or turned",
        )
    off = float(np.median([sign.observed[_RIGHT] - sign.expected[_RIGHT] for sign in known]))
    return Explanation(
        Cause.ODOMETRY,
        f"the picture turns {abs(off):.1f} px a tick more to the {'left' if off > 0 else 'right'} than odometry says:"
        " check wheels and encoders",
    )


def _moving_things(channels: Channels, raised: set[str], _tick_s: float) -> Explanation | None:
    if "torn" not in raised:
        return None
    return Explanation(Cause.MOVING_THINGS, "parts of the picture move by themselves: somebody walks through")


def _not_following(channels: Channels, raised: set[str], _tick_s: float) -> Explanation | None:
    if "plan" not in raised:
        return None
    return Explanation(
        Cause.NOT_FOLLOWING, "the robot does not do what was planned: a wheel is stuck, or commands are lost"
    )


def _went_back(channels: Channels) -> int | None:
    """By how many ticks the last jump went back to what was seen before; None if it went elsewhere."""
    at = channels.jump_at
    assert at is not None
    if at.echo:
        return round(at.echo)
    before = np.array([sign.observed for sign in channels.history if sign.stamp_ns < at.stamp_ns], np.float64)
    if not len(before):
        return None
    gone = np.cumsum(before[::-1][: _LAGS.stop - 1], axis=0)  # (k,4) px over the last 1, 2, ... ticks
    lengths, errors = np.linalg.norm(gone, axis=1), np.linalg.norm(gone + at.observed, axis=1)
    relative = np.where(lengths >= _BACK_PX, errors / np.maximum(lengths, _BACK_PX), np.inf)
    best = int(np.argmin(np.nan_to_num(relative, nan=np.inf)))
    return best + 2 if relative[best] <= _BACK_ERROR else None  # and the tick itself should have gone on


def _stands_still(recent: Sequence[TickSigns]) -> bool:
    lately = [sign.observed for sign in recent[-3:] if np.all(np.isfinite(sign.observed))]
    return bool(lately) and all(float(np.max(np.abs(observed))) < _STILL_PX for observed in lately)


def _moving_share(recent: Sequence[TickSigns]) -> float | None:
    """How much of the expected motion is seen, by turning or by driving, whichever shows more; None without either."""
    ratios = [ratio for part in (_RIGHT, _GROWTH) if (ratio := _ratio(recent, part)) is not None]
    return max(0.0, *ratios) if ratios else None


def _ratio(recent: Sequence[TickSigns], component: int) -> float | None:
    """Observed motion of a component over the expected one, by least squares; None where too little is expected."""
    expected = np.array([sign.expected[component] for sign in recent], np.float64)
    observed = np.array([sign.observed[component] for sign in recent], np.float64)
    known = np.isfinite(observed)
    if np.count_nonzero(known) < 2 or float(np.mean(np.abs(expected[known]))) < _ENERGY_PX:
        return None
    return float(np.sum(expected[known] * observed[known]) / np.sum(np.square(expected[known])))


def lag_ticks(history: Sequence[TickSigns]) -> float | None:
    """By how many ticks pictures are later than their stamps, when that explains their motion; None when not.

    Observed sideways motion is compared with what the actions made expected, shifted by each offset; the best one
    counts if it leaves far less error than none, and if motion changed enough to tell. Between ticks by a parabola.
    """
    observed = np.array([sign.observed[_RIGHT] for sign in history], np.float64)
    expected = np.array([sign.expected[_RIGHT] for sign in history], np.float64)
    errors = np.array([_shifted_error(observed, expected, lag) for lag in _LAGS])
    at_none = float(errors[-_LAGS.start])
    if not np.any(np.isfinite(errors)) or not math.isfinite(at_none) or float(np.nanstd(expected)) < _ENERGY_PX:
        return None
    best = int(np.nanargmin(errors))
    if best == -_LAGS.start or errors[best] > _LAG_GAIN * at_none:
        return None
    return _LAGS.start + best + _parabola(errors, best)


def _shifted_error(observed: NDArray[np.float64], expected: NDArray[np.float64], lag: int) -> float:
    """Mean squared difference of ``observed`` and ``expected`` of ``lag`` ticks before; NaN where too few overlap."""
    later, earlier = (
        (observed[lag:], expected[: len(expected) - lag]) if lag >= 0 else (observed[:lag], expected[-lag:])
    )
    known = np.isfinite(later)
    return float(np.mean(np.square(later[known] - earlier[known]))) if np.count_nonzero(known) >= _RECENT else math.nan


def _parabola(errors: NDArray[np.float64], best: int) -> float:
    if not 0 < best < len(errors) - 1 or not np.all(np.isfinite(errors[best - 1 : best + 2])):
        return 0.0
    before, at, after = errors[best - 1 : best + 2]
    bend = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend > 0 else 0.0

"""Limits and scales of an embodiment's channels from the actions that a recording has. Knows numbers, no recording."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egowm_core.channels import Channel
from egowm_core.data.units import suspicious_units
from egowm_core.embodiment import Embodiment
from training.sources.proposal import Remark

_PERCENTILE = 0.99
_STILL = 1e-3  # m, rad, ...: less a tick is noise
_NOISE = 0.05  # of the largest size of the same unit: less is noise, too
_LITTLE = 0.25  # of it: less may be a joint that rests here and works elsewhere
_REACH = 3.0  # limits in scales
_DEFAULT_SCALES = {"m": 0.15, "rad": 0.15, "m/s": 0.5, "rad/s": 0.8}
_SUSPICIOUS = {"m": (5.0, "m/s", "metres"), "rad": (2.0 * math.pi, "rad/s", "radians")}  # by speed
_NAMED = 8  # channels in one sentence


@dataclass(frozen=True)
class Fitted:
    """An embodiment with limits and scales, what they were fitted to (by channel), and what was assumed."""

    embodiment: Embodiment
    measured: dict[str, str]
    remarks: tuple[Remark, ...]
    outside: float


def moves(actions: NDArray[np.float64]) -> bool:
    """Whether anything in actions (N,D) is more than noise."""
    return bool((_sizes(actions) > _STILL).any())


def fit_channels(embodiment: Embodiment, actions: NDArray[np.float64]) -> Fitted:
    """Scale: the 99th percentile of the magnitudes, to two digits; limits: three scales.

    A channel that never moves gets the median scale of those of its unit that do: its own would make noise an action.
    """
    sizes, largest = _sizes(actions), np.abs(actions).max(axis=0)
    units = [channel.unit for channel in embodiment.channels]
    most = {unit: max(float(s) for s, u in zip(sizes, units, strict=True) if u == unit) for unit in units}
    alive = [float(s) > max(_STILL, _NOISE * most[unit]) for s, unit in zip(sizes, units, strict=True)]
    channels: list[Channel] = []
    measured: dict[str, str] = {}
    for i, channel in enumerate(embodiment.channels):
        if alive[i]:
            scale = two_digits(float(sizes[i]))
        else:
            peers = [float(sizes[j]) for j in range(len(units)) if alive[j] and units[j] == channel.unit]
            scale = two_digits(statistics.median(peers)) if peers else _DEFAULT_SCALES.get(channel.unit, 1.0)
        limit = float(f"{_REACH * scale:.3g}")
        if channel.unit == "1" and channel.kind == "velocity":
            limit = max(limit, 1.0)  # a fraction of what the robot can do may be all of it
        channels.append(replace(channel, scale=scale, limits=(-limit, limit)))
        measured[channel.name] = f"99 % within {sizes[i]:.3g}, largest {largest[i]:.3g}"
        measured[channel.name] += "" if alive[i] else "; check: hardly moved, the scale is assumed"
    fitted = replace(embodiment, channels=tuple(channels))
    outside = float(np.mean([not fitted.within_limits(action) for action in actions]))
    remarks = [
        Remark("channels", "Scales are the 99th percentile of what was measured, limits three times as much."),
        Remark("channels", f"{outside:.2%} of the {len(actions)} ticks measured lie outside the limits."),
    ]
    still = [i for i, moving in enumerate(alive) if not moving]
    little = [i for i, size in enumerate(sizes) if alive[i] and size < _LITTLE * most[units[i]]]
    texts = {
        "hardly moved, so that their scales are assumed": still,
        "moved little; elsewhere they may do more": little,
    }
    for text, indices in texts.items():
        if indices:
            named = ", ".join(channels[i].name for i in indices[:_NAMED])
            more = f" and {len(indices) - _NAMED} more" if len(indices) > _NAMED else ""
            remarks.append(Remark("channels", f"{text}: {named}{more}", check=True))
    return Fitted(fitted, measured, (*remarks, *_speeds(fitted, sizes)), outside)


def fit_states(embodiment: Embodiment, largest_state: ArrayLike) -> Embodiment:
    """The same robot with states scaled by their largest magnitudes (S,), to two digits; small ones by 1."""
    sizes = np.asarray(largest_state, np.float64)
    states = tuple(
        replace(state, scale=two_digits(float(size)) if size > 0.05 else 1.0)
        for state, size in zip(embodiment.states, sizes, strict=True)
    )
    return replace(embodiment, states=states)


def unit_remarks(embodiment: Embodiment, actions: NDArray[np.float64], largest_state: ArrayLike) -> list[Remark]:
    """What of the sizes hints at another unit than the one assumed."""
    most, typical = np.abs(actions).max(axis=0), np.quantile(np.abs(actions), 0.9, axis=0)
    lines = suspicious_units(most, typical, embodiment, largest_state=largest_state)
    return [Remark("channels", line, check=True) for line in lines]


def two_digits(value: float) -> float:
    """Rounded to two significant digits."""
    return float(f"{value:.2g}")


def _sizes(actions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.quantile(np.abs(actions), _PERCENTILE, axis=0), np.float64)


def _speeds(embodiment: Embodiment, sizes: NDArray[np.float64]) -> list[Remark]:
    """Deltas that would be remarkably fast in the unit assumed."""
    found = []
    for channel, size in zip(embodiment.channels, sizes, strict=True):
        fast, unit, words = _SUSPICIOUS.get(channel.unit, (math.inf, "", ""))
        speed = float(size) * embodiment.rate_hz
        if channel.kind == "delta" and speed > fast:
            found.append(
                Remark("channels", f"{channel.name} reaches {speed:.3g} {unit}: is it in {words}?", check=True)
            )
    return found

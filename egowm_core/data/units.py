"""Numbers that look like another unit than the embodiment's. A guess from sizes, so it warns and never refuses.

Knows the sizes of actions and states; no recording.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egowm_core.channels import Channel, StateChannel
from egowm_core.embodiment import Embodiment

_USUAL = 0.5  # of a channel's scale: the size that unhurried motion typically has
_LEAST = 0.05  # of a channel's scale: less would be next to no motion
_MOST_TURNED = 4.0 * math.pi  # rad; joints that turn without end aside, none gets that far
_NAMED = 4  # channels in one sentence


@dataclass(frozen=True)
class _Guess:
    """What a number may be in truth: ``factor`` times what it should be."""

    unit: str
    factor: float


def suspicious_units(
    largest: ArrayLike, typical: ArrayLike, embodiment: Embodiment, *, largest_state: ArrayLike | None = None
) -> list[str]:
    """Sentences about channels whose motion looks like degrees, millimetres or rates; empty where all is plausible.

    Args:
        largest: (D,) largest magnitude of each action channel, in its unit.
        typical: (D,) its 0.9 quantile (``TickSynchronizer.typical_action``), which a few outliers do not reach.
        embodiment: whose limits and scales say what is plausible.
        largest_state: (S,) largest magnitudes of a tick's state, where known.

    A channel is suspicious when even its typical motion is beyond its limits and one of the usual mistakes would bring
    it back to what the channel's scale expects.
    """
    found: dict[tuple[str, str, str, float], list[int]] = {}
    sizes, most = np.asarray(typical, np.float64), np.asarray(largest, np.float64)
    for index, channel in enumerate(embodiment.channels):
        if (guess := _guess(float(sizes[index]), channel, embodiment.rate_hz)) is not None:
            found.setdefault((channel.unit, channel.kind, guess.unit, guess.factor), []).append(index)
    lines = []
    for (unit, kind, seen, factor), indices in found.items():
        worst = max(indices, key=lambda i: sizes[i] / embodiment.channels[i].scale)
        channel, tick = embodiment.channels[worst], " a tick" if kind == "delta" else ""
        lines.append(
            f"{_names([embodiment.channels[i].name for i in indices])}: typically {sizes[worst]:.3g} and up to"
            f" {most[worst]:.3g} {unit}{tick} ({channel.name}) against limits of {_reach(channel):.3g} looks like"
            f" {seen} given for {unit}{tick}: divide the source by {factor:.4g},"
            f" or, if the robot is that fast, give it an embodiment with its own limits"
        )
    if largest_state is not None and embodiment.integrate == "sum":
        lines += _turned(np.asarray(largest_state, np.float64), embodiment)
    return lines


def _guess(size: float, channel: Channel, rate_hz: float) -> _Guess | None:
    if not math.isfinite(size) or size <= _reach(channel):
        return None
    per_tick = channel.kind == "delta"
    length, angle = channel.unit.split("/")[0] == "m", channel.unit.split("/")[0] == "rad"
    other = [("mm", 1000.0), ("cm", 100.0)] if length else [("degrees", 180.0 / math.pi)] if angle else []
    over = channel.unit.removeprefix("m").removeprefix("rad")  # "/s" of a velocity
    guesses = [_Guess(unit + over + (" a tick" if per_tick else ""), factor) for unit, factor in other]
    if per_tick:
        guesses.append(_Guess(f"{channel.unit}/s", rate_hz))
        guesses += [_Guess(f"{unit}/s", factor * rate_hz) for unit, factor in other]
    fitting = [guess for guess in guesses if _LEAST * channel.scale <= size / guess.factor <= _reach(channel)]
    usual = _USUAL * channel.scale
    return min(fitting, key=lambda guess: abs(math.log(size / guess.factor / usual)), default=None)


def _turned(most: NDArray[np.float64], embodiment: Embodiment) -> list[str]:
    channels: Sequence[Channel | StateChannel] = embodiment.states or embodiment.channels
    if len(most) != len(channels):
        return []
    far = [i for i, channel in enumerate(channels) if channel.unit == "rad" and most[i] > _MOST_TURNED]
    if not far:
        return []
    worst = max(far, key=lambda i: most[i])
    return [
        f"{_names([channels[i].name for i in far])}: positions of up to {most[worst]:.3g} rad ({channels[worst].name})"
        " look like degrees given for rad: divide the source by 57.3, unless the joint turns without end"
    ]


def _reach(channel: Channel) -> float:
    return max(abs(channel.limits[0]), abs(channel.limits[1]))


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"channel{'s' if len(names) > 1 else ''} {', '.join(names[:_NAMED])}{more}"

"""Action scaling and the statistics that a checkpoint carries. Knows arrays and embodiments only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError, EmbodimentError
from egowm_core.types import FloatArray

_KEYS = ("mean", "std", "min", "max", "q01", "q99")


@dataclass(frozen=True)
class ChannelStats:
    """Statistics of one channel in its own unit."""

    mean: float
    std: float
    min: float
    max: float
    q01: float
    q99: float


@dataclass(frozen=True)
class NormStats:
    """Per-channel statistics, in channel order, over ``count`` ticks."""

    channels: dict[str, ChannelStats]
    count: int

    @classmethod
    def from_actions(cls, actions: ArrayLike, channel_names: Iterable[str]) -> NormStats:
        """From actions (T,D). Raises DataError when there are none, or values that are not finite."""
        values, names = np.asarray(actions, np.float64), list(channel_names)
        if values.ndim != 2 or values.shape[1] != len(names) or not len(values):
            raise DataError(f"statistics need actions (T,{len(names)}) with T > 0, got shape {values.shape}")
        if not np.isfinite(values).all():
            raise DataError("statistics need finite actions; convert the recordings again")
        q01, q99 = np.quantile(values, [0.01, 0.99], axis=0)
        columns = [values.mean(0), values.std(0), values.min(0), values.max(0), q01, q99]
        return cls(
            {name: ChannelStats(*(float(column[i]) for column in columns)) for i, name in enumerate(names)}, len(values)
        )

    def to_json(self) -> str:
        """JSON text that ``from_json`` reads back to equal statistics."""
        return json.dumps({"count": self.count, "channels": {n: asdict(s) for n, s in self.channels.items()}}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> NormStats:
        """Raises DataError when the text is not what ``to_json`` wrote."""
        try:
            data: Mapping[str, Any] = json.loads(text)
            channels = {
                str(name): ChannelStats(**{key: float(stats[key]) for key in _KEYS})
                for name, stats in data["channels"].items()
            }
            return cls(channels, int(data["count"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"norm_stats is not readable ({error!r}); convert the dataset again") from error


def normalize(actions: ArrayLike, embodiment: Embodiment) -> FloatArray:
    """Actions (...,D) in units to about [-1, 1] float32: each channel over its scale. Raises EmbodimentError."""
    return (_checked(actions, embodiment) / embodiment.scales).astype(np.float32)


def denormalize(actions: ArrayLike, embodiment: Embodiment) -> FloatArray:
    """The inverse of ``normalize``."""
    return (_checked(actions, embodiment) * embodiment.scales).astype(np.float32)


def _checked(actions: ArrayLike, embodiment: Embodiment) -> NDArray[np.float64]:
    values = np.asarray(actions, np.float64)
    if values.ndim == 0 or values.shape[-1] != embodiment.action_dim:
        raise EmbodimentError(
            f"actions of {embodiment.name!r} end in {embodiment.action_dim} channels"
            f" {list(embodiment.channel_names)}, got shape {values.shape}"
        )
    return values

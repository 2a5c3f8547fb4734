"""An episode's figures, gathered while it streams by, and whether they suffice. Holds no frame."""

from __future__ import annotations

from egowm_core.data.sync import Tick
from egowm_core.embodiment import Embodiment
from training.curation.config import CurationConfig
from training.curation.exclusion import Exclusion, Reason
from training.curation.looks import Look
from training.curation.motion import MotionMeter

_FIGURES = ("sharpness", "brightness", "contrast", "saturated")


class EpisodeQuality:
    """Means over an episode's ticks: see ``summary``."""

    def __init__(self, embodiment: Embodiment) -> None:
        self._meter = MotionMeter(embodiment)
        self._sums = dict.fromkeys(_FIGURES, 0.0)
        self._counts = dict.fromkeys(_FIGURES, 0)
        self._motion = 0.0
        self._frames = 0
        self._first_ns = self._last_ns = 0

    def add(self, tick: Tick) -> None:
        """Take the next tick of the episode; the action into the first one does not count."""
        look = Look(tick.frame)
        self._motion += self._meter.add(tick.action_from_previous if self._frames else None)
        for name in _FIGURES:
            if (value := getattr(look, name)) is not None:
                self._sums[name] += value
                self._counts[name] += 1
        self._first_ns = self._first_ns if self._frames else tick.stamp_ns
        self._last_ns = tick.stamp_ns
        self._frames += 1

    def summary(self) -> dict[str, float]:
        """Means of ``motion`` (scales a tick), ``sharpness`` (see ``Look``; 0 where no frame has an edge),
        ``brightness`` and ``contrast`` (grey levels), ``saturated`` (share of the pixels)."""
        means = {name: round(total / max(1, self._counts[name]), 6) for name, total in self._sums.items()}
        return {"motion": round(self._motion / max(1, self._frames - 1), 6), **means}

    def judge(self, config: CurationConfig) -> Exclusion | None:
        """Why the episode is not worth keeping; None when it is."""
        found = self.summary()
        for reason, value, limit in (
            (Reason.LITTLE_MOTION, found["motion"], config.min_episode_motion_scales),
            (Reason.LITTLE_DETAIL, found["contrast"], config.min_episode_contrast_levels),
        ):
            if limit is not None and value < limit:
                return Exclusion(reason.value, self._first_ns, self._last_ns, self._frames, value, limit)
        return None

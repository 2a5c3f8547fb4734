"""Where the picture jumps to another scene, told from a fast turn: by corners found again, and by colours.

A turn or a step moves corners and keeps most colours; a splice does neither. Two ticks of lookahead tell a jump from a
stretch of pictures in which there is nothing to track, such as a bare wall. Knows no motion and no episode.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.data.sync import Tick
from training.curation.config import CurationConfig
from training.curation.looks import Look

_AHEAD, _BEHIND = 2, 3
_SURELY_SAME = 0.9  # colour overlap from which no corners are looked for
_WELL_TRACKED = 0.65  # share of corners that a scene must give around a jump that is told by corners alone
_CORNERS, _LEAST_CORNERS = 80, 8
_RETURN_PIXELS = 1.0  # a corner tracked there and back again ends where it started
_WINDOW, _LEVELS = (15, 15), 4


@dataclass(frozen=True)
class Seen:
    """A tick with its look. ``cut``: the tracked share if it starts another scene than the tick before, else None."""

    tick: Tick
    look: Look
    cut: float | None = None


class CutFinder:
    """Takes ticks in order; gives each back two ticks later (``finish``: at once), with the verdict."""

    def __init__(self, config: CurationConfig) -> None:
        self._config = config
        self._waiting: deque[tuple[Tick, Look]] = deque()
        self._looks: deque[Look] = deque(maxlen=_BEHIND + 1 + _AHEAD)  # behind, then those waiting

    def add(self, tick: Tick, look: Look) -> list[Seen]:
        """Offer the next tick; returns those that are decided. A tick that starts a segment is never a cut."""
        if not self._config.split_at_cuts:
            return [Seen(tick, look)]
        done = self.finish() if tick.action_from_previous is None else []
        self._waiting.append((tick, look))
        self._looks.append(look)
        while len(self._waiting) > _AHEAD:
            done.append(self._decide())
        return done

    def finish(self) -> list[Seen]:
        """Decide what is left with what there is, and forget the segment."""
        done = [self._decide() for _ in range(len(self._waiting))]
        self._looks.clear()
        return done

    def _decide(self) -> Seen:
        tick, look = self._waiting.popleft()
        looks = list(self._looks)
        at = len(looks) - 1 - len(self._waiting)
        return Seen(tick, look, self._jump(looks, at) if at > 0 else None)

    def _jump(self, looks: list[Look], at: int) -> float | None:
        config, before, look = self._config, looks[at - 1], looks[at]
        overlap = before.colour_overlap(look)
        if overlap >= _SURELY_SAME:
            return None
        tracked = tracked_share(before.gray, look.gray)
        if tracked < config.cut_tracked_share and overlap < config.cut_colour_overlap:
            return tracked
        if tracked >= config.cut_sudden_share:
            return None
        pairs = [(i - 1, i) for i in range(max(1, at - 2), min(len(looks), at + 1 + _AHEAD)) if i != at]
        around = [tracked_share(looks[i].gray, looks[j].gray) for i, j in pairs]
        return tracked if len(around) >= 2 and np.median(around) >= _WELL_TRACKED else None


def tracked_share(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Share of the corners of one picture that the next shows, too (pyramidal Lucas-Kanade, there and back again).

    0 where either has hardly any corner: such a pair tells nothing, and its colours must decide.
    """
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, 0.005, 5)
    if corners is None or len(corners) < _LEAST_CORNERS:
        return 0.0
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=_WINDOW, maxLevel=_LEVELS)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, winSize=_WINDOW, maxLevel=_LEVELS)
    missed = np.linalg.norm((corners - back).reshape(-1, 2), axis=1)
    good = (found[:, 0] == 1) & (found_back[:, 0] == 1) & (missed < _RETURN_PIXELS)
    return float(good.mean())

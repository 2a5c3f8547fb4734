"""Predicted frames are looked at before anybody sees them: blank, or repeated under a moving robot; faces blurred.

A frame that is not finite never gets here: the predictor refuses it, and it is counted here. Knows pictures and
actions; no ROS and no model. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.faces import FaceBlur
from egowm_core.types import FloatArray, Frames, ImageArray, Rollout

DROP, FLAG = "drop", "flag"
FRAME_GUARDS = (DROP, FLAG)
BLANK, REPEATED, NOT_FINITE = "blank", "repeated", "not finite"
BLANK_LEVELS = 2.0  # standard deviation over a frame, in grey levels of 255
_SEEN = 2.0  # times that, the last picture must show for a blank frame to be a fault rather than a dark room
_SAME_LEVELS = 1  # frames differing nowhere by more are the same: a generated picture never stands so still
_MOVED = 1.0  # of a channel's scale, summed over the horizon: a robot that moves less may see the same


@dataclass(frozen=True)
class Checked:
    """A rollout as it may be shown, and the ``context`` picture that goes with it.

    ``found`` says what is wrong, in words by kind; ``fit`` is false for what the guard drops.
    """

    rollout: Rollout
    context: ImageArray
    found: dict[str, str]
    fit: bool


@dataclass(frozen=True)
class FrameCounts:
    """Rollouts ``checked``, ``dropped`` and ``flagged``; ``found`` by kind, a rollout once; ``faces`` blurred."""

    checked: int
    dropped: int
    flagged: int
    found: dict[str, int]
    faces: int


class FrameGuard:
    """Checks rollouts of an embodiment with ``scales`` (D,). ``mode`` is ``drop`` or ``flag``; it may change.

    ``face_detector`` is empty for no blurring, ``builtin``, or the path of a YuNet ONNX file; raises ConfigError where
    that is absent.
    """

    def __init__(self, scales: NDArray[np.float64], *, mode: str = DROP, face_detector: str = "") -> None:
        self._scales, self.mode = np.asarray(scales, np.float64), mode
        self._blur = FaceBlur(face_detector) if face_detector else None
        self._lock = threading.Lock()
        self._checked = self._dropped = self._flagged = self._faces = 0
        self._found: Counter[str] = Counter()

    @property
    def blurs(self) -> bool:
        """Whether faces are looked for."""
        return self._blur is not None

    def check(self, rollout: Rollout, context: ImageArray) -> Checked:
        """``context`` (H,W,3) uint8 is the last picture before the rollout's first frame."""
        found = faults(rollout.frames.images, rollout.actions.values, context, self._scales)
        fit = self.mode == FLAG or not found
        faces = 0
        if fit and self._blur is not None:
            images = list(rollout.frames.images)
            for index, image in enumerate(images):
                images[index], count = self._blur(image)
                faces += count
            context, count = self._blur(context)
            faces += count
            if faces:
                rollout = replace(rollout, frames=Frames(np.stack(images), rollout.frames.stamps_ns))
        with self._lock:
            self._checked += 1
            self._found.update(found.keys())
            self._dropped += not fit
            self._flagged += fit and bool(found)
            self._faces += faces
        return Checked(rollout, context, found, fit)

    def not_finite(self) -> None:
        """Count a prediction that the predictor refused."""
        with self._lock:
            self._checked += 1
            self._dropped += 1
            self._found[NOT_FINITE] += 1

    def counts(self) -> FrameCounts:
        """What happened so far."""
        with self._lock:
            return FrameCounts(self._checked, self._dropped, self._flagged, dict(self._found), self._faces)


def faults(images: ImageArray, actions: FloatArray, context: ImageArray, scales: NDArray[np.float64]) -> dict[str, str]:
    """What is wrong with ``images`` (T,H,W,3) predicted from ``context`` (H,W,3) by ``actions`` (T,D): words, by kind.

    ``scales`` (D,) are the channels'.
    """
    found = {}
    if _spread(context) >= _SEEN * BLANK_LEVELS:
        spreads = [_spread(image) for image in images]
        blank = [index for index, spread in enumerate(spreads) if spread < BLANK_LEVELS]
        if blank:
            found[BLANK] = (
                f"{len(blank)} of {len(images)} predicted frames are blank, the first is frame {blank[0] + 1} with a"
                f" spread of {spreads[blank[0]]:.1f} levels; expected {BLANK_LEVELS:g} or more: check the checkpoint"
                " and the precision it runs at"
            )
    moved = float(np.max(np.abs(np.sum(actions, axis=0, dtype=np.float64)) / scales, initial=0.0))
    if len(images) > 1 and moved >= _MOVED:
        changes = [int(cv2.absdiff(a, b).max()) for a, b in pairwise(images)]
        if max(changes) <= _SAME_LEVELS:
            found[REPEATED] = (
                f"all {len(images)} predicted frames are the same, while the actions move a channel by {moved:.1f}"
                " times its scale; check that the checkpoint was trained with actions"
            )
    return found


def _spread(image: ImageArray) -> float:
    """Largest standard deviation over the picture of its colour channels, in levels."""
    return float(cv2.meanStdDev(np.ascontiguousarray(image))[1].max())

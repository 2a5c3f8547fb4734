"""Evidence tick by tick, each as one number that is larger the odder it is. Knows no threshold, cause or memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from egowm_core.drift.evidence import Evidence
from egowm_core.drift.expectation import MotionExpectation
from egowm_core.types import FloatArray

SIGNS = ("surprise", "gain", "fixed", "torn", "bare", "dim")
_BLACK = 4.0  # gray levels: darker is all the same
_UNASKED = [1, 3]  # down and turn: no base moves the picture so by itself, only near things do
_DOUBTFUL = 3.0  # sigmas of such motion that halve the trust
_PLENTY = 0.4  # share of textured blocks from which on there is enough to see


@dataclass(frozen=True)
class TickSigns:
    """One tick. ``expected`` (4,) px by the actions, ``observed`` (4,) px.

    ``off`` (4,): sigmas between them, signed, beyond what near things explain; where the prediction explains the motion
    better than the actions do (it knows how near things are), its difference counts.
    """

    stamp_ns: int
    action: FloatArray
    expected: FloatArray
    observed: FloatArray
    off: FloatArray
    trust: float
    change: float
    surprise: float
    gain: float
    fixed: float
    torn: float
    brightness: float
    texture: float
    echo: float

    def value(self, name: str, brightness: float, texture: float) -> float:
        """The sign ``name``, against the usual brightness and texture."""
        match name:
            case "gain":
                return abs(self.gain)
            case "bare":
                return max(0.0, texture - self.texture)
            case "dim":
                return max(0.0, math.log((brightness + _BLACK) / (self.brightness + _BLACK)))
        return float(getattr(self, name))


def tick_signs(evidence: Evidence, expectation: MotionExpectation, *, after_ns: int = -1) -> list[TickSigns]:
    """The signs of the ticks later than ``after_ns``, oldest first."""
    expected = expectation.expected(evidence.actions)
    by_actions = expectation.beyond(expected, evidence.motion)
    by_prediction = evidence.motion - evidence.predicted_motion
    better = np.abs(by_prediction) < np.abs(by_actions)  # False where the prediction's motion is unknown
    off = np.where(better, by_prediction, by_actions) / expectation.sigma(expected)
    sideways = np.nan_to_num(np.max(np.abs(off[:, _UNASKED]), axis=1), nan=np.inf)
    trust = np.minimum(1.0, evidence.texture / _PLENTY) / (1.0 + sideways / _DOUBTFUL)
    return [
        TickSigns(
            stamp_ns=int(evidence.stamps_ns[t]),
            action=evidence.actions[t],
            expected=expected[t].astype(np.float32),
            observed=evidence.motion[t],
            off=off[t].astype(np.float32),
            trust=float(trust[t]),
            change=float(evidence.change[t]),
            surprise=float(evidence.surprise[t]),
            gain=float(evidence.gain[t]),
            fixed=float(evidence.fixed[t]),
            torn=float(evidence.torn[t]),
            brightness=float(evidence.brightness[t]),
            texture=float(evidence.texture[t]),
            echo=float(evidence.echo[t]),
        )
        for t in range(len(evidence.stamps_ns))
        if int(evidence.stamps_ns[t]) > after_ns
    ]

"""How the picture moves when the robot does: a linear law from actions to picture motion, learned from what was seen.

    motion (4,) = W [action / scale, 1] * nearness + noise,   low <= nearness <= high
    noise ~ sigma0 + sigma1 |the other components' expected motion|

A camera that turns by an angle moves the whole picture by focal length times that angle, wherever things are; what its
own displacement adds is more the nearer they are, and no fault. ``low`` and ``high`` bound that factor as it was seen
when all was well, so only motion beyond any nearness counts as off. Passing a wall on one side also shifts the picture
while one drives straight: ``sigma1``. Components that the actions do not foretell (how
the picture grows in front of a wall) say so by a low ``foretold``. No field of view and no mounting is needed, and
joints do as well as wheels. Ridge regression with Huber weights.

Knows actions and the four numbers of ``picture_motion``; no picture and no threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ScoreError
from egowm_core.types import FloatArray

_RIDGE = 1e-2  # of each channel's own variance: a robot that drives gently is not shrunk more
_STILL = 1e-6  # for channels that never moved
_HUBER = 2.0
_ITERATIONS = 8
_LEAST_PX = 0.15  # flow is no better than that
_TO_SIGMA = 1.4826  # median absolute deviation to a normal distribution's sigma
_UPPER, _UPPER_SIGMA = 95.0, 1.96  # of a normal distribution, 95 % lie within so many sigmas
_SELDOM = 99.0  # passing close by is rare, but no fault
_CLEAR_PX = 2.0  # expected motion that is large enough for its factor to mean something
_RARE = 1.0  # percent
_PLAIN = 4.0  # robust sigmas
_FIELDS = ("weights", "scales", "low", "high", "sigma0", "sigma1", "foretold")
LEAST_TICKS = 24


@dataclass(frozen=True, eq=False)
class MotionExpectation:
    """``weights`` (4,D+1) px per channel scale, the last column constant; ``low``, ``high`` (4,) factors; ``sigma0``
    (4,) px and ``sigma1`` (4,), see the module; ``foretold`` (4,): share of each component's variance
    that the actions explain, 0..1.
    """

    weights: NDArray[np.float64]
    scales: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    sigma0: NDArray[np.float64]
    sigma1: NDArray[np.float64]
    foretold: NDArray[np.float64]

    def plausible(self) -> bool:
        """Whether scales and sigmas are positive and bounds in order."""
        positive = bool(np.all(self.scales > 0) and np.all(self.sigma0 > 0) and np.all(self.sigma1 >= 0))
        return positive and bool(np.all(self.low <= self.high))

    def expected(self, actions: FloatArray) -> NDArray[np.float64]:
        """(n,4) px of picture motion for actions (n,D) in units, at usual nearness."""
        return _design(actions, self.scales) @ self.weights.T

    def beyond(self, expected: NDArray[np.float64], motion: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """(n,4) px by which ``motion`` lies beyond ``expected`` (n,4) at any nearness; 0 within, NaN unknown."""
        one, other = expected * self.low, expected * self.high
        return np.asarray(motion - np.clip(motion, np.minimum(one, other), np.maximum(one, other)))

    def sigma(self, expected: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,4) px: how far motion usually lies beyond ``expected`` (n,4) when all is well, as a standard deviation."""
        return self.sigma0 + self.sigma1 * _others(expected)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; ``from_json`` reads them."""
        return {name: np.round(getattr(self, name), 6).tolist() for name in _FIELDS}

    @staticmethod
    def from_json(data: Any) -> MotionExpectation:
        """Raises ScoreError for anything but what ``to_json`` gives."""
        try:
            fields = {name: np.asarray(data[name], np.float64) for name in _FIELDS}
        except (KeyError, TypeError, ValueError) as error:
            raise ScoreError(f"the motion expectation is damaged ({error}); write the baseline anew") from error
        read = MotionExpectation(**fields)
        rows = (read.low, read.high, read.sigma0, read.sigma1, read.foretold)
        fits = (
            read.scales.ndim == 1
            and read.weights.shape == (4, read.scales.size + 1)
            and all(row.shape == (4,) for row in rows)
        )
        if not fits or not all(np.all(np.isfinite(value)) for value in fields.values()) or not read.plausible():
            raise ScoreError("the motion expectation does not fit together; write the baseline anew")
        return read


def fit_expectation(actions: FloatArray, motion: FloatArray, scales: NDArray[np.floating[Any]]) -> MotionExpectation:
    """Learn from n ticks of actions (n,D) in units and picture motion (n,4); ``scales`` (D,) are the channels'.

    Raises:
        ScoreError: fewer than 24 ticks whose motion is known.
    """
    known = np.all(np.isfinite(motion), axis=1) & np.all(np.isfinite(actions), axis=1)
    if np.count_nonzero(known) < LEAST_TICKS:
        raise ScoreError(
            f"{np.count_nonzero(known)} ticks with known motion; at least {LEAST_TICKS} make an expectation"
        )
    design, target = _design(actions[known], scales), motion[known].astype(np.float64)
    weights = np.zeros((4, design.shape[1]))
    penalty = len(design) * np.diag([*(_RIDGE * np.var(design[:, :-1], axis=0) + _STILL), 0.0])
    for k in range(4):
        trust = np.ones(len(design))
        for _ in range(_ITERATIONS):
            weighted = design * trust[:, None]
            weights[k] = np.linalg.solve(weighted.T @ design + penalty * trust.mean(), weighted.T @ target[:, k])
            error = np.abs(target[:, k] - design @ weights[k])
            limit = _HUBER * max(_LEAST_PX, _TO_SIGMA * float(np.median(error)))
            trust = np.minimum(1.0, limit / np.maximum(error, 1e-9))
    return _with_noise(design @ weights.T, target, weights, np.asarray(scales, np.float64))


def _design(actions: FloatArray, scales: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    scaled = np.asarray(actions, np.float64) / np.asarray(scales, np.float64)
    return np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)


def _with_noise(
    expected: NDArray[np.float64],
    target: NDArray[np.float64],
    weights: NDArray[np.float64],
    scales: NDArray[np.float64],
) -> MotionExpectation:
    """The law ``weights`` with what was seen about it: upper quantiles, since near things are rare but no fault."""
    error = target - expected
    low, high = np.ones(4), np.ones(4)
    usual = _TO_SIGMA * np.median(np.abs(error), axis=0)
    plain = np.all(np.abs(error) <= _PLAIN * np.maximum(usual, _LEAST_PX), axis=1)  # without the nose at a wall
    for k in range(4):
        clear = plain & (np.abs(expected[:, k]) > _CLEAR_PX)
        if np.count_nonzero(clear) >= LEAST_TICKS:
            factors = target[clear, k] / expected[clear, k]
            low[k], high[k] = (float(np.percentile(factors, q)) for q in (_RARE, 100 - _RARE))
    one, low, high = np.ones(4), np.minimum(low, 1.0), np.maximum(high, 1.0)
    beyond = np.abs(MotionExpectation(weights, scales, low, high, one, one, one).beyond(expected, target))
    others = _others(expected)
    sigma0, sigma1 = np.zeros(4), np.zeros(4)
    for k in range(4):
        calm = others[:, k] <= np.median(others[:, k])
        lively = ~calm if np.any(~calm) else calm
        quiet = float(np.percentile(beyond[calm, k], _UPPER)) / _UPPER_SIGMA
        loud = (
            float(np.percentile(beyond[lively & plain, k], _SELDOM)) / _UPPER_SIGMA if np.any(lively & plain) else 0.0
        )
        sigma0[k] = max(_LEAST_PX, quiet)
        sigma1[k] = max(0.0, loud - sigma0[k]) / max(1.0, float(np.median(others[lively, k])))
    unexplained = np.mean(np.square(error), axis=0) / np.maximum(np.var(target, axis=0), 1e-9)
    return MotionExpectation(weights, scales, low, high, sigma0, sigma1, np.clip(1.0 - unexplained, 0.0, 1.0))


def _others(expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,4): for each component the size of the other three together."""
    squares = np.square(expected)
    return np.asarray(np.sqrt(np.sum(squares, axis=1, keepdims=True) - squares))

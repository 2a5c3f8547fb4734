"""The cross-entropy method over action sequences: sample, evaluate, fit to the best, again (Rubinstein, 1999).

Candidates are a few knots over the horizon, joined by straight lines: smooth in time, and few numbers to search. Knots
are drawn from a normal distribution inside the limits by Latin hypercubes (McKay et al., 1979), so that few candidates
cover much; elites of former iterations stay in the running and the mean itself is tried (Pinneri et al., iCEM, CoRL
2020). The answer is the best candidate that was really evaluated.

Knows an embodiment's limits; knows no model, no picture and no simulator: ``evaluate`` says what a candidate costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError, EgowmError
from egowm_core.types import FloatArray

Evaluate = Callable[[FloatArray], FloatArray]
"""Candidates (N,T,D) in the embodiment's units to their costs (N,), lower is better."""

MOST_CANDIDATES, MOST_ITERATIONS, LONGEST_HORIZON = 4096, 64, 1024
WARM_SPREAD = 0.5  # of the spread of a cold start
LEAST_SPREAD = 0.05  # of half a channel's range: a distribution that is a point searches no more
Array = NDArray[np.float64]
_below = np.vectorize(NormalDist().cdf, otypes=[np.float64])  # share of a normal distribution below a value
_quantile = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])


class PlanningError(EgowmError):
    """No plan can be made of what the evaluation says."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The best ``actions`` (T,D) and their ``cost``; ``candidates`` (M,T,D) and ``costs`` (M,) are all that were tried.

    Candidates are in the order in which they were evaluated; a cost that was not finite is infinite here.
    """

    actions: FloatArray
    cost: float
    candidates: FloatArray
    costs: FloatArray


class Cem:
    """A planner for an embodiment's actions over ``horizon`` ticks.

    Args:
        num_candidates: evaluated in each iteration, at once.
        num_elites: whose knots the next iteration is fitted to.
        num_knots: of each candidate; 1 holds one action, as many as the horizon has ticks leaves every tick free.
        limits: (D,2) inside the embodiment's, where a robot should use less; a channel with both alike stays there.
        max_change: (D,) most change of each channel from one tick to the next, in units; None for any.
        spread: standard deviation of the first iteration as a share of half a channel's range.

    Raises:
        ConfigError: numbers that make no search, or limits outside the embodiment's.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        horizon: int,
        *,
        num_candidates: int = 16,
        num_elites: int = 4,
        num_iterations: int = 2,
        num_knots: int = 2,
        limits: NDArray[np.floating] | None = None,
        max_change: NDArray[np.floating] | None = None,
        spread: float = 1.0,
    ) -> None:
        bounds = {
            "horizon": (horizon, 1, LONGEST_HORIZON),
            "num_candidates": (num_candidates, 2, MOST_CANDIDATES),
            "num_elites": (num_elites, 1, num_candidates),
            "num_iterations": (num_iterations, 1, MOST_ITERATIONS),
            "num_knots": (num_knots, 1, horizon),
        }
        for name, (value, low, high) in bounds.items():
            if not low <= value <= high:
                raise ConfigError(f"planning: {name} is {value}; expected {low}..{high}")
        if not 0 < spread <= 10:
            raise ConfigError(f"planning: spread is {spread:g}; expected more than 0 and at most 10")
        self.embodiment, self.horizon = embodiment, horizon
        self.num_candidates, self.num_elites, self.num_iterations = num_candidates, num_elites, num_iterations
        self._limits = _checked_limits(embodiment, limits)
        self._max_change = _checked_change(embodiment, max_change)
        self._spread = spread
        self._basis = _basis(horizon, num_knots)  # knots to rows
        self._fit = np.linalg.pinv(self._basis)

    @property
    def limits(self) -> Array:
        """(D,2) that candidates stay within."""
        return self._limits.copy()

    def plan(
        self,
        evaluate: Evaluate,
        *,
        generator: np.random.Generator,
        warm_start: NDArray[np.floating] | None = None,
        include: NDArray[np.floating] | None = None,
        last_action: NDArray[np.floating] | None = None,
    ) -> Plan:
        """Search for the actions of the lowest cost; ``evaluate`` is called once an iteration.

        ``warm_start`` (T,D): actions to search around, such as what is left of the former plan; they are tried, too.
        ``include`` (M,T,D): candidates to try whatever comes of them, such as standing still. Both are brought inside
        the limits. ``last_action`` (D,): what is being done now, for ``max_change`` to start from.

        Raises:
            PlanningError: ``evaluate`` answers with another number of costs, or with none that is finite.
            ConfigError: arrays of other shapes, or more to include than there are candidates.
        """
        given = self._given(warm_start, include)
        mean = np.zeros((self._basis.shape[1], self.embodiment.action_dim))  # in -1..1 of the limits
        spread = np.full_like(mean, self._spread)
        if warm_start is not None:
            mean, spread = self._fit @ self._to_unit(given[0]), spread * WARM_SPREAD
        tried, costs = np.zeros((0, self.horizon, self.embodiment.action_dim)), np.zeros(0)
        for iteration in range(self.num_iterations):
            if iteration:
                best = np.argsort(costs, kind="stable")[: self.num_elites]
                elites = np.einsum("kt,ntd->nkd", self._fit, self._to_unit(tried[best]))
                mean, spread = elites.mean(axis=0), np.maximum(elites.std(axis=0), LEAST_SPREAD)
                given = self._from_unit(self._basis @ mean)[None]
            number = self.num_candidates - len(given)
            drawn = np.einsum("tk,nkd->ntd", self._basis, _draw(mean, spread, number, generator))
            candidates = self._smooth(np.concatenate([given, self._from_unit(drawn)]), last_action)
            costs = np.concatenate([costs, _costs(evaluate, candidates.astype(np.float32))])
            tried = np.concatenate([tried, candidates])
        if not np.isfinite(costs).any():
            raise PlanningError(f"none of {len(costs)} candidates has a finite cost; check what evaluates them")
        best_one = int(np.argmin(costs))
        rows = tried.astype(np.float32)
        return Plan(rows[best_one].copy(), float(costs[best_one]), rows, costs.astype(np.float32))

    def _given(self, warm_start: NDArray[np.floating] | None, include: NDArray[np.floating] | None) -> Array:
        """(M,T,D) inside the limits: the warm start first."""
        shape = (self.horizon, self.embodiment.action_dim)
        parts = [np.zeros((0, *shape))]
        for what, value in (("warm_start", None if warm_start is None else warm_start[None]), ("include", include)):
            if value is None:
                continue
            if value.shape[1:] != shape or not np.isfinite(value).all():
                raise ConfigError(
                    f"planning: {what} has rows of shape {value.shape[1:]}; expected {shape}, all of them finite"
                )
            parts.append(np.clip(value, self._limits[:, 0], self._limits[:, 1]))
        given = np.concatenate(parts)
        if len(given) > self.num_candidates:
            raise ConfigError(
                f"planning: {len(given)} candidates are given and {self.num_candidates} evaluated; give fewer"
            )
        return given

    def _smooth(self, rows: Array, last_action: NDArray[np.floating] | None) -> Array:
        """Rows (N,T,D) that change by no more than they may, beginning with ``last_action``."""
        if self._max_change is None:
            return rows
        smooth = np.array(rows)
        before = rows[:, 0] if last_action is None else np.broadcast_to(np.asarray(last_action), rows[:, 0].shape)
        for t in range(self.horizon):
            smooth[:, t] = np.clip(rows[:, t], before - self._max_change, before + self._max_change)
            # what is being done now may lie outside the limits
            smooth[:, t] = np.clip(smooth[:, t], self._limits[:, 0], self._limits[:, 1])
            before = smooth[:, t]
        return smooth

    def _to_unit(self, rows: Array) -> Array:
        low, high = self._limits[:, 0], self._limits[:, 1]
        return np.asarray(np.where(high > low, 2 * (rows - low) / np.where(high > low, high - low, 1) - 1, 0.0))

    def _from_unit(self, rows: Array) -> Array:
        low, high = self._limits[:, 0], self._limits[:, 1]
        return np.asarray(low + (np.clip(rows, -1, 1) + 1) / 2 * (high - low))


def _draw(mean: Array, spread: Array, number: int, generator: np.random.Generator) -> Array:
    """(number,K,D) in -1..1: normal around ``mean`` but for what lies outside, each coordinate in as many strata."""
    if number == 0:
        return np.zeros((0, *mean.shape))
    strata = np.stack([generator.permutation(number) for _ in range(mean.size)], axis=-1).reshape(number, *mean.shape)
    share = (strata + generator.random((number, *mean.shape))) / number
    low, high = _below((-1 - mean) / spread), _below((1 - mean) / spread)
    drawn = mean + spread * _quantile(np.clip(low + share * (high - low), 1e-12, 1 - 1e-12))
    return np.asarray(np.clip(drawn, -1, 1))


def _costs(evaluate: Evaluate, candidates: FloatArray) -> Array:
    costs = np.asarray(evaluate(candidates), np.float64)
    if costs.shape != (len(candidates),):
        raise PlanningError(
            f"the evaluation of {len(candidates)} candidates gave costs of shape {costs.shape}; expected one each"
        )
    return np.asarray(np.where(np.isfinite(costs), costs, np.inf))


def _basis(horizon: int, num_knots: int) -> Array:
    """(T,K) weights of the knots in each row; knots lie evenly from the first tick to the last."""
    if num_knots == 1:
        return np.ones((horizon, 1))
    at = np.linspace(0, num_knots - 1, horizon)
    return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(num_knots))))


def _checked_limits(embodiment: Embodiment, limits: NDArray[np.floating] | None) -> Array:
    own = embodiment.limits
    if limits is None:
        return own
    found = np.array(limits, np.float64)
    if found.shape != own.shape or not np.isfinite(found).all() or (found[:, 0] > found[:, 1]).any():
        raise ConfigError(
            f"planning: limits of {embodiment.name} are {own.shape}, low before high, got {found.tolist()}"
        )
    slack = 1e-6 * (own[:, 1] - own[:, 0])
    outside = (found[:, 0] < own[:, 0] - slack) | (found[:, 1] > own[:, 1] + slack)
    if outside.any():
        channel = embodiment.channels[int(np.argmax(outside))]
        raise ConfigError(
            f"planning: limits {found[outside][0].tolist()} of channel {channel.name!r} exceed the embodiment's"
            f" {list(channel.limits)} {channel.unit}; give narrower ones"
        )
    return found


def _checked_change(embodiment: Embodiment, max_change: NDArray[np.floating] | None) -> Array | None:
    if max_change is None:
        return None
    found = np.array(max_change, np.float64)
    if found.shape != (embodiment.action_dim,) or not (found > 0).all():
        raise ConfigError(
            f"planning: max_change is {found.tolist()}; expected {embodiment.action_dim} positive numbers, one each"
        )
    return found

"""Receding horizon: plan, do the first part, look again; and when to stop (Mayne et al., Automatica 2000).

The former plan's rest warm-starts the next one, and standing still is always a candidate. Stops when the picture seen
is near enough to the goal; when plan after plan nothing imagined is nearer than standing still; or when the cost of
what is seen keeps lying above the lowest so far: then the robot has passed the goal, or is lost.

Knows no model and no robot: costs and an evaluation in, actions out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from egowm_core.errors import ConfigError
from egowm_core.planning.cem import Cem, Evaluate, Plan
from egowm_core.types import FloatArray


class Progress(Enum):
    """Where the way to the goal stands. All but DRIVING are final."""

    DRIVING = "driving"
    REACHED = "reached"  # what is seen is like the goal
    SETTLED = "settled"  # nothing imagined is nearer than standing still
    LOST = "lost"  # what is seen has become less like the goal


@dataclass(frozen=True, eq=False)
class Step:
    """What to do next: ``actions`` (n,D), none once it is over; ``plan`` is None then. ``cost`` is of what is seen."""

    progress: Progress
    actions: FloatArray
    cost: float
    plan: Plan | None = None


class RecedingHorizon:
    """One way to one goal. Not thread-safe.

    Args:
        execute: rows of each plan that are done before the next one.
        reached_below: cost of the seen picture at which the goal is reached; 0 never.
        least_gain: by how much, as a share, a candidate must be better than standing still to be followed.
        settle: plans in a row that stand still and end it; 0 never.
        rise: how much above the lowest cost so far, as a share of it, is a rise.
        patience: rises in a row that end it; 0 never.
        pauses: the robot stands still while it plans, so that each plan begins at rest.

    Raises:
        ConfigError: numbers that make no sense.
    """

    def __init__(
        self,
        cem: Cem,
        *,
        execute: int,
        reached_below: float = 0.0,
        least_gain: float = 0.0,
        settle: int = 0,
        rise: float = 0.25,
        patience: int = 0,
        pauses: bool = False,
    ) -> None:
        if not 1 <= execute <= cem.horizon:
            raise ConfigError(f"planning: {execute} rows to execute; expected 1..{cem.horizon}, a plan's horizon")
        if min(reached_below, settle, rise, patience) < 0 or not 0 <= least_gain < 1:
            raise ConfigError(
                f"planning: reached_below {reached_below:g}, settle {settle}, rise {rise:g}, patience {patience} are 0"
                f" or more and least_gain {least_gain:g} lies in [0, 1)"
            )
        self._cem, self._execute = cem, execute
        self._reached_below, self._least_gain, self._settle = reached_below, least_gain, settle
        self._rise, self._patience, self._pauses = rise, patience, pauses
        self._still = np.zeros((cem.horizon, cem.embodiment.action_dim))
        self._can_stand = all(channel.kind != "absolute" for channel in cem.embodiment.channels)
        self.reset()

    def reset(self) -> None:
        """A new way begins, at rest."""
        self._left: FloatArray | None = None
        self._last = np.zeros(self._cem.embodiment.action_dim)
        self._lowest, self._rises, self._stood = np.inf, 0, 0
        self.progress = Progress.DRIVING

    def step(self, cost: float, evaluate: Evaluate, *, generator: np.random.Generator) -> Step:
        """Judge the picture seen now by its ``cost`` and, while under way, plan the next ``execute`` rows.

        Raises:
            PlanningError: see :meth:`Cem.plan`; the way can be gone on with.
        """
        if self._judge(cost) is not Progress.DRIVING:
            return self._over(cost)
        plan = self._cem.plan(
            evaluate,
            generator=generator,
            warm_start=self._left,
            include=self._still[None] if self._can_stand else None,
            last_action=self._last,
        )
        if self._can_stand:
            plan = self._unless_still(plan, standing=0 if self._left is None else 1)
            moves = bool(np.any(plan.actions)) or bool(np.any(self._last))
            self._stood = 0 if moves else self._stood + 1
            if self._settle and self._stood >= self._settle:
                self.progress = Progress.SETTLED
                return self._over(cost)
        return self._take(cost, plan)

    def _judge(self, cost: float) -> Progress:
        if self.progress is not Progress.DRIVING:
            return self.progress
        self._rises = self._rises + 1 if cost > self._lowest * (1 + self._rise) else 0
        self._lowest = min(self._lowest, cost)
        if cost <= self._reached_below:
            self.progress = Progress.REACHED
        elif self._patience and self._rises >= self._patience:
            self.progress = Progress.LOST
        return self.progress

    def _unless_still(self, plan: Plan, *, standing: int) -> Plan:
        """``plan``, or standing still (braking, where there is a limit to that) where it gains too little."""
        cost = float(plan.costs[standing])
        if plan.cost <= cost * (1 - self._least_gain) and plan.cost < cost:
            return plan
        return replace(plan, actions=plan.candidates[standing], cost=cost)

    def _take(self, cost: float, plan: Plan) -> Step:
        done = plan.actions[: self._execute]
        held = np.repeat(plan.actions[-1:], self._execute, axis=0)
        self._left = np.concatenate([plan.actions[self._execute :], held]).astype(np.float32)
        if not self._pauses:
            self._last = done[-1].astype(np.float64)
        return Step(self.progress, done, cost, plan)

    def _over(self, cost: float) -> Step:
        return Step(self.progress, np.zeros((0, self._cem.embodiment.action_dim), np.float32), cost)

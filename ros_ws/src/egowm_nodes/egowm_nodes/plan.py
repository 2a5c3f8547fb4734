"""Which actions a prediction is given: the planner's, else the last command held. Plain arithmetic, no ROS.

A plan counts from its own stamp: the rows that lie before the context frame are over, and where it ends before the
horizon does its last row is held. Refusals name the channel, the value and the remedy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import Embodiment
from egowm_core.errors import EmbodimentError
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSequence, ActionSource, FloatArray

MAX_ROWS = 4096
_RATE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Plan:
    """A planner's proposal as it came: ``values`` (T,D); row i holds from ``start_ns`` + i / ``rate_hz`` on.

    ``start_ns`` 0 means "from the newest frame on".
    """

    embodiment: str
    channels: tuple[str, ...]
    rate_hz: float
    start_ns: int
    values: FloatArray
    source: ActionSource = ActionSource.PLANNED


@dataclass(frozen=True)
class Choice:
    """The actions of one prediction and how they came about.

    ``origin`` says it in words; ``extended`` rows repeat the plan's last one, ``led_in`` rows come before it starts.
    """

    actions: ActionSequence
    origin: str
    extended: int = 0
    led_in: int = 0


def check_plan(plan: Plan, embodiment: Embodiment) -> FloatArray:
    """The plan's values (T,D), fit for ``embodiment``.

    Raises:
        EmbodimentError: another embodiment, missing or reordered channels, another rate, no rows or too many, values
            that are not finite or outside their limits.
    """
    if plan.embodiment and plan.embodiment != embodiment.name:
        raise EmbodimentError(
            f"the plan is for embodiment {plan.embodiment!r}, the model for {embodiment.name!r}; send that"
        )
    if plan.channels != embodiment.channel_names:
        raise EmbodimentError(
            f"the plan's channels are {list(plan.channels)}, expected {list(embodiment.channel_names)} in this order"
        )
    if not math.isclose(plan.rate_hz, embodiment.rate_hz, rel_tol=_RATE_TOLERANCE):
        raise EmbodimentError(
            f"the plan has {plan.rate_hz:g} rows a second, the model {embodiment.rate_hz:g}; resample the plan"
        )
    if plan.source is ActionSource.EXECUTED:
        raise EmbodimentError("the plan is marked as executed; send what is to come, marked as planned")
    if not 1 <= len(plan.values) <= MAX_ROWS:
        raise EmbodimentError(f"the plan has {len(plan.values)} rows; expected 1..{MAX_ROWS}")
    return embodiment.validate_actions(plan.values)


def delta_of_velocity(velocity: NDArray[np.float64], period_s: float) -> FloatArray:
    """Body velocity (3,) m/s, m/s, rad/s held for ``period_s`` -> (dx, dy, dyaw) in the body frame at the start."""
    vx, vy, turn = (float(value) * period_s for value in velocity)
    sine = math.sin(turn) / turn if abs(turn) > 1e-9 else 1.0
    versine = (1.0 - math.cos(turn)) / turn if abs(turn) > 1e-9 else 0.0
    return np.array([sine * vx - versine * vy, versine * vx + sine * vy, turn], np.float32)


class ActionChooser:
    """Keeps the newest plan and the newest command and chooses ``horizon`` actions for a context frame.

    A plan is fresh while the context frame is at most ``plan_timeout_s`` after its stamp; a command while it came at
    most ``command_timeout_s`` ago (a Twist has no stamp, so this is the one place where arrival counts; steady s).
    """

    def __init__(
        self,
        embodiment: Embodiment,
        *,
        horizon: int,
        plan_timeout_s: float,
        hold_last_command: bool,
        command_timeout_s: float,
    ) -> None:
        self._embodiment, self._horizon = embodiment, horizon
        self.plan_timeout_s, self.hold_last_command = plan_timeout_s, hold_last_command
        self.command_timeout_s = command_timeout_s
        self._plan: tuple[int, FloatArray, ActionSource] | None = None
        self._command: tuple[float, FloatArray] | None = None
        self.plans_taken = 0

    def offer_plan(self, plan: Plan, *, newest_frame_ns: int | None) -> None:
        """Take a plan in place of the former one; a refused plan leaves the former one in place.

        Raises:
            EmbodimentError: as ``check_plan``; or unstamped while there is no frame yet.
        """
        values = check_plan(plan, self._embodiment)
        if plan.start_ns == 0 and newest_frame_ns is None:
            raise EmbodimentError("the plan has no stamp and there is no frame yet; stamp it or wait for the camera")
        start_ns = plan.start_ns or newest_frame_ns or 0
        self._plan = (start_ns, values, plan.source)
        self.plans_taken += 1

    def offer_command(self, velocity: NDArray[np.float64], *, now_s: float) -> None:
        """Take a commanded body velocity (3,); a refused one also forgets the former, which no longer holds.

        Raises:
            EmbodimentError: not finite, or more than the embodiment's limits allow per tick.
        """
        self._command = None
        delta = delta_of_velocity(velocity, 1.0 / self._embodiment.rate_hz)
        self._command = (now_s, self._embodiment.validate_actions(delta[None])[0])

    def forget(self) -> None:
        """Drop the plan and the command (the clock was reset)."""
        self._plan = self._command = None

    def choose(self, context_ns: int, executed: FloatArray | None, *, now_s: float) -> Choice | None:
        """Actions (horizon,D) from the frame at ``context_ns`` on; ``executed`` (D,) is the newest measured action.

        None where there is neither a fresh plan nor anything to hold.
        """
        held = self._held(executed, now_s)
        planned = self._planned(context_ns, None if held is None else held.actions.values[0])
        return planned if planned is not None else held

    def _planned(self, context_ns: int, held: FloatArray | None) -> Choice | None:
        if self._plan is None:
            return None
        start_ns, values, source = self._plan
        age_s = (context_ns - start_ns) / NANOSECONDS_PER_SECOND
        if age_s > self.plan_timeout_s:
            return None
        first = round(age_s * self._embodiment.rate_hz)
        if first < 0 and (held is None or -first >= self._horizon):
            return None  # it starts later than anything predicted now, or there is nothing to fill in before it
        rows = values[max(first, 0) :][: self._horizon]
        if held is not None and first < 0:
            rows = np.concatenate([np.repeat(held[None], -first, axis=0), rows])[: self._horizon]
        missing = self._horizon - len(rows)
        if missing:
            rows = np.concatenate([rows, np.repeat(values[-1:], missing, axis=0)])
        origin = "plan" if not missing else f"plan, its last action held for {missing} of {self._horizon} rows"
        return Choice(ActionSequence(rows.astype(np.float32), source), origin, missing, max(0, -first))

    def _held(self, executed: FloatArray | None, now_s: float) -> Choice | None:
        if not self.hold_last_command:
            return None
        if self._command is not None and now_s - self._command[0] <= self.command_timeout_s:
            value, origin = self._command[1], "last cmd_vel held"
        elif executed is not None:
            value, origin = executed, "last executed action held"
        else:
            return None
        rows = np.repeat(value[None], self._horizon, axis=0).astype(np.float32)
        return Choice(ActionSequence(rows, ActionSource.HELD), origin)

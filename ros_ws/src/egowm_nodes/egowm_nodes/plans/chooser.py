"""Which actions a prediction is given: a plan's, else what was last commanded or done. Plain arithmetic, no ROS.

Plans come as rows of actions, paths and joint trajectories (``rows``, ``path``, ``joints``); each is
kept until a newer one of its kind comes. A plan counts from its own stamp; where it ends before the horizon, it is
extended by policy, and the choice says so. Refusals name the channel, the value and the remedy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import Embodiment
from egowm_core.errors import EmbodimentError
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSequence, ActionSource, FloatArray
from egowm_nodes.guards.actions import ActionGuard
from egowm_nodes.plans.joints import JointPlan, check_joints, joint_motion
from egowm_nodes.plans.path import PathPlan, check_path, path_motion
from egowm_nodes.plans.rows import RowsPlan, rows_on_ticks
from egowm_nodes.plans.sources import MAX_ROWS, Moment, PlanSource, base_columns, sane

AUTO, ACTIONS, JOINTS, PATH, CMD_VEL, EXECUTED = "auto", "actions", "joint_trajectory", "path", "cmd_vel", "executed"
PLAN_SOURCES = (AUTO, ACTIONS, JOINTS, PATH, CMD_VEL)
"""``auto`` takes the first of the others that is fresh, in this order."""
HOLD_LAST, STOP, REFUSE = "hold_last", "stop", "refuse"
EXTENSIONS = (AUTO, HOLD_LAST, STOP, REFUSE)
_LEAST_HZ, _MOST_HZ = 1e-4, 1000.0
_NAMES = {ACTIONS: "plan", JOINTS: "joint trajectory", PATH: "path"}


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

    ``origin`` says it in words; ``kind`` is one of ``PLAN_SOURCES`` or ``executed``. ``extended`` rows lie after the
    plan's end, ``led_in`` rows before its start; ``age_s`` is how long before the context frame it began.
    """

    actions: ActionSequence
    origin: str
    extended: int = 0
    led_in: int = 0
    kind: str = EXECUTED
    age_s: float = math.nan


def check_plan(plan: Plan, embodiment: Embodiment, guard: ActionGuard | None = None) -> FloatArray:
    """The plan's values (T,D) at its own rate, fit for ``embodiment`` once they are on its ticks.

    Raises:
        EmbodimentError: another embodiment, missing or reordered channels, an impossible rate, no rows or too many,
            values that are not finite, or that the ``guard`` refuses.
    """
    if plan.embodiment and plan.embodiment != embodiment.name:
        raise EmbodimentError(
            f"the plan is for embodiment {plan.embodiment[:80]!r}, the model for {embodiment.name!r}; send that"
        )
    if plan.channels != embodiment.channel_names:
        shown = str(list(plan.channels[: embodiment.action_dim + 1]))[:400]
        raise EmbodimentError(
            f"the plan's channels are {shown}, expected {list(embodiment.channel_names)} in this order"
        )
    if not (math.isfinite(plan.rate_hz) and _LEAST_HZ <= plan.rate_hz <= _MOST_HZ):
        raise EmbodimentError(
            f"the plan has a rate of {plan.rate_hz:g} rows a second; expected {_LEAST_HZ:g} to {_MOST_HZ:g}: fill in"
            " rate_hz"
        )
    if plan.source is ActionSource.EXECUTED:
        raise EmbodimentError("the plan is marked as executed; send what is to come, marked as planned")
    if not 1 <= len(plan.values) <= MAX_ROWS:
        raise EmbodimentError(f"the plan has {len(plan.values)} rows; expected 1..{MAX_ROWS}")
    guard = guard or ActionGuard(embodiment)
    if not sane(plan.values).all():
        guard.check(plan.values)  # says where; composing would spread it
    same = math.isclose(plan.rate_hz, embodiment.rate_hz, rel_tol=1e-3)
    checked = guard.check(rows_on_ticks(plan.values, embodiment, plan.rate_hz))
    return checked if same else plan.values


def delta_of_velocity(velocity: NDArray[np.float64], period_s: float) -> FloatArray:
    """Body velocity (3,) m/s, m/s, rad/s held for ``period_s`` -> (dx, dy, dyaw) in the body frame at the start."""
    if not np.isfinite(velocity).all():
        return np.full(3, np.nan, np.float32)
    vx, vy, turn = (float(value) * period_s for value in velocity)
    sine = math.sin(turn) / turn if abs(turn) > 1e-9 else 1.0
    versine = (1.0 - math.cos(turn)) / turn if abs(turn) > 1e-9 else 0.0
    return np.array([sine * vx - versine * vy, versine * vx + sine * vy, turn], np.float32)


class ActionChooser:
    """Keeps the newest plan of each kind and the newest command and chooses ``horizon`` actions for a context frame.

    A plan is fresh while the context frame is at most ``plan_timeout_s`` after its stamp, or (path and joint
    trajectory, which are sent once) after its end; a command while it came at most ``command_timeout_s`` ago (a Twist
    has no stamp, so this is the one place where arrival counts; steady s). ``source`` and ``extension`` are of
    ``PLAN_SOURCES`` and ``EXTENSIONS``. A picture stamped t was taken ``image_lag_s`` before, which is where plans are
    taken up.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        *,
        horizon: int,
        plan_timeout_s: float,
        hold_last_command: bool,
        command_timeout_s: float,
        source: str = AUTO,
        extension: str = AUTO,
        image_lag_s: float = 0.0,
        guard: ActionGuard | None = None,
    ) -> None:
        self._embodiment, self._horizon = embodiment, horizon
        self.plan_timeout_s, self.hold_last_command = plan_timeout_s, hold_last_command
        self.command_timeout_s, self.source, self.extension = command_timeout_s, source, extension
        self.guard = guard or ActionGuard(embodiment)
        self._lag_ns = round(image_lag_s * NANOSECONDS_PER_SECOND)
        self._plans: dict[str, PlanSource] = {}
        self._command: tuple[float | None, int, NDArray[np.float64]] | None = None
        self._base = base_columns(embodiment)
        self.taken: Counter[str] = Counter()
        self.unused: dict[str, str] = {}
        """Why a fresh plan was not used at the last choice, by kind, in words."""
        self.stale: dict[str, str] = {}
        """How old a plan was at the last choice that is not fresh any more, by kind, in words."""

    @property
    def plans_taken(self) -> int:
        """How many plans were taken, of all kinds."""
        return sum(self.taken.values())

    @property
    def takes_commands(self) -> bool:
        """Whether a commanded velocity means anything to this embodiment."""
        return self._embodiment.integrate == "se2" or bool(self._base)

    def start_of(self, stamp_ns: int, newest_frame_ns: int | None) -> int:
        """When a plan stamped so starts: stamp 0 is the newest frame.

        Raises:
            EmbodimentError: unstamped while there is no frame yet.
        """
        if stamp_ns == 0 and newest_frame_ns is None:
            raise EmbodimentError("the plan has no stamp and there is no frame yet; stamp it or wait for the camera")
        return stamp_ns or (newest_frame_ns or 0) - self._lag_ns

    def offer_plan(self, plan: Plan, *, newest_frame_ns: int | None) -> None:
        """Take rows of actions in place of the former ones; refused ones leave the former in place.

        Raises:
            EmbodimentError: as ``check_plan`` and ``start_of``.
        """
        values = check_plan(plan, self._embodiment, self.guard)
        start_ns = self.start_of(plan.start_ns, newest_frame_ns)
        self._take(ACTIONS, RowsPlan(self._embodiment, values, plan.rate_hz, start_ns, plan.source))

    def offer_path(self, path: PathPlan) -> None:
        """Take a path; raises EmbodimentError as ``check_path``, and on motion that the guard refuses."""
        check_path(path)
        if path.times_s is not None:
            self.guard.check(path_motion(path))
        self._take(PATH, path)

    def offer_joints(self, trajectory: JointPlan) -> None:
        """Take a joint trajectory; raises EmbodimentError as ``check_joints``, and on motion that the guard refuses."""
        check_joints(trajectory)
        self.guard.check(joint_motion(trajectory))
        self._take(JOINTS, trajectory)

    def offer_command(self, velocity: NDArray[np.float64], *, now_s: float, stamp_ns: int = 0) -> None:
        """Take a commanded body velocity (3,); a refused one also forgets the former, which no longer holds.

        With ``stamp_ns`` its age is counted in stamps, otherwise from ``now_s`` on.

        Raises:
            EmbodimentError: not finite, or more than the embodiment's limits allow per tick.
        """
        self._command = None
        twist = np.asarray(velocity, np.float64)
        self._commanded(twist, None, count=True)  # refuses what the guard does
        self._command = (None if stamp_ns else now_s, stamp_ns, twist)

    def forget(self) -> None:
        """Drop the plans and the command (the clock was reset)."""
        self._plans.clear()
        self._command = None

    def choose(
        self,
        context_ns: int,
        executed: FloatArray | None,
        *,
        now_s: float,
        state: FloatArray | None = None,
        pose: NDArray[np.float64] | None = None,
    ) -> Choice | None:
        """Actions (horizon,D) from the frame at ``context_ns`` on; ``executed`` (D,) is the newest measured action.

        ``state`` (S,) and ``pose`` (3,) in the odometry frame were measured at that frame. None where there is neither
        a fresh plan nor anything to hold, or the extension policy rules out what there is; ``unused`` and ``stale`` say
        why.
        """
        self.unused, self.stale = {}, {}
        held = self._held(executed, now_s, context_ns)
        twist = self._fresh_command(now_s, context_ns)
        moment = Moment(
            context_ns - self._lag_ns,
            state=state,
            pose=pose,
            held=None if held is None else held.actions.values[0],
            twist=twist,
        )
        for kind in (ACTIONS, JOINTS, PATH) if self.source == AUTO else (self.source,):
            if (choice := self._planned(kind, moment)) is not None:
                return choice
        if self.extension == REFUSE and (self.unused or self.stale) and (held is None or held.kind == EXECUTED):
            return None  # nothing is put in the place of a plan that is over
        return held

    def _take(self, kind: str, plan: PlanSource) -> None:
        self._plans[kind] = plan
        self.taken[kind] += 1

    def _planned(self, kind: str, moment: Moment) -> Choice | None:
        if (plan := self._plans.get(kind)) is None:
            return None
        age_s = (moment.at_ns - plan.start_ns) / NANOSECONDS_PER_SECOND
        fresh_s = self.plan_timeout_s + (plan.lasts_s(moment) if plan.stops else 0.0)
        name = _NAMES[kind]
        if age_s > fresh_s:
            self.stale[kind] = f"{name} stale: it began {age_s:.2f} s ago, fresh for {fresh_s:.2f} s"
            return None
        stop = self.extension == STOP or (self.extension == AUTO and plan.stops)
        try:
            sampled = plan.sample(moment, rows=self._horizon, stop=stop)
            if sampled.extended and self.extension == REFUSE:
                self.unused[kind] = f"{name} too short by {sampled.extended} of {self._horizon} rows"
                return None
            values = self.guard.check(sampled.values)
        except EmbodimentError as error:
            self.unused[kind] = f"{name} not used: {error}"
            return None
        last = "at rest" if stop else "its last action held"
        ends = f", {last} for {sampled.extended} of {self._horizon} rows" if sampled.extended else ""
        actions = ActionSequence(values, plan.source)
        return Choice(actions, name + ends, sampled.extended, sampled.led_in, kind, age_s)

    def _held(self, executed: FloatArray | None, now_s: float, context_ns: int) -> Choice | None:
        if not self.hold_last_command:
            return None
        twist = self._fresh_command(now_s, context_ns) if self.source in (AUTO, CMD_VEL) else None
        if twist is not None:
            value, origin, kind = self._commanded(twist, executed), "last cmd_vel held", CMD_VEL
        elif executed is not None:
            value, origin, kind = executed, "last executed action held", EXECUTED
        else:
            return None
        rows = np.repeat(value[None], self._horizon, axis=0).astype(np.float32)
        return Choice(ActionSequence(rows, ActionSource.HELD), origin, kind=kind)

    def _fresh_command(self, now_s: float, context_ns: int) -> NDArray[np.float64] | None:
        if self._command is None:
            return None
        came_s, stamp_ns, twist = self._command
        age_s = (context_ns - self._lag_ns - stamp_ns) / NANOSECONDS_PER_SECOND if came_s is None else now_s - came_s
        return twist if age_s <= self.command_timeout_s else None

    def _commanded(self, twist: NDArray[np.float64], executed: FloatArray | None, *, count: bool = False) -> FloatArray:
        """(D,) action of a commanded velocity; what it says nothing of goes on as executed, or rests."""
        if self._embodiment.integrate == "se2":
            row = delta_of_velocity(twist, 1.0 / self._embodiment.rate_hz)
        else:
            still = np.clip(0.0, *self._embodiment.limits.T).astype(np.float32)
            row = np.array(still if executed is None else executed, np.float32)
            for column, place in self._base.items():
                row[column] = twist[place]
        return self.guard.check(row[None], count=count)[0]


def counts_in_words(counts: Mapping[str, int]) -> str:
    """``actions 3, path 1``, or ``none``."""
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "none"

"""The planners of the planning bench, each driving to a task's goal in lockstep, and the record of what came of it.

``model``, ``geometry`` and ``oracle`` are one and the same search, shown where a candidate ends by the world model, by
the newest picture warped over the floor, or by the simulator itself. ``random`` is that search without anything shown.
``straight`` is told the goal's pose, which the others are not, and goes there by odometry. Knows no figures.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from egowm_core.data.normalize import normalize
from egowm_core.geometry import se2_compose, se2_delta, se2_integrate, wrap_angle
from egowm_core.models.conditioning import foresee
from egowm_core.models.vae import to_uint8, to_unit_range
from egowm_core.planning import Cem, Evaluate, GoalCost, RecedingHorizon, goal_cost
from egowm_core.planning.imagined import ImaginedCost
from egowm_core.types import FloatArray, Frames
from egowm_core.world_model import WorldModel
from egowm_sim.plan_bench_goals import Task
from egowm_sim.plan_bench_robot import Course
from egowm_sim.robot import MAX_ACCELERATION, MAX_V_MPS, MAX_W_RADPS, MAX_YAW_ACCELERATION

ROWS = ("model", "geometry", "oracle", "straight", "random")
REACHED_M, REACHED_RAD = 0.4, math.radians(25.0)  # about the robot's own width; two thirds of the view are the same
BACKWARDS_MPS = 0.2
_BATCH = 8


@dataclass(frozen=True)
class PlanSettings:
    """How the bench plans; all of it counts for what a run's figures are of."""

    budget_ticks: int = 40
    execute: int = 4
    horizon: int = 8
    candidates: int = 16
    elites: int = 4
    iterations: int = 2
    knots: int = 2
    cost: str = "structure"
    reached_below: float = 0.05  # in other rooms 94% of such pictures were taken where a task is done
    least_gain: float = 0.01
    settle: int = 3
    seed: int = 0

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def run_task(row: str, task: Task, course: Course, model: WorldModel, settings: PlanSettings) -> dict[str, Any]:
    """Drive ``course`` to the goal of ``task`` by the planner ``row`` and tell what came of it, ready for JSON."""
    course.start(task.start)
    began_s, trace = time.process_time(), _Trace(course)
    if row == "straight":
        _drive_straight(course, se2_delta(task.start, task.goal), settings, trace)
    else:
        _drive_planned(row, task, course, model, settings, trace)
    for _ in range(2):  # whoever stopped is judged where he comes to rest
        course.act(np.zeros(3, np.float32))
    x, y, turn = se2_delta(task.goal, course.pose()).tolist()
    off_m = math.hypot(x, y)
    return {
        "row": row,
        "seed": task.seed,
        "success": off_m <= REACHED_M and abs(turn) <= REACHED_RAD,
        "off_m": round(off_m, 4),
        "off_deg": round(math.degrees(turn), 2),
        "way_m": round(task.way_m, 4),
        "travelled_m": round(course.travelled_m, 4),
        "bumps": course.bumps,
        "ticks": len(trace.path) - 1,
        "stopped": trace.stopped,
        "cpu_s": round(time.process_time() - began_s, 3),
        "goal": task.goal.round(3).tolist(),
        "way": task.way[:, :2].round(3).tolist(),
        "path": trace.path,
        "plans": trace.plans,
    }


class _Trace:
    """Where the robot went, and what it considered."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self.path: list[list[float]] = [course.pose().round(3).tolist()]
        self.plans: list[dict[str, Any]] = []
        self.stopped = "budget"

    def act(self, action: FloatArray) -> None:
        self._course.act(action)
        self.path.append(self._course.pose().round(3).tolist())

    def plan(self, candidates: FloatArray, costs: FloatArray) -> None:
        """Every second point of the candidates' ways, as asked for, in the room."""
        ways = se2_compose(self._course.pose(), se2_integrate(candidates))[:, 1::2, :2]
        costs = np.where(np.isfinite(costs), costs, np.nan)
        known = [round(float(cost), 4) if math.isfinite(cost) else None for cost in costs]
        self.plans.append({"tick": len(self.path) - 1, "ways": ways.round(2).tolist(), "costs": known})


def _drive_planned(
    row: str, task: Task, course: Course, model: WorldModel, settings: PlanSettings, trace: _Trace
) -> None:
    robot = model.embodiment
    cem = Cem(
        robot,
        settings.horizon,
        num_candidates=settings.candidates,
        num_elites=settings.elites,
        num_iterations=settings.iterations,
        num_knots=settings.knots,
        limits=drive_limits(robot.limits, 1 / robot.rate_hz),
        max_change=np.array([MAX_ACCELERATION, 1.0, MAX_YAW_ACCELERATION]) / robot.rate_hz**2,
    )
    informed = row != "random"
    receding = RecedingHorizon(
        cem,
        execute=settings.execute,
        reached_below=settings.reached_below,
        least_gain=settings.least_gain,
        settle=settings.settle if informed else 0,
    )
    generator = np.random.default_rng([settings.seed, task.seed])  # the same draws for every row
    cost = goal_cost(model.preprocess(task.picture), settings.cost)
    context = _Context(model, course)
    while len(trace.path) <= settings.budget_ticks:
        seen = cost(context.frames.images[None, -1:])[0]
        evaluate = _evaluation(row, cost, course, model, context.frames, generator, settings.seed)
        step = receding.step(float(seen), evaluate, generator=generator)
        if step.plan is None:
            trace.stopped = step.progress.value
            return
        trace.plan(step.plan.candidates, step.plan.costs)
        for action in step.actions:
            trace.act(action)
            context.look()


def _evaluation(
    row: str,
    cost: GoalCost,
    course: Course,
    model: WorldModel,
    context: Frames,
    generator: np.random.Generator,
    seed: int,
) -> Evaluate:
    if row == "model":
        imagined = ImaginedCost(model, cost, seed=seed, batch=_BATCH)
        imagined.look(context)
        return imagined
    evaluations: dict[str, Callable[[FloatArray], FloatArray]] = {
        "geometry": lambda rows: cost(warped_ends(model, context.images[-1], rows)),
        "oracle": lambda rows: cost(_as_seen(model, course.foresee(rows))),
        "random": lambda rows: generator.random(len(rows)).astype(np.float32),
    }
    return evaluations[row]


def warped_ends(model: WorldModel, picture: NDArray[np.uint8], candidates: FloatArray) -> NDArray[np.uint8]:
    """(N,1,H,W,3) uint8: ``picture`` (H,W,3) moved to the end of each of ``candidates`` (N,T,3), all on the floor."""
    actions = torch.from_numpy(normalize(candidates, model.embodiment)).float()
    images = to_unit_range(torch.from_numpy(np.array(picture))[None]).expand(len(actions), -1, -1, -1)
    floor = torch.ones(len(actions), dtype=torch.bool)
    warped, _ = foresee(images, actions, embodiment=model.embodiment, floor=floor)
    return np.asarray(to_uint8(warped[:, -1:]).numpy())


def drive_limits(limits: NDArray[np.float64], tick_s: float) -> NDArray[np.float64]:
    """(3,2) of dx, dy, dyaw a tick that this base can do: no sideways motion, slow backwards, inside ``limits``."""
    able = np.array([[-BACKWARDS_MPS, MAX_V_MPS], [0.0, 0.0], [-MAX_W_RADPS, MAX_W_RADPS]]) * tick_s
    return np.stack([np.maximum(able[:, 0], limits[:, 0]), np.minimum(able[:, 1], limits[:, 1])], axis=1)


def _as_seen(model: WorldModel, videos: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.stack([model.preprocess(frame) for frame in video]) for video in videos])


class _Context:
    """The newest frames as the model sees them; the robot has stood still before the start."""

    def __init__(self, model: WorldModel, course: Course) -> None:
        self._model, self._course = model, course
        frame, count = model.preprocess(course.picture()), model.context_frames
        before = np.arange(1 - count, 1, dtype=np.int64) * model.embodiment.period_ns
        self.frames = Frames(np.repeat(frame[None], count, axis=0), course.stamp_ns + before)

    def look(self) -> None:
        frame = self._model.preprocess(self._course.picture())
        self.frames = Frames(
            np.concatenate([self.frames.images[1:], frame[None]]),
            np.append(self.frames.stamps_ns[1:], self._course.stamp_ns),
        )


def _drive_straight(course: Course, goal: NDArray[np.float64], settings: PlanSettings, trace: _Trace) -> None:
    """Turn to the goal's place, go there, turn as it lies; ``goal`` (3,) is as seen from the start."""
    tick_s, arrived = course.tick_s, False
    v_max, w_max = MAX_V_MPS * tick_s, MAX_W_RADPS * tick_s
    while len(trace.path) <= settings.budget_ticks:
        x, y, turn = se2_delta(course.odometry(), goal).tolist()
        far, bearing = math.hypot(x, y), float(wrap_angle(math.atan2(y, x)))
        arrived = arrived or far < 0.15
        if arrived and abs(turn) < math.radians(4):
            trace.stopped = "reached"
            return
        wanted = turn if arrived else bearing
        ahead = 0.0 if arrived or abs(bearing) > 0.4 else min(v_max, 0.5 * far)
        trace.act(np.array([ahead, 0.0, min(max(0.5 * wanted, -w_max), w_max)], np.float32))

"""The search and the receding horizon: they find optima, stay inside limits, are repeatable, and know when to stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, RolloutError
from egowm_core.geometry import se2_compose, se2_integrate
from egowm_core.planning import Cem, PlanningError, Progress, RecedingHorizon, goal_cost
from egowm_core.planning.imagined import ImaginedCost
from egowm_core.types import ActionSequence, FloatArray, Frames
from tests.fixtures.awake_model import awake_model

ROBOT = load_embodiment("base_3dof")
LIMITS = np.array([[-0.05, 0.15], [0.0, 0.0], [-0.15, 0.15]])


def ends(candidates: FloatArray) -> np.ndarray:
    return se2_integrate(candidates)[:, -1]


def distance_to(x: float, y: float, yaw: float):  # type: ignore[no-untyped-def]
    def evaluate(candidates: FloatArray) -> FloatArray:
        off = ends(candidates) - np.array([x, y, yaw])
        return np.asarray(np.hypot(off[:, 0], off[:, 1]) + 0.3 * np.abs(off[:, 2]), np.float32)

    return evaluate


def cem(**options) -> Cem:  # type: ignore[no-untyped-def]
    return Cem(ROBOT, 8, **({"limits": LIMITS, "num_candidates": 16} | options))


def test_it_finds_a_reachable_pose_and_iterations_help() -> None:
    evaluate = distance_to(0.8, 0.25, 0.5)
    found = {
        iterations: np.mean([
            cem(num_iterations=iterations).plan(evaluate, generator=np.random.default_rng(seed)).cost
            for seed in range(10)
        ])
        for iterations in (1, 2, 6)
    }  # fmt: skip
    assert found[6] < 0.07 and found[6] < found[2] < found[1]


def test_what_it_answers_was_evaluated_and_is_the_best_of_all() -> None:
    seen: list[FloatArray] = []

    def evaluate(candidates: FloatArray) -> FloatArray:
        seen.append(candidates)
        return distance_to(0.5, 0.0, 0.0)(candidates)

    plan = cem(num_iterations=3).plan(evaluate, generator=np.random.default_rng(0))
    tried = np.concatenate(seen)
    assert [len(one) for one in seen] == [16, 16, 16] and np.array_equal(tried, plan.candidates)
    assert plan.cost == plan.costs.min()
    assert np.array_equal(plan.actions, plan.candidates[np.argmin(plan.costs)])


def test_candidates_are_smooth_inside_the_limits_and_repeatable() -> None:
    search = cem(max_change=np.array([0.03, 1.0, 0.05]))
    plans = [
        search.plan(
            distance_to(0.8, 0.2, 0.4), generator=np.random.default_rng(3), last_action=np.array([0.1, 0, -0.1])
        )
        for _ in range(2)
    ]
    assert np.array_equal(plans[0].candidates, plans[1].candidates)
    rows = plans[0].candidates
    ROBOT.validate_actions(rows.reshape(-1, 3))
    assert (rows >= LIMITS[:, 0] - 1e-6).all() and (rows <= LIMITS[:, 1] + 1e-6).all()
    assert (rows[..., 1] == 0).all()
    assert (np.abs(np.diff(rows, axis=1)) <= np.array([0.03, 1, 0.05]) + 1e-6).all()
    assert (np.abs(rows[:, 0] - [0.1, 0, -0.1]) <= np.array([0.03, 1, 0.05]) + 1e-6).all()
    free = cem(num_knots=2).plan(distance_to(0.8, 0, 0), generator=np.random.default_rng(0)).candidates
    assert np.abs(np.diff(free, n=2, axis=1)).max() < 1e-5  # two knots: straight lines


def test_the_first_candidates_cover_the_range_evenly() -> None:
    plan = cem(num_iterations=1, num_knots=1, num_candidates=20, spread=10.0).plan(
        distance_to(0, 0, 0), generator=np.random.default_rng(0)
    )
    turns = np.sort(plan.candidates[:, 0, 2])
    assert np.abs(turns - np.linspace(-0.15, 0.15, 20)).max() < 0.03


def test_given_candidates_are_tried_and_a_warm_start_is_searched_around() -> None:
    warm = np.tile([0.1, 0.0, 0.08], (8, 1))
    still = np.zeros((1, 8, 3))
    plan = cem(num_iterations=1).plan(
        distance_to(0, 0, 0), generator=np.random.default_rng(0), warm_start=warm, include=still
    )
    assert np.allclose(plan.candidates[0], warm, atol=1e-6) and (plan.candidates[1] == 0).all()
    assert plan.cost == 0 and (plan.actions == 0).all()
    cold = cem(num_iterations=1).plan(distance_to(0, 0, 0), generator=np.random.default_rng(0))
    assert np.abs(plan.candidates[2:] - warm).mean() < np.abs(cold.candidates - warm).mean()


def test_costs_that_are_no_numbers_never_win() -> None:
    def evaluate(candidates: FloatArray) -> FloatArray:
        costs = distance_to(0.8, 0, 0)(candidates)
        costs[::2] = np.nan
        return costs

    plan = cem().plan(evaluate, generator=np.random.default_rng(0))
    assert np.isfinite(plan.cost) and np.isinf(plan.costs[::2]).all()
    with pytest.raises(PlanningError, match="finite"):
        cem().plan(lambda rows: np.full(len(rows), np.nan, np.float32), generator=np.random.default_rng(0))
    with pytest.raises(PlanningError, match="one each"):
        cem().plan(lambda rows: np.zeros(3, np.float32), generator=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_elites": 17}, "num_elites"),
        ({"num_candidates": 1}, "num_candidates"),
        ({"num_knots": 9}, "num_knots"),
        ({"num_iterations": 0}, "num_iterations"),
        ({"spread": 0.0}, "spread"),
        ({"limits": LIMITS * 3}, "dx"),
        ({"limits": LIMITS[:, ::-1]}, "low before high"),
        ({"max_change": np.zeros(3)}, "max_change"),
    ],
)
def test_what_makes_no_search_is_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        cem(**options)


def test_given_candidates_of_another_shape_are_refused() -> None:
    for given in ({"warm_start": np.zeros((7, 3))}, {"include": np.full((1, 8, 3), np.nan)}):
        with pytest.raises(ConfigError, match="expected"):
            cem().plan(distance_to(0, 0, 0), generator=np.random.default_rng(0), **given)
    with pytest.raises(ConfigError, match="give fewer"):
        cem().plan(distance_to(0, 0, 0), generator=np.random.default_rng(0), include=np.zeros((17, 8, 3)))


def drive(receding: RecedingHorizon, goal: np.ndarray, replans: int) -> tuple[np.ndarray, Progress]:
    """Where a robot that does exactly what it is told comes to, seeing its true distance."""
    pose, generator = np.zeros(3), np.random.default_rng(0)

    def cost_at(poses: np.ndarray) -> FloatArray:
        off = poses - goal
        return np.asarray(np.hypot(off[:, 0], off[:, 1]) + 0.3 * np.abs(off[:, 2]), np.float32)

    for _ in range(replans):
        here = pose
        step = receding.step(
            float(cost_at(pose[None])[0]),
            lambda rows, here=here: cost_at(se2_compose(here, ends(rows))),
            generator=generator,
        )
        if step.plan is None:
            assert len(step.actions) == 0
            return pose, step.progress
        pose = se2_compose(pose, se2_integrate(step.actions)[-1])
    return pose, receding.progress


def test_a_goal_beyond_one_horizon_is_reached_step_by_step() -> None:
    goal = np.array([2.4, 0.6, 0.5])
    pose, progress = drive(RecedingHorizon(cem(), execute=4, reached_below=0.25), goal, 20)
    assert progress is Progress.REACHED and np.hypot(*(pose - goal)[:2]) < 0.25


def test_it_settles_where_nothing_imagined_is_nearer() -> None:
    receding = RecedingHorizon(cem(), execute=2, settle=2)
    generator = np.random.default_rng(0)
    steps = [receding.step(1.0, distance_to(0, 0, 0), generator=generator) for _ in range(3)]
    assert [step.progress for step in steps] == [Progress.DRIVING, Progress.SETTLED, Progress.SETTLED]
    assert (steps[0].actions == 0).all() and steps[1].plan is None


def test_a_gain_too_small_is_not_driven_for() -> None:
    evaluate = distance_to(1.0, 0, 0)
    options = {"execute": 2, "least_gain": 0.99}
    step = RecedingHorizon(cem(), **options).step(1.0, evaluate, generator=np.random.default_rng(0))
    assert (step.actions == 0).all() and step.plan is not None and step.plan.cost == pytest.approx(1.0)


def test_it_gives_up_when_what_is_seen_gets_worse_and_worse() -> None:
    receding = RecedingHorizon(cem(), execute=2, rise=0.2, patience=2)
    costs, generator = [1.0, 0.5, 0.55, 0.7, 0.5, 0.7, 0.7, 0.1], np.random.default_rng(0)
    found = [receding.step(cost, distance_to(1, 0, 0), generator=generator).progress for cost in costs]
    assert found == [Progress.DRIVING] * 6 + [Progress.LOST] * 2
    receding.reset()
    assert receding.step(0.7, distance_to(1, 0, 0), generator=generator).progress is Progress.DRIVING


def test_a_robot_that_pauses_begins_each_plan_at_rest() -> None:
    change = np.array([0.02, 1.0, 0.2])
    for pauses, most in ((True, 0.02), (False, 0.15)):
        receding = RecedingHorizon(cem(max_change=change), execute=4, pauses=pauses)
        generator = np.random.default_rng(0)
        for _ in range(3):
            step = receding.step(1.0, distance_to(5.0, 0, 0), generator=generator)
        assert (step.actions[0, 0] <= 0.02 + 1e-6) == pauses and step.actions[0, 0] <= most + 1e-6


def test_absolute_actions_have_no_standing_still() -> None:
    channels = tuple(replace(channel, kind="absolute") for channel in ROBOT.channels)
    robot = replace(ROBOT, channels=channels, integrate="sum")
    receding = RecedingHorizon(Cem(robot, 4, num_candidates=4, num_elites=2), execute=1, settle=1)
    step = receding.step(1.0, lambda rows: np.zeros(len(rows), np.float32), generator=np.random.default_rng(0))
    assert step.progress is Progress.DRIVING and step.plan is not None
    assert not any((rows == 0).all() for rows in step.plan.candidates)


def test_numbers_that_make_no_way_are_refused() -> None:
    for options in ({"execute": 0}, {"execute": 9}, {"execute": 1, "patience": -1}, {"execute": 1, "least_gain": 1.0}):
        with pytest.raises(ConfigError, match="planning"):
            RecedingHorizon(cem(), **options)  # type: ignore[arg-type]


def test_a_models_evaluation_is_the_cost_of_where_its_rollouts_end(tmp_path: Path) -> None:
    model = awake_model(tmp_path / "tiny")
    camera, rng = model.embodiment.camera(), np.random.default_rng(0)
    images = rng.integers(0, 255, (model.context_frames, camera.height, camera.width, 3), dtype=np.uint8)
    context = Frames(images, np.arange(len(images), dtype=np.int64))
    cost = goal_cost(rng.integers(0, 255, images.shape[1:], dtype=np.uint8))
    evaluate = ImaginedCost(model, cost, seed=5, batch=2)
    candidates = rng.uniform(-0.1, 0.1, (3, model.horizon, 3)).astype(np.float32)
    with pytest.raises(RolloutError, match="look"):
        evaluate(candidates)
    evaluate.look(context)
    costs = evaluate(candidates)
    rollouts = [model.rollout(context, ActionSequence(rows), seed=5) for rows in candidates]
    alone = [float(cost(rollout.frames.images[None])[0]) for rollout in rollouts]
    assert costs == pytest.approx(alone, rel=0.02) and len(set(costs.tolist())) == 3

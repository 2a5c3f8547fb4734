"""Figures of policy evaluation on made-up outcomes with known answers, and the verifier's choice."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from egowm_core.errors import DataError
from egowm_sim.policy_eval.figures import (
    all_figures,
    examples,
    kendall,
    mmrv,
    pearson,
    spearman,
    table,
    verdicts,
    wilson,
)
from egowm_sim.policy_eval.tasks import CONDITIONS
from egowm_sim.policy_eval.verifier import Verifier, learn_verifier, picture_costs
from tests.fixtures.tiny_checkpoint import made_up_picture

VERIFIER = Verifier("mse", False, 0.5, 1.0, 1.0, 10, 10)
START = {"mse": 1.0, "structure": 1.0}
POLICIES = ("good", "fair", "poor")


def costs(*, done: bool) -> dict[str, float]:
    return {"mse": 0.1 if done else 0.9, "structure": 0.5}


def records(
    truth: dict[str, float], judged: dict[str, float], *, rooms: int = 20, tasks: int = 5
) -> list[dict[str, object]]:
    """Rooms whose outcomes have these rates exactly."""
    rng, total = np.random.default_rng(0), rooms * tasks
    drawn = {
        (world, name): rng.permutation(np.arange(total) < round(rate * total))
        for world, rates in (("simulator", truth), ("model", judged))
        for name, rate in rates.items()
    }
    made: list[dict[str, object]] = []
    for room in range(rooms):
        found = []
        for number in range(room * tasks, (room + 1) * tasks):
            simulator = {
                name: {
                    "success": bool(drawn["simulator", name][number]), "touched": False, "distance_m": 0.1,
                    "angle_deg": 3.0, "costs": costs(done=bool(drawn["simulator", name][number])),
                }
                for name in truth
            }  # fmt: skip
            model = {name: {"costs": costs(done=bool(drawn["model", name][number]))} for name in truth}
            found.append({"condition": CONDITIONS[number % 6], "start": START, "simulator": simulator, "model": model})
        made.append({"seed": room, "tasks": found})
    return made


def test_rates_orders_and_agreement_are_those_of_the_outcomes() -> None:
    truth, judged = {"good": 0.9, "fair": 0.5, "poor": 0.1}, {"good": 0.8, "fair": 0.4, "poor": 0.1}
    figures = all_figures(verdicts(records(truth, judged), VERIFIER, POLICIES), VERIFIER)
    assert [figures["rows"][name]["simulator"]["rate"] for name in POLICIES] == [0.9, 0.5, 0.1]
    assert [figures["rows"][name]["model"]["rate"] for name in POLICIES] == [0.8, 0.4, 0.1]
    assert figures["rows"]["fair"]["verifier_on_simulator"] == figures["rows"]["fair"]["simulator"]
    assert figures["order"]["simulator"] == figures["order"]["model"] == list(POLICIES)
    assert figures["pairs"] == {"all": 3, "apart": 3, "same_order": 3}
    agreement = figures["agreement"]
    assert agreement["kendall"]["value"] == agreement["spearman"]["value"] == 1.0 and agreement["mmrv"]["value"] == 0
    assert agreement["mean_difference"]["value"] == pytest.approx(0.2 / 3, abs=1e-4)
    assert agreement["pearson"]["low"] <= agreement["pearson"]["value"] <= agreement["pearson"]["high"] <= 1
    assert len(figures["cells"]) == 18 and sum(cell["n"] for cell in figures["cells"]) == 300
    assert figures["tasks"] == 100 and figures["rooms"] == 20
    assert "3 of 3 pairs" in table(figures) and "| good | 90% (" in table(figures)


def test_a_model_that_ranks_backwards_is_told_so() -> None:
    truth, judged = {"good": 0.9, "fair": 0.5, "poor": 0.1}, {"good": 0.2, "fair": 0.5, "poor": 0.8}
    figures = all_figures(verdicts(records(truth, judged), VERIFIER, POLICIES), VERIFIER)
    agreement = figures["agreement"]
    assert agreement["kendall"]["value"] == -1.0 and agreement["pearson"]["high"] < 0
    assert agreement["cells_pearson"]["value"] < -0.5 and figures["pairs"]["same_order"] == 0
    assert agreement["mmrv"]["value"] == pytest.approx((0.8 + 0.4 + 0.8) / 3, abs=1e-4)


def test_measures_of_agreement_on_known_cases() -> None:
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))  # Wilson 1927
    assert all(math.isnan(bound) for bound in wilson(0, 0)) and wilson(5, 5)[1] == pytest.approx(1.0)
    rising = np.array([[0.1, 0.2, 0.9]])
    assert pearson(rising, 2 * rising + 1) == pytest.approx(1.0)
    assert all(np.isnan(measure(rising, np.ones((1, 3)))).all() for measure in (pearson, spearman, kendall))
    assert mmrv(rising, rising) == 0.0
    assert mmrv(rising, np.array([[0.2, 0.1, 0.9]])) == pytest.approx(0.2 / 3)  # 0.1 for each of the two
    assert mmrv(rising, np.zeros((1, 3))) == pytest.approx((0.8 + 0.7 + 0.8) / 3)  # nothing is told apart


def test_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, (20, 7)), rng.integers(0, 5, (20, 7))  # with ties
    for measure, reference in ((pearson, stats.pearsonr), (spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        found = measure(first.astype(float), second.astype(float))
        assert found == pytest.approx([reference(a, b).statistic for a, b in zip(first, second, strict=True)])


def test_the_verifier_takes_the_distance_and_threshold_that_tell_done_from_not() -> None:
    rng = np.random.default_rng(0)
    made = []
    for done in (True, False) * 40:  # only the mse as a share of the start's knows it
        start = {"mse": float(rng.uniform(0.5, 5)), "structure": 1.0}
        share = rng.uniform(0.1, 0.4) if done else rng.uniform(0.6, 1.2)
        made.append(({"mse": float(share) * start["mse"], "structure": float(rng.uniform(0, 1))}, start, done))
    found = learn_verifier(made)
    assert (found.kind, found.relative, found.auroc, found.balanced_accuracy) == ("mse", True, 1.0, 1.0)
    assert 0.39 < found.threshold < 0.61 and (found.done, found.not_done) == (40, 40)
    assert all(found(costs, start) == done for costs, start, done in made)
    with pytest.raises(DataError, match="give more rooms"):
        learn_verifier([item for item in made if item[2]])


def test_ties_are_never_split_by_a_threshold() -> None:
    made = [({"mse": value, "structure": 1.0}, START, done) for value, done in ((1, True), (1, False), (2, False))]
    found = learn_verifier(made)
    assert found.kind == "mse" and found.threshold == 1.5 and found.balanced_accuracy == 0.75


def test_examples_and_costs_of_pictures() -> None:
    one = {"costs": costs(done=True), "done": True}
    learnt = [{"tasks": [{"start": START, "model": {"good": {"examples": [one, one]}, "poor": {"examples": [one]}}}]}]
    assert examples(learnt) == [(costs(done=True), START, True)] * 3
    goal, other = (made_up_picture(96, 128, seed=i) for i in (1, 2))
    found = picture_costs(np.stack([goal, other]), goal)
    assert set(found) == {"structure", "mse"}
    assert all(values[0] == pytest.approx(0, abs=1e-4) and values[1] > 0.01 for values in found.values())

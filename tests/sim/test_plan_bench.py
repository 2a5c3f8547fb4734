"""The planning bench: its figures on made episodes with known answers, and short real drives of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egowm_core.errors import DataError
from egowm_core.geometry import se2_delta
from egowm_core.loading import load_world_model
from egowm_sim import plan_bench
from egowm_sim.futures import Stage
from egowm_sim.plan_bench_figures import bootstrap, differences, format_table, row_figures, wilson
from egowm_sim.plan_bench_goals import TURN_RAD, WAY_M, find_task
from egowm_sim.plan_bench_robot import Course
from egowm_sim.plan_bench_runs import REACHED_M, PlanSettings, drive_limits, run_task, warped_ends
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint

SEED = 976_005


def episode(seed: int, success: bool, **changes: Any) -> dict[str, Any]:
    base = {"row": "model", "seed": seed, "success": success, "off_m": 0.1 if success else 1.0, "way_m": 2.0}
    return {**base, "travelled_m": 2.0, "bumps": 0, "ticks": 20, "cpu_s": 1.0, **changes}


def test_wilsons_interval_of_known_cases() -> None:
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    low, high = wilson(0, 50)
    assert low == 0 and high == pytest.approx(0.0714, abs=1e-3)
    assert wilson(50, 50)[1] == pytest.approx(1) and all(math.isnan(end) for end in wilson(0, 0))


def test_a_bootstrap_holds_the_mean_and_narrows() -> None:
    rng = np.random.default_rng(0)
    few, many = (bootstrap(rng.normal(3, 1, n).tolist()) for n in (20, 500))
    assert few[0] < 3 < few[1] and many[0] < 3.05 and many[1] > 2.95 and many[1] - many[0] < (few[1] - few[0]) / 3
    assert all(math.isnan(end) for end in bootstrap([]))


def test_figures_of_made_episodes() -> None:
    episodes = [episode(0, True), episode(1, True, travelled_m=4.0, bumps=3), episode(2, False), episode(3, False)]
    figures = row_figures(episodes)
    assert figures["n"] == 4 and figures["success"] == 0.5 and figures["bumped"] == 0.25
    assert figures["spl"] == pytest.approx((1 + 0.5) / 4)
    assert figures["path_m"] == 3.0 and figures["path_ratio"] == 1.5  # of those that arrived
    assert (figures["success_low"], figures["success_high"]) == pytest.approx(wilson(2, 4), abs=1e-4)
    table = format_table({"model": figures, "random": row_figures([episode(0, False)])})
    assert "50 % [15, 85]" in table and "-" in table.splitlines()[-2]


def test_differences_are_of_the_same_tasks() -> None:
    rows = {
        "model": [episode(0, True), episode(1, True), episode(2, False)],
        "random": [episode(0, False), episode(1, True), episode(7, True)],
    }
    gap = differences(rows)["random"]
    assert gap["n"] == 2 and gap["success_gap"] == 0.5 and gap["success_gap_low"] == 0.0
    assert differences({"random": rows["random"]}) == {}


def test_this_base_moves_neither_sideways_nor_faster_than_it_can() -> None:
    limits = drive_limits(np.array([[-0.2, 0.2], [-0.1, 0.1], [-0.1, 0.2]]), 0.25)
    assert limits == pytest.approx(np.array([[-0.05, 0.15], [0, 0], [-0.1, 0.15]]))


def test_a_room_has_one_task_and_the_simulator_foresees_what_then_happens(tmp_path: Path) -> None:
    model = load_world_model(save_tiny_checkpoint(tmp_path / "tiny"))
    with Stage(seed=SEED, height=96, width=128) as stage:
        task = find_task(stage)
    with Stage(seed=SEED, height=96, width=128) as stage:
        again = find_task(stage)
    assert task is not None and again is not None
    assert np.array_equal(task.picture, again.picture) and np.array_equal(task.goal, again.goal)
    assert WAY_M[0] <= task.way_m <= WAY_M[1]
    assert abs(float(se2_delta(task.start, task.goal)[2])) <= TURN_RAD
    with Course(seed=SEED, height=96, width=128, tick_s=0.25) as course:
        course.start(task.start)
        assert se2_delta(task.start, course.pose()) == pytest.approx(np.zeros(3), abs=1e-3)
        before = course.picture()
        candidates = np.zeros((3, 6, 3), np.float32)
        candidates[1, :, 0], candidates[2, :, 2] = 0.1, 0.1
        foreseen = course.foresee(candidates)
        assert foreseen.shape == (3, 1, 96, 128, 3) and np.array_equal(course.picture(), before)
        for action in candidates[1]:
            course.act(action)
        assert np.array_equal(course.picture(), foreseen[1, 0])
        assert not np.array_equal(foreseen[1], foreseen[2])
        x, y, yaw = course.odometry().tolist()
        assert 0.3 < x < 0.65 and abs(y) < 0.1 and abs(yaw) < 0.1 and course.travelled_m == pytest.approx(x, abs=0.05)
        warped = warped_ends(model, model.preprocess(before), candidates)
        assert np.abs(warped[0, 0].astype(int) - before).mean() < 2  # who does not move sees the same
        assert np.abs(warped[1, 0].astype(int) - before).mean() > 5
        short = PlanSettings(candidates=8, iterations=1, budget_ticks=20)
        oracle = run_task("oracle", task, course, model, short)
        repeated = run_task("oracle", task, course, model, short)
        straight = run_task("straight", task, course, model, short)
        blind = run_task("random", task, course, model, PlanSettings(candidates=4, iterations=1, budget_ticks=8))
    assert oracle["path"][0] == repeated["path"][0] and oracle["off_m"] == pytest.approx(repeated["off_m"], abs=0.05)
    assert oracle["off_m"] < 0.8 * math.dist(task.start[:2], task.goal[:2])
    assert straight["stopped"] == "reached" and straight["off_m"] < REACHED_M and straight["success"]
    assert blind["ticks"] == 8 and blind["stopped"] == "budget" and len(blind["plans"]) == 2


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The command's arguments, and its directory after one run."""
    folder = tmp_path_factory.mktemp("plan")
    checkpoint = save_tiny_checkpoint(folder / "tiny")
    arguments = [
        str(folder / "out"),
        "--checkpoint",
        str(checkpoint),
        "--goals",
        "1",
        "--planners",
        "model",
        "straight",
    ]
    arguments += ["--candidates", "2", "--iterations", "1", "--horizon", "4", "--budget-ticks", "8"]
    arguments += ["--seed", str(SEED), "--json", str(folder / "plan.json")]
    assert plan_bench.main(arguments) == 0
    return arguments, folder


def test_the_command_measures_writes_and_draws(measured: tuple[list[str], Path]) -> None:
    _, folder = measured
    figures = json.loads((folder / "plan.json").read_text())
    assert set(figures["rows"]) == {"model", "straight"} and figures["rows"]["model"]["n"] == 1
    assert figures["settings"]["candidates"] == 2 and figures["model_minus"]["straight"]["n"] == 1
    assert (folder / "out" / "runs.png").stat().st_size > 10_000


def test_it_continues_where_it_was_interrupted(
    measured: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, folder = measured
    kept = folder / "out" / "episodes.jsonl"
    whole = kept.read_text().splitlines()
    torn = whole[: len(whole) - 1]
    kept.write_text("\n".join(torn) + "\n" + whole[-1][:40])  # killed while writing
    before = json.loads((folder / "plan.json").read_text())
    assert plan_bench.main(arguments) == 0
    now = json.loads((folder / "plan.json").read_text())
    for row in ("model", "straight"):
        assert now["rows"][row]["success"] == before["rows"][row]["success"]
    assert len(kept.read_text().splitlines()) == len(whole)
    assert plan_bench.main([*arguments, "--candidates", "3"]) == 1
    assert "other settings" in capsys.readouterr().err


def test_bad_usage_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        plan_bench.main([str(tmp_path), "--goals", "0"])
    assert stop.value.code == 2
    (tmp_path / "episodes.jsonl").write_text("not ours\n")
    with pytest.raises(DataError, match="other settings"):
        plan_bench.Episodes(tmp_path / "episodes.jsonl", {})

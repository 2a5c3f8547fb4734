"""Tasks with a known answer, policies of different skill in the simulator and in a model, and the whole command."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError
from egowm_core.geometry import se2_compose
from egowm_core.policy import PolicyRun, drive
from egowm_sim.policy_eval import cli, episodes
from egowm_sim.policy_eval.arena import Arena, ArenaWorld, RampActuator, arc, check_base, error_of
from egowm_sim.policy_eval.policies import POLICIES, Servo, register
from egowm_sim.policy_eval.tasks import CONDITIONS, Success, Task, draw_tasks
from tests.fixtures.tiny_checkpoint import made_up_picture, save_tiny_checkpoint

BASE = load_embodiment("base_3dof")
SEED = 989_001


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with Arena(seed=SEED, embodiment=BASE) as made:
        yield made


@pytest.fixture(scope="module")
def tasks(arena: Arena) -> list[Task]:
    return draw_tasks(arena, 2)


def driven(arena: Arena, task: Task, name: str, *, ticks: int = 12) -> tuple[PolicyRun, ArenaWorld]:
    world = ArenaWorld(arena, task.start, BASE)
    (run,) = drive(world, [POLICIES[name]()], [task.goal_image], ticks=ticks, seeds=[0], embodiment=BASE)
    return run, world


def test_tasks_repeat_and_begin_outside_of_success(arena: Arena, tasks: list[Task]) -> None:
    again = draw_tasks(arena, 2)
    assert [task.condition for task in tasks] == list(CONDITIONS[:2])
    for task, other in zip(tasks, again, strict=True):
        assert np.array_equal(task.goal_image, other.goal_image) and np.array_equal(task.start, other.start)
        assert task.goal_image.shape == (96, 128, 3)
        assert not Success()(error_of(task.start, task.goal)) and Success()(error_of(task.goal, task.goal))
        assert (error_of(task.start, task.goal).angle_deg > 10) == ("left" in task.condition)


def test_the_servo_arrives_and_the_one_that_turns_the_wrong_way_does_not(arena: Arena, tasks: list[Task]) -> None:
    for task in tasks:
        run, world = driven(arena, task, "servo")
        assert Success()(error_of(world.poses[-1], task.goal))
        assert run.frames.shape == (13, 96, 128, 3) and len(world.poses) == 13
    _, lost = driven(arena, tasks[0], "wrong_way")
    assert not Success()(error_of(lost.poses[-1], tasks[0].goal))


def test_an_arena_forgets_what_was_driven_before(arena: Arena, tasks: list[Task]) -> None:
    first, _ = driven(arena, tasks[1], "random", ticks=3)
    driven(arena, tasks[0], "ahead", ticks=3)
    again, _ = driven(arena, tasks[1], "random", ticks=3)
    assert np.array_equal(first.actions, again.actions)
    assert np.abs(first.frames.astype(int) - again.frames).mean() < 0.5


def test_the_ramp_says_what_the_base_then_does(arena: Arena, tasks: list[Task]) -> None:
    run, world = driven(arena, tasks[0], "servo", ticks=6)
    actuator, pose = RampActuator(BASE), world.poses[0]
    moved = [actuator(action) for action in run.actions]
    for motion in moved:
        pose = se2_compose(pose, motion)
    error = error_of(pose, world.poses[-1])
    assert error.distance_m < 0.06 and error.angle_deg < 3.0
    assert np.array_equal(actuator.asked, run.actions)
    assert moved[0][0] < run.actions[0][0] or abs(moved[0][2]) < abs(run.actions[0][2])  # it has to speed up


def test_register_finds_turn_and_growth() -> None:
    picture = made_up_picture(96, 128, seed=3)
    assert register(picture, picture) == (pytest.approx(0.0, abs=0.02), pytest.approx(0.0, abs=0.01))
    turn, _ = register(np.roll(picture, -12, axis=1), picture)  # what the goal has in its middle lies left of ours
    assert turn == pytest.approx(math.atan(12 / 64), abs=0.03)
    near = cv2.warpAffine(picture, np.float32([[1.3, 0, -0.3 * 64], [0, 1.3, -0.3 * 36.7]]), (128, 96))
    assert register(picture, near)[1] == pytest.approx(math.log(1.3), abs=0.07)
    assert register(near, picture)[1] < -0.1


def test_policies_stay_within_what_the_base_can_do() -> None:
    rng, picture = np.random.default_rng(0), made_up_picture(96, 128, seed=1)
    for make in POLICIES.values():
        for _ in range(5):
            action = make()(picture, np.roll(picture, 20, axis=1), rng)
            assert action.shape == (3,) and BASE.within_limits(action[None])
    assert not Servo()(picture, None, rng).any()


def test_arcs_end_where_they_should() -> None:
    way = arc(np.zeros(3), math.pi / 2, math.pi / 2)  # a quarter of a circle of radius 1
    assert way[-1] == pytest.approx([1.0, 1.0, math.pi / 2])
    assert np.hypot(*(way[:, :2] - [0.0, 1.0]).T) == pytest.approx(np.ones(len(way)))


def test_other_robots_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"humanoid_25dof.*base_3dof"):
        check_base(load_embodiment("humanoid_25dof"))


def test_the_command_judges_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = str(save_tiny_checkpoint(tmp_path / "tiny", horizon=2))
    out = tmp_path / "out"
    given = [str(out), "--checkpoint", checkpoint, "--rooms", "1", "--learn-rooms", "1", "--tasks", "1"]
    given += ["--policies", "servo,ahead", "--json", str(tmp_path / "figures.json"), "--seed", "985003", "--ticks", "8"]
    assert cli.main(given) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures == json.loads((out / "policy_eval.json").read_text())
    assert set(figures["rows"]) == {"servo", "ahead"} and figures["tasks"] == 1
    assert figures["verifier"]["done"] + figures["verifier"]["not_done"] == 2 * 4  # every other of 8 ticks
    assert "| servo |" in printed and (out / "policy_eval.png").is_file() and len(list((out / "strips").iterdir())) == 1
    monkeypatch.setattr(episodes, "Arena", None)  # nothing is simulated again
    assert cli.main(given) == 0
    assert cli.main([*given, "--ticks", "5"]) == 1
    assert "other settings" in capsys.readouterr().err
    assert cli.main([str(out), "--policies", "servo,servoo"]) == 1
    assert "did you mean 'servo'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main([str(out), "--rooms", "0"])

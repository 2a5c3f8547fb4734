"""What the humanoid follows: newest by name, from point to point, within limits; nonsense changes nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from egowm_core.errors import DataError
from egowm_sim.joint_targets import LONGEST_S, MOST_POINTS, JointTargets, Trajectory

S = 1_000_000_000
NOW = 1_700_000_000 * S


@pytest.fixture
def targets() -> JointTargets:
    return JointTargets(
        ("neck", "elbow"), ("v", "w"), low=np.array([-1.0, -2.0]), high=np.array([1.0, 0.0]),
        rest=np.array([0.1, -0.5]), timeout_s=0.5,
    )  # fmt: skip


def _at(targets: JointTargets, after_s: float) -> list[float]:
    return [round(float(value), 6) for value in targets.at(NOW + round(after_s * S))]


def test_it_rests_until_told(targets: JointTargets) -> None:
    assert _at(targets, 0.0) == [0.1, -0.5, 0.0, 0.0]


def test_a_trajectory_starts_from_here_and_ends_where_it_ends(targets: JointTargets) -> None:
    assert targets.follow(Trajectory(["neck"], 0, [1.0, 2.0], [[0.5], [0.7]]), now_ns=NOW) == []
    assert [_at(targets, t)[0] for t in (0.0, 0.5, 1.0, 1.5, 9.0)] == [0.1, 0.3, 0.5, 0.6, 0.7]
    assert _at(targets, 1.5)[1] == -0.5  # not named
    targets.follow(Trajectory(["elbow", "neck"], NOW + 10 * S, [1.0], [[-1.5, 0.0]]), now_ns=NOW + 8 * S)
    assert _at(targets, 10.0)[:2] == [0.7, -0.5]  # waits for its start
    assert _at(targets, 10.5)[:2] == [0.35, -1.0]


def test_one_that_began_before_is_joined_where_it_is_now(targets: JointTargets) -> None:
    targets.follow(Trajectory(["neck"], NOW - S, [0.0, 2.0], [[0.0], [1.0]]), now_ns=NOW)
    assert _at(targets, 0.0)[0] == 0.5


def test_limits_cut_and_are_told(targets: JointTargets) -> None:
    assert targets.follow(Trajectory(["elbow", "neck"], 0, [1.0], [[3.0, 0.2]]), now_ns=NOW) == ["elbow"]
    assert _at(targets, 1.0)[:2] == [0.2, 0.0]


def test_the_base_follows_what_came_last_and_stops(targets: JointTargets) -> None:
    targets.drive(0.3, -0.2, now_ns=NOW)
    assert _at(targets, 0.4)[2:] == [0.3, -0.2] and _at(targets, 0.6)[2:] == [0.0, 0.0]
    targets.follow(Trajectory(["v"], 0, [0.0, 2.0], [[0.4], [0.4]]), now_ns=NOW)
    assert _at(targets, 2.4)[2:] == [0.4, 0.0] and _at(targets, 2.6)[2:] == [0.0, 0.0]
    targets.drive(0.0, 0.0, now_ns=NOW + S)
    assert _at(targets, 1.1)[2:] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("trajectory", "told"),
    [
        (Trajectory([], 0, [1.0], [[]]), "expected 1..4, each once"),
        (Trajectory(["neck", "neck"], 0, [1.0], [[0.0, 0.0]]), "each once"),
        (Trajectory(["neck", "elbo"], 0, [1.0], [[0.0, 0.0]]), "'elbo'.*elbow"),
        (Trajectory(["neck"], 0, [], []), "0 points"),
        (Trajectory(["neck"], 0, [0.1] * (MOST_POINTS + 1), [[0.0]] * (MOST_POINTS + 1)), f"1..{MOST_POINTS}"),
        (Trajectory(["neck"], 0, [1.0], [[0.0, 1.0]]), "2 positions for 1 joints"),
        (Trajectory(["neck"], 0, [1.0], [[math.nan]]), "not finite"),
        (Trajectory(["neck"], 0, [1.0, 1.0], [[0.0], [0.1]]), "must increase"),
        (Trajectory(["neck"], 0, [-1.0], [[0.0]]), "must increase"),
        (Trajectory(["neck"], 0, [LONGEST_S * 2], [[0.0]]), "must increase"),
        (Trajectory(["neck"], NOW - 60 * S, [1.0], [[0.0]]), "ended 59.00 s ago"),
        (Trajectory(["neck"], NOW + 3600 * S, [1.0], [[0.0]]), "ends in 3601 s"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    targets: JointTargets, trajectory: Trajectory, told: str
) -> None:
    targets.follow(Trajectory(["neck"], 0, [1.0], [[0.4]]), now_ns=NOW)
    with pytest.raises(DataError, match=told):
        targets.follow(trajectory, now_ns=NOW)
    assert _at(targets, 1.0) == [0.4, -0.5, 0.0, 0.0]


def test_a_velocity_that_is_not_finite_is_refused(targets: JointTargets) -> None:
    targets.drive(0.3, 0.0, now_ns=NOW)
    with pytest.raises(DataError, match="not finite"):
        targets.drive(math.nan, 0.0, now_ns=NOW)
    assert _at(targets, 0.1)[2:] == [0.3, 0.0]

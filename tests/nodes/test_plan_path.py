"""Paths as actions: followed by stamps or at a speed, from where the robot is, brought from other frames or refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import EmbodimentError
from egowm_core.geometry import se2_compose, se2_integrate
from egowm_nodes.plans.chooser import ActionChooser
from egowm_nodes.plans.frames import PoseHistory
from egowm_nodes.plans.path import PathPlan, check_path
from egowm_nodes.plans.sources import Moment

BASE = load_embodiment("base_3dof")
START = 1_700_000_000_000_000_000
TICK = 250_000_000
TURN = np.linspace(0, np.pi / 2, 40)
BEND = np.stack([2 * np.sin(TURN), 2 - 2 * np.cos(TURN), TURN], axis=1)  # a quarter of a circle to the left
AHEAD = np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 0.0]])


def moment(pose: tuple[float, float, float] = (0.0, 0.0, 0.0), ticks: int = 0, **known) -> Moment:
    return Moment(START + ticks * TICK, pose=np.array(pose), **known)


def line(poses: np.ndarray, speed: float = 0.4) -> PathPlan:
    return PathPlan(BASE, np.asarray(poses), START, None, speed)


def stamped(poses: np.ndarray, last_s: float) -> PathPlan:
    return PathPlan(BASE, np.asarray(poses), START, np.linspace(0, last_s, len(poses)))


def reached(pose: tuple[float, float, float], values: np.ndarray) -> np.ndarray:
    return se2_compose(np.array(pose), se2_integrate(values)[-1])


def test_a_straight_line_is_driven_at_the_speed():
    found = line(AHEAD).sample(moment(), rows=8, stop=True)
    np.testing.assert_allclose(found.values, np.tile([0.1, 0, 0], (8, 1)), atol=1e-6)
    assert found.extended == 0


def test_the_speed_is_the_commanded_or_else_the_measured_one():
    path, held = line(AHEAD, speed=0.0), np.array([0.05, 0, 0], np.float32)
    commanded = path.sample(moment(twist=np.array([0.6, 0, 0]), held=held), rows=4, stop=True)
    np.testing.assert_allclose(commanded.values[:, 0], 0.15, atol=1e-6)
    np.testing.assert_allclose(path.sample(moment(held=held), rows=4, stop=True).values[:, 0], 0.05, atol=1e-6)
    with pytest.raises(EmbodimentError, match="set plan_speed_mps"):
        path.sample(moment(), rows=4, stop=True)


@pytest.mark.parametrize("pose", [(0.0, 0.0, 0.0), (0.1, -0.3, 0.3), (0.5, 0.4, -0.4)])
def test_a_line_is_approached_and_followed_within_the_limits_of_the_robot(pose):
    found = line(BEND).sample(moment(pose), rows=24, stop=True)
    BASE.validate_actions(found.values)
    poses = se2_compose(np.array(pose), se2_integrate(found.values))
    off_m = np.abs(np.hypot(poses[:, 0], poses[:, 1] - 2) - 2)
    on_bend = poses[:, 0] < 1.9
    assert off_m[on_bend][-1] < 0.06 and off_m[-1] < 0.12
    assert np.abs(found.values[:, 1]).max() < 0.02  # a robot on wheels does not step aside


def test_a_robot_that_looks_away_turns_first():
    found = line(AHEAD).sample(moment((0.0, 0.0, 2.5)), rows=24, stop=True)
    BASE.validate_actions(found.values)
    assert np.abs(found.values[:3, 0]).max() < 1e-6 and np.all(found.values[:3, 2] < -0.15)
    end = reached((0.0, 0.0, 2.5), found.values)
    assert end[0] > 0.5 and abs(end[2]) < 0.2


def test_a_line_ends_at_rest_or_goes_on_as_told():
    rest = line(AHEAD * [0.07, 1, 1]).sample(moment(), rows=8, stop=True)
    np.testing.assert_allclose(se2_integrate(rest.values)[-1, 0], 0.42, atol=0.021)
    assert rest.extended == 3 and not rest.values[5:].any()
    on = line(AHEAD * [0.07, 1, 1]).sample(moment(), rows=8, stop=False)
    np.testing.assert_allclose(on.values[5:], np.tile([0.1, 0, 0], (3, 1)), atol=1e-6)


def test_where_a_line_crosses_itself_the_robot_stays_on_its_way():
    loop = np.linspace(0, 2 * np.pi, 60)
    poses = np.concatenate([np.stack([np.sin(loop), 1 - np.cos(loop), loop], 1), [[2.0, 0.0, 0.0]]])
    path, pose = line(poses), np.array([-0.02, 0.0, 0.0])
    begun = path.sample(Moment(START, pose=pose), rows=8, stop=True).values
    assert se2_integrate(begun)[-1, 2] > 0.5  # into the loop, not straight on
    for tick in range(60):
        values = path.sample(Moment(START + tick * TICK, pose=pose), rows=1, stop=True).values
        pose = se2_compose(pose, values[0])
    later = path.sample(Moment(START, pose=pose), rows=8, stop=True).values
    assert abs(se2_integrate(later)[-1, 2]) < 0.6  # out of it again


def test_stamps_say_where_the_robot_is_to_be_when():
    path = stamped(BEND, 6.0)
    found = path.sample(moment(tuple(BEND[0])), rows=24, stop=True)
    assert found.extended == 0
    np.testing.assert_allclose(reached(tuple(BEND[0]), found.values), BEND[-1], atol=0.01)
    np.testing.assert_allclose(found.values[:, 2], np.pi / 2 / 24, atol=0.003)
    later = path.sample(moment(tuple(BEND[26]), ticks=16), rows=8, stop=True)
    np.testing.assert_allclose(reached(tuple(BEND[26]), later.values), BEND[-1], atol=0.02)
    over = path.sample(moment(tuple(BEND[-1]), ticks=22), rows=8, stop=True)
    assert over.extended == 6 and not over.values[2:].any()


def test_the_distance_from_a_stamped_path_fades_and_too_much_of_it_is_refused():
    path = stamped(AHEAD, 15.0)
    found = path.sample(moment((0.0, 0.3, 0.0)), rows=24, stop=True)
    poses = se2_compose(np.array([0.0, 0.3, 0.0]), se2_integrate(found.values))
    assert np.all(np.diff(poses[:, 1]) < 0) and 0 < poses[-1, 1] < 0.02
    for plan in (path, line(AHEAD)):
        with pytest.raises(EmbodimentError, match=r"robot is 1\.50 m from"):
            plan.sample(moment((0.0, 1.5, 0.0)), rows=8, stop=True)


def test_orientations_that_were_never_filled_in_follow_the_path():
    bare = BEND * [1, 1, 0]
    bare[-1, 2] = BEND[-1, 2]  # some planners give the goal's alone
    found = stamped(bare, 6.0).sample(moment(tuple(BEND[0])), rows=24, stop=True)
    assert reached(tuple(BEND[0]), found.values)[2] == pytest.approx(np.pi / 2, abs=0.05)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (line(np.zeros((0, 3))), "0 poses"),
        (line(np.zeros((4097, 3))), "4097 poses"),
        (line(np.array([[0, 0, 0], [1, np.nan, 0]])), "pose 1 of the path is not finite"),
        (line(np.array([[0, 0, 0], [1e300, 0, 0]])), "pose 1"),
        (PathPlan(BASE, AHEAD, START, np.array([1.0, 1.0])), "stamps do not increase"),
        (PathPlan(BASE, AHEAD, START, np.array([0.0, 1e5])), "span 100000 s"),
        (PathPlan(load_embodiment("unitree_g1_26"), AHEAD, START), "no planar base"),
    ],
)
def test_a_path_that_nobody_can_follow_is_refused(path, words):
    with pytest.raises(EmbodimentError, match=words):
        check_path(path)


def chooser(**changes) -> ActionChooser:
    options = {"horizon": 8, "plan_timeout_s": 1.0, "hold_last_command": True, "command_timeout_s": 1.0}
    return ActionChooser(BASE, **(options | changes))


def test_a_path_is_chosen_until_its_end_and_says_when_it_rests():
    chosen, held = chooser(), np.array([0.05, 0, 0], np.float32)
    chosen.offer_path(stamped(AHEAD * [0.1, 1, 1], 2.0))
    assert chosen.choose(START, held, now_s=0.0, pose=np.zeros(3)).origin == "path"
    choice = chosen.choose(START + 4 * TICK, held, now_s=0.0, pose=np.array([0.3, 0, 0]))
    assert (choice.kind, choice.origin, choice.extended) == ("path", "path, at rest for 4 of 8 rows", 4)
    assert chosen.choose(START + 11 * TICK, held, now_s=0.0, pose=np.array([0.6, 0, 0])).extended == 8
    assert chosen.choose(START + 13 * TICK, held, now_s=0.0, pose=np.array([0.6, 0, 0])).kind == "executed"
    assert "fresh for 3.00 s" in chosen.stale["path"]
    off = chosen.choose(START, held, now_s=0.0, pose=np.array([0.0, 9.0, 0.0]))
    assert off.kind == "executed" and "9.00 m from" in chosen.unused["path"]
    assert chosen.choose(START, held, now_s=0.0).kind == "executed" and "odometry" in chosen.unused["path"]


def test_a_stamped_path_too_fast_for_the_robot_is_refused_and_the_former_stays():
    chosen = chooser()
    chosen.offer_path(stamped(AHEAD, 15.0))
    with pytest.raises(EmbodimentError, match=r"'dx'.*outside its limits"):
        chosen.offer_path(stamped(AHEAD, 2.0))
    assert chosen.choose(START, None, now_s=0.0, pose=np.zeros(3)).kind == "path" and chosen.plans_taken == 1


def history() -> PoseHistory:
    poses = PoseHistory("base_link")
    for i in range(40):
        poses.add(START + i * 50_000_000, np.array([0.1 * i, 0.0, math.pi - 0.05 + 0.1 * i]), frame="/odom")
    return poses


def test_where_the_robot_was_is_interpolated_the_short_way_round():
    np.testing.assert_allclose(history().at(START + 25_000_000), [0.05, 0, math.pi], atol=1e-9)
    assert history().at(START - 1) is None and history().at(START + 3 * 10**9) is None
    np.testing.assert_allclose(history().at(START + 2_100_000_000)[:1], [3.9])  # a little newer than known


def test_paths_of_the_robots_own_frames_are_placed_and_others_refused_with_the_remedy():
    poses, ahead = history(), np.array([[1.0, 0.0, 0.0]])
    placed = poses.place(ahead, frame="base_link", stamp_ns=START + 25_000_000, tree=None)
    np.testing.assert_allclose(placed, [[-0.95, 0.0, math.pi]], atol=1e-9)
    assert poses.place(ahead, frame="odom", stamp_ns=0, tree=None) is ahead
    for frame, words in {"map": "frame 'map', expected 'odom' or 'base_link'.*tf2_ros", "": "no frame_id"}.items():
        with pytest.raises(EmbodimentError, match=words):
            poses.place(ahead, frame=frame, stamp_ns=START, tree=None)
    with pytest.raises(EmbodimentError, match="says nothing of that time"):
        poses.place(ahead, frame="base_link", stamp_ns=START - 10**9, tree=None)
    with pytest.raises(EmbodimentError, match="no odometry yet"):
        PoseHistory("base_link").place(ahead, frame="odom", stamp_ns=START, tree=None)


def test_the_history_is_bounded_and_starts_over_with_the_clock():
    poses = PoseHistory("base_link")
    for i in range(3000):
        poses.add(START + i * 20_000_000, np.array([i, 0.0, 0.0]), frame="odom", child=f"base_{i}")
    assert poses.at(START) is None and poses.at(START + 2999 * 20_000_000)[0] == 2999
    assert len(poses.base_frames) <= 5
    poses.add(START, np.array([7.0, 0.0, 0.0]), frame="odom")
    poses.add(START + TICK, np.array([np.nan, 0.0, 0.0]), frame="odom")
    assert poses.at(START + TICK)[0] == 7.0

"""Joint trajectories as actions: by name, from the measured state, linear or cubic, held, filled and refused."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import EmbodimentError
from egowm_nodes.plans.chooser import ActionChooser
from egowm_nodes.plans.joints import JointPlan, check_joints
from egowm_nodes.plans.sources import Moment

ROBOT = load_embodiment("humanoid_25dof")
START = 1_700_000_000_000_000_000
TICK = 200_000_000
ELBOW, NECK, SPEED, TURN = (
    ROBOT.channel_names.index(name)
    for name in ("left_elbow_pitch", "neck_pitch", "linear_velocity", "angular_velocity")
)
STATE = np.zeros(25, np.float32)


def trajectory(points: dict[str, list[float]], times_s: list[float], robot: Embodiment = ROBOT, **changes) -> JointPlan:
    positions = np.array(list(points.values()), np.float64).T.reshape(len(times_s), len(points))
    options = {"names": tuple(points), "times_s": np.array(times_s), "positions": positions, "start_ns": START}
    return JointPlan(robot, **(options | changes))


def state(**known: float) -> np.ndarray:
    values = STATE.copy()
    for name, value in known.items():
        values[[channel.name for channel in ROBOT.states].index(name)] = value
    return values


def sample(plan: JointPlan, ticks: float = 0, rows: int = 8, *, stop: bool = True, **known):
    moment = Moment(START + round(ticks * TICK), **({"state": STATE} | known))
    return plan.sample(moment, rows=rows, stop=stop)


def test_a_trajectory_moves_its_joints_by_name_in_any_order_and_holds_the_others():
    plan = trajectory({"NECK_PITCH": [0.0, 0.8], "LEFT_ELBOW_PITCH": [0.0, -1.6]}, [0.0, 1.6])
    found = sample(plan)
    expected = np.zeros((8, 25))
    expected[:, NECK], expected[:, ELBOW] = 0.1, -0.2
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert (found.extended, found.led_in) == (0, 0)


def test_it_starts_from_the_measured_state():
    plan = trajectory({"LEFT_ELBOW_PITCH": [1.0]}, [1.0])
    ahead = sample(plan, state=state(left_elbow_pitch=0.5)).values[:, ELBOW]
    np.testing.assert_allclose(ahead, [0.1] * 5 + [0.0] * 3, atol=1e-6)
    on_the_way = trajectory({"LEFT_ELBOW_PITCH": [0.0, 1.0]}, [0.0, 2.0])
    late = sample(on_the_way, ticks=5, state=state(left_elbow_pitch=0.45)).values[:, ELBOW]
    np.testing.assert_allclose(late[0], 0.1 + 0.05 * (1 - np.exp(-0.8)), atol=1e-6)  # it lags 0.05 rad behind
    np.testing.assert_allclose(late.sum(), 0.55, atol=2e-3)  # and arrives all the same


def test_a_planner_that_sends_anew_all_the_time_continues_its_own_motion():
    streamed = trajectory({"LEFT_ELBOW_PITCH": [0.55, 0.65, 1.5]}, [0.05, 0.25, 1.95])
    behind = state(left_elbow_pitch=0.4)  # it was to be at 0.475 now: the newest frame is from 0.1 s before the stamp
    found = sample(streamed, ticks=-0.5, state=behind).values[:, ELBOW]
    np.testing.assert_allclose(found[0], 0.1 + 0.075 * (1 - np.exp(-0.8)), atol=1e-5)
    np.testing.assert_allclose(found[3:], 0.1, atol=6e-3)


def test_velocities_make_it_cubic():
    straight = trajectory({"NECK_PITCH": [0.0, 0.4]}, [0.0, 0.8])
    smooth = trajectory({"NECK_PITCH": [0.0, 0.4]}, [0.0, 0.8], velocities=np.zeros((2, 1)))
    np.testing.assert_allclose(sample(straight, rows=4).values[:, NECK], 0.1, atol=1e-6)
    eased = sample(smooth, rows=4).values[:, NECK]
    u = np.arange(5) / 4
    np.testing.assert_allclose(eased, np.diff(0.4 * (3 * u**2 - 2 * u**3)), atol=1e-6)


def test_velocities_of_the_base_are_averaged_over_the_tick():
    plan = trajectory({"LINEAR_VELOCITY": [0.0, 1.0], "ANGULAR_VELOCITY": [0.4, 0.4]}, [0.0, 1.0])
    found = sample(plan, rows=6, state=state(angular_velocity=0.4))
    np.testing.assert_allclose(found.values[:5, SPEED], [0.1, 0.3, 0.5, 0.7, 0.9], atol=1e-6)
    assert found.extended == 1 and found.values[5, SPEED] == 0.0  # its end is a stop, unless the last row is held
    standing = sample(plan, rows=6).values[:, TURN]
    assert 0.1 < standing[0] < 0.2 and 0.38 < standing[4] < 0.4  # a base gathers way
    going = sample(plan, rows=6, state=state(angular_velocity=0.4), stop=False)
    np.testing.assert_allclose(going.values[5, [SPEED, TURN]], [0.9, 0.4], atol=1e-6)


def test_velocities_that_it_does_not_name_are_those_commanded_or_go_on():
    plan, held = trajectory({"NECK_PITCH": [0.0, 0.4]}, [0.0, 0.8]), np.full(25, 0.05, np.float32)
    commanded = sample(plan, twist=np.array([0.5, 0.0, -0.3]), held=held).values
    np.testing.assert_allclose(commanded[:, [SPEED, TURN]], np.tile([0.5, -0.3], (8, 1)), atol=1e-6)
    assert not commanded[:, ELBOW].any()
    np.testing.assert_allclose(sample(plan, held=held).values[:, SPEED], 0.05)
    assert not sample(plan).values[:, SPEED].any()


def test_before_its_start_the_joints_rest_and_beyond_the_horizon_it_is_refused():
    plan = trajectory({"NECK_PITCH": [0.4]}, [0.8])
    found = sample(plan, ticks=-2)
    np.testing.assert_allclose(found.values[:, NECK], [0, 0, *[0.1] * 4, 0, 0], atol=1e-6)
    assert (found.led_in, found.extended) == (2, 2)
    with pytest.raises(EmbodimentError, match="beyond the horizon"):
        sample(plan, ticks=-8)
    with pytest.raises(EmbodimentError, match="state at the newest frame is unknown"):
        sample(plan, state=None)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (trajectory({"LEFT_ELBOW_PICH": [0.0]}, [1.0]), "'LEFT_ELBOW_PICH'.*did you mean 'LEFT_ELBOW_PITCH'"),
        (trajectory({"NECK_PITCH": [0.0]}, [1.0], names=("NECK_PITCH",) * 2), "twice"),
        (trajectory({}, [1.0]), "names no joint"),
        (trajectory({"NECK_PITCH": []}, []), "0 points"),
        (trajectory({"NECK_PITCH": [0.0] * 5000}, np.arange(5000) / 1e4), "5000 points"),
        (trajectory({"NECK_PITCH": [0.0]}, [1e6]), "until 1e\\+06 s; expected .* at most 819 s"),
        (trajectory({"NECK_PITCH": [0.0, 0.1]}, [1.0, 1.0]), "not increasing"),
        (trajectory({"NECK_PITCH": [0.0, 0.1]}, [-1.0, 1.0]), "not increasing from 0"),
        (trajectory({"NECK_PITCH": [0.0, np.nan]}, [0.0, 1.0]), "position of 'NECK_PITCH' in point 1 is not finite"),
        (trajectory({"NECK_PITCH": [0.0]}, [1.0], velocities=np.array([[np.inf]])), "velocity of 'NECK_PITCH'"),
        (trajectory({"dx": [0.0]}, [1.0], robot=load_embodiment("base_3dof")), "no joints"),
    ],
)
def test_a_trajectory_that_does_not_fit_is_refused_in_words(plan, words):
    with pytest.raises(EmbodimentError, match=words):
        check_joints(plan)


def chooser(**changes) -> ActionChooser:
    options = {"horizon": 8, "plan_timeout_s": 1.0, "hold_last_command": True, "command_timeout_s": 1.0}
    return ActionChooser(ROBOT, **(options | changes))


def test_degrees_are_refused_at_once_or_when_the_robot_is_seen_elsewhere():
    chosen = chooser()
    with pytest.raises(EmbodimentError, match=r"'neck_pitch'.*it looks like degrees"):
        chosen.offer_joints(trajectory({"NECK_PITCH": [0.0, 25.0]}, [0.0, 1.0]))
    chosen.offer_joints(trajectory({"NECK_PITCH": [30.0]}, [0.2]))
    assert chosen.choose(START, STATE, now_s=0.0, state=STATE).kind == "executed"
    assert "it looks like degrees" in chosen.unused["joint_trajectory"]


def test_a_trajectory_is_chosen_before_a_command_that_fills_the_base():
    chosen = chooser()
    chosen.offer_command(np.array([0.5, 0.0, 0.2]), now_s=0.0)
    held = chosen.choose(START, np.full(25, 0.02, np.float32), now_s=0.5)
    assert held.kind == "cmd_vel" and held.actions.values[0, SPEED] == 0.5
    np.testing.assert_allclose(held.actions.values[:, ELBOW], 0.02)  # what nobody commands goes on
    chosen.offer_joints(trajectory({"NECK_PITCH": [0.4]}, [0.8]))
    choice = chosen.choose(START, None, now_s=0.5, state=STATE)
    assert (choice.kind, choice.extended) == ("joint_trajectory", 4)
    assert choice.origin == "joint trajectory, at rest for 4 of 8 rows"
    np.testing.assert_allclose(choice.actions.values[:, SPEED], 0.5)
    assert chosen.choose(START + 10 * TICK, None, now_s=9.0, state=STATE) is None  # 0.8 s and a second are over
    with pytest.raises(EmbodimentError, match=r"'angular_velocity'.*degrees"):
        chosen.offer_command(np.array([0.0, 0.0, 45.0]), now_s=9.0)

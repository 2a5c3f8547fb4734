"""Rows at one rate onto ticks at another: the robot ends up where the rows lead it, channel by channel."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import EmbodimentError
from egowm_core.geometry import se2_integrate, se3_delta
from egowm_nodes.plans.rows import RowsPlan, resample, rows_on_ticks
from egowm_nodes.plans.sources import Moment

BASE, HUMANOID = load_embodiment("base_3dof"), load_embodiment("humanoid_25dof")
START = 1_700_000_000_000_000_000


def absolute_robot() -> Embodiment:
    data = HUMANOID.to_dict()
    data["states"], data["cameras"][0]["tilts_down"], data["cameras"][0]["turns_left"] = [], None, None
    data["cameras"][0]["moves_forward"] = None
    data["channels"] = [
        {"name": "lift", "unit": "m", "kind": "absolute", "limits": [0.0, 2.0], "scale": 1.0, "source": "lift"}
    ]
    return Embodiment.from_dict(data)


def onto(values: np.ndarray, robot: Embodiment, rate_hz: float, rows: int, into_s: float = 0.0) -> np.ndarray:
    values = np.asarray(values, np.float32)
    after = values[-1].astype(np.float64)
    return resample(values, robot, rate_hz=rate_hz, into_s=into_s, rows=rows, before=None, after=after).values


@pytest.mark.parametrize("rate_hz", [1.0, 4.0, 6.0, 10.0, 25.0])
def test_planar_motion_is_split_and_merged_by_composition(rate_hz):
    rng = np.random.default_rng(0)
    count = round(4 * rate_hz)
    values = rng.uniform(-1, 1, (count, 3)) * [0.4, 0.1, 0.8] / rate_hz
    ticks = onto(values, BASE, rate_hz, 16)
    np.testing.assert_allclose(se2_integrate(ticks)[-1], se2_integrate(values)[-1], atol=2e-6)


def test_a_slow_turn_while_driving_becomes_an_arc_without_side_steps():
    step = np.array([[0.7, 0.3, 0.8]])  # one row of a second
    radius = np.linalg.norm(step[0, :2]) / (2 * np.sin(0.4))
    step[0, :2] = radius * np.array([np.sin(0.8), 1 - np.cos(0.8)])
    ticks = onto(step, BASE, 1.0, 4)
    np.testing.assert_allclose(ticks, np.tile(ticks[0], (4, 1)), atol=1e-6)
    quarter = radius * np.array([np.sin(0.2), 1 - np.cos(0.2)])
    np.testing.assert_allclose(ticks[0], [*quarter, 0.2], atol=1e-6)


def test_rigid_motion_in_space_composes_too():
    robot = load_embodiment("camera_6dof")
    values = np.random.default_rng(1).uniform(-0.1, 0.1, (12, 6))

    def reached(steps: np.ndarray) -> np.ndarray:
        """The whole motion as a single row of ticks: merged by the code under test's own composition."""
        return onto(steps, robot, robot.rate_hz * len(steps), 1)[0]

    ticks = onto(values, robot, 2 * robot.rate_hz, 6)
    np.testing.assert_allclose(reached(ticks), reached(values), atol=1e-6)
    single = se3_delta(np.zeros(6), np.array([0.1, 0.2, 0.3, 0.0, 0.0, 0.4]))
    halves = onto(single[None], robot, robot.rate_hz / 2, 2)
    np.testing.assert_allclose(onto(halves, robot, 2 * robot.rate_hz, 1)[0], single, atol=1e-6)


def test_joint_changes_are_spread_velocities_averaged_and_absolutes_read_at_the_ticks_end():
    joints, speed = HUMANOID.channel_names.index("left_elbow_pitch"), HUMANOID.channel_names.index("linear_velocity")
    values = np.zeros((10, 25), np.float32)  # 10 Hz; the model has 5
    values[:, joints], values[:, speed] = np.arange(10) / 100, np.arange(10) / 10
    ticks = onto(values, HUMANOID, 10.0, 5)
    np.testing.assert_allclose(ticks[:, joints], [0.01, 0.05, 0.09, 0.13, 0.17], atol=1e-6)
    np.testing.assert_allclose(ticks[:, speed], [0.05, 0.25, 0.45, 0.65, 0.85], atol=1e-6)
    finer = onto(values[:2], HUMANOID, 2.5, 4)
    np.testing.assert_allclose(finer[:, joints], [0, 0, 0.005, 0.005], atol=1e-7)
    np.testing.assert_allclose(finer[:, speed], [0, 0, 0.1, 0.1], atol=1e-7)
    lift = np.array([[0.2], [0.4], [0.6], [0.8]])
    np.testing.assert_allclose(onto(lift, absolute_robot(), 10.0, 3)[:, 0], [0.4, 0.8, 0.8], atol=1e-6)


@pytest.mark.parametrize("robot", [BASE, HUMANOID])
def test_a_long_plan_is_taken_up_anywhere_as_if_its_past_were_not_there(robot):
    values = np.random.default_rng(2).uniform(-0.02, 0.02, (400, robot.action_dim))
    late, alone = onto(values, robot, 30.0, 8, into_s=7.01), onto(values[200:], robot, 30.0, 8, into_s=7.01 - 200 / 30)
    np.testing.assert_allclose(late, alone, atol=1e-6)


def test_between_the_ticks_rows_are_mixed_and_near_them_kept_to_the_bit():
    values = np.zeros((6, 3), np.float32)
    values[:, 0] = [0.0, 0.1, 0.0, 0.1, 0.0, 0.1]
    np.testing.assert_allclose(onto(values, BASE, 4.0, 4, into_s=0.125)[:, 0], 0.05, atol=1e-7)
    np.testing.assert_array_equal(onto(values, BASE, 4.0, 4, into_s=0.251), values[1:5])


def test_what_lies_before_and_after_is_filled_and_counted():
    values = np.full((8, 3), 0.08, np.float32)  # 8 Hz: one second
    held = np.array([0.04, 0, 0], np.float32)
    plan = RowsPlan(BASE, values * [1, 0, 0], 8.0, START)
    found = plan.sample(Moment(START - 500_000_000, held=held), rows=8, stop=True)
    np.testing.assert_allclose(found.values[:, 0], [0.04] * 2 + [0.16] * 4 + [0.0] * 2, atol=1e-6)
    assert (found.led_in, found.extended) == (2, 2)
    going = plan.sample(Moment(START, held=held), rows=8, stop=False)
    np.testing.assert_allclose(going.values[:, 0], 0.16, atol=1e-6)
    assert (going.led_in, going.extended) == (0, 4)


@pytest.mark.parametrize(
    ("early_s", "held", "words"), [(3.0, True, "beyond the horizon"), (0.5, False, "nothing is held")]
)
def test_a_plan_that_starts_too_late_says_so(early_s, held, words):
    plan = RowsPlan(BASE, np.zeros((8, 3), np.float32), 4.0, START)
    moment = Moment(START - round(early_s * 1e9), held=np.zeros(3, np.float32) if held else None)
    with pytest.raises(EmbodimentError, match=words):
        plan.sample(moment, rows=8, stop=False)


def test_a_plan_of_hours_is_refused_and_a_fast_one_of_seconds_is_not():
    with pytest.raises(EmbodimentError, match="lasts 4096 s"):
        rows_on_ticks(np.zeros((4096, 3), np.float32), BASE, 1.0)
    assert rows_on_ticks(np.zeros((4096, 3), np.float32), BASE, 1000.0).shape == (16, 3)

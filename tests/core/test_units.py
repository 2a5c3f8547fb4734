"""Numbers in the wrong unit are noticed, plausible ones are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.data.units import suspicious_units
from egowm_core.embodiment import load_embodiment

ROBOTS = ["base_3dof", "camera_6dof", "humanoid_25dof", "manipulator_7dof", "unitree_g1_26", "rc_car_2dof"]


def warnings(sizes: np.ndarray, name: str, **options) -> list[str]:
    return suspicious_units(2 * sizes, sizes, load_embodiment(name), **options)


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 1.0])
def test_plausible_motion_is_left_alone(name, share):
    robot = load_embodiment(name)
    assert warnings(share * np.minimum(robot.scales, robot.limits[:, 1]), name) == []


@pytest.mark.parametrize("name", ROBOTS)
def test_a_few_outliers_are_no_unit(name):
    robot = load_embodiment(name)
    assert suspicious_units(1000 * robot.scales, 0.3 * robot.scales, robot) == []


def test_degrees_given_for_radians():
    robot = load_embodiment("unitree_g1_26")
    factor = np.where([c.unit == "rad" for c in robot.channels], 180 / np.pi, 1.0)
    (line,) = warnings(0.5 * robot.scales * factor, robot.name)
    assert "degrees a tick given for rad a tick" in line
    assert "divide the source by 57.3" in line
    assert "and 10 more" in line
    assert "hand" not in line


def test_rates_given_for_deltas():
    robot = load_embodiment("unitree_g1_26")
    lines = warnings(0.9 * robot.scales * robot.rate_hz, robot.name)
    assert any("rad/s given for rad a tick: divide the source by 5," in line for line in lines)
    base = load_embodiment("base_3dof")
    (line,) = warnings(np.array([0.5, 0.0, 0.0]), base.name)
    assert "channel dx: typically 0.5 and up to 1 m a tick (dx) against limits of 0.2 looks like m/s" in line


def test_millimetres_given_for_metres():
    arm = load_embodiment("manipulator_7dof")
    sizes = 0.4 * arm.scales * np.where([c.unit == "m" for c in arm.channels], 1000.0, 1.0)
    (line,) = warnings(sizes, arm.name)
    assert line.startswith("channels dx, dy, dz:")
    assert "mm a tick given for m a tick" in line
    assert "1000" in line


def test_degrees_a_second_given_for_radians_a_second():
    robot = load_embodiment("humanoid_25dof")
    sizes = np.zeros(25)
    sizes[24] = 0.5 * 0.8 * 180 / np.pi
    (line,) = warnings(sizes, robot.name)
    assert line.startswith("channel angular_velocity:")
    assert "degrees/s given for rad/s" in line


def test_positions_in_degrees():
    robot = load_embodiment("unitree_g1_26")
    still = np.zeros(26)
    state = np.full(26, 1.2)
    assert warnings(still, robot.name, largest_state=state) == []
    state[3] = 87.0
    (line,) = warnings(still, robot.name, largest_state=state)
    assert "channel left_elbow: positions of up to 87 rad" in line
    assert "57.3" in line
    state = np.zeros(26)
    state[25] = 87.0  # fingers have no unit
    assert warnings(still, robot.name, largest_state=state) == []


def test_what_no_mistake_explains_and_what_is_not_finite_say_nothing():
    assert warnings(np.array([1e9, 0, 0]), "base_3dof") == []
    assert warnings(np.array([np.nan, np.inf, 0]), "base_3dof") == []

"""SE(2): composing undoes differencing, and angles wrap."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.geometry import se2_compose, se2_delta, se2_integrate, wrap_angle, yaw_from_quaternion


def random_poses(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(0, 5, (count, 2)), rng.uniform(-np.pi, np.pi, (count, 1))], axis=1)


@pytest.mark.parametrize(
    ("angle", "wrapped"),
    [
        (0, 0),
        (np.pi, np.pi),
        (-np.pi, np.pi),
        (3 * np.pi / 2, -np.pi / 2),
        (-7, -7 + 2 * np.pi),
        (100, 100 - 32 * np.pi),
    ],
)
def test_wrap_angle(angle, wrapped):
    assert wrap_angle(angle) == pytest.approx(wrapped)


def test_compose_undoes_delta():
    a, b = random_poses(50), random_poses(50)[::-1]
    np.testing.assert_allclose(se2_compose(a, se2_delta(a, b)), b, atol=1e-12)


def test_delta_is_in_the_previous_body_frame():
    facing_left = np.array([1.0, 1.0, np.pi / 2])
    np.testing.assert_allclose(se2_delta(facing_left, [1.0, 2.0, np.pi / 2]), [1, 0, 0], atol=1e-12)  # ahead
    np.testing.assert_allclose(se2_delta(facing_left, [0.0, 1.0, np.pi / 2]), [0, 1, 0], atol=1e-12)  # to its left


def test_delta_turns_the_short_way_round():
    assert se2_delta([0, 0, 3.1], [0, 0, -3.1])[2] == pytest.approx(2 * np.pi - 6.2)


def test_integrate_returns_to_recorded_poses():
    poses = random_poses(20)
    deltas = se2_delta(poses[:-1], poses[1:])
    relative = se2_delta(np.broadcast_to(poses[0], poses[1:].shape), poses[1:])
    integrated = se2_integrate(deltas)
    np.testing.assert_allclose(integrated[:, :2], relative[:, :2], atol=1e-9)
    np.testing.assert_allclose(wrap_angle(integrated[:, 2] - relative[:, 2]), 0, atol=1e-9)
    assert se2_integrate(np.stack([deltas, deltas])).shape == (2, 19, 3)


def test_yaw_from_quaternion_ignores_the_sign_of_the_quaternion():
    for yaw in np.linspace(-3.1, 3.1, 9):
        z, w = np.sin(yaw / 2), np.cos(yaw / 2)
        assert yaw_from_quaternion(0, 0, z, w) == pytest.approx(yaw)
        assert yaw_from_quaternion(0, 0, -z, -w) == pytest.approx(yaw)

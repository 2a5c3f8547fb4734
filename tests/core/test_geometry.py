"""SE(2) and SE(3): composing undoes differencing, and angles wrap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from egowm_core.geometry import (
    quaternion_from_rpy,
    rotation_between,
    rpy_from_quaternion,
    se2_compose,
    se2_delta,
    se2_integrate,
    se3_delta,
    se3_interpolate,
    wrap_angle,
    yaw_from_quaternion,
)
from egowm_core.models.se3 import compose_se3


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


def random_se3(count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    angles = rng.uniform([-np.pi, -np.pi / 2, -np.pi], [np.pi, np.pi / 2, np.pi], (count, 3))
    return np.concatenate([rng.normal(0, 5, (count, 3)), angles], axis=1)


def matrix(pose: np.ndarray) -> np.ndarray:
    """Homogeneous (4,4) by plain products of the three rotations."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(pose[3:]), np.sin(pose[3:])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = about_z @ about_y @ about_x, pose[:3]
    return whole


def test_roll_pitch_yaw_survive_quaternions():
    for pose in random_se3(200):
        back = rpy_from_quaternion(*quaternion_from_rpy(*pose[3:]))
        np.testing.assert_allclose(back, pose[3:], atol=1e-9)
        assert back[2] == pytest.approx(yaw_from_quaternion(*quaternion_from_rpy(*pose[3:])))


@pytest.mark.parametrize("pitch", [np.pi / 2, -np.pi / 2, np.pi / 2 - 1e-8])
def test_looking_straight_up_or_down_is_the_same_rotation(pitch):
    pose = np.array([0, 0, 0, 0.4, pitch, -1.1])
    back = np.concatenate([np.zeros(3), rpy_from_quaternion(*quaternion_from_rpy(*pose[3:]))])
    np.testing.assert_allclose(matrix(back), matrix(pose), atol=1e-6)


def test_se3_deltas_compose_as_the_action_encoder_does():
    poses = random_se3(30)
    deltas = np.stack([se3_delta(a, b) for a, b in pairwise(poses)])
    composed = compose_se3(torch.from_numpy(deltas)[None])[0].numpy()
    for pose, relative in zip(poses[1:], composed, strict=True):
        expected = np.linalg.inv(matrix(poses[0])) @ matrix(pose)
        np.testing.assert_allclose(relative[:3], expected[:3, 3], atol=1e-6)


def test_planar_se3_is_se2():
    poses = np.zeros((20, 6))
    poses[:, [0, 1, 5]] = random_poses(20)
    for a, b in pairwise(poses):
        np.testing.assert_allclose(se3_delta(a, b)[[0, 1, 5]], se2_delta(a[[0, 1, 5]], b[[0, 1, 5]]), atol=1e-12)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.9])
def test_se3_interpolation_lies_on_the_way(fraction):
    for a, b in pairwise(random_se3(50)):
        between = se3_interpolate(a, b, fraction)
        whole, part = se3_delta(a, b), se3_delta(a, between)
        np.testing.assert_allclose(part, fraction * whole, atol=1e-9)


def test_a_rotation_seen_from_the_world_turns_by_its_axes():
    first = quaternion_from_rpy(0.3, -0.2, 2.0)
    half = 0.05
    about_world_z = np.array([0, 0, np.sin(half), np.cos(half)])
    turned = matrix_of(about_world_z) @ matrix_of(first)
    second = quaternion_from_rpy(0.3, -0.2, 2.0 + 2 * half)
    np.testing.assert_allclose(matrix_of(second), turned, atol=1e-12)
    np.testing.assert_allclose(rotation_between(first, second, world=True), [0, 0, 2 * half], atol=1e-12)


def matrix_of(quaternion: np.ndarray) -> np.ndarray:
    return matrix(np.concatenate([np.zeros(3), rpy_from_quaternion(*quaternion)]))[:3, :3]

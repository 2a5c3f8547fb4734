"""Actions composed to poses: SE(3) as matrices say, SE(2) in the plane, smooth down to no rotation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egowm_core.models.action_encoder import integrate
from tests.core.action_encoders import HORIZON, actions


def matrix(pose: np.ndarray) -> np.ndarray:
    """4x4 of a translation and rotation vector: the power series of the matrix exponential."""
    x, y, z = pose[3:]
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation, term = np.eye(3), np.eye(3)
    for k in range(1, 40):
        term = term @ skew / k
        rotation = rotation + term
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, pose[:3]
    return out


@pytest.mark.parametrize("ticks", [1, 2, 7, 16])
def test_se3_agrees_with_matrices(ticks: int) -> None:
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, (2, ticks, 6))
    scale = np.array([0.15, 0.2, 0.1, 0.5, 0.4, 0.6])
    poses = integrate(torch.from_numpy(action), kind="se3", scale=torch.from_numpy(scale)).numpy()
    assert (np.linalg.norm(poses[..., 3:], axis=-1) <= np.pi + 1e-9).all()
    for clip, composed in zip(action * scale, poses, strict=True):
        expected = np.eye(4)
        for delta, pose in zip(clip, composed, strict=True):
            expected = expected @ matrix(delta)
            np.testing.assert_allclose(matrix(pose), expected, atol=1e-9)


def test_se3_in_the_plane_is_se2() -> None:
    planar = actions() * 0.7
    full = torch.zeros(2, HORIZON, 6)
    full[..., [0, 1, 5]] = planar
    expected = integrate(planar, kind="se2", scale=torch.full((3,), 0.3))
    composed = integrate(full, kind="se3", scale=torch.full((6,), 0.3))
    torch.testing.assert_close(composed[..., [0, 1, 5]], expected, atol=1e-5, rtol=0)
    assert not composed[..., 2:5].any()


@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-4, 1.0])
def test_se3_is_smooth_down_to_no_rotation(size: float) -> None:
    action = (actions(6, ticks=3).double() * size).requires_grad_()
    scale = torch.full((6,), 0.5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: integrate(a, kind="se3", scale=scale), action, eps=1e-6, atol=1e-6)
    single = torch.zeros(1, 4, 6, requires_grad=True)
    integrate(single, kind="se3", scale=torch.ones(6)).sum().backward()
    assert single.grad is not None
    torch.testing.assert_close(single.grad[0, :, 3], torch.tensor([4.0, 3.0, 2.0, 1.0]))


def test_se3_keeps_small_turns_in_float32() -> None:
    small = torch.full((1, 8, 6), 1e-5)
    composed = integrate(small, kind="se3", scale=torch.ones(6))
    torch.testing.assert_close(composed[0, :, 3], 1e-5 * torch.arange(1, 9), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("kind", "channels"), [("se2", 6), ("se3", 3), ("se4", 3)])
def test_integrate_refuses_other_widths(kind: str, channels: int) -> None:
    with pytest.raises(ValueError, match=f"se3.*{kind}.* {channels} channels"):
        integrate(torch.zeros(1, 2, channels), kind=kind, scale=torch.ones(channels))

"""Geometry of the compensated context, against projections computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from egowm_core.geometry import se2_integrate
from egowm_core.models.action_encoder import integrate
from egowm_core.models.warp import CameraGeometry, warp_by_pose

CAMERA = CameraGeometry(height=96, width=128, hfov=math.radians(90), pitch=0.0, height_m=0.45, forward_m=0.15)


def ramp() -> torch.Tensor:
    """An image whose first channel is the column and second the row (pixel centres)."""
    rows, columns = torch.meshgrid(torch.arange(96.0) + 0.5, torch.arange(128.0) + 0.5, indexing="ij")
    return torch.stack([columns, rows, torch.zeros_like(rows)])[None]


def warp(pose: list[float], *, floor: bool, camera: CameraGeometry = CAMERA) -> tuple[torch.Tensor, torch.Tensor]:
    warped, visible = warp_by_pose(ramp(), torch.tensor([[pose]]), camera, floor=torch.tensor([floor]))
    return warped[0, 0], visible[0, 0, 0]


@pytest.mark.parametrize("floor", [False, True])
def test_no_motion_changes_nothing(floor: bool) -> None:
    warped, visible = warp([0.0, 0.0, 0.0], floor=floor)
    assert torch.allclose(warped, ramp()[0], atol=1e-3)
    assert visible.min() == 1


def test_turning_left_brings_in_what_was_on_the_left() -> None:
    warped, visible = warp([0.0, 0.0, 0.3], floor=False)
    centre = warped[0, 48, 64]
    expected = 64.5 - 64.0 * math.tan(0.3)  # the new straight ahead was 0.3 rad to the left
    assert centre.item() == pytest.approx(expected, abs=0.6)
    assert visible[48, 0] == 0 and visible[48, 127] == 1  # the left edge has never been seen


def test_rotation_is_undone_by_the_opposite_rotation() -> None:
    camera = CameraGeometry(96, 128, math.radians(90), math.radians(10), 0.45, 0.15)
    there, _ = warp([0.0, 0.0, 0.2], floor=False, camera=camera)
    back, visible = warp_by_pose(there[None], torch.tensor([[[0.0, 0.0, -0.2]]]), camera, floor=torch.tensor([False]))
    known = visible[0, 0, 0] > 0
    known[:, :40] = False  # lost on the way there
    assert (back[0, 0] - ramp()[0]).abs().max(dim=0).values[known].max() < 1.0


def test_driving_forward_moves_the_floor_as_projection_says() -> None:
    warped, _ = warp([0.5, 0.0, 0.0], floor=True)
    row = 90
    depth = 0.45 * 64.0 / (row + 0.5 - 48)  # of the floor at this row, level camera
    expected = 48 + 0.45 * 64.0 / (depth + 0.5)  # the same spot was half a metre further away
    assert warped[1, row, 64].item() == pytest.approx(expected, abs=0.05)
    assert torch.allclose(warped[:, 20], ramp()[0][:, 20], atol=1e-3)  # above the horizon nothing is assumed


def test_each_clip_of_a_batch_has_its_own_assumption() -> None:
    poses = torch.tensor([[[0.5, 0.0, 0.1]], [[0.5, 0.0, 0.1]]])
    both, _ = warp_by_pose(ramp().expand(2, -1, -1, -1), poses, CAMERA, floor=torch.tensor([True, False]))
    assert torch.allclose(both[0, 0], warp([0.5, 0.0, 0.1], floor=True)[0])
    assert torch.allclose(both[1, 0], warp([0.5, 0.0, 0.1], floor=False)[0])


def test_composed_actions_agree_with_se2() -> None:
    rng = np.random.default_rng(0)
    action = rng.normal(size=(2, 8, 3)) * 0.7
    scale = np.array([0.15, 0.15, 0.15])
    composed = integrate(torch.from_numpy(action).float(), kind="se2", scale=torch.from_numpy(scale).float())
    expected = se2_integrate(action * scale)
    assert np.allclose(composed.numpy(), expected, atol=1e-5)
    with pytest.raises(ValueError, match="se2"):
        integrate(torch.zeros(1, 2, 4), kind="se2", scale=torch.ones(4))

"""What the newest context frame would look like from another pose, by geometry alone (no network).

Two assumptions: ``rotation`` compensates turning only, which is exact at any depth and needs only the camera's field of
view and pitch; ``floor`` also moves the pixels below the horizon as if all lay on the floor plane. Either can be an
input of a model, whose action embedding then answers for what depends on the true depth; both are baselines to beat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class CameraGeometry:
    """A pinhole camera looking forward on a planar base. Angles in rad, lengths in m; pitch is positive downwards."""

    height: int
    width: int
    hfov: float
    pitch: float
    height_m: float
    forward_m: float

    @property
    def focal(self) -> float:
        """Focal length in pixels (square pixels, centred)."""
        return self.width / 2 / math.tan(self.hfov / 2)


def body_rays(camera: CameraGeometry, *, device: torch.device, pitch: Tensor | None = None) -> Tensor:
    """Direction of each pixel (H,W,3) in the body frame (x forward, y left, z up); (B,T,H,W,3) for a pitch (B,T)."""
    v = torch.arange(camera.height, device=device, dtype=torch.float32) + 0.5 - camera.height / 2
    u = torch.arange(camera.width, device=device, dtype=torch.float32) + 0.5 - camera.width / 2
    down, right = torch.meshgrid(v / camera.focal, u / camera.focal, indexing="ij")
    forward = torch.ones_like(down)
    if pitch is None:
        sin, cos = math.sin(camera.pitch), math.cos(camera.pitch)
        return torch.stack([cos * forward - sin * down, -right, -sin * forward - cos * down], dim=-1)
    sine, cosine = pitch.sin()[..., None, None], pitch.cos()[..., None, None]
    level = (-right).expand(*pitch.shape, -1, -1)
    return torch.stack([cosine * forward - sine * down, level, -sine * forward - cosine * down], dim=-1)


def warp_by_pose(
    images: Tensor, pose: Tensor, camera: CameraGeometry, *, floor: Tensor, pitch: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Warp ``images`` (B,3,H,W) to each body pose (B,T,3) x, y, yaw relative to where they were taken (m, rad).

    ``floor`` (B,) bool: whether to assume the floor plane below the horizon, or to compensate rotation only.
    ``pitch`` (B,T+1) rad, downwards, of the context frame and of each pose, where the camera's own doesn't stay.
    Returns the warped images (B,T,3,H,W), border pixels repeated where nothing is known, and the known part
    (B,T,1,H,W) as 0 or 1.
    """
    batch, horizon = pose.shape[:2]
    # of the future camera, in the future body frame
    rays = body_rays(camera, device=images.device, pitch=None if pitch is None else pitch[:, 1:])
    cos, sin = pose[..., 2].cos(), pose[..., 2].sin()
    rotation = torch.stack(
        [torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2
    )  # (B,T,2,2), future body -> context body
    if pitch is None:
        planar = torch.einsum("btij,hwj->bthwi", rotation, rays[..., :2])
    else:
        planar = torch.einsum("btij,bthwj->bthwi", rotation, rays[..., :2])
    vertical = rays[..., 2].expand(batch, horizon, *rays.shape[-3:-1])
    directions = torch.cat([planar, vertical[..., None]], dim=-1)
    met = _meet_floor(directions, rays, pose, rotation, camera)
    directions = torch.where(floor[:, None, None, None, None], met, directions)
    x, y, z = directions.unbind(-1)
    pitch_sin: float | Tensor = math.sin(camera.pitch)
    pitch_cos: float | Tensor = math.cos(camera.pitch)
    if pitch is not None:
        pitch_sin, pitch_cos = (value[:, :1, None, None] for value in (pitch.sin(), pitch.cos()))
    ahead = pitch_cos * x - pitch_sin * z
    below = -pitch_sin * x - pitch_cos * z
    in_front = ahead > 1e-3
    ahead = ahead.clamp(min=1e-3)
    column = -y / ahead * camera.focal * 2 / camera.width
    row = below / ahead * camera.focal * 2 / camera.height
    visible = in_front & (column.abs() <= 1) & (row.abs() <= 1)
    grid = torch.stack([column, row], dim=-1).clamp(-4, 4).flatten(0, 1)
    source = images[:, None].expand(-1, horizon, -1, -1, -1).flatten(0, 1)
    warped = functional.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped.unflatten(0, (batch, horizon)), visible[:, :, None].to(images.dtype)


def _meet_floor(directions: Tensor, rays: Tensor, pose: Tensor, rotation: Tensor, camera: CameraGeometry) -> Tensor:
    """Below the horizon, from the context camera to where the future camera's ray meets the floor; above, unchanged."""
    downwards = -rays[..., 2]
    reach = camera.height_m / downwards.clamp(min=1e-3)  # ray parameter at the floor
    mount = torch.tensor([camera.forward_m, 0.0], device=pose.device)
    future_camera = pose[..., :2] + torch.einsum("btij,j->bti", rotation, mount)
    offset = (future_camera - mount)[:, :, None, None, :]  # between the two cameras, level
    on_floor = directions * reach[..., None]
    on_floor = torch.cat([on_floor[..., :2] + offset, on_floor[..., 2:]], dim=-1)
    return torch.where((downwards > 1e-2)[..., None], on_floor, directions)

"""The robot's own body as its camera will see it, by kinematics alone: capsules, each in one colour.

Joint positions are the measured state and what actions add to it. Knows the embodiment's ``own_body``; knows no network
and no light.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from egowm_core.body import AXES, OwnBody
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from egowm_core.models.warp import CameraGeometry

NEAR_M = 0.02
MARGIN_M = 0.02  # how much wider the body is taken to be where it is taken out of a picture


def joint_angles(actions: Tensor, state: Tensor, embodiment: Embodiment, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Angles (B,T+1) rad of joints at the context frame and after each of the normalised ``actions`` (B,T,D).

    ``state`` (B,S) is normalised.

    Raises:
        ConfigError: a joint is not among the states, or no delta or absolute channel of that name moves it.
    """
    columns = {channel.name: index for index, channel in enumerate(embodiment.channels)}
    rows = {channel.name: index for index, channel in enumerate(embodiment.states)}
    angles = {}
    for name in names:
        if name not in columns or name not in rows or embodiment.channels[columns[name]].kind == "velocity":
            raise ConfigError(
                f"embodiment {embodiment.name!r}: own_body names joint {name!r}, which must be a state and a channel of"
                " kind delta or absolute"
            )
        channel = embodiment.channels[columns[name]]
        start = state[:, rows[name], None].float() * embodiment.states[rows[name]].scale
        moved = actions[..., columns[name]].float() * channel.scale
        later = start + moved.cumsum(dim=1) if channel.kind == "delta" else moved
        angles[name] = torch.cat([start, later], dim=1)
    return angles


def draw_own_body(
    body: OwnBody, camera: CameraGeometry, angles: Mapping[str, Tensor], *, margin_m: float = 0.0
) -> tuple[Tensor, Tensor]:
    """What the camera sees of ``body`` for joint ``angles`` (B,N) rad each.

    Returns colours (B,N,3,H,W) in [-1,1] and where the body is (B,N,1,H,W), 0 or 1; ``margin_m`` widens every link.
    """
    starts, ends = _capsules(body, camera, angles)
    links = [link for chain in body.chains for link in chain.links]
    like = starts
    radius = torch.tensor([link.radius + margin_m for link in links]).to(like)
    colors = torch.tensor([link.rgb for link in links]).to(like) / 127.5 - 1.0
    rays = _rays(camera).to(like)  # (P,3)
    along = ends - starts
    ray_start = torch.einsum("bnlk,pk->bnlp", starts, rays)
    ray_along = torch.einsum("bnlk,pk->bnlp", along, rays)
    start_along = (starts * along).sum(-1)[..., None]
    length = (along * along).sum(-1).clamp(min=1e-9)[..., None]
    # the point of the segment (share of it) that is nearest to the ray, and how far along the ray that is
    share = (ray_along * ray_start - start_along) / (length - ray_along.square()).clamp(min=1e-9)
    share = share.clamp(0.0, 1.0)
    reach = ray_start + share * ray_along
    square = (
        (starts * starts).sum(-1)[..., None] + 2 * share * start_along + share.square() * length - reach.square()
    )  # of their distance
    inside = radius[:, None].square() - square
    depth = torch.where((inside > 0) & (reach > NEAR_M), reach - inside.clamp(min=0).sqrt(), torch.inf)
    nearest, which = depth.min(dim=2)
    shape = (camera.height, camera.width)
    seen = torch.isfinite(nearest).unflatten(-1, shape)[:, :, None].to(like)
    return colors[which].movedim(-1, 2).unflatten(-1, shape), seen


def _capsules(body: OwnBody, camera: CameraGeometry, angles: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Both ends (B,N,L,3) m of every link, in the camera's frame: x along its axis, y left, z up."""
    some = next(iter(angles.values()))
    eye = torch.eye(3, device=some.device).expand(*some.shape, 3, 3)
    head = eye
    for name, axis in body.neck_joints.items():
        head = head @ _turn(axis, angles[name])
    place = _vector(body.neck, some) + (head @ _vector(body.camera, some)[:, None])[..., 0]
    view = head @ _turn("y", torch.full_like(some, camera.pitch))
    starts, ends = [], []
    for chain in body.chains:
        turned, at = eye, _vector(chain.at, some).expand(*some.shape, 3)
        for link in chain.links:
            for name, axis in link.joints.items():
                turned = turned @ _turn(axis, angles[name])
            after = at - turned[..., 2] * link.length  # straight down
            starts.append(at)
            ends.append(after)
            at = after
    into = view.transpose(-1, -2)[:, :, None]

    def seen(points: list[Tensor]) -> Tensor:
        return (into @ (torch.stack(points, dim=2) - place[:, :, None])[..., None])[..., 0]

    return seen(starts), seen(ends)


def _turn(axis: str, angle: Tensor) -> Tensor:
    """Rotation (...,3,3) by ``angle`` (...) rad about x, y, z or their opposites."""
    sign = -1.0 if axis.startswith("-") else 1.0
    x, y, z = AXES[axis.removeprefix("-")]
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], device=angle.device)
    sine, cosine = (sign * angle).sin()[..., None, None], (sign * angle).cos()[..., None, None]
    return torch.eye(3, device=angle.device) + sine * cross + (1 - cosine) * (cross @ cross)


def _vector(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=torch.float32)


def _rays(camera: CameraGeometry) -> Tensor:
    """Unit direction of each pixel (H*W,3) in the camera's frame: x along its axis, y left, z up."""
    down = (torch.arange(camera.height) + 0.5 - camera.height / 2) / camera.focal
    right = (torch.arange(camera.width) + 0.5 - camera.width / 2) / camera.focal
    grid = torch.stack(torch.meshgrid(-down, -right, indexing="ij"), dim=-1).flatten(0, 1)  # z, y
    rays = torch.stack([torch.ones(len(grid)), grid[:, 1], grid[:, 0]], dim=-1)
    unit: Tensor = rays / rays.norm(dim=-1, keepdim=True)
    return unit

"""From context frames and actions to what a denoiser is given: latents, and the geometrically compensated context.

The dataset side (training) and the live side (``world_model.py``) call the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from egowm_core.diffusion.denoiser import Context
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from egowm_core.models.autoencoders import VideoAutoencoder
from egowm_core.models.camera_motion import camera_motion
from egowm_core.models.own_body import MARGIN_M, draw_own_body, joint_angles
from egowm_core.models.vae import to_unit_range
from egowm_core.models.warp import CameraGeometry, warp_by_pose

WARPS = ("none", "rotation", "floor")
"""What geometry compensates before the network sees the context: nothing, turning, or also motion over the floor."""


def camera_geometry(embodiment: Embodiment) -> CameraGeometry:
    """Geometry of the embodiment's first camera at the size the model sees.

    Raises:
        ConfigError: the embodiment does not say it.
    """
    camera = embodiment.camera()
    known = (camera.hfov_deg, camera.pitch_deg, camera.height_m, camera.forward_m)
    if any(value is None for value in known):
        raise ConfigError(
            f"embodiment {embodiment.name!r}: camera {camera.name!r} needs hfov_deg, pitch_deg, height_m and forward_m "
            "to compensate motion by geometry; add them to the YAML or roll out with warp 'none'"
        )
    hfov, pitch, height_m, forward_m = (float(value) for value in known if value is not None)
    return CameraGeometry(camera.height, camera.width, math.radians(hfov), math.radians(pitch), height_m, forward_m)


def encode_context(
    vae: VideoAutoencoder,
    images: Tensor,
    actions: Tensor | None,
    *,
    embodiment: Embodiment,
    warps: Sequence[str] | None,
    latents: Tensor | None = None,
    state: Tensor | None = None,
) -> Context:
    """Context ``images`` (B,K,H,W,3) uint8 and normalised ``actions`` (B,T,D) -> :class:`Context`.

    ``warps``: for each clip what is compensated by geometry, one of ``WARPS``; None for models that take no such input.
    Actions are needed for that alone.
    ``latents`` (B,K,C,h,w) may be given when they are known already. ``state`` (B,S) is normalised; geometry needs it
    where joints move the camera.
    """
    frames = to_unit_range(images)
    if latents is None:
        latents = vae.encode(frames)
    if actions is None or warps is None or all(warp == "none" for warp in warps):
        return Context(latents)
    floor = torch.tensor([warp == "floor" for warp in warps], device=images.device)
    known = torch.tensor([warp != "none" for warp in warps], device=images.device)[:, None, None, None, None]
    warped, visible = foresee(frames[:, -1], actions, embodiment=embodiment, floor=floor, state=state)
    compensated = vae.encode(warped)
    cells = functional.avg_pool2d(visible.flatten(0, 1), vae.downscale).unflatten(0, visible.shape[:2])
    cells = torch.where(known, torch.cat([cells, cells * floor[:, None, None, None, None]], dim=2), 0.0)
    return Context(latents, torch.where(known, compensated, latents[:, -1:]), cells)


def foresee(
    images: Tensor, actions: Tensor, *, embodiment: Embodiment, floor: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What geometry alone makes of pictures ``images`` (B,3,H,W) in [-1,1] under normalised ``actions`` (B,T,D).

    The context warped by the camera's motion (see :func:`warp_by_pose` for ``floor``), and where the embodiment tells
    of the robot's own body, that taken out and drawn where its joints bring it; that needs the ``state`` (B,S).
    Returns pictures (B,T,3,H,W) and what is known of them (B,T,1,H,W), 0 or 1.

    Raises:
        ConfigError: the embodiment doesn't say what it takes.
    """
    camera, body = camera_geometry(embodiment), embodiment.own_body
    moved = camera_motion(actions, embodiment, state=state)
    if body is None or state is None:
        return warp_by_pose(images, moved.pose, camera, floor=floor, pitch=moved.pitch)
    angles = joint_angles(actions, state, embodiment, body.joints)
    now = {name: angle[:, :1] for name, angle in angles.items()}
    later = {name: angle[:, 1:] for name, angle in angles.items()}
    _, hides = draw_own_body(body, camera, now, margin_m=MARGIN_M)
    both = torch.cat([images, hides[:, 0]], dim=1)
    warped, known = warp_by_pose(both, moved.pose, camera, floor=floor, pitch=moved.pitch)
    colors, there = draw_own_body(body, camera, later)
    known = known * (warped[:, :, 3:] < 0.5)
    return torch.where(there > 0, colors, warped[:, :, :3]), torch.maximum(known, there)

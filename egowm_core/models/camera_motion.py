"""How actions move the camera: the body's pose in the plane, and the camera's pitch where joints change it.

Knows embodiments; knows no picture and no network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from egowm_core.channels import Camera
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from egowm_core.models.action_encoder import integrate


@dataclass(frozen=True)
class CameraMotion:
    """Where a camera goes in the plane, and how it tilts.

    ``pose`` (B,T,3) x, y, yaw since the context frame (m, rad), x along the camera's view then; ``pitch`` (B,T+1) rad
    downwards, of the context frame and each later one, or None where the mount is rigid.
    """

    pose: Tensor
    pitch: Tensor | None = None


def moves_camera(embodiment: Embodiment) -> bool:
    """Whether the embodiment says how its actions move its first camera."""
    camera = embodiment.camera()
    return embodiment.integrate == "se2" or camera.moves_forward is not None or bool(camera.turns_left)


def camera_motion(actions: Tensor, embodiment: Embodiment, *, state: Tensor | None = None) -> CameraMotion:
    """Normalised ``actions`` (B,T,D) and ``state`` (B,S), the latter for joints between base and camera.

    Raises:
        ConfigError: the embodiment doesn't say how the camera moves, or names channels that it doesn't have.
    """
    scale = torch.as_tensor(embodiment.scales, dtype=torch.float32, device=actions.device)
    if embodiment.integrate == "se2":
        return CameraMotion(integrate(actions.float(), kind="se2", scale=scale))
    camera = embodiment.camera()
    if not moves_camera(embodiment):
        raise ConfigError(
            f"embodiment {embodiment.name!r}: camera {camera.name!r} must say what moves it (moves_forward, "
            "turns_left, tilts_down) to compensate motion by geometry; add that to the YAML or use warp 'none'"
        )
    body = _Body(actions.float() * scale, embodiment, state, camera)
    base_turns, joint_turns = body.split(camera.turns_left or ())
    forward = body.speed(camera.moves_forward) if camera.moves_forward else torch.zeros_like(actions[..., 0])
    turn = torch.stack([body.speed(name) for name in base_turns]).sum(0) if base_turns else torch.zeros_like(forward)
    base = integrate(
        torch.stack([forward, torch.zeros_like(forward), turn], dim=-1), kind="se2", scale=torch.ones_like(scale[:3])
    )
    aside = body.angles(joint_turns)  # of the camera against the base, (B,T+1)
    sine, cosine = aside[:, :1].sin(), aside[:, :1].cos()
    x = base[..., 0] * cosine + base[..., 1] * sine
    y = base[..., 1] * cosine - base[..., 0] * sine
    pose = torch.stack([x, y, base[..., 2] + aside[:, 1:] - aside[:, :1]], dim=-1)
    pitch = body.angles(camera.tilts_down or ())
    return CameraMotion(pose, pitch + math.radians(camera.pitch_deg or 0.0))


class _Body:
    """Channels of ``moves`` (B,T,D) in units, and the states they start from."""

    def __init__(self, moves: Tensor, embodiment: Embodiment, state: Tensor | None, camera: Camera) -> None:
        self._moves, self._embodiment, self._state, self._camera = moves, embodiment, state, camera
        self._column = {channel.name: i for i, channel in enumerate(embodiment.channels)}

    def split(self, names: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Speeds of the base, and joints."""
        kinds = {name: self._embodiment.channels[self._index(name)].kind for name in names}
        speeds = [name for name, kind in kinds.items() if kind == "velocity"]
        return speeds, [name for name in names if name not in speeds]

    def speed(self, name: str) -> Tensor:
        """(B,T) m or rad a tick, of a velocity channel."""
        index = self._index(name)
        if self._embodiment.channels[index].kind != "velocity":
            raise ConfigError(f"camera {self._camera.name!r}: {name!r} moves the base and must be a velocity")
        return self._moves[..., index] / self._embodiment.rate_hz

    def angles(self, names: tuple[str, ...] | list[str]) -> Tensor:
        """Sum of the joints' angles (B,T+1) rad, at the context frame and after each tick."""
        batch, horizon = self._moves.shape[:2]
        total = self._moves.new_zeros(batch, horizon + 1)
        for name in names:
            moved = self._moves[..., self._index(name)].cumsum(dim=1)
            total = total + torch.cat([torch.zeros_like(moved[:, :1]), moved], dim=1) + self._start(name)[:, None]
        return total

    def _start(self, name: str) -> Tensor:
        """(B,) rad."""
        for index, channel in enumerate(self._embodiment.states):
            if channel.name == name and self._state is not None:
                return self._state[:, index].float() * channel.scale
        raise ConfigError(
            f"embodiment {self._embodiment.name!r}: the camera is moved by joint {name!r}, whose position is not among"
            " the states given; list it under `states` and give the state"
        )

    def _index(self, name: str) -> int:
        if name not in self._column:
            raise ConfigError(
                f"embodiment {self._embodiment.name!r}: camera {self._camera.name!r} is moved by {name!r}, which is no"
                " channel"
            )
        return self._column[name]

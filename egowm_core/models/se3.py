"""Rigid motions composed on SE(3), in torch: differentiable, batched, exportable. Knows no robot and no camera."""

from __future__ import annotations

import torch
from torch import Tensor


def compose_se3(deltas: Tensor) -> Tensor:
    """Translation and rotation vector per tick (B,T,6) -> of the pose since the first tick's start (B,T,6).

    A prefix scan: log2(T) products over all frames at once, each frame still made of itself and earlier ones only.
    Elementwise, as autocast would take matrix products to bfloat16.
    """
    position, rotation = deltas[..., :3], _quaternion(deltas[..., 3:])
    offset = 1
    while offset < deltas.shape[1]:
        earlier = rotation[:, :-offset]
        moved = position[:, :-offset] + _rotate(earlier, position[:, offset:])
        turned = _multiply(earlier, rotation[:, offset:])
        position = torch.cat([position[:, :offset], moved], dim=1)
        rotation = torch.cat([rotation[:, :offset], turned], dim=1)
        offset *= 2
    return torch.cat([position, _rotation_vector(rotation)], dim=-1)


def _quaternion(vector: Tensor) -> Tensor:
    """Exponential map: rotation vector (...,3) -> unit quaternion (...,4), w first. Smooth at zero."""
    square = (vector * vector).sum(-1, keepdim=True)
    small = square < 1e-8
    angle = torch.where(small, 1.0, square).sqrt()  # guarded before the root, whose slope at zero is infinite
    real = torch.where(small, 1 - square / 8, (angle / 2).cos())
    factor = torch.where(small, 0.5 - square / 48, (angle / 2).sin() / angle)
    return torch.cat([real, vector * factor], dim=-1)


def _rotation_vector(quaternion: Tensor) -> Tensor:
    """Logarithm of a quaternion (...,4): the rotation vector (...,3) of at most pi rad. Smooth at zero."""
    unit = quaternion / (quaternion * quaternion).sum(-1, keepdim=True).sqrt()
    unit = torch.where(unit[..., :1] < 0, -unit, unit)  # q and -q are one rotation: the short way
    real, imaginary = unit[..., :1], unit[..., 1:]
    square = (imaginary * imaginary).sum(-1, keepdim=True)
    small = square < 1e-12
    sine = torch.where(small, 1.0, square).sqrt()
    factor = torch.where(small, 4 / (1 + real), 4 * (sine / (1 + real)).atan() / sine)
    return imaginary * factor


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product: turn by ``right``, seen from the frame that ``left`` turned to."""
    a, b, c, d = left.unbind(-1)
    e, f, g, h = right.unbind(-1)
    real = a * e - b * f - c * g - d * h
    i = a * f + b * e + c * h - d * g
    j = a * g - b * h + c * e + d * f
    k = a * h + b * g - c * f + d * e
    return torch.stack([real, i, j, k], dim=-1)


def _rotate(quaternion: Tensor, vector: Tensor) -> Tensor:
    real, imaginary = quaternion[..., :1], quaternion[..., 1:]
    twice = 2 * _cross(imaginary, vector)
    return vector + real * twice + _cross(imaginary, twice)


def _cross(left: Tensor, right: Tensor) -> Tensor:
    a, b, c = left.unbind(-1)
    x, y, z = right.unbind(-1)
    return torch.stack([b * z - c * y, c * x - a * z, a * y - b * x], dim=-1)

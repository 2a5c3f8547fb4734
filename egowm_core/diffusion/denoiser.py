"""The one denoiser interface.

Every backbone adapter answers ``denoise(noisy, sigma, context, action)`` in sigma space: ``noisy = clean + sigma *
noise`` with a noise level per frame. Samplers and losses see nothing else, so they never ask which backbone it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What is known before the future.

    ``latents`` (B,K,C,H,W): latents of the K context frames, newest last.
    ``compensated`` (B,T,C,H,W) or None: the newest context frame as it would look from each future pose by geometry
    alone, with ``visible`` (B,T,2,H,W) in 0..1: where that is known, and the same where the floor plane was assumed for
    it (zeros: only rotation is compensated). Only models configured for it use it.
    ``state`` (B,S) or None: the robot's initial state, normalised (EgoWM's Z_s).
    ``action_known`` (B,T) bool or None (all are): False drops that tick's action, for training with action dropout and
    for guidance.
    """

    latents: Tensor
    compensated: Tensor | None = None
    visible: Tensor | None = None
    state: Tensor | None = None
    action_known: Tensor | None = None

    def repeat(self, batch_size: int) -> Context:
        """The same context for ``batch_size`` rollouts; the batch axis must be 1."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        expanded = {
            name: value.expand(batch_size, *value.shape[1:]) for name, value in given.items() if value is not None
        }
        return replace(self, **expanded)


class Denoiser(Protocol):
    """A world model's denoiser: noisy future latents in, clean estimate out."""

    def denoise(self, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor) -> Tensor:
        """``noisy`` (B,T,C,H,W), ``sigma`` (B,T) > 0, ``action`` (B,T,D) normalised -> clean (B,T,C,H,W)."""
        ...


def per_frame(value: Tensor) -> Tensor:
    """(B,T) -> (B,T,1,1,1), to multiply latents."""
    return value[:, :, None, None, None]

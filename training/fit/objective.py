"""The module that is trained: a denoiser behind its objective, with an action path for each embodiment.

One forward pass is the whole of what a wrapper for several processes sees, so that hooks for gradients and sharded
weights fire where they should. Knows nothing of processes, steps or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from egowm_core.diffusion.denoiser import Context
from egowm_core.diffusion.losses import denoising_loss
from egowm_core.models.action_encoder import ActionEncoder, StateEncoder
from egowm_core.models.adapter import BackboneDenoiser
from training.config import Student
from training.fit.consistency import consistency_loss

LOSS = "loss"


class ActionPath(nn.Module):
    """What tells a shared backbone of one robot: the encoders of its actions (Z_a) and initial state (Z_s)."""

    def __init__(self, action_encoder: ActionEncoder | None, state_encoder: StateEncoder | None) -> None:
        super().__init__()
        self.action_encoder = action_encoder
        self.state_encoder = state_encoder

    @classmethod
    def of(cls, denoiser: BackboneDenoiser) -> ActionPath:
        """The denoiser's own."""
        return cls(denoiser.action_encoder, denoiser.state_encoder)


class Objective(nn.Module):
    """The denoising objective of a backbone, or its ``student``'s; with ``paths``, of one embodiment at a time.

    Without ``paths`` the denoiser keeps its own encoders, whatever the embodiment is called. With them it has none of
    its own: those of the embodiment in use are attached while a pass runs.
    """

    def __init__(
        self,
        denoiser: BackboneDenoiser,
        paths: Mapping[str, ActionPath] | None = None,
        *,
        student: Student | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.student = student
        self.paths = nn.ModuleDict({_key(name): path for name, path in (paths or {}).items()})
        self._no_split_modules = _blocks(denoiser.stock)  # what FSDP shards each by itself, unless it is told
        if self.paths:
            self.detach()

    def forward(self, call: str, embodiment: str, *arguments: Any, **options: Any) -> Any:
        """``LOSS`` with the arguments of :meth:`loss`, or a method of the denoiser by name."""
        with self.using(embodiment) as denoiser:
            called = self.loss if call == LOSS else getattr(denoiser, call)
            return called(*arguments, **options)

    def loss(
        self,
        clean: Tensor,
        context: Context,
        actions: Tensor,
        sigma: Tensor,
        noise: Tensor,
        lower: Tensor | None = None,
    ) -> Tensor:
        """The backbone's own objective (``denoising_loss``), a scalar; a student's is ``consistency_loss``.

        ``clean`` and unit ``noise`` (B,T,C,h,w), ``sigma`` (B,1) or (B,T), ``lower`` (B,1), ``actions``
        (B,T * temporal_factor,D).
        """
        if self.student is not None:
            assert lower is not None  # a student's draws have it
            return consistency_loss(
                self.denoiser,
                clean,
                sigma=sigma,
                lower=lower,
                context=context,
                action=actions,
                noise=noise,
                huber=self.student.huber,
            )
        return denoising_loss(
            self.denoiser,
            clean,
            sigma=sigma.expand(clean.shape[:2]),
            context=context,
            action=actions,
            preconditioning=self.denoiser.preconditioning,
            noise=noise,
        )

    @contextmanager
    def using(self, embodiment: str) -> Iterator[BackboneDenoiser]:
        """The denoiser as the robot ``embodiment`` needs it, for as long as the context lasts."""
        if not self.paths:
            yield self.denoiser
            return
        self.attach(embodiment)
        try:
            yield self.denoiser
        finally:
            self.detach()

    def attach(self, embodiment: str) -> BackboneDenoiser:
        """Give the denoiser the encoders of ``embodiment`` for good; a no-op without paths."""
        if self.paths:
            path = self.paths[_key(embodiment)]
            self.denoiser.action_encoder, self.denoiser.state_encoder = path.action_encoder, path.state_encoder  # type: ignore[assignment]
        return self.denoiser

    def detach(self) -> None:
        """Take the encoders off the denoiser: their home is ``paths``."""
        self.denoiser.action_encoder = self.denoiser.state_encoder = None

    def action_paths(self) -> list[ActionPath]:
        """Of all embodiments."""
        return list(self.paths.values()) if self.paths else [ActionPath.of(self.denoiser)]  # type: ignore[arg-type]


def _blocks(stock: nn.Module) -> list[str]:
    """Names of the classes that a stock module is made of, as far as it names and has them."""
    present = {type(module).__name__ for module in stock.modules()}
    return [name for name in getattr(stock, "_no_split_modules", None) or () if name in present]


def _key(name: str) -> str:
    """Names of modules may hold no dot."""
    return name.replace(".", "_")

"""What if: the futures of one moment under alternative action sequences, chunk by chunk.

All candidates start from the same context and share their noise, so that they differ by their actions alone; a
candidate is imagined as it would be on its own, whatever the batch (up to rounding). Knows no goal, no ranking and no
robot middleware.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from egowm_core.errors import EmbodimentError, RolloutError
from egowm_core.stopping import Stop, never
from egowm_core.types import FloatArray, Frames, ImageArray

if TYPE_CHECKING:  # a model comes along with whoever has one: this module itself is quick to import
    from egowm_core.world_model import WorldModel


@dataclass(frozen=True)
class ImaginedChunk:
    """``images`` (n,t,H,W,3) uint8: the next t frames of n candidates.

    ``candidates`` are their indices, ``first_frame`` the index of the first of these frames, from 0.
    """

    candidates: slice
    first_frame: int
    images: ImageArray


def imagine(
    model: WorldModel,
    context: Frames,
    candidates: FloatArray,
    *,
    state: FloatArray | None = None,
    seed: int = 0,
    num_denoising_steps: int | None = None,
    batch: int = 8,
    stop: Stop = never,
) -> Iterator[ImaginedChunk]:
    """Roll ``candidates`` (N,T,D), in units, out from the newest frames of ``context``.

    ``batch`` candidates at a time, all their chunks one after another, then the next ones; of causal models, frames
    come one by one (as many as a latent stands for). Each chunk is made when it is asked for, and nothing ahead of it.
    ``state`` (S,): the robot's state at the last context frame, for models that are conditioned on it. ``stop`` is
    asked before every denoising step.

    Raises:
        RolloutError: no candidates or frames, a batch below 1, or too few or wrongly sized context frames; at once.
        EmbodimentError: a candidate of the wrong width, not finite or outside its limits; at once, naming it.
        Stopped: from the iterator, where ``stop()`` is true.
    """
    if candidates.ndim != 3 or 0 in candidates.shape[:2]:
        raise RolloutError(f"candidates are (N,T,D) with N and T >= 1, got {candidates.shape}; give at least one row")
    if batch < 1:
        raise RolloutError(f"batch is {batch}; expected 1 or more candidates at a time")
    if num_denoising_steps is not None and num_denoising_steps < 1:
        raise RolloutError(f"num_denoising_steps is {num_denoising_steps}; expected 1 or more, or None for the model's")
    if len(context) < model.context_frames:
        raise RolloutError(f"{len(context)} context frames given, {model.name} needs {model.context_frames}")
    values = np.stack([_checked(model, index, rows) for index, rows in enumerate(candidates)])
    return _imagined(model, context, values, state, seed, num_denoising_steps, batch, stop)


def imagine_all(
    model: WorldModel,
    context: Frames,
    candidates: FloatArray,
    *,
    state: FloatArray | None = None,
    seed: int = 0,
    num_denoising_steps: int | None = None,
    batch: int = 8,
) -> ImageArray:
    """All frames (N,T,H,W,3) uint8 of :func:`imagine` at once; raises as it does."""
    images: ImageArray | None = None
    for chunk in imagine(
        model, context, candidates, state=state, seed=seed, num_denoising_steps=num_denoising_steps, batch=batch
    ):
        if images is None:
            images = np.empty((*candidates.shape[:2], *chunk.images.shape[2:]), np.uint8)
        images[chunk.candidates, chunk.first_frame : chunk.first_frame + chunk.images.shape[1]] = chunk.images
    assert images is not None  # there is at least one candidate
    return images


def _checked(model: WorldModel, index: int, rows: FloatArray) -> FloatArray:
    try:
        return model.embodiment.validate_actions(rows)
    except EmbodimentError as error:
        raise EmbodimentError(f"candidate {index}: {error}") from error


def _imagined(
    model: WorldModel,
    context: Frames,
    candidates: FloatArray,
    state: FloatArray | None,
    seed: int,
    num_denoising_steps: int | None,
    batch: int,
    stop: Stop,
) -> Iterator[ImaginedChunk]:
    plan = replace(model.plan, num_denoising_steps=num_denoising_steps) if num_denoising_steps else model.plan
    for first in range(0, len(candidates), batch):
        chosen = slice(first, min(first + batch, len(candidates)))
        for chunk in model.predict_chunks(
            context.images[None],
            candidates[chosen],
            state=None if state is None else state[None],
            seed=seed,
            plan=plan,
            alternatives=True,
            by_frame=True,
            stop=stop,
        ):
            yield ImaginedChunk(chosen, chunk.first_frame, chunk.images)

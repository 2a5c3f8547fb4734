"""The rows of the evaluation table: each maps context frames and actions to predicted frames, knowing no future."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from egowm_core.data.normalize import normalize
from egowm_core.data.state import normalize_state
from egowm_core.errors import ConfigError
from egowm_core.models.camera_motion import moves_camera
from egowm_core.models.conditioning import WARPS, camera_geometry, foresee
from egowm_core.models.vae import to_uint8, to_unit_range
from egowm_core.types import FloatArray, ImageArray
from egowm_core.world_model import WorldModel


@dataclass(frozen=True)
class Given:
    """What a row may know: ``context`` (B,K,H,W,3), ``actions`` (B,T,D), another clip's in ``wrong`` (B,T,D).

    ``state`` (B,S) is the robot's at the last context frame, for embodiments that have one. All in units.
    """

    context: ImageArray
    actions: FloatArray
    wrong: FloatArray
    state: FloatArray | None = None


Predictor = Callable[[Given], ImageArray]
"""What is given to the predicted frames (B,T,H,W,3)."""


def stack_states(states: Sequence[FloatArray | None]) -> FloatArray | None:
    """The states (S,) of some clips as (B,S); None where they have none."""
    known = [state for state in states if state is not None]
    return np.stack(known) if known else None


def table_rows(model: WorldModel, *, num_denoising_steps: int | None, seed: int) -> dict[str, Predictor]:
    """Row name to predictor, in the order of the table."""

    def predict(
        given: Given, *, wrong: bool = False, warp: str | None = None, embedded: FloatArray | None = None
    ) -> ImageArray:
        return model.predict(
            given.context,
            given.wrong if wrong else given.actions,
            state=given.state,
            seed=seed,
            num_denoising_steps=num_denoising_steps,
            warp=warp,
            embedded_actions=embedded,
        ).images

    rows: dict[str, Predictor] = {
        "model": predict,
        "model_wrong_actions": partial(predict, wrong=True),
        "copy_last": lambda given: np.repeat(given.context[:, -1:], given.actions.shape[1], axis=1),
    }
    if _has_geometry(model):
        rows["warp_only"] = partial(_warp, model, floor=True)
        rows["rotation_only"] = partial(_warp, model, floor=False)
    if model.warp != "none":  # how much of it is the embedding, how much the geometry
        rows["model_wrong_embedding"] = lambda given: predict(given, embedded=given.wrong)
        for warp in WARPS:
            if warp != model.warp:
                rows[f"model_warp_{warp}"] = partial(predict, warp=warp)
                rows[f"model_warp_{warp}_wrong_actions"] = partial(predict, warp=warp, wrong=True)
    return rows


def _has_geometry(model: WorldModel) -> bool:
    """Whether actions say where a camera of known geometry goes."""
    try:
        camera_geometry(model.embodiment)
    except ConfigError:
        return False
    return moves_camera(model.embodiment)


@torch.inference_mode()
def reconstruct(model: WorldModel, observed: ImageArray) -> ImageArray:
    """The observed frames (B,T,H,W,3) through the autoencoder: the ceiling for any prediction in its latents."""
    frames = to_unit_range(torch.from_numpy(np.ascontiguousarray(observed)).to(model.device))
    return np.asarray(to_uint8(model.vae.decode(model.vae.encode(frames))).cpu().numpy())


@torch.inference_mode()
def _warp(model: WorldModel, given: Given, *, floor: bool) -> ImageArray:
    frames = to_unit_range(torch.from_numpy(np.ascontiguousarray(given.context[:, -1])))
    embodiment = model.embodiment
    state = None
    if given.state is not None and embodiment.states:
        state = torch.from_numpy(normalize_state(given.state, embodiment))
    actions = torch.from_numpy(normalize(given.actions, embodiment))
    assumed = torch.full((len(frames),), floor)
    warped, _ = foresee(frames, actions, embodiment=embodiment, floor=assumed, state=state)
    return np.asarray(to_uint8(warped).numpy())

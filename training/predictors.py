"""The rows of the evaluation table: each maps context frames and actions to predicted frames, knowing no future."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from egowm_core.data.normalize import normalize
from egowm_core.models.conditioning import WARPS, camera_geometry, composed_pose
from egowm_core.models.vae import to_uint8, to_unit_range
from egowm_core.models.warp import warp_by_pose
from egowm_core.types import FloatArray, ImageArray
from egowm_core.world_model import WorldModel

Predictor = Callable[[ImageArray, FloatArray, FloatArray], ImageArray]
"""(context (B,K,H,W,3), actions (B,T,D), another clip's actions (B,T,D)) -> predicted (B,T,H,W,3)."""


def table_rows(model: WorldModel, *, num_denoising_steps: int | None, seed: int) -> dict[str, Predictor]:
    """Row name to predictor, in the order of the table."""

    def predict(context: ImageArray, actions: FloatArray, **options: str | NDArray[np.floating]) -> ImageArray:
        return model.predict(
            context,
            actions,
            seed=seed,
            num_denoising_steps=num_denoising_steps,
            **options,  # type: ignore[arg-type]
        ).images

    rows: dict[str, Predictor] = {
        "model": lambda context, actions, wrong: predict(context, actions),
        "model_wrong_actions": lambda context, actions, wrong: predict(context, wrong),
        "copy_last": lambda context, actions, wrong: np.repeat(context[:, -1:], actions.shape[1], axis=1),
        "warp_only": lambda context, actions, wrong: _warp(model, context, actions, floor=True),
        "rotation_only": lambda context, actions, wrong: _warp(model, context, actions, floor=False),
    }
    if model.warp != "none":  # how much of it is the embedding, how much the geometry
        rows["model_wrong_embedding"] = lambda context, actions, wrong: predict(
            context, actions, embedded_actions=wrong
        )
        for warp in WARPS:
            if warp != model.warp:
                rows[f"model_warp_{warp}"] = partial(_bound, predict, warp, False)
                rows[f"model_warp_{warp}_wrong_actions"] = partial(_bound, predict, warp, True)
    return rows


def _bound(
    predict: Callable[..., ImageArray],
    warp: str,
    mistaken: bool,
    context: ImageArray,
    actions: FloatArray,
    wrong: FloatArray,
) -> ImageArray:
    return predict(context, wrong if mistaken else actions, warp=warp)


@torch.inference_mode()
def reconstruct(model: WorldModel, observed: ImageArray) -> ImageArray:
    """The observed frames (B,T,H,W,3) through the autoencoder: the ceiling for any prediction in its latents."""
    frames = to_unit_range(torch.from_numpy(np.ascontiguousarray(observed)))
    return np.asarray(to_uint8(model.vae.decode(model.vae.encode(frames))).numpy())


@torch.inference_mode()
def _warp(model: WorldModel, context: ImageArray, actions: FloatArray, *, floor: bool) -> ImageArray:
    frames = to_unit_range(torch.from_numpy(np.ascontiguousarray(context[:, -1])))
    pose = composed_pose(torch.from_numpy(normalize(actions, model.embodiment)), model.embodiment)
    assumed = torch.full((len(frames),), floor)
    warped, _ = warp_by_pose(frames, pose, camera_geometry(model.embodiment), floor=assumed)
    return np.asarray(to_uint8(warped).numpy())

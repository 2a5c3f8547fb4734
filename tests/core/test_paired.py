"""Guidance in one batch, and weights kept in bfloat16: the same numbers as without, for every backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egowm_core.compiling import cast_weights
from egowm_core.diffusion.guidance import guide
from egowm_core.diffusion.paired import paired
from egowm_core.loading import load_world_model
from tests.core.tiny import BACKBONES, inputs_for, tiny
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint

CASTABLE = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)


@pytest.mark.parametrize("variant", [*BACKBONES, "nwm"])
@torch.inference_mode()
def test_one_batch_guides_as_two_evaluations_do(variant: str) -> None:
    denoiser = tiny(variant)
    noisy, sigma, context, action = inputs_for(denoiser)
    if variant != "nwm":
        sigma = sigma * torch.linspace(0.5, 1.5, sigma.shape[1])  # a level for each frame
    dropped = replace(context, action_known=torch.zeros(action.shape[:2], dtype=torch.bool))
    with_actions = denoiser.denoise(noisy, sigma, context, action)
    without = denoiser.denoise(noisy, sigma, dropped, action)
    assert not torch.allclose(with_actions, without, rtol=1e-2, atol=1e-2)
    expected = guide(with_actions, without, scale=1.5, rescale=0.5)
    found = paired(denoiser.denoise, context, action, scale=1.5, rescale=0.5)(noisy, sigma)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_levels_of_whole_clips_stay_visible_as_such() -> None:
    denoiser = tiny("svd")
    noisy, sigma, context, action = inputs_for(denoiser)
    seen: list[torch.Tensor] = []

    class Watching:
        def denoise(self, noisy, sigma, context, action):  # type: ignore[no-untyped-def]
            seen.append(sigma)
            return denoiser.denoise(noisy, sigma, context, action)

    with torch.inference_mode():
        paired(Watching().denoise, context, action, scale=1.0, rescale=0.0)(noisy, sigma)
    assert sigma.stride(1) == 0 and seen[0].stride(1) == 0 and seen[0].shape == (2 * len(sigma), sigma.shape[1])


@pytest.mark.parametrize("variant", BACKBONES)
@torch.inference_mode()
def test_weights_in_bfloat16_change_no_bit_under_autocast(variant: str) -> None:
    denoiser = tiny(variant)
    inputs = inputs_for(denoiser)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = denoiser.denoise(*inputs)
        for layer in denoiser.modules():
            if isinstance(layer, CASTABLE):
                layer.to(torch.bfloat16)
        assert torch.equal(denoiser.denoise(*inputs), before)


def test_a_model_in_bfloat16_predicts_the_same_pictures_and_one_in_float32_is_left_alone(tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", horizon=4)
    model = load_world_model(checkpoint, bf16=True)
    camera = model.embodiment.camera()
    context = np.random.default_rng(0).integers(0, 255, (1, 1, camera.height, camera.width, 3), dtype=np.uint8)
    before = model.predict(context, np.zeros((1, 4, 3), np.float32)).images
    assert cast_weights(model)
    assert np.array_equal(model.predict(context, np.zeros((1, 4, 3), np.float32)).images, before)
    plain = load_world_model(checkpoint, bf16=False)
    assert not cast_weights(plain)
    assert all(value.dtype == torch.float32 for value in plain.denoiser.state_dict().values())  # type: ignore[attr-defined]

"""Adapted backbones denoise as the released models' own schedulers and pipelines do, and at the same noise levels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, UniPCMultistepScheduler

from egowm_core.adapt import RECIPES
from egowm_core.diffusion.denoiser import Context
from egowm_core.latent_rollout import SamplingPlan
from egowm_core.models.pretrained import open_pretrained
from tests.core import tiny_sources
from tests.core.adapted_models import HORIZON, SIZE, adapted
from tests.fixtures.tiny_pipelines import PARTS, TOKEN_WIDTH

tiny = tiny_sources.tiny


@torch.no_grad()
def test_svd_denoises_as_the_stock_scheduler_and_unet_do(tiny: Callable[..., Path]) -> None:
    """v-prediction by EulerDiscreteScheduler, its context latents unscaled: our sigma space is another road to it."""
    model = adapted("svd", tiny("svd"))
    opened = open_pretrained(tiny("svd"), backbone="svd")
    unet: Any = opened.network
    generator = torch.Generator().manual_seed(1)
    noisy, image = (10 * torch.randn(1, n, 4, 4, 6, generator=generator) for n in (HORIZON, 1))
    scheduler = EulerDiscreteScheduler.from_config(opened.scheduler_config)
    scheduler.set_timesteps(25)
    for index in (3, 12, 22):
        timestep, sigma = scheduler.timesteps[index], scheduler.sigmas[index]
        scheduler._step_index = None
        scaled = scheduler.scale_model_input(noisy, timestep)
        beside = (image / opened.autoencoder.network.config.scaling_factor).expand(-1, HORIZON, -1, -1, -1)
        ids = torch.tensor([[6.0, 127.0, 0.02]])
        v = unet(torch.cat([scaled, beside], dim=2), timestep, torch.zeros(1, 1, TOKEN_WIDTH), ids).sample
        expected = scheduler.step(v, timestep, noisy).pred_original_sample
        levels = sigma.expand(1, HORIZON)
        found = model.denoiser.denoise(noisy, levels, Context(image), torch.zeros(1, HORIZON, 3))
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def test_cosmos_denoises_as_the_stock_pipeline_does(tiny: Callable[..., Path]) -> None:
    """Its t, c_in, c_skip and c_out; the condition's frames unscaled at their own small level, marked by the mask."""
    model = adapted("cosmos", tiny("cosmos"))
    transformer: Any = open_pretrained(tiny("cosmos"), backbone="cosmos", text="zeros").network
    generator = torch.Generator().manual_seed(1)
    noisy, image = (torch.randn(1, n, 4, 4, 6, generator=generator) for n in (2, 1))
    condition = torch.tensor([1.0, 0.0, 0.0])[None, None, :, None, None]
    for sigma in (0.05, 1.0, 40.0):
        video = torch.cat([image, noisy * sigma], dim=1).transpose(1, 2)
        t, t_condition = sigma / (sigma + 1), 1e-4 / (1e-4 + 1)
        inputs = condition * video + (1 - condition) * video * (1 - t)
        levels = condition * t_condition + (1 - condition) * t
        masks = {"condition_mask": condition.expand(1, 1, 3, 4, 6), "padding_mask": torch.zeros(1, 1, *SIZE)}
        velocity = transformer(inputs, levels, torch.zeros(1, 1, TOKEN_WIDTH), **masks).sample
        expected = ((1 - t) * video - t * velocity).transpose(1, 2)[:, 1:]
        found = model.denoiser.denoise(noisy * sigma, torch.full((1, 2), sigma), Context(image), torch.zeros(1, 8, 3))
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_wan_denoises_as_the_stock_pipeline_does(tiny: Callable[..., Path]) -> None:
    """A timestep for each token, 0 for the image's; the velocity of z_t = (1 - t) clean + t noise."""
    model = adapted("wan", tiny("wan"))
    transformer: Any = open_pretrained(tiny("wan"), backbone="wan", text="zeros").network
    generator = torch.Generator().manual_seed(1)
    flow, image = (torch.randn(1, n, 4, 4, 6, generator=generator) for n in (2, 1))
    for t in (0.1, 0.5, 0.95):
        levels = torch.tensor([0.0, 1000 * t, 1000 * t]).repeat_interleave(2 * 3)[None]
        video = torch.cat([image, flow], dim=1).transpose(1, 2)
        velocity = transformer(video, levels, torch.zeros(1, 1, TOKEN_WIDTH)).sample.transpose(1, 2)[:, 1:]
        expected = flow - t * velocity
        sigma = t / (1 - t)
        found = model.denoiser.denoise(
            flow * (1 + sigma), torch.full((1, 2), sigma), Context(image), torch.zeros(1, 8, 3)
        )
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_sampling_levels_are_the_released_schedules() -> None:
    svd = EulerDiscreteScheduler(**PARTS["svd"]["scheduler"][1])
    svd.set_timesteps(25)
    assert torch.allclose(SamplingPlan(**RECIPES["svd"].sampling).sigmas(), svd.sigmas, rtol=1e-4)
    wan = UniPCMultistepScheduler(**PARTS["wan"]["scheduler"][1])
    wan.set_timesteps(40)
    t = wan.sigmas[:-1]
    shifted, ours = t / (1 - t), SamplingPlan(**RECIPES["wan"].sampling).sigmas()[:-1]
    assert abs(int((shifted > 5).sum()) - int((ours > 5).sum())) <= 2  # the choice that adapt.py explains

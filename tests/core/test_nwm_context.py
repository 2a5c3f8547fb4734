"""What the baseline sees of its inputs: order, number and place of context frames, the noise level, its patches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from egowm_core.diffusion.denoiser import Context
from tests.core.tiny_nwm import ACTIONS, BATCH, TINY, inputs, tiny


@torch.no_grad()
def test_the_compensated_context_is_used_by_a_model_configured_for_it() -> None:
    config = replace(TINY, context_warp=True)
    noisy, sigma, context, action = inputs(config)
    given = replace(context, compensated=noisy.flip(-1), visible=torch.ones(BATCH, 1, 2, 4, 6))
    fresh, awake = tiny(config), tiny(config, awake=True)
    skip = fresh.preconditioning.c_skip(sigma)[:, :, None, None, None]
    expected = given.compensated + skip * (noisy - given.compensated)
    assert torch.allclose(fresh.denoise(noisy, sigma, given, action), expected, atol=1e-6)
    network = awake.denoise(noisy, sigma, given, action) - expected
    unseen = replace(given, visible=torch.zeros(BATCH, 1, 2, 4, 6))
    assert (awake.denoise(noisy, sigma, unseen, action) - expected - network).abs().max() > 1e-3


@torch.no_grad()
def test_the_order_of_context_frames_matters_by_their_slots() -> None:
    noisy, sigma, context, action = inputs()
    denoiser = tiny(awake=True)
    swapped = Context(context.latents[:, [1, 0, 2, 3]])  # the newest stays: it is the mean of the residual
    before = denoiser.denoise(noisy, sigma, context, action)
    assert (denoiser.denoise(noisy, sigma, swapped, action) - before).abs().max() > 1e-4
    denoiser.transformer.slots.zero_()  # without slots, cross-attention sees a set
    before = denoiser.denoise(noisy, sigma, context, action)
    assert torch.allclose(denoiser.denoise(noisy, sigma, swapped, action), before, atol=1e-5)


@torch.no_grad()
def test_every_context_frame_is_seen() -> None:
    noisy, sigma, context, action = inputs()
    denoiser = tiny(replace(TINY, residual=False), awake=True)
    before = denoiser.denoise(noisy, sigma, context, action)
    for frame in range(4):
        latents = context.latents.clone()
        latents[:, frame] += torch.randn(latents[:, frame].shape, generator=torch.Generator().manual_seed(frame))
        assert (denoiser.denoise(noisy, sigma, Context(latents), action) - before).abs().max() > 1e-3


@torch.no_grad()
def test_a_short_context_repeats_its_oldest_frame_and_a_long_one_gives_its_newest() -> None:
    noisy, sigma, context, action = inputs(frames=6)
    denoiser = tiny(awake=True)
    latents = context.latents

    def denoised(frames: list[int]) -> Tensor:
        return denoiser.denoise(noisy, sigma, Context(latents[:, frames]), action)

    assert torch.equal(denoised([4, 5]), denoised([4, 4, 4, 5]))
    assert torch.equal(denoised([5]), denoised([5, 5, 5, 5]))
    assert torch.equal(denoised([0, 1, 2, 3, 4, 5]), denoised([2, 3, 4, 5]))
    assert not torch.allclose(denoised([2, 3, 4, 5]), denoised([4, 5]), atol=1e-4)


@torch.no_grad()
def test_the_network_is_told_the_noise_level() -> None:
    _, _, context, action = inputs()
    denoiser = tiny(awake=True)
    mean = context.latents[:, -1:]

    def network(level: float) -> Tensor:  # noisy equal to the mean: the network's other inputs are the same
        sigma = torch.full((BATCH, 1), level)
        scale = denoiser.preconditioning.c_out(sigma)[:, :, None, None, None]
        return (denoiser.denoise(mean, sigma, context, action) - mean) / scale

    assert (network(1.0) - network(1.1)).abs().mean() > 1e-2


@torch.no_grad()
def test_tokens_know_where_they_are() -> None:
    config = replace(TINY, latent_channels=1)
    denoiser = tiny(config, awake=True)
    flat = torch.zeros(BATCH, 1, 1, 4, 6)
    result = denoiser.denoise(flat, torch.ones(BATCH, 1), Context(flat), torch.zeros(BATCH, 1, ACTIONS))
    corners = result[0, 0, 0, ::2, ::2]  # the same cell of each of 2 x 3 patches
    assert corners.flatten().unique().numel() == 6
    config = replace(TINY, residual=False)
    noisy, sigma, context, action = inputs(config)
    denoiser = tiny(config, awake=True)
    moved = Context(context.latents.roll(TINY.patch, dims=-1))  # the same set of context tokens, elsewhere
    difference = denoiser.denoise(noisy, sigma, moved, action) - denoiser.denoise(noisy, sigma, context, action)
    assert difference.abs().max() > 1e-4


@torch.no_grad()
def test_the_residual_is_about_the_newest_context_frame() -> None:
    noisy, sigma, context, action = inputs()
    denoiser = tiny(awake=True)
    for block in denoiser.transformer.blocks:  # nothing but the mean tells of the context
        nn.init.zeros_(block.cross_out.weight)
    shifted = denoiser.denoise(noisy + 3.0, sigma, Context(context.latents + 3.0), action)
    assert torch.allclose(shifted, denoiser.denoise(noisy, sigma, context, action) + 3.0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2])
def test_patches_come_back_where_they_were(patch: int) -> None:
    """A change in one cell of the noisy frame moves most what is predicted for its own patch."""
    config = replace(TINY, patch=patch, residual=False)
    noisy, sigma, context, action = inputs(config)
    denoiser = tiny(config, awake=True)
    changed = noisy.clone()
    changed[:, :, :, 2, 5] += 1.0
    skip = denoiser.preconditioning.c_skip(sigma)[:, :, None, None, None]
    moved = denoiser.denoise(changed, sigma, context, action) - denoiser.denoise(noisy, sigma, context, action)
    moved = (moved - skip * (changed - noisy)).abs().mean(dim=(0, 1, 2))
    own = moved[2 // patch * patch :, 5 // patch * patch :][:patch, :patch].mean()
    assert own > 3 * moved.mean()

"""The baseline's contract: identity at zero, actions, training, cost, refusals, and frame-by-frame rollouts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from egowm_core.diffusion.denoiser import Context
from egowm_core.diffusion.samplers import sample_euler
from egowm_core.diffusion.sigmas import karras_sigmas
from egowm_core.errors import ConfigError, RolloutError
from egowm_core.models.nwm import CDiTBlock, NWMConfig, NWMDenoiser
from tests.core.tiny_nwm import ACTIONS, BATCH, TINY, inputs, tiny


def without_actions(denoiser: NWMDenoiser) -> NWMDenoiser:
    """The passive model with the same weights."""
    passive = tiny(replace(denoiser.config, passive=True))
    weights = {k: v for k, v in denoiser.state_dict().items() if not k.startswith("action_encoder.")}
    passive.load_state_dict(weights)
    return passive


@torch.no_grad()
@pytest.mark.parametrize("preconditioning", ["edm", "flow"])
@pytest.mark.parametrize("residual", [True, False])
def test_fresh_denoiser_is_the_preconditioned_identity(residual: bool, preconditioning: str) -> None:
    noisy, sigma, context, action = inputs()
    denoiser = tiny(replace(TINY, residual=residual, sigma_data=0.7, preconditioning=preconditioning))
    mean = context.latents[:, -1:] if residual else torch.zeros_like(noisy)
    skip = denoiser.preconditioning.c_skip(sigma)[:, :, None, None, None]
    assert torch.allclose(denoiser.denoise(noisy, sigma, context, action), mean + skip * (noisy - mean))


@torch.no_grad()
def test_a_zero_initialised_action_embedding_leaves_the_passive_model_bit_identical() -> None:
    noisy, sigma, context, action = inputs()
    denoiser = tiny(awake=True)
    expected = without_actions(denoiser).denoise(noisy, sigma, context, action)
    assert not torch.allclose(denoiser.denoise(noisy, sigma, context, action), expected, atol=1e-3)
    nn.init.zeros_(denoiser.action_encoder.mlp[-1].weight)  # as it begins
    assert torch.equal(denoiser.denoise(noisy, sigma, context, action), expected)


@torch.no_grad()
def test_an_action_moves_its_own_clip_only() -> None:
    noisy, sigma, context, action = inputs()
    denoiser = tiny(awake=True)
    other = action.clone()
    other[1] += 0.5
    moved = (denoiser.denoise(noisy, sigma, context, other) - denoiser.denoise(noisy, sigma, context, action)).abs()
    assert moved[1].mean() > 1e-3
    assert moved[0].max() < 1e-6


@torch.no_grad()
def test_an_unknown_action_is_left_out() -> None:
    noisy, sigma, context, action = inputs()
    denoiser = tiny(awake=True)
    passive = without_actions(denoiser)
    dropped = replace(context, action_known=torch.tensor([[True], [False]]))
    result = denoiser.denoise(noisy, sigma, dropped, action)
    known, unknown = denoiser.denoise(noisy, sigma, context, action), passive.denoise(noisy, sigma, context, action)
    assert torch.allclose(result, torch.stack([known[0], unknown[1]]), atol=1e-6)
    assert not torch.allclose(known[1], unknown[1], atol=1e-3)


def test_training_opens_every_closed_layer_down_to_the_action_path() -> None:
    """Zeros in gates, output and action embedding must not lock each other."""
    clean, sigma, context, action = inputs()
    denoiser = tiny().train()
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=1e-3)
    noisy = clean + sigma[:, :, None, None, None] * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(6):
        optimizer.zero_grad()
        (denoiser.denoise(noisy, sigma, context, action) - clean).square().mean().backward()
        optimizer.step()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    for block in denoiser.transformer.blocks:  # each shift, scale and gate by itself
        assert torch.all(block.modulation.weight.grad.unflatten(0, (-1, TINY.hidden_dim)).abs().sum(dim=(1, 2)) > 0)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    noisy, sigma, context, action = inputs()
    gradients = []
    for checkpointing in (False, True):
        denoiser = tiny(awake=True).train()
        if checkpointing:
            denoiser.enable_gradient_checkpointing()
        denoiser.denoise(noisy, sigma, context, action).square().mean().backward()
        assert denoiser.transformer.checkpointing == checkpointing
        gradients.append(torch.cat([p.grad.flatten() for p in denoiser.parameters()]))
    assert gradients[0].abs().max() > 0
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


@torch.no_grad()
def test_save_and_load_is_exact(tmp_path) -> None:
    noisy, sigma, context, action = inputs()
    denoiser = tiny(awake=True)
    save_file(denoiser.state_dict(), tmp_path / "weights.safetensors")
    other = tiny(seed=5)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(denoiser.denoise(noisy, sigma, context, action), other.denoise(noisy, sigma, context, action))


@torch.no_grad()
def test_a_rollout_frame_by_frame_stays_finite_and_follows_its_actions() -> None:
    _, _, context, _ = inputs(frames=1)
    denoiser = tiny(awake=True)
    sigmas = karras_sigmas(2, sigma_min=0.05, sigma_max=5.0)

    def rollout(actions: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        frames = context.latents
        for action in actions.split(1, dim=1):
            known = Context(frames[:, -TINY.context_frames :])

            def bound(noisy: Tensor, sigma: Tensor, known: Context = known, action: Tensor = action) -> Tensor:
                return denoiser.denoise(noisy, sigma, known, action)

            noise = torch.randn(frames[:, :1].shape, generator=generator) * sigmas[0]
            frames = torch.cat([frames, sample_euler(bound, noise, sigmas)], dim=1)
        return frames[:, 1:]

    actions = torch.randn(BATCH, 6, ACTIONS, generator=torch.Generator().manual_seed(4))
    other = actions.clone()
    other[:, 3] += 1.0
    frames, moved = rollout(actions), rollout(other)
    assert frames.shape == (BATCH, 6, 4, 4, 6)
    assert frames.isfinite().all()
    changed = (frames - moved).abs().amax(dim=(0, 2, 3, 4))
    assert torch.all(changed[:3] == 0)  # what comes first does not know what comes later
    assert torch.all(changed[3:] > 1e-4)


def test_cost_of_a_block_is_linear_in_context_frames() -> None:
    width, tokens, ratio = 32, 24, 4
    block = CDiTBlock(width, 2, ratio)

    def flops(context_frames: int) -> int:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            block(torch.randn(1, tokens, width), torch.randn(1, context_frames * tokens, width), torch.randn(1, width))
        return counter.get_total_flops()

    for frames in (1, 2, 4):
        projections = (12 + 4 * frames + 4 * ratio) * tokens * width**2
        attention = 4 * (1 + frames) * tokens**2 * width
        assert flops(frames) == projections + attention + 22 * width**2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"horizon": 8}, "horizon is 8.*1 frame a call"),
        ({"patch": 4}, "12 x 18 cells are not divisible by patch 4"),
        ({"num_heads": 3}, "hidden_dim 256 is not divisible by num_heads 3"),
        ({"hidden_dim": 6, "num_heads": 1}, "multiple of 4"),
        ({"context_frames": 0}, "context_frames 0"),
        ({"depth": 0}, "depth is 0"),
        ({"sigma_data": 0.0}, "sigma_data is 0.0"),
        ({"preconditioning": "edn"}, "did you mean 'edm'"),
        ({"causal": True}, "leave causal false"),
        ({"context_as_channels": True}, "cross-attended"),
        ({"stock": {"depth": 2}}, "no stock module"),
    ],
)
def test_configurations_that_make_no_model_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NWMConfig(**{"latent_width": 18, **values})


def test_wrong_sizes_are_named_with_what_was_expected() -> None:
    noisy, sigma, context, action = inputs()
    denoiser = tiny()
    with pytest.raises(RolloutError, match=r"noisy has shape \(2, 3, 4, 4, 6\).*one frame a call"):
        denoiser.denoise(noisy.expand(-1, 3, -1, -1, -1), sigma, context, action)
    with pytest.raises(RolloutError, match=r"noisy has shape \(2, 1, 4, 4, 5\).*4 x 4 x 6"):
        denoiser.denoise(noisy[..., :5], sigma, context, action)
    with pytest.raises(RolloutError, match=r"sigma has shape \(2,\); expected \(2, 1\)"):
        denoiser.denoise(noisy, sigma[:, 0], context, action)
    for latents in (context.latents[:1], context.latents[:, :0], context.latents[:, :, :3], context.latents[:, 0]):
        with pytest.raises(RolloutError, match=r"context.latents has shape .*1 to 4 frames, 4 x 4 x 6"):
            denoiser.denoise(noisy, sigma, Context(latents), action)
    with pytest.raises(RolloutError, match=r"action has shape \(2, 2, 3\)"):
        denoiser.denoise(noisy, sigma, context, action.expand(-1, 2, -1))

"""The adapter contract: stock output at zero, actions per frame, per-frame noise levels, gradients."""

from __future__ import annotations

import pytest
import torch

from egowm_core.diffusion.preconditioning import EDMPreconditioning
from egowm_core.errors import ConfigError
from egowm_core.models.registry import build_denoiser
from tests.core.tiny import HORIZON, SIZE, TINY_DENOISER, tiny_denoiser, tiny_inputs


@torch.no_grad()
def test_zero_initialised_injection_leaves_the_stock_unet_bit_identical() -> None:
    denoiser = tiny_denoiser()
    torch.nn.init.normal_(denoiser.unet.conv_out.weight, std=0.3)  # so that the output says something
    _, _, _, action = tiny_inputs()
    sample = torch.randn(2, HORIZON, denoiser.unet.config.in_channels, SIZE, SIZE)
    arguments = (sample, torch.tensor([0.1, 0.2]), torch.randn(2, 1, 16), torch.zeros(2, 3))
    stock = denoiser.unet(*arguments).sample
    assert denoiser.action_encoder is not None
    with denoiser.injector.adding(denoiser.action_encoder(action)):
        injected = denoiser.unet(*arguments).sample
    assert stock.abs().max() > 0
    assert torch.equal(stock, injected)
    denoiser.injector.remove()
    assert torch.equal(stock, denoiser.unet(*arguments).sample)


@torch.no_grad()
def test_fresh_denoiser_is_the_preconditioned_identity() -> None:
    noisy, sigma, context, action = tiny_inputs()
    denoiser = tiny_denoiser()
    mean = context.latents[:, -1:]
    skip = denoiser.preconditioning.c_skip(sigma)[:, :, None, None, None]
    assert torch.allclose(denoiser.denoise(noisy, sigma, context, action), mean + skip * (noisy - mean))


@torch.no_grad()
def test_an_action_embedding_moves_its_own_frame_most() -> None:
    denoiser = tiny_denoiser(awake=True)
    _, _, _, action = tiny_inputs()
    for name, parameter in denoiser.unet.named_parameters():
        if name.endswith("mix_factor"):  # a mostly spatial backbone, as an image model made into a video model is
            parameter.fill_(2.0)
    assert denoiser.action_encoder is not None
    embedding = denoiser.action_encoder(action)
    inputs = torch.randn(2, HORIZON, denoiser.unet.config.in_channels, SIZE, SIZE)
    arguments = (inputs, torch.tensor([0.1, 0.1]), torch.randn(2, 1, 16), torch.zeros(2, 3))
    still = denoiser.unet(*arguments).sample
    for frame in range(HORIZON):
        offset = torch.zeros_like(embedding)
        offset[:, frame] = embedding[:, frame]
        with denoiser.injector.adding(offset):
            moved = (denoiser.unet(*arguments).sample - still).square().mean(dim=(0, 2, 3, 4))
        assert moved.argmax() == frame


@torch.no_grad()
def test_changing_an_action_changes_the_prediction() -> None:
    noisy, sigma, context, action = tiny_inputs()
    denoiser = tiny_denoiser(awake=True)
    other = action.clone()
    other[:, -1] += 0.5
    difference = denoiser.denoise(noisy, sigma, context, action) - denoiser.denoise(noisy, sigma, context, other)
    assert difference[:, -1].abs().mean() > 1e-4


@torch.no_grad()
def test_per_frame_sigma_agrees_with_uniform_sigma() -> None:
    noisy, sigma, context, action = tiny_inputs()
    denoiser = tiny_denoiser(awake=True)
    uniform = denoiser.denoise(noisy, sigma, context, action)
    nearly = sigma.clone()
    nearly[:, 1:] *= 1 + 1e-6  # no longer equal: the per-frame road is taken
    assert torch.allclose(uniform, denoiser.denoise(noisy, nearly, context, action), atol=1e-4)
    different = sigma.clone()
    different[:, 1] = 0.01
    moved = (uniform - denoiser.denoise(noisy, different, context, action)).abs()
    assert moved[:, 1].mean() > 1e-3


def test_gradient_reaches_the_action_path_once_awake() -> None:
    noisy, sigma, context, action = tiny_inputs()
    denoiser = tiny_denoiser(awake=True)
    denoiser.denoise(noisy, sigma, context, action).square().mean().backward()
    assert denoiser.action_encoder is not None
    gradients = [parameter.grad for parameter in denoiser.action_encoder.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    noisy, sigma, context, action = tiny_inputs()
    grads = []
    for checkpointing in (False, True):
        denoiser = tiny_denoiser(awake=True).train()
        if checkpointing:
            denoiser.unet.enable_gradient_checkpointing()
        denoiser.denoise(noisy, sigma, context, action).square().mean().backward()
        assert denoiser.action_encoder is not None
        grads.append(denoiser.action_encoder.mlp[0].weight.grad)
    assert grads[0] is not None and grads[1] is not None
    assert torch.allclose(grads[0], grads[1], rtol=1e-4, atol=1e-7)


@torch.no_grad()
def test_compensated_context_is_used_where_given_and_may_be_absent() -> None:
    noisy, sigma, context, action = tiny_inputs(context_warp=True)
    denoiser = tiny_denoiser(context_warp=True, awake=True)
    with_compensation = denoiser.denoise(noisy, sigma, context, action)
    without = denoiser.denoise(noisy, sigma, type(context)(context.latents), action)
    assert with_compensation.shape == without.shape == noisy.shape
    assert not torch.allclose(with_compensation, without)


@torch.no_grad()
def test_save_and_load_is_exact(tmp_path) -> None:
    noisy, sigma, context, action = tiny_inputs()
    denoiser = tiny_denoiser(awake=True)
    denoiser.unet.save_pretrained(tmp_path)
    other = tiny_denoiser(seed=5)
    other.load_state_dict(denoiser.state_dict())
    assert torch.equal(denoiser.denoise(noisy, sigma, context, action), other.denoise(noisy, sigma, context, action))


def test_preconditioning_identities() -> None:
    edm = EDMPreconditioning(0.5)
    sigma = torch.tensor([0.01, 0.5, 20.0])
    assert torch.allclose(edm.c_in(sigma) ** 2 * (sigma**2 + 0.25), torch.ones(3))
    assert torch.allclose(edm.loss_weight(sigma) * edm.c_out(sigma) ** 2, torch.ones(3))  # unit weight on the network
    assert torch.allclose(edm.c_noise(sigma), sigma.log() / 4)


def test_unknown_field_gets_the_nearest_name() -> None:
    from egowm_core.embodiment import load_embodiment

    with pytest.raises(ConfigError, match="did you mean 'horizon'"):
        build_denoiser({**TINY_DENOISER, "horizn": 4}, load_embodiment("base_3dof"))
    with pytest.raises(ConfigError, match="backbone"):
        build_denoiser({"backbone": "svdd"}, load_embodiment("base_3dof"))

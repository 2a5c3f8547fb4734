"""What every adapter promises, whatever its backbone: stock output at zero, actions and noise per frame, causality."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from egowm_core.diffusion.denoiser import Context, per_frame
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.registry import build_denoiser
from tests.core.tiny import BACKBONES, BATCH, CHANNELS, HORIZON, SIZE, VARIANTS, WIDTH, inputs_for, tiny, wake
from tests.core.tiny_stock import FRAMES, STOCK, network_inputs, run, stock_call

every_model = pytest.mark.parametrize("variant", [*VARIANTS, "nwm"])
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_causal = pytest.mark.parametrize("variant", [name for name in VARIANTS if name.endswith("causal")])
every_backbone = pytest.mark.parametrize("backbone", BACKBONES)


def make_mostly_spatial(denoiser: BackboneDenoiser) -> None:
    """As an image model made into a video model is; only SVD has such weights."""
    for name, parameter in denoiser.stock.named_parameters():
        if name.endswith("mix_factor"):
            parameter.fill_(2.0)


@every_variant
@torch.no_grad()
def test_zero_initialised_actions_leave_the_stock_output_bit_identical(variant: str) -> None:
    denoiser = tiny(variant)
    assert denoiser.action_encoder is not None
    torch.nn.init.zeros_(denoiser.action_encoder.mlp[-1].weight)  # awake is the stock module alone
    embedding = denoiser.action_encoder(torch.randn(BATCH, FRAMES, 3))
    assert embedding.shape == (BATCH, FRAMES, denoiser.embedding_dim) and not embedding.any()
    with_zeros = run(denoiser, embedding)
    assert not torch.allclose(run(denoiser, torch.ones_like(embedding)), with_zeros)
    assert torch.equal(with_zeros, stock_call(denoiser))  # nothing of the ones is left behind
    denoiser.injector.remove()
    assert with_zeros.shape == (BATCH, FRAMES, CHANNELS, SIZE, WIDTH) and with_zeros.abs().max() > 0.01
    assert torch.equal(with_zeros, stock_call(denoiser))


@every_variant
@torch.no_grad()
def test_an_embedding_moves_its_own_frame_most(variant: str) -> None:
    denoiser = tiny(variant)
    make_mostly_spatial(denoiser)
    still = run(denoiser, None)
    embedding = torch.randn(BATCH, FRAMES, denoiser.embedding_dim, generator=torch.Generator().manual_seed(4))
    for frame in range(FRAMES):
        alone = embedding * (torch.arange(FRAMES) == frame)[:, None]
        assert (run(denoiser, alone) - still).square().mean(dim=(0, 2, 3, 4)).argmax() == frame


@every_model
@torch.no_grad()
def test_a_fresh_denoiser_is_the_preconditioned_identity(variant: str) -> None:
    denoiser = tiny(variant, awake=False)
    noisy, sigma, context, action = inputs_for(denoiser)
    mean: Tensor = torch.zeros(())
    if denoiser.config.residual:
        mean = context.latents[:, -1:]
    if denoiser.config.residual and denoiser.config.causal:
        first = context.latents[:, -1:] / (1 + denoiser.config.history_sigma**2)
        mean = torch.cat([first, noisy[:, :-1] / (1 + per_frame(sigma[:, :-1]) ** 2)], dim=1)
    skip = per_frame(denoiser.preconditioning.c_skip(sigma))
    assert torch.allclose(denoiser.denoise(noisy, sigma, context, action), mean + skip * (noisy - mean), atol=1e-6)


@every_model
def test_gradient_reaches_the_whole_action_path_and_checkpointing_changes_none(variant: str) -> None:
    gradients: list[dict[str, Tensor]] = []
    for checkpointing in (False, True)[: 1 if variant == "nwm" else 2]:  # the baseline is small enough without
        denoiser = tiny(variant, embodiment="humanoid_25dof").train()
        if checkpointing:
            denoiser.enable_gradient_checkpointing()
        noisy, sigma, context, action = inputs_for(denoiser)
        context = replace(context, state=torch.linspace(-1, 1, BATCH * 25).view(BATCH, 25))
        denoiser.denoise(noisy, sigma, context, action).square().mean().backward()
        gradients.append({name: value.grad for name, value in denoiser.named_parameters() if value.grad is not None})
    plain, checkpointed = gradients[0], gradients[-1]
    for name, _ in denoiser.named_parameters():
        assert "_encoder." not in name or plain[name].abs().sum() > 0, name
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        assert torch.allclose(gradient, checkpointed[name], rtol=1e-4, atol=1e-5 * float(gradient.abs().max())), name


@every_model
@torch.no_grad()
def test_saving_and_loading_and_copying_is_exact(variant: str, tmp_path: Path) -> None:
    denoiser, other = tiny(variant), tiny(variant, seed=5)
    inputs = inputs_for(denoiser)
    save_file(denoiser.state_dict(), tmp_path / "weights.safetensors")
    expected = denoiser.denoise(*inputs)
    assert not torch.allclose(other.denoise(*inputs), expected)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other.denoise(*inputs), expected)
    copied = copy.deepcopy(denoiser)  # as for averaged weights: its hooks must be its own
    for parameter in denoiser.parameters():
        parameter.zero_()
    assert torch.equal(copied.denoise(*inputs), expected)


@every_variant
@torch.no_grad()
def test_each_frame_has_its_own_noise_level(variant: str) -> None:
    denoiser = tiny(variant)
    noisy, sigma, context, action = inputs_for(denoiser)
    uniform = denoiser.denoise(noisy, sigma, context, action)
    nearly = sigma.clone()
    nearly[:, 1:] *= 1 + 1e-6  # no longer equal: where there is a road for uniform levels alone, it is not taken
    assert torch.allclose(uniform, denoiser.denoise(noisy, nearly, context, action), atol=1e-3)
    make_mostly_spatial(denoiser)
    inputs, noise, tokens, known = network_inputs(denoiser)
    for frame in range(FRAMES):
        different = noise.clone()
        different[:, frame] = denoiser.preconditioning.c_noise(torch.tensor(0.05))
        moved = denoiser.network(inputs, different, None, tokens, known) - run(denoiser, None)
        assert moved.square().mean(dim=(0, 2, 3, 4)).argmax() == frame


@every_model
@torch.no_grad()
def test_dropping_every_action_is_the_passive_model(variant: str) -> None:
    denoiser, passive = tiny(variant), tiny(variant, passive=True)
    passive.load_state_dict({k: v for k, v in denoiser.state_dict().items() if not k.startswith("action_encoder.")})
    noisy, sigma, context, action = inputs_for(denoiser)
    dropped = replace(context, action_known=torch.zeros(BATCH, noisy.shape[1], dtype=torch.bool))
    expected = passive.denoise(noisy, sigma, context, action)
    assert torch.equal(denoiser.denoise(noisy, sigma, dropped, action), expected)
    assert not torch.allclose(denoiser.denoise(noisy, sigma, context, action), expected, atol=1e-3)


@every_variant
@torch.no_grad()
def test_the_initial_state_counts_and_is_asked_for(variant: str) -> None:
    denoiser = tiny(variant, embodiment="humanoid_25dof")
    noisy, sigma, context, action = inputs_for(denoiser)
    rest, raised = (
        denoiser.denoise(noisy, sigma, replace(context, state=torch.full((BATCH, 25), value)), action)
        for value in (0.0, 0.5)
    )
    assert (rest - raised).abs().mean(dim=(0, 2, 3, 4)).min() > 1e-3
    with pytest.raises(ConfigError, match="state"):
        denoiser.denoise(noisy, sigma, context, action)


@torch.no_grad()
def test_four_actions_belong_to_one_compressed_frame() -> None:
    denoiser = tiny("cosmos", temporal_factor=4, action={"motion": "tick"})
    noisy, sigma, context, action = inputs_for(denoiser)
    assert action.shape[1] == 4 * HORIZON
    plain = denoiser.denoise(noisy, sigma, context, action)
    for row in range(4 * HORIZON):
        other = action.clone()
        other[:, row] += 0.7
        moved = (denoiser.denoise(noisy, sigma, context, other) - plain).square().mean(dim=(0, 2, 3, 4))
        assert moved.argmax() == row // 4


@every_backbone
@torch.no_grad()
def test_a_stock_checkpoint_drives_the_adapter(backbone: str, tmp_path: Path) -> None:
    kind, config = STOCK[backbone]
    torch.manual_seed(7)
    kind(**config).save_pretrained(tmp_path)
    stock = kind.from_pretrained(tmp_path)
    model = {"backbone": backbone, "latent_channels": CHANNELS, "latent_height": SIZE, "latent_width": WIDTH}
    model |= {"horizon": HORIZON, "stock": dict(stock.config), "context_token": False, "residual": False}
    model |= {"coordinates": False}
    robot = load_embodiment("base_3dof")
    denoiser = build_denoiser(model, robot, stock=stock).eval()
    rebuilt = build_denoiser(model, robot).eval()  # the same architecture from its configuration alone
    rebuilt.load_state_dict(wake(denoiser).state_dict())
    inputs = inputs_for(denoiser)
    predicted = denoiser.denoise(*inputs)
    assert torch.isfinite(predicted).all() and torch.equal(predicted, rebuilt.denoise(*inputs))
    if backbone != "svd":
        half = build_denoiser(model, robot, stock=kind.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)).eval()
        half.load_state_dict(denoiser.state_dict())
        assert (half.denoise(*inputs) - predicted).abs().max() < 0.03 * predicted.abs().max()
        with pytest.raises(ConfigError, match="stock"):
            build_denoiser({key: value for key, value in model.items() if key != "stock"}, robot, stock=stock)
        with pytest.raises(ConfigError, match="context_as_channels"):
            build_denoiser({**model, "context_as_channels": True}, robot, stock=stock)


@every_causal
@torch.no_grad()
def test_nothing_leaks_from_later_frames_and_actions(variant: str) -> None:
    denoiser = tiny(variant)
    noisy, sigma, context, action = inputs_for(denoiser)
    plain = denoiser.denoise(noisy, sigma, context, action)
    for later in range(1, HORIZON):
        frames, actions = noisy.clone(), action.clone()
        frames[:, later] += 1.0
        actions[:, later] += 0.5
        for changed in (
            denoiser.denoise(frames, sigma, context, action),
            denoiser.denoise(noisy, sigma, context, actions),
        ):
            assert torch.equal(changed[:, :later], plain[:, :later])
            assert (changed - plain)[:, later].abs().mean() > 1e-4
    for known in range(2):  # the whole context counts, the older frame too
        latents = context.latents.clone()
        latents[:, known] += 1.0
        assert (denoiser.denoise(noisy, sigma, Context(latents), action) - plain)[:, 0].abs().mean() > 1e-5


@pytest.mark.parametrize("variant", ["svd-causal", "cosmos-causal"])
@torch.no_grad()
def test_a_stream_equals_one_pass_over_the_whole_of_it(variant: str) -> None:
    denoiser = tiny(variant, window=4)
    generator = torch.Generator().manual_seed(2)
    length, past = 12, denoiser.config.history_sigma
    context = Context(torch.randn(BATCH, 2, CHANNELS, SIZE, WIDTH, generator=generator))
    frames = torch.randn(BATCH, length, CHANNELS, SIZE, WIDTH, generator=generator)
    action = torch.randn(BATCH, length, 3, generator=generator) * 0.5
    cache, newest = denoiser.start_stream(context), context
    for step in range(length):
        now = slice(step, step + 1)
        noisy, sigma = frames[:, now] + 1.0, torch.full((BATCH, 1), 1.5)
        streamed = denoiser.denoise_next(noisy, sigma, newest, action[:, now], cache)
        levels = torch.cat([torch.full((BATCH, step), past), sigma], dim=1)
        sequence = torch.cat([frames[:, :step], noisy], dim=1)
        whole = denoiser.denoise(sequence, levels, context, action[:, : step + 1])[:, -1:]
        assert (streamed - whole).abs().max() < 1e-5 * whole.abs().max()
        denoiser.commit(frames[:, now], newest, action[:, now], cache)
        newest = Context(frames[:, now])
    assert cache.num_frames == 2 + length


@pytest.mark.parametrize("variant", ["wan-causal", "ltx-causal", "cosmos"])
def test_models_that_cannot_stream_say_so(variant: str) -> None:
    denoiser = tiny(variant)
    with pytest.raises(ConfigError, match="cache" if "causal" in variant else "causal: true"):
        denoiser.start_stream(inputs_for(denoiser)[2])

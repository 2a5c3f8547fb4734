"""Adapting pretrained backbones: every weight kept, actions without effect at first, saved to the bit, any robot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import egowm_core
from egowm_core import Frames, WorldModel, load_embodiment, load_world_model
from egowm_core.adapt import adapt_backbone
from egowm_core.adapt_cli import main
from egowm_core.checkpoint import load_checkpoint
from egowm_core.diffusion.denoiser import Context
from egowm_core.embodiment import Embodiment
from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.causal import transfer_kernel
from egowm_core.models.pretrained import LAYOUTS, open_pretrained
from egowm_core.saving import save_world_model
from tests.core import tiny_sources
from tests.core.adapted_models import HORIZON, SIZE, adapted

tiny = tiny_sources.tiny

FACTORS = {"svd": 1, "cosmos": 4, "wan": 4, "ltx": 8}
every_backbone = pytest.mark.parametrize("backbone", FACTORS)


def pictures(model: WorldModel, seed: int = 0) -> np.ndarray:
    shape = (1, model.context_frames, *SIZE, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def moves(model: WorldModel, length: int, value: float = 0.5) -> np.ndarray:
    """Actions at ``value`` of their limits."""
    return np.broadcast_to(value * model.embodiment.limits[:, 1], (1, length, model.embodiment.action_dim)).copy()


def resting(model: WorldModel) -> np.ndarray | None:
    states = len(model.embodiment.states)
    return np.zeros((1, states), np.float32) if states else None


@every_backbone
def test_two_chunks_are_predicted_and_actions_have_no_effect_yet(backbone: str, tiny: Callable[..., Path]) -> None:
    model = adapted(backbone, tiny(backbone))
    assert (model.vae.temporal_factor, model.horizon, model.context_frames) == (FACTORS[backbone], HORIZON, 1)
    assert model.denoiser.config.horizon == HORIZON // FACTORS[backbone]
    context = pictures(model)
    ahead, back = (
        model.predict(context, moves(model, HORIZON + 3, value), num_denoising_steps=2).images for value in (0.9, -0.9)
    )
    assert ahead.shape == (1, HORIZON + 3, *SIZE, 3)
    assert np.array_equal(ahead, back)
    assert ahead.std() > 0 and not np.array_equal(ahead[:, :3], ahead[:, HORIZON:])
    elsewhere = model.predict(pictures(model, 1), moves(model, HORIZON + 3), num_denoising_steps=2).images
    assert not np.array_equal(ahead, elsewhere)


@every_backbone
def test_every_pretrained_weight_is_in_it_and_an_action_path_that_learns(
    backbone: str, tiny: Callable[..., Path]
) -> None:
    model = adapted(backbone, tiny(backbone))
    opened = open_pretrained(tiny(backbone), backbone=backbone, text="zeros")
    denoiser: Any = model.denoiser
    for mine, released in ((denoiser.stock, opened.network), (model.vae, opened.autoencoder)):
        expected, found = released.state_dict(), mine.state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(value, found[name]) for name, value in expected.items())
    last = denoiser.action_encoder.mlp[-1]
    assert not last.weight.any()
    with torch.no_grad():
        last.weight.normal_(std=0.5)
    context = pictures(model)
    assert not np.array_equal(
        model.predict(context, moves(model, HORIZON, 0.9), num_denoising_steps=1).images,
        model.predict(context, moves(model, HORIZON, -0.9), num_denoising_steps=1).images,
    )


@every_backbone
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saving_and_loading_predicts_the_same_bits(
    backbone: str, dtype: torch.dtype, tiny: Callable[..., Path], tmp_path: Path
) -> None:
    model = adapted(backbone, tiny(backbone), dtype=dtype)
    denoiser: Any = model.denoiser
    with torch.no_grad():
        denoiser.action_encoder.mlp[-1].weight.normal_(std=0.5)  # as if trained: no longer exact in half precision
    save_world_model(model, tmp_path / "saved", card="# a card\n", dtype=dtype)
    loaded = load_world_model(tmp_path / "saved", bf16=False)
    context, actions = pictures(model), moves(model, HORIZON)
    expected, found = (each.predict(context, actions, num_denoising_steps=2).images for each in (model, loaded))
    assert np.array_equal(expected, found)
    stored = load_checkpoint(tmp_path / "saved")
    assert stored.card == "# a card\n" and stored.config["sampling"]["sigma_max"] == model.plan.sigma_max
    stock = {value.dtype for name, value in stored.weights.items() if ".blocks." in name or ".conv_in." in name}
    assert stored.weights["denoiser.action_encoder.mlp.4.weight"].dtype == torch.float32
    assert not stock or dtype in stock
    assert stored.norm_stats.count == 0  # nothing was measured, and it says so
    assert stored.norm_stats.channels["dx"].max == model.embodiment.channels[0].limits[1]


def test_nothing_is_overwritten_but_a_checkpoint(tiny: Callable[..., Path], tmp_path: Path) -> None:
    model = adapted("cosmos", tiny("cosmos"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "precious.txt").write_text("keep")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        save_world_model(model, tmp_path / "notes", card="")
    assert (tmp_path / "notes" / "precious.txt").read_text() == "keep"
    for _ in range(2):
        save_world_model(model, tmp_path / "model", card="")
    assert load_world_model(tmp_path / "model").name == "cosmos_base_3dof"


@pytest.mark.parametrize("backbone", [name for name in FACTORS if LAYOUTS[name].text_encoder])
def test_the_empty_prompt_goes_into_the_checkpoint(backbone: str, tiny: Callable[..., Path], tmp_path: Path) -> None:
    directory = tiny(backbone, text_encoder=True)
    tokens = open_pretrained(directory, backbone=backbone).null_tokens
    model = adapted(backbone, directory, text=None)
    denoiser: Any = model.denoiser
    assert torch.equal(denoiser.null_tokens, tokens) and tokens.any()
    assert denoiser.config.num_tokens == tokens.shape[1]
    context = Context(
        torch.zeros(1, 1, *[getattr(denoiser.config, f"latent_{x}") for x in ("channels", "height", "width")])
    )
    noisy = torch.ones(1, denoiser.config.horizon, *context.latents.shape[2:])
    arguments = (noisy, torch.ones(1, denoiser.config.horizon), context, torch.zeros(1, HORIZON, 3))
    with torch.no_grad():
        expected = denoiser.denoise(*arguments)
        save_world_model(model, tmp_path / "saved", card="")
        assert torch.equal(load_world_model(tmp_path / "saved").denoiser.denoise(*arguments), expected)
        denoiser.null_tokens.zero_()
        assert not torch.equal(denoiser.denoise(*arguments), expected)


def test_causal_svd_takes_transferred_weights_and_streams(tiny: Callable[..., Path], tmp_path: Path) -> None:
    model = adapted("svd", tiny("svd"), causal=True, context_frames=2, transfer="masked")
    opened = open_pretrained(tiny("svd"), backbone="svd")
    name = next(n for n, value in opened.network.named_parameters() if value.ndim == 5 and value.shape[2] == 3)
    denoiser: Any = model.denoiser
    expected = transfer_kernel(opened.network.get_parameter(name), "masked")
    assert torch.equal(denoiser.unet.get_parameter(name), expected)
    save_world_model(model, tmp_path / "saved", card="")
    loaded = load_world_model(tmp_path / "saved", bf16=False)  # transferred once, not again
    assert torch.equal(loaded.denoiser.unet.get_parameter(name), expected)  # type: ignore[attr-defined]
    context = Frames(pictures(model)[0], np.array([0, 250_000_000], np.int64))
    actions = list(moves(model, HORIZON + 4)[0])  # beyond a chunk, and beyond the attention's window
    streams = [
        [step.frames.images[0] for step in each.stream(context, iter(actions), num_denoising_steps=1)]
        for each in (model, loaded)
    ]
    assert len(streams[0]) == HORIZON + 4 and np.array_equal(streams[0], streams[1])
    early = [step.frames.images[0] for step in model.stream(context, iter(actions[:3]), num_denoising_steps=1)]
    assert np.array_equal(early, streams[0][:3])


def six_joints() -> Embodiment:
    arm = load_embodiment("manipulator_7dof")
    return replace(arm, name="arm_6", channels=arm.channels[:6])


@pytest.mark.parametrize(
    ("embodiment", "width"),
    [
        ("base_3dof", 3),
        ("camera_6dof", 6),
        (six_joints(), 6),
        ("manipulator_7dof", 7),
        ("humanoid_25dof", 25),
        ("unitree_g1_26", 26),
    ],
)
@pytest.mark.parametrize("backbone", ["svd", "cosmos"])
def test_robots_of_any_width_without_a_change(
    backbone: str, embodiment: Embodiment | str, width: int, tiny: Callable[..., Path]
) -> None:
    model = adapted(backbone, tiny(backbone), embodiment)
    assert model.embodiment.action_dim == width and model.name.startswith(backbone)
    predicted = model.predict(pictures(model), moves(model, 9), state=resting(model), num_denoising_steps=1).images
    assert predicted.shape == (1, 9, *SIZE, 3)


def test_from_scratch_keeps_the_autoencoder_alone(tiny: Callable[..., Path]) -> None:
    before = torch.get_rng_state()
    loaded, first, again, other = (
        adapted("cosmos", tiny("cosmos"), **options)
        for options in ({}, {"from_scratch": True}, {"from_scratch": True}, {"from_scratch": True, "seed": 1})
    )
    assert torch.equal(before, torch.get_rng_state())

    def weight(model: WorldModel, part: str) -> torch.Tensor:
        module: Any = getattr(model, part)
        return next(value for value in module.parameters() if value.ndim > 1)

    assert all(torch.equal(weight(loaded, "vae"), weight(each, "vae")) for each in (first, other))
    assert not torch.equal(weight(loaded, "denoiser"), weight(first, "denoiser"))
    assert torch.equal(weight(first, "denoiser"), weight(again, "denoiser"))
    assert not torch.equal(weight(first, "denoiser"), weight(other, "denoiser"))


def test_what_cannot_be_is_refused_with_the_remedy(tiny: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"stable-video-diffusion.*egowm-train"):
        adapt_backbone("svd", "base_3dof")
    with pytest.raises(ConfigError, match="did you mean 'cosmos'"):
        adapted("cosmo", tiny("cosmos"))
    with pytest.raises(ConfigError, match=r"30 x 48.*multiples of 16"):
        adapted("svd", tiny("svd"), size=(30, 48))
    with pytest.raises(ConfigError, match="multiple of 4"):
        adapted("wan", tiny("wan"), horizon=6)
    with pytest.raises(ConfigError, match=r"context_frames 1 \+ n \* 4"):
        adapted("wan", tiny("wan"), context_frames=2)
    assert adapted("wan", tiny("wan"), context_frames=5).denoiser.config.context_frames == 2
    with pytest.raises(ConfigError, match="context_frames 1, or causal"):
        adapted("svd", tiny("svd"), context_frames=2)
    with pytest.raises(ConfigError, match="did you mean 'history_sigma'"):
        adapted("svd", tiny("svd"), history_sgma=0.1)
    with pytest.raises(ConfigError, match="latent_channels follows from the source"):
        adapted("svd", tiny("svd"), latent_channels=8)
    with pytest.raises(CheckpointError, match="UNetSpatioTemporalConditionModel"):
        adapted("svd", tiny("wan"))


def test_command_line(tiny: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    arguments = ["cosmos", str(tiny("cosmos")), str(out), "--embodiment", "base_3dof", "--text", "zeros", "--offline"]
    arguments += ["--size", "32x48", "--dtype", "bfloat16", "--json", str(figures)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "latents 4 x 4 x 6" in printed and "parameters in the denoiser" in printed
    values = json.loads(figures.read_text())
    assert values["latents"] == [4, 4, 6] and values["horizon"] == 8 and values["revision"] is None
    stored = load_checkpoint(out)
    assert stored.embodiment.camera().height == 32
    assert str(tmp_path) not in stored.card + str(stored.config) and str(tiny("cosmos").parent) not in str(
        stored.config
    )
    transformer = [value.dtype for name, value in stored.weights.items() if ".transformer_blocks." in name]
    assert set(transformer) == {torch.bfloat16}
    assert load_world_model(out).horizon == 8
    for wrong, message in (
        (["--size", "32"], "HEIGHTxWIDTH"),
        (["--horizon", "3"], "multiple of 4"),
        (["--embodiment", "base_3dofs"], "did you mean 'base_3dof'"),
    ):
        assert main([*arguments, *wrong]) == 1
        error = capsys.readouterr().err
        assert error.startswith("egowm-adapt: ") and message in error
    assert main(["svd", "an-org/not-cached", str(tmp_path / "x"), "--embodiment", "base_3dof", "--offline"]) == 1
    assert "an-org/not-cached" in capsys.readouterr().err
    assert main(["svd", str(tiny("svd")), str(tmp_path), "--embodiment", "base_3dof"]) == 1
    assert "no checkpoint" in capsys.readouterr().err


def test_it_is_part_of_the_public_api() -> None:
    assert egowm_core.adapt_backbone is adapt_backbone and "adapt_backbone" in egowm_core.__all__

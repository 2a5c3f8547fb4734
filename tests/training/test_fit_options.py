"""What a training run can be asked for beyond the plain one: noise by frame, dropped actions, low rank, backbones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from egowm_core import load_world_model
from egowm_core.adapt import adapt_backbone
from egowm_core.checkpoint import load_checkpoint
from egowm_core.diffusion.denoiser import Context
from egowm_core.diffusion.losses import denoising_loss
from egowm_core.embodiment import Embodiment
from egowm_core.models.registry import denoiser_config
from egowm_core.saving import save_world_model
from tests.fixtures.tiny_pipelines import save_tiny_pipeline
from tests.training import fit_runs
from tests.training.fit_fixtures import COSMOS, UNET
from tests.training.fit_runs import SIZE, configured, denoiser_weights, differ, exported, starting_from
from training.dataset.reader import Dataset
from training.fit.autoencoder import load_autoencoder
from training.fit.clips import open_dataset
from training.fit.denoiser import learning_rates
from training.fit.draws import Draw, StepDraws, in_latent_space
from training.fit.initial import initial_denoiser, merged_denoiser_config
from training.fit.lora import add_lora
from training.fit.mixture import Mixture, Source
from training.fit.objective import LOSS, Objective
from training.train import train
from training.variants import merge

robot, root = fit_runs.robot, fit_runs.root

LATENTS = {name: UNET[name] for name in ("latent_channels", "latent_height", "latent_width")}


@pytest.fixture(scope="module")
def adapted(root: Path, robot: Embodiment) -> Callable[[str], str]:
    def get(backbone: str) -> str:
        directory = root / f"adapted_{backbone}"
        if not directory.exists():
            source = save_tiny_pipeline(root / f"tiny_{backbone}", backbone)
            horizon = 8 if backbone == "ltx" else 4  # LTX has eight frames in a latent
            model = adapt_backbone(backbone, robot, source=source, text="zeros", horizon=horizon)
            save_world_model(model, directory, card="# adapted\n")
        return str(directory)

    return get


def draws(root: Path, out: Path, *, batch_size: int, **changes: Any) -> StepDraws:
    """Of a run whose clips are encoded on the way."""
    config = configured(root, out, **merge({"denoiser_run": {"batch_size": batch_size}}, changes))
    dataset = Dataset(root / "dataset")
    training, validation = open_dataset(dataset, context=1, horizon=4, held_out=1)
    mixture = Mixture((Source(dataset, 1.0, training, validation),))
    _, fields = denoiser_config(merged_denoiser_config(config))
    return StepDraws(mixture, config.denoiser_run, fields, [None], seed=config.seed)


def loss_of(root: Path, denoiser: Any, draw: Draw, robot: Embodiment) -> Tensor:
    loaded = load_autoencoder(configured(root, "autoencoder"), root / "autoencoder")
    assert loaded is not None
    context, future = in_latent_space(draw, loaded[0], robot, horizon=4)
    loss: Tensor = Objective(denoiser)(LOSS, "", future, context, draw.actions, draw.sigma, draw.noise)
    return loss


@pytest.mark.parametrize("forcing", [True, False])
def test_diffusion_forcing_gives_each_frame_its_level(
    root: Path, robot: Embodiment, tmp_path: Path, forcing: bool
) -> None:
    run = {"denoiser_run": {"diffusion_forcing": forcing}}
    denoiser: Any = initial_denoiser(configured(root, tmp_path, **run), robot)
    levels: list[Tensor] = []
    denoiser.unet.time_proj.register_forward_pre_hook(lambda module, args: levels.append(args[0].detach().clone()))
    (draw,) = draws(root, tmp_path, batch_size=3, **run)[0]
    loss = loss_of(root, denoiser, draw, robot)
    loss.backward()
    assert torch.isfinite(loss) and denoiser.unet.conv_out.weight.grad.any()
    assert len(torch.cat(levels).unique()) == (12 if forcing else 3)


def test_the_objective_is_the_cores_with_noise_that_is_given(root: Path, robot: Embodiment, tmp_path: Path) -> None:
    denoiser: Any = initial_denoiser(configured(root, tmp_path), robot)
    torch.nn.init.normal_(denoiser.unet.conv_out.weight)
    clean, actions = torch.randn(2, 4, 16, 4, 6), torch.rand(2, 4, 3)
    context, sigma = Context(clean[:, :1]), torch.tensor([[0.5], [3.0]])
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(7))
    wanted = denoising_loss(
        denoiser,
        clean,
        sigma=sigma.expand(2, 4),
        context=context,
        action=actions,
        preconditioning=denoiser.preconditioning,
        noise=noise,
    )
    assert torch.equal(Objective(denoiser).loss(clean, context, actions, sigma, noise), wanted)


def test_actions_are_dropped_by_frame_or_by_clip(root: Path, tmp_path: Path) -> None:
    run = {"denoiser_run": {"action_dropout": 0.3}}
    for causal in (True, False):
        steps = draws(root, tmp_path, batch_size=8, denoiser={"causal": causal}, **run)
        drawn = [draw.action_known for step in range(60) for draw in steps[step]]
        known = torch.cat([each for each in drawn if each is not None])
        assert known.shape == (480, 4)
        assert float(known.float().mean()) == pytest.approx(0.7, abs=0.06)
        assert bool((known == known[:, :1]).all()) is not causal
    assert draws(root, tmp_path, batch_size=8)[0][0].action_known is None


def test_dropped_actions_teach_the_action_path_nothing(root: Path, robot: Embodiment, tmp_path: Path) -> None:
    gradients = []
    for dropout in (1.0, 0.0):
        run = {"denoiser_run": {"action_dropout": dropout}}
        denoiser: Any = initial_denoiser(configured(root, tmp_path, **run), robot)
        torch.nn.init.normal_(denoiser.unet.conv_out.weight)
        torch.nn.init.normal_(denoiser.action_encoder.mlp[-1].weight)
        (draw,) = draws(root, tmp_path, batch_size=2, **run)[0]
        loss_of(root, denoiser, draw, robot).backward()
        gradients.append([value.grad for value in denoiser.action_encoder.parameters()])
    assert not any(gradient.any() for gradient in gradients[0] if gradient is not None)
    assert all(gradient is not None and gradient.any() for gradient in gradients[1])


@pytest.mark.parametrize("backbone", ["svd", "cosmos", "wan", "ltx"])
def test_low_rank_updates_leave_the_base_frozen_and_are_merged(
    root: Path, robot: Embodiment, tmp_path: Path, backbone: str, adapted: Callable[[str], str]
) -> None:
    run = {"lora_rank": 2, "ema_decay": 0.0, "learning_rate": 1e-2}
    config = replace(starting_from(root, tmp_path, adapted(backbone), denoiser_run=run), vae={}, autoencoder_from="")
    start = initial_denoiser(config, robot)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    add_lora(start, rank=2)
    trainable = {name for name, value in start.named_parameters() if value.requires_grad}
    stock = {name for name in trainable if name.startswith(("unet.", "transformer."))}
    assert stock and all(".lora_" in name for name in stock)
    assert all(name.startswith(("action_encoder.", "context_token.")) for name in trainable - stock)
    after = exported(config)
    state = load_file(tmp_path / "denoiser.safetensors")
    based = {
        n.removeprefix("module.").replace(".base_layer", ""): v for n, v in state.items() if n.startswith("module.")
    }
    frozen = {name for name in before if name.startswith(("unet.", "transformer."))}
    assert all(torch.equal(based[name], before[name]) for name in frozen)
    assert after.keys() == before.keys()  # stock names: it loads as any other
    merged = {name for name in frozen if (after[name] - before[name]).abs().max() > 5e-4}  # float16 rounds by less
    updated = {
        n.removeprefix("module.").split(".lora_B")[0] + ".weight"
        for n in state
        if n.startswith("module.") and ".lora_B" in n
    }
    assert len(merged) > len(updated) / 2 and merged <= updated
    load_world_model(tmp_path / "checkpoint")


@pytest.mark.parametrize("causal", [False, True])
def test_gradient_checkpointing_trains_the_same_weights(root: Path, tmp_path: Path, causal: bool) -> None:
    section = {"causal": causal}
    plain = exported(configured(root, tmp_path / "plain", denoiser=section))
    saving = configured(root, tmp_path / "saving", denoiser=section, denoiser_run={"gradient_checkpointing": True})
    for name, value in exported(saving).items():
        assert torch.allclose(value, plain[name], rtol=1e-3, atol=1e-5), name


def test_learning_rates_of_the_action_path_are_real(root: Path, robot: Embodiment, tmp_path: Path) -> None:
    """The first step of Adam moves a weight by its rate, wherever there is a gradient."""
    run = {"steps": 1, "learning_rate": 1e-4, "action_learning_rate_scale": 10.0, "weight_decay": 0.0}
    config = configured(root, tmp_path, denoiser_run=run)
    denoiser = initial_denoiser(config, robot)
    torch.nn.init.normal_(denoiser.unet.conv_out.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    groups = learning_rates(Objective(denoiser), config.denoiser_run)
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1e-3])
    assert sum(len(group["params"]) for group in groups) == len(list(denoiser.parameters()))  # type: ignore[arg-type]
    checkpoint = tmp_path / "awake"
    parent = configured(root, checkpoint, denoiser_run={"steps": 1})
    train(parent)
    config = starting_from(root, tmp_path / "run", str(checkpoint / "checkpoint"), denoiser_run=run)
    start = {name: value.clone() for name, value in initial_denoiser(config, robot).state_dict().items()}
    train(config)
    state = load_file(tmp_path / "run" / "denoiser.safetensors")
    moved = {name: float((state[f"module.{name}"] - value).abs().max()) for name, value in start.items()}
    assert before.keys() == moved.keys()
    assert moved["action_encoder.mlp.4.bias"] == pytest.approx(1e-3, rel=0.02)
    assert moved["unet.conv_out.weight"] == pytest.approx(1e-4, rel=0.02)
    assert max(moved[name] for name in moved if name.startswith("unet.")) < 1.1e-4


def predicts(checkpoint: Path) -> None:
    model = load_world_model(checkpoint, bf16=False)
    length = model.horizon + 1
    context = np.zeros((1, model.context_frames, *SIZE, 3), np.uint8)
    images = model.predict(context, np.full((1, length, 3), 0.05), num_denoising_steps=1).images
    assert images.shape == (1, length, *SIZE, 3)


@pytest.mark.parametrize(
    "denoiser",
    [
        {**COSMOS, "preconditioning": "flow"},
        {**COSMOS, "causal": True, "context_frames": 2},
        {"backbone": "nwm", **LATENTS, "horizon": 1, "context_frames": 4, "hidden_dim": 32, "depth": 1, "num_heads": 2},
    ],
    ids=["cosmos-flow", "cosmos-causal", "nwm"],
)
def test_other_backbones_train(root: Path, robot: Embodiment, tmp_path: Path, denoiser: dict[str, Any]) -> None:
    config = replace(configured(root, tmp_path, denoiser_run={"steps": 4}), denoiser=denoiser)
    start = {name: value.half().float() for name, value in initial_denoiser(config, robot).state_dict().items()}
    moved = differ(exported(config), start)
    assert "action_encoder.mlp.4.weight" in moved and len(moved) > len(start) / 2
    predicts(tmp_path / "checkpoint")
    curve = (tmp_path / "curve.csv").read_text().splitlines()
    assert curve[0] == "step,none_true,none_wrong,copy" and "nan" not in curve[1]


@pytest.mark.parametrize("backbone", ["svd", "cosmos", "wan", "ltx"])
def test_pretrained_backbones_are_fine_tuned(
    backbone: str, root: Path, tmp_path: Path, adapted: Callable[[str], str]
) -> None:
    """Where a latent is several frames, it is made on the way; where it is one, the store serves."""
    parent = adapted(backbone)
    config = replace(starting_from(root, tmp_path, parent), vae={}, autoencoder_from="")
    before, after = denoiser_weights(parent), exported(config)
    moved = differ(after, {name: value.half().float() for name, value in before.items()})
    assert "action_encoder.mlp.4.weight" in moved and any(name.startswith(("unet.", "transformer.")) for name in moved)
    assert bool(list(tmp_path.glob("latents_*.npy"))) is (backbone == "svd")
    kept = load_checkpoint(parent).weights
    assert all(
        torch.equal(value.float(), kept[name].half().float())
        for name, value in load_checkpoint(tmp_path / "checkpoint").weights.items()
        if name.startswith("vae.")
    )
    predicts(tmp_path / "checkpoint")

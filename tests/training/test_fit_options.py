"""What a training run can be asked for beyond the plain one: other starts, causality, low rank, dropping, backbones."""

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

from egowm_core import load_embodiment, load_world_model
from egowm_core.adapt import adapt_backbone
from egowm_core.checkpoint import load_checkpoint
from egowm_core.diffusion.denoiser import Context
from egowm_core.diffusion.losses import denoising_loss
from egowm_core.embodiment import Embodiment
from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.causal import causalise_unet
from egowm_core.models.registry import build_denoiser, denoiser_config
from egowm_core.saving import save_world_model
from tests.fixtures.tiny_pipelines import save_tiny_pipeline
from tests.training.fit_fixtures import COSMOS, UNET, small_dataset
from training.config import TrainConfig, train_config
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

SIZE = (32, 48)  # pixels
LATENTS = {name: UNET[name] for name in ("latent_channels", "latent_height", "latent_width")}
SETTINGS: dict[str, Any] = {
    "threads": 1,
    "validation_episodes": 1,
    "vae": {"block_out_channels": [32, 32], "linear_encoder": True},
    "autoencoder_run": {"steps": 1, "batch_size": 2, "basis_frames": 40},
    "denoiser": UNET,
    "denoiser_run": {"steps": 2, "batch_size": 2, "validation_clips": 3, "warmup_steps": 1, "learning_rate": 1e-3},
    "sampling": {"num_denoising_steps": 1},
    "watch": {"rollouts_every": 0},
}


@pytest.fixture(scope="module")
def robot() -> Embodiment:
    return load_embodiment("base_3dof").with_camera_size(*SIZE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, robot: Embodiment) -> Path:
    """A dataset seen at a camera size of its own, and an autoencoder trained on it."""
    root = tmp_path_factory.mktemp("root")
    small_dataset(root / "dataset", embodiment=robot)
    train(configured(root, "autoencoder"), stage="autoencoder")
    return root


def configured(root: Path, out: str | Path, **changes: Any) -> TrainConfig:
    values = {"name": "small", "dataset": str(root / "dataset"), "out": str(root / out)}
    values |= {} if out == "autoencoder" else {"autoencoder_from": str(root / "autoencoder")}
    return train_config(merge(SETTINGS | values, changes), "test")


@pytest.fixture(scope="module")
def passive(root: Path) -> str:
    """The checkpoint of a video model that knows no actions."""
    train(configured(root, "passive", denoiser={"passive": True}))
    return str(root / "passive" / "checkpoint")


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


def starting_from(
    root: Path, out: str | Path, parent: str, *, denoiser: dict[str, Any] | None = None, **changes: Any
) -> TrainConfig:
    """As :func:`configured`, with a ``denoiser`` section of nothing but what is given."""
    config = configured(root, out, **merge({"denoiser_run": {"init_from": parent}}, changes))
    return replace(config, denoiser=denoiser or {})


def denoiser_weights(checkpoint: str | Path) -> dict[str, Tensor]:
    weights = load_checkpoint(checkpoint).weights
    return {k.removeprefix("denoiser."): v.float() for k, v in weights.items() if k.startswith("denoiser.")}


def exported(config: TrainConfig) -> dict[str, Tensor]:
    train(config)
    return denoiser_weights(Path(config.out) / "checkpoint")


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


def test_a_passive_model_gains_actions_and_loses_nothing(
    root: Path, robot: Embodiment, passive: str, tmp_path: Path
) -> None:
    before = denoiser_weights(passive)
    assert not any(name.startswith("action_encoder.") for name in before)
    config = starting_from(root, tmp_path, passive)
    denoiser = initial_denoiser(config, robot)
    after = denoiser.state_dict()
    assert before.keys() == {name for name in after if not name.startswith("action_encoder.")}
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert denoiser.action_encoder is not None and not denoiser.action_encoder.mlp[-1].weight.any()
    trained = exported(config)
    assert trained["action_encoder.mlp.4.weight"].any()
    model = load_world_model(tmp_path / "checkpoint")
    assert not model.denoiser.config.passive
    card = load_checkpoint(tmp_path / "checkpoint").card
    assert "passive/checkpoint" in card and str(root) not in card


@pytest.mark.parametrize("transfer", ["masked", "extrapolative"])
def test_a_causal_start_is_the_surgery_on_the_passive_weights(
    root: Path, robot: Embodiment, passive: str, tmp_path: Path, transfer: str
) -> None:
    config = starting_from(root, tmp_path, passive, denoiser={"causal": True, "transfer": transfer})
    denoiser: Any = initial_denoiser(config, robot)
    parent: Any = build_denoiser(load_checkpoint(passive).config["denoiser"], robot)
    parent.load_state_dict(denoiser_weights(passive))
    untouched = {name: value.clone() for name, value in parent.unet.state_dict().items()}
    causalise_unet(parent.unet, transfer=transfer, window=5)
    assert not differ(denoiser.unet.state_dict(), parent.unet.state_dict())
    assert differ(denoiser.unet.state_dict(), untouched)
    assert denoiser.config.causal and denoiser.action_encoder.config.motion == "tick"


def test_null_tokens_survive_the_step_to_a_causal_model(root: Path, robot: Embodiment, tmp_path: Path) -> None:
    source = save_tiny_pipeline(tmp_path / "tiny", "cosmos")
    model = adapt_backbone("cosmos", robot, source=source, text="zeros", horizon=4)
    model.denoiser.null_tokens.fill_(0.25)  # type: ignore[union-attr, operator]
    save_world_model(model, tmp_path / "adapted", card="")
    config = starting_from(root, tmp_path / "run", str(tmp_path / "adapted"), denoiser={"causal": True})
    denoiser = initial_denoiser(config, robot)
    assert denoiser.config.causal and denoiser.null_tokens.eq(0.25).all()


def test_from_scratch_takes_the_architecture_alone(root: Path, robot: Embodiment, passive: str, tmp_path: Path) -> None:
    config = starting_from(root, tmp_path, passive, denoiser_run={"from_scratch": True})
    denoiser = initial_denoiser(config, robot)
    torch.manual_seed(config.seed)
    fresh = build_denoiser(merged_denoiser_config(config), robot)
    assert not differ(denoiser.state_dict(), fresh.state_dict())
    assert "unet.conv_in.weight" in differ(
        {name: value for name, value in denoiser.state_dict().items() if not name.startswith("action_encoder.")},
        denoiser_weights(passive),
    )
    assert denoiser.config.block_out_channels == [32, 64]  # type: ignore[attr-defined]


def test_an_action_path_is_taken_over_whole_or_not_at_all(root: Path, robot: Embodiment, tmp_path: Path) -> None:
    parent = configured(root, tmp_path / "parent", denoiser={"context_token": False})
    before = exported(parent)
    checkpoint = str(tmp_path / "parent" / "checkpoint")
    again = initial_denoiser(starting_from(root, tmp_path, checkpoint), robot)
    assert not differ(again.state_dict(), before)
    other = initial_denoiser(
        starting_from(root, tmp_path, checkpoint, denoiser={"action": {"num_frequencies": 3}}), robot
    )
    assert other.action_encoder is not None and not other.action_encoder.mlp[-1].weight.any()
    renamed = replace(robot, channels=(replace(robot.channels[0], name="speed"), *robot.channels[1:]))
    elsewhere = initial_denoiser(starting_from(root, tmp_path, checkpoint), renamed)
    assert elsewhere.action_encoder is not None and not elsewhere.action_encoder.mlp[-1].weight.any()


def test_starts_that_cannot_be_are_refused(root: Path, robot: Embodiment, passive: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"svd model.*cosmos.*leave denoiser\.backbone out"):
        train(starting_from(root, tmp_path, passive, denoiser={"backbone": "cosmos"}))
    with pytest.raises(ConfigError, match=r"do not fit, the first is unet.*\(64.*found \(32"):
        initial_denoiser(starting_from(root, tmp_path, passive, denoiser={"block_out_channels": [64, 64]}), robot)
    with pytest.raises(ConfigError, match="do not fit"):
        changed = {"causal": True, "block_out_channels": [64, 64]}
        initial_denoiser(starting_from(root, tmp_path, passive, denoiser=changed), robot)
    with pytest.raises(ConfigError, match=r"latent_height': 4.*latent_height': 8"):
        train(starting_from(root, tmp_path, passive, denoiser={"latent_height": 8}))
    with pytest.raises(CheckpointError, match="no such directory"):
        train(starting_from(root, tmp_path, str(tmp_path / "nowhere")))
    with pytest.raises(CheckpointError, match="not the configuration of a checkpoint"):
        (tmp_path / "odd").mkdir()
        (tmp_path / "odd" / "config.yaml").write_text("[]")
        train(starting_from(root, tmp_path, str(tmp_path / "odd")))
    with pytest.raises(CheckpointError, match="no denoiser yet"):
        train(configured(root, tmp_path / "empty"), stage="export")
    causal = configured(root, tmp_path / "causal", denoiser={"causal": True}, denoiser_run={"steps": 1})
    train(causal)
    with pytest.raises(ConfigError, match="cannot be undone"):
        train(starting_from(root, tmp_path, str(tmp_path / "causal" / "checkpoint"), denoiser={"causal": False}))


def test_settings_that_do_not_fit_are_refused(root: Path, passive: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="context_warp"):
        train(configured(root, tmp_path, denoiser_run={"warp_shares": {"none": 0.5, "floor": 0.5}}))
    with pytest.raises(ConfigError, match="no actions to drop"):
        train(starting_from(root, tmp_path, passive, denoiser={"passive": True}, denoiser_run={"action_dropout": 0.1}))
    with pytest.raises(ConfigError, match=r"lora_rank 4.*init_from"):
        train(configured(root, tmp_path, denoiser_run={"lora_rank": 4}))
    with pytest.raises(ConfigError, match=r"device 'nowhere'.*use cpu"):
        train(configured(root, tmp_path, device="nowhere"))
    with pytest.raises(ConfigError, match=r"state_dim is 2.*has 0 states"):
        train(configured(root, tmp_path, denoiser={"action": {"state_dim": 2}}))


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


def test_an_interrupted_causal_run_ends_with_the_same_weights(
    root: Path, passive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {
        "denoiser": {"causal": True},
        "denoiser_run": {"steps": 3, "diffusion_forcing": True, "action_dropout": 0.2},
        "save_every_s": 0.0,
    }
    whole = exported(starting_from(root, tmp_path / "whole", passive, **changes))
    original, calls = torch.optim.AdamW.step, []

    def fail_in_the_middle(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    broken = starting_from(root, tmp_path / "broken", passive, **changes)
    monkeypatch.setattr(torch.optim.AdamW, "step", fail_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    monkeypatch.undo()
    assert not differ(exported(broken), whole)


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

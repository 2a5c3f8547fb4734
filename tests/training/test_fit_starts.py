"""What a run can start from: passive and causal models, an architecture alone; starts and settings that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from egowm_core import load_world_model
from egowm_core.adapt import adapt_backbone
from egowm_core.checkpoint import load_checkpoint
from egowm_core.embodiment import Embodiment
from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.causal import causalise_unet
from egowm_core.models.registry import build_denoiser
from egowm_core.saving import save_world_model
from tests.fixtures.tiny_pipelines import save_tiny_pipeline
from tests.training import fit_runs
from tests.training.fit_runs import configured, denoiser_weights, differ, exported, starting_from
from training.fit.initial import initial_denoiser, merged_denoiser_config
from training.train import train

robot, root = fit_runs.robot, fit_runs.root


@pytest.fixture(scope="module")
def passive(root: Path) -> str:
    """The checkpoint of a video model that knows no actions."""
    train(configured(root, "passive", denoiser={"passive": True}))
    return str(root / "passive" / "checkpoint")


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

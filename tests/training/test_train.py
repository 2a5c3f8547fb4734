"""Training on a small real dataset: it repeats, resumes exactly, exports a checkpoint, and evaluation scores it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from egowm_core.checkpoint import load_checkpoint
from egowm_core.errors import CheckpointError, ConfigError, DataError
from tests.training.bag_fixtures import drive
from training import evaluate, train
from training.config import load_train_config
from training.convert import cli as convert
from training.fit.clips import open_dataset

SETTINGS = {
    "name": "small",
    "threads": 1,
    "validation_episodes": 1,
    "vae": {"block_out_channels": [32, 32], "linear_encoder": True},
    "autoencoder_run": {"steps": 2, "batch_size": 2, "basis_frames": 40},
    "denoiser": {
        "block_out_channels": [32, 64],
        "attention_levels": [False, True],
        "layers_per_block": 1,
        "num_attention_heads": 2,
        "context_warp": True,
    },
    "denoiser_run": {
        "steps": 4,
        "batch_size": 2,
        "validation_clips": 2,
        "warp_shares": {"floor": 0.5, "rotation": 0.25, "none": 0.25},
    },
    "sampling": {"num_denoising_steps": 1, "warp": "floor"},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for number in range(3):
        drive(root / "bags" / f"drive_{number}")
    assert (
        convert.main([str(root / "bags"), str(root / "dataset"), "--embodiment", "base_3dof", "--curate", "none"]) == 0
    )
    return root / "dataset"


def configuration(tmp_path: Path, dataset: Path, **changes: object) -> Path:
    path = tmp_path / "run.yaml"
    values = {**SETTINGS, "dataset": str(dataset), "out": str(tmp_path / "run"), **changes}
    path.write_text(yaml.safe_dump(values))
    return path


def test_interrupted_training_ends_with_the_same_weights(dataset: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert train.main([str(configuration(tmp_path / "a", dataset))]) == 0
    assert (tmp_path / "a" / "run" / "curve.png").stat().st_size > 10_000
    broken = configuration(tmp_path / "b", dataset, save_every_s=0.0)
    original, calls = torch.optim.AdamW.step, []

    def fail_in_the_middle(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 5:  # two steps of the autoencoder, then the third of the denoiser
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", fail_in_the_middle)
    assert train.main([str(broken)]) == 130
    monkeypatch.undo()
    assert train.main([str(broken)]) == 0
    weights = [load_checkpoint(tmp_path / name / "run" / "checkpoint").weights for name in "ab"]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_evaluation_prints_every_row_and_metric(dataset: Path, tmp_path: Path, capsys) -> None:
    assert train.main([str(configuration(tmp_path, dataset))]) == 0
    out = tmp_path / "evaluation.json"
    arguments = [str(tmp_path / "run" / "checkpoint"), "--dataset", str(dataset), "--clips", "4", "--min-motion", "0"]
    assert evaluate.main([*arguments, "--json", str(out), "--strips", str(tmp_path / "strips"), "--write-card"]) == 0
    assert "| model |" in load_checkpoint(tmp_path / "run" / "checkpoint").card
    rows = json.loads(out.read_text())["rows"]
    assert {"model", "model_wrong_actions", "copy_last", "warp_only", "autoencoder", "model_warp_none"} <= set(rows)
    assert set(rows["model"]["psnr"]) == {"2", "4", "8"}
    assert np.isfinite(rows["copy_last"]["psnr"]["8"])
    assert "| model |" in capsys.readouterr().out
    assert len(list((tmp_path / "strips").glob("*.png"))) == 4
    assert evaluate.main([*arguments, "--clips", "100000"]) == 1
    assert "clips move enough" in capsys.readouterr().err


def test_clips_are_drawn_from_the_dataset_s_own_windows(dataset: Path) -> None:
    data, held_out = open_dataset(dataset, context=1, horizon=8, held_out=1)
    batch = data.batch(np.array([0, len(data) - 1]))
    assert batch.images.shape[:2] == (2, 9) and batch.actions.shape == (2, 8, 3)
    episode, start = data.index[-1]
    assert np.array_equal(batch.images[1].numpy(), data.episodes[episode].frames(start, start + 9))
    assert {len(data.episodes), len(held_out.episodes)} == {2, 1}
    with pytest.raises(DataError, match="held out"):
        open_dataset(dataset, context=1, horizon=8, held_out=3)


def test_configuration_errors_name_key_and_remedy(dataset: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        load_train_config(configuration(tmp_path, dataset, sed=1))
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        load_train_config(configuration(tmp_path, dataset, denoiser_run={"batchsize": 1}))
    assert train.main([str(tmp_path / "absent.yaml")]) == 1
    assert "absent.yaml" in capsys.readouterr().err


def test_a_state_of_another_architecture_is_refused(dataset: Path, tmp_path: Path) -> None:
    assert train.main([str(configuration(tmp_path, dataset)), "--stage", "autoencoder"]) == 0
    other = configuration(tmp_path, dataset, vae={"block_out_channels": [64, 64], "linear_encoder": True})
    with pytest.raises(ConfigError, match=r"begun with vae.block_out_channels = \[32, 32\]"):
        train.train(load_train_config(other))
    (tmp_path / "run" / "run.json").write_text('{"version": 1}')  # as if it had been begun so
    with pytest.raises(CheckpointError, match="not a state of this configuration"):
        train.train(load_train_config(other))

"""Runs of a few steps on one small dataset with an autoencoder of its own, for tests of what a run can be asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from egowm_core import load_embodiment
from egowm_core.checkpoint import load_checkpoint
from egowm_core.embodiment import Embodiment
from tests.training.fit_fixtures import UNET, small_dataset
from training.config import TrainConfig, train_config
from training.train import train
from training.variants import merge

SIZE = (32, 48)  # pixels
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

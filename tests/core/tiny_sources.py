"""Directories of tiny pretrained models, each written once for a file of tests, and what such a file does with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.tiny_pipelines import save_tiny_pipeline

NAME = "an-org/a-model"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Directories by backbone, written once; tests that change one copy it."""
    made: dict[tuple[str, bool], Path] = {}

    def get(backbone: str, *, text_encoder: bool = False) -> Path:
        key = (backbone, text_encoder)
        if key not in made:
            made[key] = save_tiny_pipeline(tmp_path_factory.mktemp(backbone), backbone, text_encoder=text_encoder)
        return made[key]

    return get


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target / "model"))


def same_weights(module: torch.nn.Module, file: Path) -> bool:
    saved, loaded = load_file(str(file)), module.state_dict()
    return saved.keys() == loaded.keys() and all(torch.equal(saved[name], loaded[name]) for name in saved)


def weights_of(directory: Path, folder: str) -> Path:
    return directory / folder / "diffusion_pytorch_model.safetensors"

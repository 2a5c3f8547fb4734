"""Tiny runs for the tests of training: a dataset written straight from ticks, and settings that take a second."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file
from torch import Tensor

from egowm_core.channels import StateChannel
from egowm_core.embodiment import Embodiment
from tests.training.dataset_fixtures import build, robot
from training.config import TrainConfig, train_config
from training.variants import merge

UNET: dict[str, Any] = {
    "backbone": "svd",
    "latent_channels": 16,
    "latent_height": 4,
    "latent_width": 6,
    "block_out_channels": [32, 64],
    "attention_levels": [False, True],
    "layers_per_block": 1,
    "num_attention_heads": 2,
    "cross_attention_dim": 16,
    "horizon": 4,
}
COSMOS: dict[str, Any] = {
    "backbone": "cosmos",
    "latent_channels": 16,
    "latent_height": 4,
    "latent_width": 6,
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "num_layers": 2,
    "cross_attention_dim": 16,
    "horizon": 4,
}
SETTINGS: dict[str, Any] = {
    "name": "small",
    "device": "cpu",
    "threads": 1,
    "validation_episodes": 1,
    "workers": 0,
    "vae": {"block_out_channels": [32, 32], "linear_encoder": True},
    "autoencoder_run": {"steps": 2, "batch_size": 2, "basis_frames": 40},
    "denoiser": UNET,
    "denoiser_run": {"steps": 4, "batch_size": 4, "validation_clips": 2, "warmup_steps": 1},
    "sampling": {"num_denoising_steps": 1},
    "watch": {"rollouts_every": 0},
}


def with_states(embodiment: Embodiment, count: int = 3) -> Embodiment:
    """The same robot, with states of its own to be conditioned on."""
    return replace(embodiment, states=tuple(StateChannel(name=f"lift_{i}", unit="m", scale=3.0) for i in range(count)))


def small_dataset(path: Path, *, embodiment: Embodiment | None = None, states: int = 3) -> Path:
    """Three recordings of one to two episodes."""
    build(path, lengths=((14, 9), (12,), (11,)), tasks=("a", "b", "a"), embodiment=embodiment or robot(), states=states)
    return path


def settings(dataset: Path | None, out: Path, **changes: Any) -> dict[str, Any]:
    """A configuration as a mapping: that of the tests, with ``changes`` merged in."""
    given = {"out": str(out)} | ({"dataset": str(dataset)} if dataset else {})
    replaced = {key: changes.pop(key) for key in ("denoiser",) if "backbone" in changes.get(key, {})}
    return merge(SETTINGS | given, changes) | replaced


def configured(dataset: Path | None, out: Path, **changes: Any) -> TrainConfig:
    """As :func:`settings`, checked."""
    return train_config(settings(dataset, out, **changes), "test")


def written(path: Path, values: dict[str, Any]) -> Path:
    """A configuration as a file."""
    path.write_text(yaml.safe_dump(values))
    return path


def state_of(out: Path, stage: str = "denoiser") -> dict[str, Tensor]:
    """Everything a run would go on from."""
    return load_file(out / f"{stage}.safetensors")


def command(config: Path, *arguments: str) -> list[str]:
    """`egowm-train` as a process."""
    return [sys.executable, "-m", "training.train", str(config), *arguments]


def environment(**more: str) -> dict[str, str]:
    """For processes of tests: one thread each, and this checkout."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path, **more}


def start_together(config: Path, count: int, **more: str) -> list[subprocess.Popen[str]]:
    """``count`` processes of one run, as torchrun starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), **more}
    return [
        subprocess.Popen(
            command(config),
            env=environment(**shared, RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(count)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]


def run_together(config: Path, count: int, **more: str) -> str:
    """As :func:`start_together`, to the end; returns what the first printed. Fails if one of them does."""
    processes = start_together(config, count, **more)
    try:
        printed = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(printed)
    return printed[0]

"""Several processes train what one does; a killed run ends as if it had not been; trackers and figures."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from egowm_core.checkpoint import load_checkpoint
from egowm_core.errors import ConfigError
from tests.training.fit_fixtures import (
    COSMOS,
    UNET,
    command,
    configured,
    environment,
    run_together,
    settings,
    small_dataset,
    start_together,
    state_of,
    written,
)
from training.config import load_train_config
from training.fit import progress
from training.fit.flops import device_ceiling, pass_flop
from training.fit.processes import check_batch, start_processes
from training.train import train

SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
UNET_SHARDS = {"FSDP_TRANSFORMER_CLS_TO_WRAP": "TransformerSpatioTemporalModel,SpatioTemporalResBlock"}
SMOOTH = {"denoiser_run": {"adam_epsilon": 1e-3}}
"""By Adam's usual epsilon, gradients at the level of rounding move a weight by its whole rate, up or down by chance."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("accelerate") / "data")


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((value - other[name]).abs().max()) for name, value in one.items() if value.numel())


def until(condition: Callable[[], bool], *, seconds: float = 120.0) -> None:
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "waited in vain"
        time.sleep(0.01)


def test_two_processes_and_two_passes_train_the_weights_of_one(data: Path, tmp_path: Path) -> None:
    train(configured(data, tmp_path / "one", **SMOOTH))
    train(configured(data, tmp_path / "passes", gradient_accumulation=2, **SMOOTH))
    run_together(written(tmp_path / "two.yaml", settings(data, tmp_path / "two", **SMOOTH)), 2)
    one, passes, two = (state_of(tmp_path / name) for name in ("one", "passes", "two"))
    assert all(one[f"module.{name}"].any() for name in ("unet.conv_out.weight", "action_encoder.mlp.4.weight"))
    figures = {"processes": largest_difference(one, two), "passes": largest_difference(one, passes)}
    print("largest difference to one process in one pass:", figures)
    assert max(figures.values()) < 1e-6
    assert largest_difference(two, passes) < 1e-8  # the same halves, added up elsewhere
    assert all((tmp_path / "two" / "checkpoint" / name).is_file() for name in ("weights.safetensors", "README.md"))


def test_sharded_weights_train_stop_and_go_on_as_whole_ones(data: Path, tmp_path: Path) -> None:
    """Two processes of FSDP, killed after a saved step and run again; one process goes on with their state, too."""
    run = {"denoiser": COSMOS, "denoiser_run": {"adam_epsilon": 1e-3, "steps": 5}, "save_every_s": 0.0}
    train(configured(data, tmp_path / "one", **run))
    config = written(tmp_path / "sharded.yaml", settings(data, tmp_path / "sharded", **run))
    state = tmp_path / "sharded" / "denoiser.safetensors"
    processes = start_together(config, 2, **SHARDED)
    try:
        until(state.exists)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert not (tmp_path / "sharded" / "checkpoint").exists()
    shutil.copytree(tmp_path / "sharded", tmp_path / "alone")
    run_together(config, 2, **SHARDED)
    train(configured(data, tmp_path / "alone", **run))
    one = state_of(tmp_path / "one")
    figures = {name: largest_difference(one, state_of(tmp_path / name)) for name in ("sharded", "alone")}
    print("largest difference to one process:", figures)
    assert max(figures.values()) < 1e-6
    exported, whole = (load_checkpoint(tmp_path / name / "checkpoint").weights for name in ("sharded", "one"))
    assert (
        largest_difference({n: v.float() for n, v in exported.items()}, {n: v.float() for n, v in whole.items()}) < 1e-3
    )


def test_blocks_of_a_unet_are_sharded_with_their_hooks(data: Path, tmp_path: Path) -> None:
    """Actions enter the UNet by hooks on its blocks; sharded one by one, with rollouts and the curve between."""
    run: dict[str, Any] = {
        "denoiser_run": {"adam_epsilon": 1e-3, "steps": 4, "learning_rate": 1e-2},
        "watch": {"rollouts_every": 1, "curve_every": 2, "rollout_clips": 1},
    }
    train(configured(data, tmp_path / "one", **run))
    run_together(written(tmp_path / "a.yaml", settings(data, tmp_path / "a", **run)), 2, **SHARDED, **UNET_SHARDS)
    one, sharded = state_of(tmp_path / "one"), state_of(tmp_path / "a")
    assert one["optimizer.action_encoder.mlp.4.weight:exp_avg"].any()
    assert largest_difference(one, sharded) < 1e-6
    curves = [(tmp_path / name / "curve.csv").read_text().splitlines() for name in ("one", "a")]
    assert curves[0][0] == curves[1][0] and len(curves[1]) == 3
    for path in (tmp_path / "one" / "validation").iterdir():  # of the averaged weights
        pictures = [cv2.imread(str(tmp_path / name / "validation" / path.name)).astype(int) for name in ("one", "a")]
        assert np.abs(pictures[0] - pictures[1]).max() <= 6


def test_killed_at_any_moment_it_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    """kill -9 in the autoencoder's steps and twice in the denoiser's, at random; bit for bit."""
    run: dict[str, Any] = {
        "autoencoder_run": {"steps": 30},
        "denoiser_run": {"steps": 40, "action_dropout": 0.2},
        "save_every_s": 0.0,
        "watch": {"curve_every": 10},
        "workers": 1,
        "store_latents": False,
    }
    train(configured(data, tmp_path / "whole", **run))
    config = written(tmp_path / "killed.yaml", settings(data, tmp_path / "killed", **run))
    rng = random.Random(0)
    out = tmp_path / "killed"
    for stage in ("autoencoder", "denoiser", "denoiser"):
        process = subprocess.Popen(
            command(config), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        state = out / f"{stage}.safetensors"
        before = state.stat().st_mtime_ns if state.exists() else 0
        until(lambda state=state, before=before: state.exists() and state.stat().st_mtime_ns > before)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        assert not (out / "checkpoint").exists()
    train(load_train_config(config))
    for stage in ("autoencoder", "denoiser"):
        whole, killed = state_of(tmp_path / "whole", stage), state_of(out, stage)
        assert whole.keys() == killed.keys()
        assert all(torch.equal(value, killed[name]) for name, value in whole.items())
    assert (out / "curve.csv").read_text() == (tmp_path / "whole" / "curve.csv").read_text()


def test_a_run_goes_on_only_with_the_settings_it_began_with(data: Path, tmp_path: Path) -> None:
    train(configured(data, tmp_path / "run"))
    refused: list[tuple[dict[str, Any], str]] = [
        ({"denoiser_run": {"batch_size": 2}}, r"the denoiser was begun with denoiser_run.batch_size = 4, now it is 2"),
        ({"denoiser": {**UNET, "context_frames": 2}}, r"denoiser.context_frames = 'its default', now it is 2"),
        ({"vae": {"block_out_channels": [32, 64]}}, r"the autoencoder was begun with vae.block_out_channels"),
        ({"seed": 1}, r"seed = 0, now it is 1"),
    ]
    for changes, message in refused:
        with pytest.raises(ConfigError, match=message):
            train(configured(data, tmp_path / "run", **changes))
    with pytest.raises(ConfigError, match=r"the dataset 1 \(base_3dof\)"):
        info = shutil.copytree(data, tmp_path / "changed") / "meta" / "info.json"
        info.write_text(info.read_text() + " ")
        train(configured(tmp_path / "changed", tmp_path / "run"))
    allowed = {"workers": 1, "save_every_s": 1.0, "gradient_accumulation": 2, "name": "renamed"}
    moved = shutil.copytree(data, tmp_path / "moved")  # the same dataset elsewhere
    train(configured(moved, tmp_path / "run", **allowed))
    assert load_checkpoint(tmp_path / "run" / "checkpoint").config["name"] == "renamed"


def test_a_batch_that_cannot_be_dealt_out_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch_size 4.*1 processes in 3 passes.*multiple of 3"):
        train(configured(data, tmp_path, gradient_accumulation=3))
    config = configured(data, tmp_path)
    accelerator = start_processes(config)
    check_batch(config, accelerator)


@pytest.mark.parametrize(
    ("changes", "variables", "message"),
    [
        ({"tracker": "tensorbord"}, {}, "did you mean 'tensorboard'"),
        ({"tracker": "aim"}, {}, "aim is not installed; pip install aim"),
        ({"device": "nowhere"}, {}, "device 'nowhere'.*use cpu"),
        ({}, {"ACCELERATE_MIXED_PRECISION": "fp16"}, "mixed_precision fp16 is not supported"),
    ],
)
def test_what_accelerate_is_asked_for_is_checked(
    data: Path, tmp_path: Path, changes: dict[str, Any], variables: dict[str, str], message: str, monkeypatch: Any
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        train(configured(data, tmp_path, **changes))


def test_precision_is_the_runs_or_accelerates(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def precision(**changes: Any) -> str:
        return str(start_processes(configured(data, tmp_path, **changes)).mixed_precision)

    assert precision() == "no" and precision(bf16=True) == "bf16" and precision() == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert precision() == "bf16"


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return found | {tag: [] for tag in events.Tags()["images"]}


def test_tensorboard_shows_figures_and_pictures(data: Path, tmp_path: Path) -> None:
    watch = {"log_every": 2, "rollouts_every": 4, "rollout_clips": 1}
    figures = train(configured(data, tmp_path, tracker="tensorboard", watch=watch, denoiser_run={"steps": 8}))
    shown = scalars(tmp_path / "logs" / "small")
    assert [step for step, _ in shown["loss"]] == [2, 4, 6, 8]
    for name in ("gradient_norm", "learning_rate", "action_learning_rate", "clips_per_s", "frames_per_s", "mfu"):
        assert len(shown[name]) == 4 and all(value > 0 for _, value in shown[name]), name
    assert "validation/rollout" in shown and any(name.endswith("none_true") for name in shown)
    assert {"clips_per_s", "mfu", "tflop_per_s"} <= set(figures) and 0 < figures["mfu"] < 1
    assert figures["frames_per_s"] == pytest.approx(5 * figures["clips_per_s"])


def test_looking_changes_no_weight(data: Path, tmp_path: Path) -> None:
    """Counting operations, rollouts and the curve leave no trace, of the average either."""
    steps = {"denoiser_run": {"steps": 6}}
    train(configured(data, tmp_path / "blind", **steps, watch={"log_every": 0, "curve_every": 0, "rollouts_every": 0}))
    train(configured(data, tmp_path / "seen", **steps, watch={"log_every": 1, "curve_every": 2, "rollouts_every": 2}))
    blind, seen = state_of(tmp_path / "blind"), state_of(tmp_path / "seen")
    assert blind.keys() == seen.keys() and all(torch.equal(value, seen[name]) for name, value in blind.items())
    pictures = sorted((tmp_path / "seen" / "validation").iterdir())
    assert [path.name for path in pictures] == ["step_000002.jpg", "step_000004.jpg", "step_000006.jpg"]
    assert not (tmp_path / "blind" / "validation").exists() and not (tmp_path / "blind" / "curve.csv").exists()


def test_operations_are_counted_both_ways() -> None:
    linear = torch.nn.Linear(32, 64, bias=False)
    inputs = torch.randn(8, 32, requires_grad=True)
    product = 2 * 8 * 32 * 64
    assert pass_flop(lambda: linear(inputs).sum(), recomputed=False) == 3 * product
    assert pass_flop(lambda: linear(inputs).sum(), recomputed=True) == 2 * product
    query = torch.randn(1, 2, 16, 8, requires_grad=True)

    def attention() -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(query, query, query).sum()

    forward = 2 * 2 * 2 * 16 * 16 * 8
    assert pass_flop(attention, recomputed=False) >= 3 * forward
    state = torch.random.get_rng_state()
    assert device_ceiling(torch.device("cpu"), bf16=False) > 1e8
    assert torch.equal(torch.random.get_rng_state(), state)


def test_rates_count_steps_not_what_lies_between(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])

    def items() -> Any:
        for _ in range(4):
            clock[0] += 0.5  # waiting for frames
            yield None

    rates: dict[str, float] = {}
    with progress.Progress(Accelerator(cpu=True), first=0, steps=4, every=2, clips=8, frames=5) as shown:
        shown.measured(flop=300, ceiling=1000.0)
        for step, _ in shown.steps(items()):
            clock[0] += 1.5
            shown.done(step, torch.ones(()), {})
            clock[0] += 100.0  # saving, looking
            rates = shown.throughput
    assert rates["clips_per_s"] == pytest.approx(4.0) and rates["frames_per_s"] == pytest.approx(20.0)
    assert rates["waiting"] == pytest.approx(0.25) and rates["mfu"] == pytest.approx(0.15)


def test_a_configuration_of_accelerate_starts_the_processes(data: Path, tmp_path: Path) -> None:
    """As the documentation has it; the figures of two processes are those of one."""
    launch = tmp_path / "accelerate.yaml"
    launch.write_text((Path(__file__).parents[2] / "training/configs/accelerate/ddp_cpu.yaml").read_text())
    config = written(tmp_path / "run.yaml", settings(data, tmp_path / "run", **SMOOTH))
    line = [*command(config)[:2], "accelerate.commands.launch", "--config_file", str(launch)]
    done = subprocess.run(
        [*line, "-m", "training.train", str(config)], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    train(configured(data, tmp_path / "one", **SMOOTH))
    assert 0 < largest_difference(state_of(tmp_path / "run"), state_of(tmp_path / "one")) < 1e-6  # 0: one process each

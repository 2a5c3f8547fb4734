"""What does not agree is refused before the first step, in one line that names it; so is another's directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from egowm_core.errors import CheckpointError, ConfigError, DataError, EgowmError
from tests.training.dataset_fixtures import robot
from tests.training.fit_fixtures import COSMOS, configured, settings, small_dataset, with_states, written
from training import train as cli
from training.fit import checks
from training.fit.checks import check_shared_memory
from training.fit.mixture import open_mixture
from training.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("checks") / "data")


def changed(data: Path, to: Path, name: str, change: Callable[[Any], None]) -> Path:
    """A copy of a dataset, one of its JSON files changed."""
    file = shutil.copytree(data, to) / name
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
    return to


def stretch(factor: float) -> Callable[[Any], None]:
    def change(stats: Any) -> None:
        for channel in stats["channels"].values():
            channel.update({key: value * factor for key, value in channel.items()})

    return change


def refuse(config: Any, match: str, kind: type[EgowmError] = DataError) -> None:
    """Nothing is trained, and nothing is left in the way of the corrected run."""
    with pytest.raises(kind, match=match):
        train(config)
    written_there = ("run.json", "autoencoder.safetensors", "denoiser.safetensors")
    assert not any((Path(config.out) / name).exists() for name in written_there)


def test_values_that_no_robot_has_are_refused(data: Path, tmp_path: Path) -> None:
    fast = changed(data, tmp_path / "fast", "norm_stats.json", stretch(4.0))
    refuse(configured(fast, tmp_path / "out"), r"'dx' reaches .* m, its limits are -0.2..0.2; the units or the rate")
    still = changed(data, tmp_path / "still", "norm_stats.json", stretch(1e-3))
    refuse(configured(still, tmp_path / "out"), "no channel of 'base_3dof' moves by a hundredth of its scale")

    def rest(stats: Any) -> None:
        stats["channels"]["dy"].update(dict.fromkeys(("min", "max", "mean", "std", "q01", "q99"), 0.0))

    resting = changed(data, tmp_path / "resting", "norm_stats.json", rest)
    train(configured(resting, tmp_path / "out"), stage="autoencoder")  # a differential drive is nothing wrong


def test_channels_that_hardly_move_are_told(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def rest(stats: Any) -> None:
        stats["channels"]["dy"].update(dict.fromkeys(("min", "max", "mean", "std", "q01", "q99"), 0.0))

    resting = changed(data, tmp_path / "resting", "norm_stats.json", rest)
    train(configured(resting, tmp_path / "out"), stage="autoencoder")
    assert "dy hardly move" in caplog.text and "dx" not in caplog.text.split("hardly")[0].rsplit(":", 1)[-1]


def test_columns_and_rate_must_be_the_embodiments(data: Path, tmp_path: Path) -> None:
    def rename(info: Any) -> None:
        info["features"]["action"]["names"][0] = "speed"

    refuse(configured(changed(data, tmp_path / "a", "meta/info.json", rename), tmp_path / "out"), "column action holds")

    def double(info: Any) -> None:
        info["fps"] = 8

    refuse(configured(changed(data, tmp_path / "b", "meta/info.json", double), tmp_path / "out"), "recorded at 8 Hz")
    stateful = small_dataset(tmp_path / "stateful", embodiment=with_states(robot()))

    def reorder(info: Any) -> None:
        info["features"]["observation.state"]["names"].reverse()

    reordered = changed(stateful, tmp_path / "c", "meta/info.json", reorder)
    refuse(configured(reordered, tmp_path / "out"), r"observation.state holds \['lift_2'.*says \['lift_0'")
    refuse(configured(data, tmp_path / "out", denoiser={"action": {"state_dim": 7}}), "has 0 states", ConfigError)


def test_lengths_are_checked_against_the_horizon(data: Path, tmp_path: Path) -> None:
    refuse(configured(data, tmp_path, denoiser={"horizon": 40}), "none of 3 episodes has the 41 frames.*longest has 14")
    refuse(configured(data, tmp_path, denoiser={"horizon": 12}), "held-out episodes: none of 1 episodes has the 13")
    refuse(configured(data, tmp_path, validation_episodes=9), "4 episodes, of which 9 are held out")
    refuse(configured(tmp_path / "nowhere", tmp_path / "out"), "does not exist")


def test_latents_are_checked_before_the_autoencoder_is_trained(data: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"denoiser": {"latent_height": 8}}, r"makes \{'latent_height': 4\}.*says \{'latent_height': 8\}"),
        ({"denoiser": {"latent_channels": 8}}, r"makes \{'latent_channels': 16\}"),
        ({"vae": {"block_out_channels": [32, 32, 32]}}, r"'latent_height': 2, 'latent_width': 3"),
        ({"denoiser": {**COSMOS, "attention_head_dim": 25}}, "attention_head_dim|head"),
        ({"denoiser": {"horizn": 4}}, "did you mean 'horizon'"),
        ({"denoiser_run": {"warp_shares": {"floor": 1.0}}}, "need denoiser.context_warp true"),
    ):
        refuse(configured(data, tmp_path / "out", **changes), message, ConfigError)


def test_geometry_is_for_robots_that_say_how_their_camera_moves(tmp_path: Path) -> None:
    humanoid = small_dataset(tmp_path / "data", embodiment=robot(5.0, "unitree_g1_26"), states=26)
    changes = {"denoiser": {"context_warp": True}, "denoiser_run": {"warp_shares": {"floor": 1.0}}}
    refuse(
        configured(humanoid, tmp_path / "out", **changes),
        "doesn't say .moves_forward, turns_left, tilts_down.",
        ConfigError,
    )


def test_a_full_disk_is_seen_before_it_is_full(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10_000_000))
    refuse(configured(data, tmp_path), r"has 0.0 GB left, the run needs about", ConfigError)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**12))
    train(configured(data, tmp_path))
    size = sum(file.stat().st_size for file in tmp_path.glob("denoiser.*"))
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: SimpleNamespace(free=size + 100_000))
    train(configured(data, tmp_path))  # one state is there already


def test_frames_on_their_way_must_fit_into_shared_memory(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture = open_mixture(configured(data, tmp_path).sources, context=1, horizon=4, held_out=1)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: SimpleNamespace(free=64_000_000))
    check_shared_memory(mixture, workers=4, share=8)
    check_shared_memory(mixture, workers=0, share=10_000)
    with pytest.raises(ConfigError, match=r"workers 4 keep 1843 MB of frames ready.*has 64 MB.*--shm-size"):
        check_shared_memory(mixture, workers=4, share=10_000)


def test_anothers_directory_is_left_alone(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(configured(data, data), "holds a dataset", ConfigError)
    train(configured(data, tmp_path / "run"))
    refuse(configured(data, tmp_path / "run" / "checkpoint"), "holds a checkpoint", ConfigError)
    old = tmp_path / "old"
    old.mkdir()
    (old / "denoiser.safetensors").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="holds a run of an older version"):
        train(configured(data, old))
    assert (old / "denoiser.safetensors").read_bytes() == b"precious"
    (tmp_path / "file").touch()
    assert cli.main([str(written(tmp_path / "c.yaml", settings(data, tmp_path / "file")))]) == 1
    assert "file is a file; name a directory" in capsys.readouterr().err
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="not of this version"):
        train(configured(data, tmp_path / "run"))


def test_a_torn_state_says_what_to_do(data: Path, tmp_path: Path) -> None:
    train(configured(data, tmp_path))
    state = tmp_path / "denoiser.safetensors"
    state.write_bytes(state.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"denoiser.safetensors: not a state.*remove it to start anew"):
        train(configured(data, tmp_path))

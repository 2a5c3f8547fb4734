"""Robots together in one run: one backbone, an action path for each, a checkpoint for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from egowm_core import load_world_model
from egowm_core.checkpoint import load_checkpoint
from egowm_core.errors import ConfigError
from tests.training.dataset_fixtures import robot
from tests.training.fit_fixtures import configured, run_together, settings, small_dataset, state_of, written
from training.config import DatasetEntry
from training.fit.initial import initial_objective
from training.fit.mixture import Mixture, open_mixture
from training.fit.objective import Objective
from training.train import train

HUMANOID = "unitree_g1_26"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    small_dataset(root / "base")
    small_dataset(root / "humanoid", embodiment=robot(5.0, HUMANOID), states=26)
    train(mixed(root, root / "run"))
    return root


def mixed(root: Path, out: Path, **changes: Any) -> Any:
    return configured(None, out, datasets=entries(root), **changes)


def entries(root: Path) -> list[dict[str, Any]]:
    return [{"path": str(root / "base"), "weight": 3.0}, {"path": str(root / "humanoid")}]


def opened(root: Path) -> Mixture:
    return open_mixture([DatasetEntry(**entry) for entry in entries(root)], context=1, horizon=4, held_out=1)


def test_each_robot_gets_a_checkpoint_that_knows_nothing_of_the_other(root: Path) -> None:
    for name, channels, states in (("base_3dof", 3, 0), (HUMANOID, 26, 26)):
        model = load_world_model(root / "run" / "checkpoint" / name, bf16=False)
        assert (model.embodiment.action_dim, len(model.embodiment.states)) == (channels, states)
        assert model.norm_stats.channels.keys() == set(model.embodiment.channel_names)
        moves = np.zeros((1, 5, channels))
        state = np.zeros((1, states)) if states else None
        images = model.predict(np.zeros((1, 1, 32, 48, 3), np.uint8), moves, state=state).images
        assert images.shape == (1, 5, 32, 48, 3)
    base, humanoid = (load_checkpoint(root / "run" / "checkpoint" / n).weights for n in ("base_3dof", HUMANOID))
    shared = {name for name in base if not name.startswith("denoiser.action_encoder.")}
    assert all(torch.equal(base[name], humanoid[name]) for name in shared)
    assert humanoid.keys() - base.keys() == {n for n in humanoid if n.startswith("denoiser.state_encoder.")}
    assert {path.name for path in (root / "run").glob("curve_*.csv")} == {
        "curve_base_3dof.csv",
        f"curve_{HUMANOID}.csv",
    }


def test_a_batch_is_of_one_dataset_as_often_as_its_weight_says(root: Path) -> None:
    mixture = opened(root)
    chosen = [mixture.choose((0, 3, step)) for step in range(2000)]
    assert np.mean(np.equal(chosen, 0)) == pytest.approx(0.75, abs=0.04)
    assert chosen[:200] != [mixture.choose((1, 3, step)) for step in range(200)]
    assert chosen == [mixture.choose((0, 3, step)) for step in range(2000)]


def test_what_one_robot_does_leaves_the_others_encoders_alone(root: Path, tmp_path: Path) -> None:
    """With one step altogether, the moments of one path alone are there."""
    config = mixed(root, tmp_path, denoiser_run={"steps": 1})
    train(config)
    drawn = opened(root).sources[opened(root).choose((config.seed, 3, 0))].name
    paths = {name.split(".")[2] for name in state_of(tmp_path) if name.startswith("optimizer.paths.")}
    assert paths == {drawn}
    everything = state_of(root / "run")
    assert {name.split(".")[2] for name in everything if name.startswith("optimizer.paths.")} == {"base_3dof", HUMANOID}


def test_encoders_hang_on_the_denoiser_only_while_they_are_used(root: Path) -> None:
    embodiments = opened(root).embodiments
    objective: Objective = initial_objective(mixed(root, root / "unused"), embodiments)
    assert objective.denoiser.action_encoder is None
    with objective.using(HUMANOID) as denoiser:
        assert denoiser.action_encoder is not None and denoiser.action_encoder.action_dim == 26
        assert denoiser.state_encoder is not None
    with pytest.raises(RuntimeError), objective.using("base_3dof") as denoiser:
        assert denoiser.state_encoder is None
        raise RuntimeError
    assert objective.denoiser.action_encoder is None
    names = [name for name, _ in objective.named_parameters()]
    assert len(names) == len(set(names)) and not any(name.startswith("denoiser.action_encoder") for name in names)


def test_two_processes_mix_like_one(root: Path, tmp_path: Path) -> None:
    run = {"adam_epsilon": 1e-3}
    train(mixed(root, tmp_path / "one", denoiser_run=run))
    values = settings(None, tmp_path / "two", datasets=entries(root), denoiser_run=run)
    run_together(written(tmp_path / "two.yaml", values), 2)
    one, two = state_of(tmp_path / "one"), state_of(tmp_path / "two")
    assert one.keys() == two.keys()
    assert max(float((value - two[name]).abs().max()) for name, value in one.items()) < 1e-6


def test_two_datasets_of_one_robot_share_its_path(root: Path, tmp_path: Path) -> None:
    small_dataset(tmp_path / "more")
    train(configured(None, tmp_path / "run", datasets=[str(root / "base"), str(tmp_path / "more")]))
    assert load_world_model(tmp_path / "run" / "checkpoint").embodiment.name == "base_3dof"
    stats = load_checkpoint(tmp_path / "run" / "checkpoint").norm_stats
    assert stats.count == 2 * opened(root).sources[0].dataset.norm_stats.count


def test_datasets_that_do_not_go_together_are_refused(root: Path, tmp_path: Path) -> None:
    small_dataset(tmp_path / "fast", embodiment=robot(8.0))
    with pytest.raises(ConfigError, match=r"both of 'base_3dof', but scale of 'dx'"):
        train(configured(None, tmp_path / "run", datasets=[str(root / "base"), str(tmp_path / "fast")]))
    astray = small_dataset(tmp_path / "astray", embodiment=robot(name="base_3dof"))
    text = (astray / "embodiment.yaml").read_text()
    (astray / "embodiment.yaml").write_text(text.replace("name: base_3dof", "name: ../elsewhere", 1))
    with pytest.raises(ConfigError, match=r"'../elsewhere' cannot name a file"):
        train(configured(None, tmp_path / "run", datasets=[str(root / "base"), str(astray)]))
    with pytest.raises(ConfigError, match=r"weight -1.*positive"):
        configured(None, tmp_path, datasets=[{"path": "a", "weight": -1}])
    with pytest.raises(ConfigError, match="neither of dataset and datasets"):
        configured(None, tmp_path)
    with pytest.raises(ConfigError, match="both of dataset and datasets"):
        configured(root / "base", tmp_path, datasets=entries(root))
    text = (root / "humanoid" / "embodiment.yaml").read_text()
    (root / "humanoid" / "embodiment.yaml").write_text(text.replace("width: 48", "width: 64"))
    try:
        with pytest.raises(ConfigError, match="one backbone takes one size"):
            opened(root)
    finally:
        (root / "humanoid" / "embodiment.yaml").write_text(text)

"""The loaded model as the node uses it: what it refuses, its tick rate, stamps of rollouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import CheckpointError, ConfigError, EmbodimentError
from egowm_core.types import ActionSequence, Frames
from egowm_nodes.prediction.predictor import Predictor, Request
from tests.fixtures.tiny_checkpoint import made_up_picture, save_tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_checkpoint(tmp_path_factory.mktemp("predictor") / "tiny"))


def request(rows: int = 8, *, value: float = 0.0, **options) -> Request:
    picture = made_up_picture(96, 128, seed=9)[None]
    values = np.full((rows, 3), value, np.float32)
    return Request(Frames(picture, np.array([10**18])), ActionSequence(values), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checkpoint": ""}, ConfigError, "parameter checkpoint is empty"),
        ({"checkpoint": "embedded:nothing"}, CheckpointError, "no embedded checkpoint"),
        ({"embodiment": "base_3dofs"}, ConfigError, "base_3dof"),
        ({"device": "nonsense"}, CheckpointError, "does not load on device 'nonsense'"),
        ({"engine": "onx-cpu"}, ConfigError, "did you mean 'onnx-cpu'"),
        ({"engine": "onnx-cpu"}, CheckpointError, "egowm-export"),
    ],
)
def test_what_it_cannot_load_it_refuses_in_words(checkpoint, options, error, message):
    arguments = {"checkpoint": checkpoint} | options
    with pytest.raises(error, match=message):
        Predictor(arguments.pop("checkpoint"), **arguments)


def test_a_checkpoint_for_another_robot_is_refused_with_the_differences(checkpoint, tmp_path: Path):
    robot = tmp_path / "other.yaml"
    robot.write_text(load_embodiment("base_3dof").to_yaml().replace("dyaw", "turn"))
    with pytest.raises(EmbodimentError, match=r"other\.yaml.*'turn' is missing.*'dyaw' is not expected"):
        Predictor(checkpoint, embodiment=str(robot))


def test_horizon_and_stamps_follow_parameters_and_hindsight(checkpoint):
    predictor = Predictor(checkpoint, embodiment="base_3dof")
    assert (predictor.horizon, predictor.foreign_rate) == (8, False)
    assert predictor.warm_up() > 0
    rollout = predictor.predict(request(), num_denoising_steps=1)
    np.testing.assert_array_equal(np.diff(rollout.frames.stamps_ns), 250_000_000)
    assert rollout.num_denoising_steps == 1
    seen = 10**18 + np.array([1, 3, 4, 6, 7, 9, 11, 12], np.int64) * 10**8
    assert predictor.predict(request(observed_stamps_ns=seen)).frames.stamps_ns.tolist() == seen.tolist()
    assert Predictor(checkpoint, horizon=12).predict(request(12)).frames.images.shape == (12, 96, 128, 3)


def test_another_tick_rate_keeps_limits_per_tick(checkpoint):
    predictor = Predictor(checkpoint, embodiment="base_3dof", tick_rate_hz=3.0)
    assert predictor.foreign_rate and predictor.native_rate_hz == 4.0
    assert predictor.model.embodiment.rate_hz == 3.0
    assert predictor.model.embodiment.limits[0].tolist() == [-0.2, 0.2]
    stamps = predictor.predict(request(value=0.1)).frames.stamps_ns
    np.testing.assert_allclose(np.diff(stamps), 1e9 / 3, atol=1)

"""Policies inside a world model: what they see is what the model predicts of what they did, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core import load_world_model
from egowm_core.errors import EmbodimentError, RolloutError
from egowm_core.policy import ImaginedWorlds, drive
from egowm_core.types import FloatArray, ImageArray
from egowm_core.world_model import WorldModel
from tests.fixtures.tiny_checkpoint import made_up_picture, save_tiny_checkpoint

CONTEXTS = np.stack([made_up_picture(96, 128, seed=i)[None] for i in range(3)])  # (3,1,96,128,3)
HORIZON = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return load_world_model(save_tiny_checkpoint(tmp_path_factory.mktemp("policy") / "tiny", horizon=HORIZON))


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    fields = {"causal": True, "context_frames": 2}
    return load_world_model(
        save_tiny_checkpoint(tmp_path_factory.mktemp("causal") / "tiny", horizon=HORIZON, denoiser_fields=fields)
    )


def wander(frame: ImageArray, goal: ImageArray | None, generator: np.random.Generator) -> FloatArray:
    """By chance and by what is seen."""
    return np.float32([0.05, 0.0, 0.1 * generator.uniform(-1, 1) + 0.0002 * float(frame.mean())])


def run(model: WorldModel, *, ticks: int, contexts: np.ndarray = CONTEXTS, batch_size: int = 8) -> list:
    count = len(contexts)
    worlds = ImaginedWorlds(model, contexts, batch_size=batch_size)
    return drive(worlds, [wander] * count, [None] * count, ticks=ticks, seeds=range(count), embodiment=model.embodiment)


def test_what_is_seen_is_the_prediction_of_what_was_done(model: WorldModel) -> None:
    runs = run(model, ticks=HORIZON)
    assert runs[0].frames.shape == (1 + HORIZON, 96, 128, 3) and runs[0].actions.shape == (HORIZON, 3)
    actions = np.stack([one.actions for one in runs])
    for tick in range(1, HORIZON + 1):
        whole = model.predict(CONTEXTS, actions[:, :tick], seed=0).images
        for number, one in enumerate(runs):
            assert np.array_equal(one.frames[0], CONTEXTS[number, -1])
            assert np.array_equal(one.frames[tick], whole[number, -1])


def test_a_full_chunk_is_the_context_of_the_next(model: WorldModel) -> None:
    runs = run(model, ticks=HORIZON + 1)
    actions = np.stack([one.actions for one in runs])
    reached = np.stack([one.frames[HORIZON] for one in runs])
    following = model.predict(reached[:, None], actions[:, HORIZON:], seed=len(runs)).images
    assert all(np.array_equal(one.frames[-1], following[number, 0]) for number, one in enumerate(runs))


def test_policies_act_on_predictions_and_repeat_by_seed(model: WorldModel) -> None:
    first, again = (run(model, ticks=3, batch_size=size) for size in (2, 2))
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.frames, other.frames) and np.array_equal(one.actions, other.actions)
    generator = np.random.default_rng(1)
    expected = [wander(first[1].frames[t], None, generator) for t in range(3)]
    assert np.allclose(first[1].actions, expected)


def test_a_causal_model_goes_on_frame_by_frame(causal: WorldModel) -> None:
    contexts = np.repeat(CONTEXTS[:2], 2, axis=1)
    runs = run(causal, ticks=3, contexts=contexts)
    actions = np.stack([one.actions for one in runs])
    for number, one in enumerate(runs):
        whole = causal.predict(contexts[number : number + 1], actions[number : number + 1], seed=number).images[0]
        assert np.abs(one.frames[1:].astype(int) - whole).max() <= 1


def test_actuators_stand_between_wish_and_world(model: WorldModel) -> None:
    worlds = ImaginedWorlds(model, CONTEXTS[:1])
    (one,) = drive(
        worlds,
        [lambda frame, goal, generator: np.float32([0.1, 0, 0])],
        [None],
        ticks=1,
        seeds=[0],
        embodiment=model.embodiment,
        actuators=[lambda action: action / 2],
    )
    assert one.actions.tolist() == [[pytest.approx(0.05), 0, 0]]
    assert np.array_equal(one.frames[1], model.predict(CONTEXTS[:1], one.actions[None], seed=0).images[0, 0])


@pytest.mark.parametrize(
    ("answer", "words"),
    [(np.zeros(2), r"shape \(2,\).*dx, dy, dyaw"), (np.full(3, 7.0), "outside"), (np.full(3, np.nan), "not finite")],
)
def test_actions_that_do_not_fit_are_refused(model: WorldModel, answer: np.ndarray, words: str) -> None:
    worlds = ImaginedWorlds(model, CONTEXTS[:1])
    with pytest.raises(EmbodimentError, match=words):
        drive(worlds, [lambda *_: answer], [None], ticks=1, seeds=[0], embodiment=model.embodiment)


def test_worlds_and_what_goes_into_them_must_fit(model: WorldModel) -> None:
    with pytest.raises(RolloutError, match="T >= 1"):
        ImaginedWorlds(model, CONTEXTS[:, :0])
    worlds = ImaginedWorlds(model, CONTEXTS)
    with pytest.raises(RolloutError, match="3 worlds take actions"):
        worlds.step(np.zeros((2, 3), np.float32))
    with pytest.raises(RolloutError, match="one each"):
        drive(worlds, [wander], [None] * 3, ticks=1, seeds=range(3), embodiment=model.embodiment)

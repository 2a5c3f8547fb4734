"""Best of N: how draws differ, what is made of them, and that nothing of it looks at the future."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egowm_core import ActionSequence, Frames, load_world_model
from egowm_core.best_of import (
    WAYS,
    Draw,
    Past,
    agreement,
    best_of,
    choose,
    draws,
    hindsight_scores,
    mean_of,
    predict_draw,
)
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, EmbodimentError, RolloutError
from egowm_core.world_model import WorldModel
from tests.fixtures.tiny_checkpoint import made_up_picture, save_tiny_checkpoint

CONTEXT = Frames(made_up_picture(96, 128, seed=9)[None], np.array([5_000_000_000], np.int64))
ACTIONS = ActionSequence(np.tile(np.float32([0.05, 0.01, 0.1]), (2, 1)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    return load_world_model(save_tiny_checkpoint(tmp_path_factory.mktemp("best") / "tiny", horizon=2))


def predicted(model: WorldModel, draw: Draw, *, flip: bool = False) -> np.ndarray:
    images, values = CONTEXT.images[None], ACTIONS.values[None]
    if flip:
        images, values = images[..., ::-1, :], values * np.float32([1, -1, -1])
    return predict_draw(model, draw, images, values)


def test_one_draw_is_the_models_own_rollout(model: WorldModel) -> None:
    own = model.rollout(CONTEXT, ACTIONS, seed=3)
    for way in ("seeds", "mirror", "settings"):
        found = best_of(model, CONTEXT, ACTIONS, n=1, way=way, by="mean", seed=3).rollout
        assert np.array_equal(found.frames.images, own.frames.images)
        assert np.array_equal(found.frames.stamps_ns, own.frames.stamps_ns)
        assert (found.context_stamp_ns, found.seed) == (own.context_stamp_ns, 3)
        assert found.num_denoising_steps == own.num_denoising_steps


def test_fewer_draws_are_the_first_of_more_and_no_two_are_alike(model: WorldModel) -> None:
    for way in WAYS:
        many = draws(model, 8, way=way, seed=5)
        assert draws(model, 3, way=way, seed=5) == many[:3]
        assert len({repr(draw) for draw in many}) == 8
    images = [predicted(model, draw) for draw in draws(model, 4, way="mirror")]
    assert len({image.tobytes() for image in images}) == 4


def test_a_mirrored_draw_is_the_prediction_of_the_mirrored_world(model: WorldModel) -> None:
    mirrored = predicted(model, Draw(2, mirrored=True))
    assert np.array_equal(mirrored, predicted(model, Draw(2), flip=True)[..., ::-1, :])
    assert not np.array_equal(mirrored, predicted(model, Draw(2)))


def test_mirrors_are_for_planar_bases(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"humanoid_25dof.*isn't known.*'seeds'"):
        draws(_of("humanoid_25dof"), 2, way="mirror")


def _of(name: str) -> WorldModel:
    class Robot:
        embodiment = load_embodiment(name)

    return Robot()  # type: ignore[return-value]  # nothing else of it is looked at


def test_the_mean_is_of_pictures_and_the_medoid_is_one_of_them(model: WorldModel) -> None:
    found = best_of(model, CONTEXT, ACTIONS, n=3, way="seeds", by="mean")
    assert found.chosen is None and np.isnan(found.scores).all()
    assert np.abs(found.rollout.frames.images - found.images.astype(float).mean(axis=0)).max() <= 0.5
    chosen = best_of(model, CONTEXT, ACTIONS, n=3, way="seeds", by="medoid")
    assert chosen.chosen is not None and chosen.rollout.seed == chosen.chosen
    assert np.array_equal(chosen.rollout.frames.images, found.images[chosen.chosen])


def test_agreement_leaves_the_odd_one_out() -> None:
    images = np.ones((5, 2, 8, 8, 3), np.uint8) * np.uint8([98, 102, 100, 103, 200])[:, None, None, None, None]
    assert int(np.argmin(agreement(images))) == 4
    assert choose(images, by="medoid")[0] == 1  # of values, the median
    assert mean_of(images).flat[0] == 121  # of 120.6
    assert agreement(images[:1]).tolist() == [0.0]
    with pytest.raises(RolloutError, match="N >= 1"):
        agreement(images[:0])


def test_hindsight_takes_what_saw_the_past_right() -> None:
    picture = made_up_picture(96, 128, seed=4)
    observed = np.stack([np.roll(picture, -6 * t, axis=1) for t in (1, 2)])
    wrong = np.stack([np.roll(picture, 6 * t, axis=1) for t in (1, 2)])
    past = Past(picture[None], np.zeros((2, 3), np.float32), observed)
    scores = hindsight_scores(np.stack([wrong, observed]), past)
    assert scores[1] > 90 and scores[0] < 60
    assert choose(np.stack([wrong, observed]), by="hindsight", past_scores=scores)[0] == 1
    nothing = np.full(2, np.nan, np.float32)
    assert choose(np.stack([wrong, observed]), by="hindsight", past_scores=nothing)[0] == 0


def test_hindsight_chooses_the_way_that_predicted_the_past(model: WorldModel) -> None:
    ways = draws(model, 2, way="settings")
    past_context = made_up_picture(96, 128, seed=11)[None]
    second = predict_draw(model, ways[1], past_context[None], ACTIONS.values[None])[0]
    past = Past(past_context, ACTIONS.values, second)  # what was seen is what the second way predicts
    found = best_of(model, CONTEXT, ACTIONS, n=2, way="settings", by="hindsight", past=past)
    assert found.scores[1] == pytest.approx(100.0) and found.chosen == int(np.argmax(found.scores))


def test_what_does_not_fit_is_refused(model: WorldModel) -> None:
    with pytest.raises(ConfigError, match="did you mean 'seeds'"):
        best_of(model, CONTEXT, ACTIONS, way="sedes")
    with pytest.raises(ConfigError, match="1 to 64"):
        best_of(model, CONTEXT, ACTIONS, n=65)
    with pytest.raises(ConfigError, match="'median'"):
        best_of(model, CONTEXT, ACTIONS, n=1, by="median")
    with pytest.raises(RolloutError, match="give the past"):
        best_of(model, CONTEXT, ACTIONS, n=2, by="hindsight")
    with pytest.raises(EmbodimentError, match="outside its limits"):
        best_of(model, CONTEXT, ActionSequence(np.full((2, 3), 9, np.float32)))

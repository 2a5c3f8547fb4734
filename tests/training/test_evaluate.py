"""The evaluation table on datasets of robots without a planar base: what is given to a model, which rows there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egowm_core.errors import DataError, EmbodimentError
from egowm_core.loading import load_world_model
from egowm_core.world_model import WorldModel
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint
from tests.training.dataset_fixtures import Made, build, robot
from training.evaluate import choose_clips, evaluate, format_table
from training.variants import Row

HUMANOID = robot(5.0, "humanoid_25dof")


@pytest.fixture(scope="module")
def humanoid(tmp_path_factory: pytest.TempPathFactory) -> tuple[WorldModel, Path, list[Made]]:
    root = tmp_path_factory.mktemp("humanoid")
    checkpoint = save_tiny_checkpoint(root / "checkpoint", embodiment=HUMANOID, horizon=4)
    made = build(root / "data", lengths=[[14, 12]], tasks=["walk"], embodiment=HUMANOID, states=len(HUMANOID.states))
    return load_world_model(checkpoint), root / "data", made


def test_clips_carry_the_state_at_the_last_context_frame(humanoid: tuple[WorldModel, Path, list[Made]]) -> None:
    model, data, made = humanoid
    clips = choose_clips(data, model, count=4, horizon=4, min_motion=0.0, seed=0, context=3)
    for clip, episode in zip(clips, [made[0], made[1]] * 2, strict=True):
        (start,) = [i for i in range(len(episode.actions)) if np.array_equal(clip.actions, episode.actions[i : i + 4])]
        assert np.array_equal(clip.state, episode.states[start])
        assert clip.masks is None and clip.context.shape[0] == 3


def test_rows_are_those_that_the_robot_allows(humanoid: tuple[WorldModel, Path, list[Made]]) -> None:
    model, data, _ = humanoid
    clips = choose_clips(data, model, count=3, horizon=4, min_motion=0.0, seed=0)
    table = evaluate(model, clips, horizons=(2, 4), num_denoising_steps=1, batch_size=2)
    assert list(table) == ["model", "model_wrong_actions", "copy_last", "autoencoder"]
    assert table["model"]["psnr"]["4"] > 0
    assert "| copy_last |" in format_table(table, (2, 4))


def test_rows_of_a_comparison_know_the_state(humanoid: tuple[WorldModel, Path, list[Made]]) -> None:
    from training.compare_rows import evaluate_rows, time_rows

    model, data, _ = humanoid
    rows = [(Row("a", "a"), model)]
    table = evaluate_rows(rows, data, clips=2, horizons=(4,), seed=0, context=1, min_motion=0.0)
    assert set(table) == {"a", "a_wrong_actions", "copy_last", "autoencoder"}
    assert time_rows(rows, horizon=4, repeats=1, reference="a")["a"]["ratio"] == 1.0


def test_other_robots_and_still_datasets_are_refused(
    humanoid: tuple[WorldModel, Path, list[Made]], tmp_path: Path
) -> None:
    model, data, _ = humanoid
    build(tmp_path / "base", lengths=[[12]], tasks=["x"])
    with pytest.raises(EmbodimentError, match="does not fit"):
        choose_clips(tmp_path / "base", model, count=1, horizon=4, min_motion=0.0, seed=0)
    with pytest.raises(DataError, match="lower --clips or record more"):
        choose_clips(data, model, count=1000, horizon=4, min_motion=0.0, seed=0)

"""The evaluation table on datasets of robots without a planar base: what is given to a model, which rows there are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from egowm_core.checkpoint import recorded_hashes, verify
from egowm_core.errors import CheckpointError, DataError, EmbodimentError
from egowm_core.loading import load_world_model
from egowm_core.world_model import WorldModel
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint
from tests.training.dataset_fixtures import Made, build, robot
from training.evaluate import evaluate, format_table, main, write_card
from training.held_out import choose_clips
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
    assert list(table) == [
        "model", "model_wrong_actions", "copy_last", "warp_only", "rotation_only", "autoencoder",
    ]  # fmt: skip
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


def test_a_card_is_written_and_nothing_else_is_touched(tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "checkpoint")
    for name in ("denoiser.onnx", "drift_baseline.json"):
        (checkpoint / name).write_text(f"what {name} holds")
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    for scores in ("first", "second"):
        write_card(checkpoint, f"| {scores} |")
    verify(checkpoint)
    assert {"denoiser.onnx", "drift_baseline.json"} <= set(recorded_hashes(checkpoint))
    card = (checkpoint / "README.md").read_text()
    assert card.startswith("# tiny") and "| second |" in card and "first" not in card
    after = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"README.md", "SHA256SUMS"}
    (checkpoint / "notes").mkdir()
    with pytest.raises(CheckpointError, match="folder 'notes'"):
        write_card(checkpoint, "third")


def test_the_command_writes_figures_intervals_and_a_report(
    humanoid: tuple[WorldModel, Path, list[Made]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, data, _ = humanoid
    checkpoint = shutil.copytree(data.parent / "checkpoint", tmp_path / "checkpoint")
    arguments = [str(checkpoint), "--dataset", str(data), "--clips", "3", "--horizons", "2,4", "--min-motion", "0"]
    arguments += ["--num-denoising-steps", "1", "--metrics", "physics_iq,lpisp"]
    assert main(arguments) == 2
    assert "did you mean 'lpips'" in capsys.readouterr().err
    arguments[-1] = "physics_iq,fvd"
    report = tmp_path / "report"
    assert main([*arguments, "--json", str(tmp_path / "a.json"), "--report", str(report)]) == 0
    assert "not available: fvd" in capsys.readouterr().err
    figures = json.loads((tmp_path / "a.json").read_text())
    row, around = figures["rows"]["copy_last"], figures["intervals"]["copy_last"]
    assert set(row) == {
        "scs",
        "scs_at",
        "psnr",
        "ssim",
        "spatial_iou",
        "spatiotemporal_iou",
        "weighted_spatial_iou",
        "mse",
    }
    assert around["psnr"]["4"]["low"] <= row["psnr"]["4"] <= around["psnr"]["4"]["high"]
    assert around["psnr"]["4"]["clips"] == 3
    assert list(figures["unavailable"]) == ["fvd"]
    told = json.loads((report / "report.json").read_text())
    assert told["rows"]["copy_last"]["psnr"] == row["psnr"]
    assert len(list((report / "clips").glob("*_observed.mp4"))) == 3
    assert len(list((report / "clips").glob("*_predicted_model.mp4"))) == 3

"""Comparing variants: merged configurations, one shared autoencoder, the same clips for all, ratios in one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from egowm_core.checkpoint import load_checkpoint
from egowm_core.errors import ConfigError
from egowm_core.loading import load_world_model
from tests.training.bag_fixtures import drive
from training import compare
from training.convert import cli as convert
from training.variants import load_comparison, merge

CONFIG = {
    "base": {
        "name": "small",
        "dataset": "nowhere",
        "out": "nowhere",
        "threads": 1,
        "validation_episodes": 1,
        "vae": {"block_out_channels": [32, 32], "linear_encoder": True, "causal": True},
        "autoencoder_run": {"steps": 2, "batch_size": 2, "basis_frames": 40},
        "denoiser": {"horizon": 4},
        "denoiser_run": {"steps": 2, "batch_size": 2, "validation_clips": 2},
        "sampling": {"num_denoising_steps": 1, "sigma_min": 0.1, "sigma_max": 10.0},
    },
    "variants": {
        "passive": {
            "denoiser": {
                "block_out_channels": [32, 64],
                "attention_levels": [False, True],
                "layers_per_block": 1,
                "num_attention_heads": 2,
                "passive": True,
            }
        },
        "chunks": {"denoiser_run": {"init_from": "@passive"}},
        "causal": {
            "denoiser": {"causal": True, "transfer": "hold"},
            "denoiser_run": {"init_from": "@passive", "diffusion_forcing": True, "action_dropout": 0.2},
        },
        "nwm": {
            "denoiser": {"backbone": "nwm", "hidden_dim": 64, "depth": 1, "context_frames": 4, "horizon": 1},
        },
    },
    "rows": ["chunks", "causal", {"name": "guided", "variant": "causal", "sampling": {"guidance_scale": 1.0}}, "nwm"],
}


def write(path: Path, values: dict) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for number in range(2):
        drive(root / "bags" / f"drive_{number}")
    arguments = [str(root / "bags"), str(root / "dataset"), "--embodiment", "base_3dof", "--curate", "none"]
    assert convert.main(arguments) == 0
    return root / "dataset"


@pytest.fixture(scope="module")
def runs(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    root = tmp_path_factory.mktemp("compare")
    config = write(root / "compare.yaml", CONFIG)
    out = root / "runs"
    arguments = [str(config), "--dataset", str(dataset), "--out", str(out)]
    assert compare.main([*arguments, "--stage", "train"]) == 0
    return [*arguments, "--held-out", str(dataset)], out


def test_variants_share_an_autoencoder_and_start_where_they_say(runs: tuple[list[str], Path]) -> None:
    _, out = runs
    checkpoints = {name: load_checkpoint(out / name / "checkpoint") for name in ("passive", "chunks", "causal", "nwm")}
    shared = [{k: v for k, v in item.weights.items() if k.startswith("vae.")} for item in checkpoints.values()]
    assert all((value == shared[0][key]).all() for other in shared[1:] for key, value in other.items())
    assert not any("action_encoder" in name for name in checkpoints["passive"].weights)
    assert any("action_encoder" in name for name in checkpoints["chunks"].weights)
    assert checkpoints["causal"].config["denoiser"]["transfer"] == "hold"
    assert load_world_model(out / "causal" / "checkpoint").causal


def test_every_row_is_scored_on_the_same_clips(runs: tuple[list[str], Path], tmp_path: Path, capsys) -> None:
    arguments, out = runs
    figures, strips = tmp_path / "figures.json", tmp_path / "strips"
    chosen = ["--clips", "2", "--horizons", "2,6", "--json", str(figures), "--strips", str(strips)]
    assert compare.main([*arguments, "--stage", "evaluate", *chosen]) == 0
    rows = json.loads(figures.read_text())["rows"]
    names = ["chunks", "causal", "guided", "nwm"]
    assert list(rows) == [x for name in names for x in (name, f"{name}_wrong_actions")] + ["copy_last", "autoencoder"]
    assert rows["autoencoder"]["psnr"]["6"] > rows["copy_last"]["psnr"]["6"] > 5
    comparison = load_comparison(Path(arguments[0]), out=str(out))
    scales = {row.name: compare.load_row(row, comparison).plan.guidance_scale for row in comparison.rows}
    assert scales == {"chunks": 0.0, "causal": 0.0, "guided": 1.0, "nwm": 0.0}
    assert rows["chunks"]["parameters"]["all"] > 0
    assert "| guided |" in capsys.readouterr().out
    assert len(list(strips.glob("*.png"))) == 2


def test_times_are_ratios_to_the_reference_in_one_run(runs: tuple[list[str], Path], tmp_path: Path) -> None:
    arguments, _ = runs
    figures = tmp_path / "figures.json"
    chosen = ["--stage", "latency", "--long-horizon", "6", "--repeats", "1", "--json", str(figures)]
    assert compare.main([*arguments, *chosen]) == 0
    timed = json.loads(figures.read_text())["latency"]
    assert set(timed) == {"chunks", "causal", "guided", "nwm"}
    assert timed["nwm"]["ratio"] == 1.0
    assert timed["causal"]["ratio"] == pytest.approx(timed["causal"]["p50"] / timed["nwm"]["p50"])


def test_trained_variants_are_not_trained_again(runs: tuple[list[str], Path]) -> None:
    arguments, out = runs
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert compare.main([*arguments, "--stage", "train"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}


def test_mistakes_in_the_configuration_are_named(tmp_path: Path, capsys) -> None:
    for changes, message in (
        ({"variants": {"a": {"denoiser_run": {"init_from": "@b"}}, "b": {}}}, "not an earlier variant"),
        ({"rows": ["chunk"]}, "did you mean 'chunks'"),
        ({"row": []}, "did you mean 'rows'"),
        ({"rows": [{"nam": "chunks"}]}, "did you mean 'name'"),
        ({"rows": [{"name": "chunks", "sampling": {"guidance": 1.0}}]}, "did you mean 'guidance_scale'"),
        ({"variants": {"a": {"denoiser": {}, "denoiser_run": {"stepss": 3}}}}, "did you mean 'steps'"),
    ):
        path = write(tmp_path / "bad.yaml", {**CONFIG, **changes})
        with pytest.raises(ConfigError, match=message):
            load_comparison(path)
    assert compare.main([str(write(tmp_path / "good.yaml", CONFIG)), "--stage", "evaluate"]) == 2
    assert "--held-out" in capsys.readouterr().err
    good = [str(tmp_path / "good.yaml"), "--stage", "latency", "--only"]
    assert compare.main([*good, "chunk"]) == 1
    assert "did you mean 'chunks'" in capsys.readouterr().err
    assert compare.main([*good, "chunks"]) == 1
    assert "--reference 'nwm' is not among the rows that are timed: ['chunks']" in capsys.readouterr().err


def test_merging_goes_key_by_key_and_leaves_its_inputs_alone() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merge(base, {"a": {"c": 4}, "e": 5}) == {"a": {"b": 1, "c": 4}, "d": 3, "e": 5}
    assert base == {"a": {"b": 1, "c": 2}, "d": 3}


def test_the_comparison_that_is_shipped_is_complete() -> None:
    shipped = Path(compare.__file__).parent / "configs" / "compare_base_3dof.yaml"
    comparison = load_comparison(shipped)
    assert {row.variant for row in comparison.rows} <= set(comparison.variants)
    transfers = {config.denoiser.get("transfer") for config in comparison.variants.values()}
    assert {"shift", "masked", "hold", "extrapolative"} <= transfers

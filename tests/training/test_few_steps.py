"""Checkpoints beside each other at several numbers of denoising steps: rows, sharpness, paired differences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from egowm_core.errors import ConfigError
from tests.training.dataset_fixtures import build
from tests.training.fit_fixtures import configured
from training.few_steps import differences, main, mean, parse_rows, sharpness
from training.train import train


def test_rows_are_checkpoints_at_numbers_of_steps(capsys: pytest.CaptureFixture[str]) -> None:
    rows = parse_rows(["embedded:base_3dof@1,4", "runs/student/checkpoint@2"])
    assert rows == {
        "embedded:base_3dof@1": ("embedded:base_3dof", 1),
        "embedded:base_3dof@4": ("embedded:base_3dof", 4),
        "student@2": ("runs/student/checkpoint", 2),
    }
    for wrong in ("embedded:base_3dof", "@1", "a@", "a@0", "a@1,two"):
        with pytest.raises(ConfigError, match="is no row; give CHECKPOINT@STEPS"):
            parse_rows([wrong])
    with pytest.raises(ConfigError, match="one/checkpoint and two/one/checkpoint would both be row one@2"):
        parse_rows(["one/checkpoint@1,2", "two/one/checkpoint@2"])
    assert main(["a@0", "--dataset", "nowhere"]) == 1
    assert "is no row" in capsys.readouterr().err


def test_sharpness_is_below_zero_for_blur_and_above_for_noise() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 200, (16, 16, 3)).astype(np.uint8)
    blurred = ((picture.astype(np.int64) + np.roll(picture, 1, axis=1)) // 2).astype(np.uint8)
    assert sharpness(picture, picture) == 0 and sharpness(blurred, picture) < -1
    assert sharpness((picture // 60 * 60).astype(np.uint8), blurred) > 1
    flat = np.zeros_like(picture)
    assert np.isfinite([sharpness(flat, picture), sharpness(picture, flat)]).all()


def test_differences_are_paired_by_recording() -> None:
    rng = np.random.default_rng(0)
    rooms = [rng.uniform(0.1, 0.9, (4, 1)) for _ in range(12)]
    first = {"psnr": rooms, "scs": [rng.uniform(size=(3, 8)) for _ in rooms]}
    better = {"psnr": [room + 0.02 for room in rooms], "scs": first["scs"]}
    found = differences(first, better, 8)
    assert found["psnr"].mean == pytest.approx(2) and found["psnr"].low == pytest.approx(2)  # every room by as much
    assert (found["scs"].mean, found["scs"].low, found["scs"].high) == (0, 0, 0)
    assert mean("psnr", better) - mean("psnr", first) == pytest.approx(2)


def test_a_checkpoint_beside_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path / "data", lengths=((14, 9), (12,), (11,)), tasks=("a", "b", "a"), truth=True)
    train(configured(tmp_path / "data", tmp_path / "run", denoiser_run={"steps": 1}))
    checkpoint = tmp_path / "run" / "checkpoint"
    command = [f"{checkpoint}@1,2", f"{checkpoint}@1", "--dataset", str(tmp_path / "data"), "--clips", "3"]
    options = ["--horizon", "4", "--min-motion", "0", "--threads", "1"]
    assert main([*command, *options, "--json", str(tmp_path / "out.json")]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert list(figures["rows"]) == ["run@1", "run@2"] and set(figures["differences"]) == {"run@2"}
    row = figures["rows"]["run@1"]
    assert {"scs", "psnr", "ssim", "sharpness", "seconds"} <= set(row) and row["psnr"] > 3 and row["seconds"] > 0
    assert "| run@2 minus run@1 |" in capsys.readouterr().out

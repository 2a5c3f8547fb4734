"""The curve of best of N: its figures on made-up scores, and the command on a tiny model and dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egowm_core.loading import load_world_model
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint
from tests.training.dataset_fixtures import build, robot
from training import best_of
from training.best_of_curve import best_of_figures, plot_curves, row_name, table

COUNTS, HORIZONS = (1, 2, 4), (2, 4)


def record(single: float, mean: float) -> dict[str, Any]:
    """A clip of one structure and four frames; the second kind of SCS is not there."""
    iou = {1: single, 2: (single + mean) / 2, 4: mean}
    rows = {
        row_name("seeds", "mean", n): {"scs_true": [[iou[n]] * 3 + [None]], "psnr": [20.0, 19.0, 18.0, 17.0]}
        for n in COUNTS
    }
    return {"clip": str(single), "rows": rows}


def test_gains_are_paired_and_over_one_draw(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    singles = rng.uniform(0.1, 0.9, 30)
    records = [record(float(single), float(single) + 0.05) for single in singles]
    figures = best_of_figures(records, choosers={"seeds": ("mean",)}, counts=COUNTS, horizons=HORIZONS)
    one, two, four = figures["curves"]["seeds"]["mean"]["scs_true"]
    assert one["mean"] == pytest.approx(100 * singles.mean(), abs=0.01) and one["gain"] == 0 and "gain_low" not in one
    assert (two["gain"], four["gain"]) == (pytest.approx(2.5, abs=0.01), pytest.approx(5.0, abs=0.01))
    assert four["gain_low"] == pytest.approx(5.0, abs=0.01)  # paired: how clips differ doesn't matter
    assert four["high"] - four["low"] > 5 and four["clips"] == 30
    assert figures["rows"]["seeds_mean_4"]["psnr"] == {"2": 19.0, "4": 17.0}
    assert np.isnan(figures["rows"]["seeds_1"]["scs"]["4"])  # nothing was judged
    assert "| seeds, mean |" in table(figures, counts=COUNTS, score="scs_true")
    plot_curves(tmp_path / "curve.png", figures, horizon=4)
    assert (tmp_path / "curve.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("best_of")
    build(root / "data", lengths=[[12], [11]], tasks=["a", "b"], truth=True)
    save_tiny_checkpoint(root / "tiny", embodiment=robot(), horizon=2)
    return root / "tiny", root / "data"


def arguments(places: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    given = [str(places[0]), "--dataset", str(places[1]), "--out", str(out), "--clips", "2", "--min-motion", "0"]
    return [*given, "--n", "1,2", "--horizons", "1,2", *more]


def test_lessons_have_their_past_right_before_them(places: tuple[Path, Path]) -> None:
    model = load_world_model(places[0])
    lessons = best_of.choose_lessons(places[1], model, count=4, horizon=2, min_motion=0.0, seed=0)
    for lesson in lessons:
        assert np.array_equal(lesson.past.observed[-1], lesson.clip.context[-1])
        assert lesson.clip.observed.shape[0] == len(lesson.clip.actions) == len(lesson.past.actions) == 2
    assert any(lesson.clip.masks is not None for lesson in lessons)  # the first recording has truth


def test_the_command_scores_every_way_and_goes_on(
    places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert best_of.main(arguments(places, out, "--json", str(tmp_path / "figures.json"))) == 0
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures == json.loads((out / "best_of.json").read_text()) and (out / "best_of.png").is_file()
    assert figures["clips"] == 2 and set(figures["curves"]) == {"seeds", "samples", "mirror", "settings"}
    rows = figures["rows"]
    assert rows["seeds_1"] == rows["mirror_1"] == rows["settings_1"]
    assert rows["seeds_oracle_2"]["psnr"] and "| settings, hindsight |" in printed
    lines = (out / "clips.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert {"mean_2", "medoid_2", "oracle_2"} - set(first["picks"]["seeds"]) == {"mean_2"}

    (out / "clips.jsonl").write_text(lines[0] + "\n" + lines[1][:40])  # as if interrupted within the second
    monkeypatch.setattr(best_of, "judge", lambda *_, **__: json.loads(lines[1]))
    assert best_of.main(arguments(places, out)) == 0
    assert json.loads((out / "best_of.json").read_text())["rows"] == rows


def test_what_does_not_fit_is_said_in_a_line(
    places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert best_of.main(arguments(places, tmp_path / "a", "--ways", "sedes")) == 1
    assert "did you mean 'seeds'" in capsys.readouterr().err
    assert best_of.main(arguments(places, tmp_path / "a", "--clips", "100")) == 1
    assert "lower --clips or record more" in capsys.readouterr().err
    for wrong in (("--n", "2,4"), ("--n", "1,x"), ("--horizons", "0"), ("--clips", "0")):
        with pytest.raises(SystemExit, match="2"):
            best_of.main([*arguments(places, tmp_path / "a"), *wrong])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "clips.jsonl").write_text('{"settings": {}, "clip": "x"}\n')
    assert best_of.main(arguments(places, tmp_path / "b")) == 1
    assert "other settings" in capsys.readouterr().err

"""`egowm-bench deadline`: what it counts, on a made-up machine and once for real."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from egowm_core.bench import main
from egowm_core.bench.deadline import Tally, keep_budget, wilson
from egowm_core.bench.load import competing_load
from egowm_core.deadline import Option, ladder
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint


def test_scheduled_and_fixed_predictions_meet_the_same_load() -> None:
    options = ladder(4, 32, chunk=8)
    asked: list[Option] = []
    now = 0.0

    def seconds(option: Option) -> float:
        return 0.02 * option.num_denoising_steps * option.horizon / 8

    def predict(option: Option) -> float:  # twice as slow as alone
        nonlocal now
        asked.append(option)
        now += 2 * seconds(option)
        return 2 * seconds(option)

    alone = {option: seconds(option) for option in options}
    tallies = keep_budget(predict, options, 0.1, alone=alone, seconds=30.0, quantile=0.9, chunk=8, clock=lambda: now)
    fixed, scheduled = tallies["fixed"].row(), tallies["scheduled"].row()
    assert fixed["missed"]["percent"] == 100 and set(fixed["chosen"]) == {"1/32/1"}
    assert scheduled["missed"]["percent"] < 10 and next(iter(scheduled["chosen"])) == "1/16/1"
    assert asked[1::2] == [Option(1, 32)] * (len(asked) // 2)
    assert fixed["missed"]["n"] == scheduled["missed"]["n"] == len(asked) // 2 > 50


def test_one_prediction_of_each_kind_at_least() -> None:
    tallies = keep_budget(
        lambda option: 5.0, [Option(1, 8)], 1.0, alone={Option(1, 8): 5.0}, seconds=1e-9, quantile=0.9, chunk=8
    )
    assert [tally.took_s for tally in tallies.values()] == [[5.0], [5.0]]


def test_wilson_intervals_are_the_published_ones() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(10, 10)[1] == pytest.approx(1.0) and wilson(0, 0) == (0.0, 1.0)


def test_frames_are_averaged_over_predictions() -> None:
    tally = Tally(1.0)
    for option, took_s in ((Option(1, 8), 0.5), (Option(1, 8), 0.5), (Option(2, 32), 1.5)):
        tally.add(option, took_s)
    row = tally.row()
    assert row["frames"]["mean"] == pytest.approx(16.0)
    assert row["missed"]["percent"] == pytest.approx(100 / 3) and row["took"]["p50"] == 0.5


def test_the_command_writes_a_row_of_each_kind_for_each_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", horizon=4)
    out = tmp_path / "deadline.json"
    command = ["deadline", str(checkpoint), "--budgets-ms", "1,60000", "--seconds", "0.2", "--load", "1"]
    assert main([*command, "--num-denoising-steps", "2", "--horizon", "8", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert set(rows) == {f"{kind}_{budget}_ms" for kind in ("scheduled", "fixed") for budget in (1, 60000)}
    assert rows["scheduled_1_ms"]["missed"]["percent"] == 100 and set(rows["scheduled_1_ms"]["chosen"]) == {"1/4/1"}
    assert rows["scheduled_60000_ms"]["missed"]["percent"] == 0 and "2/8/1" in rows["scheduled_60000_ms"]["chosen"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["scheduled", "fixed"] * 2


def test_the_load_ends_with_its_user() -> None:
    with competing_load(1):
        pass
    alone = subprocess.Popen([sys.executable, "-m", "egowm_core.bench.load", "0"], stdin=subprocess.PIPE)
    assert alone.stdin is not None
    alone.stdin.close()
    assert alone.wait(timeout=60) == 0


def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deadline", "--load", "-1"]) == 1
    assert main(["deadline", "nowhere/at/all"]) == 1
    with pytest.raises(SystemExit) as ended:
        main(["deadline", "--budgets-ms", "fast"])
    assert ended.value.code == 2 and "list of milliseconds" in capsys.readouterr().err

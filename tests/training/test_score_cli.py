"""`egowm-score` from end to end: figures, exit status, and one line for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from egowm_core.errors import ScoreError
from tests.training.score_fixtures import pan, rollout_bag, write_gray, write_video
from training.score.cli import main, make_tracker


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for i, name in enumerate(("a", "b", "c")):
        write_video(root / "o" / f"{name}.mp4", pan(9, start=10 + 20 * i))
        write_video(root / "p" / f"{name}.mp4", pan(9, start=10 + 20 * i, speed=2.0 + i))
    return root


def run(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main([str(item) for item in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_one_pair(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "figures" / "a.json"
    status, printed, _ = run(videos / "p/a.mp4", videos / "o/a.mp4", "--horizons", "8,2", "--json", out, capsys=capsys)
    assert status == 0
    assert "| predicted | SCS | 100.0 | 100.0 |" in printed
    figures = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert figures["rows"]["predicted"]["scs"] == {"2": 100.0, "8": 100.0}
    assert figures["intervals"]["predicted"]["scs"]["8"]["low"] is None  # of one clip nothing is known
    assert figures["settings"]["horizons"] == [2, 8] and figures["settings"]["predicted"] == "a.mp4"


def test_many_clips_have_intervals_and_a_report(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = tmp_path / "report"
    status, printed, told = run(
        videos / "p", videos / "o", "--metrics", "physics_iq,lpips", "--report", report,
        "--json", tmp_path / "s.json", capsys=capsys,
    )  # fmt: skip
    assert status == 0 and " to " in printed
    assert "not available: lpips: " in told
    figures = json.loads((tmp_path / "s.json").read_text())
    assert list(figures["unavailable"]) == ["lpips"]
    around = figures["intervals"]["predicted"]["scs"]["8"]
    assert around["low"] < figures["rows"]["predicted"]["scs"]["8"] < around["high"] and around["clips"] == 3
    assert (report / "index.html").is_file() and len(list((report / "clips").iterdir())) == 6
    assert json.loads((report / "report.json").read_text())["clips"][2]["name"] == "c"


def test_rollouts_of_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bag = rollout_bag(tmp_path / "drive", ticks=8)
    out = tmp_path / "s.json"
    status, _, told = run(bag, bag, "--horizons", "2", "--clips", "2", "--json", out, capsys=capsys)
    assert status == 0 and "not observed to frame 2" in told
    assert list(json.loads(out.read_text())["rows"]) == ["planned", "executed"]
    status, _, told = run(bag, tmp_path, capsys=capsys)
    assert status == 1 and "two kinds" in told


def test_structures_that_were_marked(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    marked = {"format": "egowm-structures", "version": 1, "height": 96, "width": 128}
    marked["structures"] = [
        {"name": "x", "polygon": [[30, 20], [90, 20], [90, 70]]},
        {"name": "y", "points": [[20, 60]]},
    ]
    file = tmp_path / "a.json"
    file.write_text(json.dumps(marked))
    one = (videos / "p/b.mp4", videos / "o/b.mp4", "--report", tmp_path / "report")
    assert run(*one, "--structures", file, capsys=capsys)[0] == 0
    scores = json.loads((tmp_path / "report/report.json").read_text())["clips"][0]["scores"]["predicted"]
    assert scores["structures"] == 2 and len(scores["iou"]["scs"]) == 2
    labels = np.zeros((96, 128), np.uint8)
    labels[20:50, 30:70] = 1
    assert run(*one, "--structures", write_gray(tmp_path / "l.png", labels), capsys=capsys)[0] == 0
    several = (videos / "p", videos / "o", "--structures")
    status, _, told = run(*several, file, capsys=capsys)
    assert status == 1 and "give a folder" in told
    status, _, told = run(*several, tmp_path, capsys=capsys)
    assert status == 1 and "has no b.json" in told
    status, _, told = run(*one, "--structures", "propse", capsys=capsys)
    assert status == 1 and "is no file" in told


def test_what_the_robot_sees_of_itself_is_left_out(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    body = write_gray(tmp_path / "body.png", np.full((96, 128), 255, np.uint8))
    pair = (videos / "p/b.mp4", videos / "o/b.mp4", "--own-body", body)
    status, printed, told = run(*pair, capsys=capsys)
    assert status == 0 and "| predicted | SCS | - | - | - |" in printed and "every SCS is undefined" in told
    _, printed, _ = run(*pair, "--all-structures", capsys=capsys)
    assert "SCS | -" not in printed


def test_damage_is_told_and_is_no_success(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for side in ("p", "o"):
        (tmp_path / side).mkdir()
        for name in ("a", "b"):
            (tmp_path / side / f"{name}.mp4").write_bytes((videos / side / f"{name}.mp4").read_bytes())
    (tmp_path / "p" / "b.mp4").write_bytes(b"no video")
    status, printed, told = run(tmp_path / "p", tmp_path / "o", capsys=capsys)
    assert status == 1 and "| predicted | SCS | 100.0" in printed
    assert "b.mp4 cannot be read" in told and "left out" in told
    status, printed, told = run(tmp_path / "p/b.mp4", tmp_path / "o/b.mp4", capsys=capsys)
    assert status == 1 and not printed and told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--horizons", "0"], "frames count from 1"),
        (["--horizons", "x"], "whole numbers"),
        (["--metrics", "lpisp"], "did you mean 'lpips'"),
        (["--sources", "plans"], "there are planned"),
        (["--clips", "0"], "at least 1"),
    ],
)
def test_usage(videos: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    status, _, told = run(videos / "p", videos / "o", *arguments, capsys=capsys)
    assert status == 2 and words in told


def test_one_line_for_what_is_wrong(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for arguments in (
        (videos / "none", videos / "o"),
        (videos / "p/a.mp4", videos / "o/c.mp4"),
        (videos / "p", videos / "o", "--tracker", "sam3:x"),
        (videos / "p", videos / "o", "--tracker", f"sam2:{tmp_path}"),
        (videos / "p", videos / "o", "--context", tmp_path / "none.png"),
    ):
        status, _, told = run(*arguments, capsys=capsys)
        assert status == 1 and told.startswith("egowm-score: ") and told.count("\n") == 1, told


def test_clicks_are_for_sam_where_it_tracks():
    assert make_tracker("flow")[1] is None
    with pytest.raises(ScoreError):
        make_tracker("sam2")


def test_the_module_runs():
    command = [sys.executable, "-m", "training.score", "--help"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "egowm-score predicted.mp4 observed.mp4" in found.stdout

"""egowm-watch on small bags of a robot that turns before a panorama: alarms, pages, baselines, refusals."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from egowm_core.checkpoint import recorded_hashes, verify
from egowm_core.drift import BASELINE_FILE, load_baseline
from egowm_core.errors import CheckpointError, ConfigError
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint
from tests.training.bag_fixtures import START_NS, jpeg, odometry, panorama, write_bag
from training.watch.cli import main
from training.watch.report import make_room

IMAGE_HZ, ODOM_HZ = 8.0, 40.0
HORIZONS = "2,4"


def turning(path: Path, *, seconds: float, frozen_from_s: float = math.inf, seed: int = 0) -> Path:
    """A robot turning to and fro; from ``frozen_from_s`` on, its camera repeats one picture with fresh stamps."""
    strip, messages = panorama(seed, (96, 1024)), list[tuple[int, str, object]]()
    width = strip.shape[1] // 8  # 45 degrees

    def yaw(at_s: float) -> float:
        return 0.3 * float(np.sin(0.9 * at_s) + 0.4 * np.sin(2.1 * at_s + seed))

    for i in range(int(seconds * IMAGE_HZ)):
        at_s, stamp = i / IMAGE_HZ, START_NS + round(i * 1e9 / IMAGE_HZ)
        middle = strip.shape[1] / 2 - yaw(min(at_s, frozen_from_s)) / (2 * np.pi) * strip.shape[1]
        columns = (np.arange(width) + round(middle - width / 2)) % strip.shape[1]
        messages.append((stamp + 20_000_000, "/image/compressed", jpeg(stamp, strip[:, columns])))
    for i in range(int(seconds * ODOM_HZ) + 2):
        stamp = START_NS + round(i * 1e9 / ODOM_HZ)
        messages.append((stamp + 1_000_000, "/odom", odometry(stamp, (0.0, 0.0, yaw(i / ODOM_HZ)))))
    return write_bag(path, sorted(messages, key=lambda m: m[0]))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint", horizon=4)


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bags")
    turning(root / "freezes", seconds=26.0, frozen_from_s=18.0)
    turning(root / "short", seconds=5.0, seed=1)
    return root


@pytest.fixture(scope="module")
def watched(checkpoint: Path, bags: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("watch") / "out"
    arguments = [str(bags), "--checkpoint", str(checkpoint), "--horizons", HORIZONS, "--learn-ticks", "48"]
    assert main([*arguments, "--out", str(out), "--json", str(out.parent / "figures.json")]) == 0
    return out


def test_a_camera_that_freezes_is_an_alarm_with_its_cause(watched: Path) -> None:
    found = json.loads((watched / "watch.json").read_text())
    one = found["recordings"]["freezes"]
    frozen = [alarm for alarm in one["alarm_list"] if alarm["cause"] == "frozen"]
    assert len(frozen) == 1 and frozen[0]["state"] == "ERROR"
    assert 17.0 < frozen[0]["start_s"] < 21.0, "the picture stands still from 18 s on"
    assert "same picture" in frozen[0]["words"]
    assert one["alarms"] == len(one["alarm_list"]) and one["causes"]["frozen"]["alarms"] == 1
    assert one["alarms_per_10_min"] == pytest.approx(10 * one["alarms"] / one["judged_minutes"])
    assert 0.3 < one["learning"] < 0.7 and one["judged_minutes"] < one["minutes"] < 26 / 60


def test_figures_have_the_form_of_all_commands(watched: Path) -> None:
    found = json.loads((watched / "watch.json").read_text())
    assert found == json.loads((watched.parent / "figures.json").read_text())
    assert list(found["rows"]) == ["freezes", "short", "all"]
    for row in found["rows"].values():
        assert set(row["scs"]) == {"2", "4"} and 0 < row["scs"]["2"] <= 100 and row["psnr"]["4"] > 0
    around = found["intervals"]["freezes"]["scs"]["4"]
    assert around["low"] <= around["mean"] <= around["high"]
    assert around["mean"] == pytest.approx(found["rows"]["freezes"]["scs"]["4"], abs=1e-3)
    assert found["settings"]["baseline"] == "learn" and "/" not in json.dumps(found["settings"])
    assert found["complete"] is True and found["failed"] == {}


def test_a_recording_too_short_to_learn_from_says_so(watched: Path) -> None:
    one = json.loads((watched / "watch.json").read_text())["recordings"]["short"]
    assert one["undefined"] == pytest.approx(1.0) and one["alarms"] == 0 and one["alarms_per_10_min"] is None
    assert "too short to learn" in one["warnings"][0] and "--learn" in one["warnings"][0]


def test_pages_show_states_causes_and_strips_that_exist(watched: Path) -> None:
    index, page = (watched / "index.html").read_text(), (watched / "pages" / "freezes.html").read_text()
    assert 'href="pages/freezes.html"' in index and "frozen" in index
    timeline = page[page.index("<svg") : page.index("</svg>")]
    assert 'class="state ERROR"' in timeline and ">frozen</text>" in timeline and "SCS" in timeline
    strips = re.findall(r'<img src="\.\./([^"]+)"', page)
    assert {Path(strip).name for strip in strips} >= {"worst.png", "median.png", "best.png", "alarm_01.png"}
    assert all((watched / strip).stat().st_size > 1000 for strip in strips)
    assert str(watched.parent) not in page + index
    comparisons = json.loads((watched / "pages" / "freezes.json").read_text())["comparisons"]
    stamps = [one["stamp_ns"] for one in comparisons]
    assert stamps == sorted(set(stamps)) and {"OK", "ERROR"} <= {one["state"] for one in comparisons}


def test_the_same_watch_gives_the_same_bytes(watched: Path, checkpoint: Path, bags: Path, tmp_path: Path) -> None:
    arguments = [str(bags / "short"), "--checkpoint", str(checkpoint), "--horizons", HORIZONS, "--learn-ticks", "48"]
    for out in ("a", "b"):
        assert main([*arguments, "--out", str(tmp_path / out)]) == 0
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*") if file.is_file())
    assert len(files) > 4
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    short = Path("pages/short.json")
    assert (tmp_path / "a" / short).read_bytes() == (watched / short).read_bytes(), "whatever is watched beside it"


def test_a_baseline_is_learned_into_a_checkpoint_and_used_from_there(
    checkpoint: Path, bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = save_tiny_checkpoint(tmp_path / "own", horizon=4)
    (own / "denoiser.onnx").write_bytes(b"a graph")
    assert main([str(bags / "short"), "--checkpoint", str(own), "--baseline", "checkpoint"]) == 1
    assert "--learn" in capsys.readouterr().err
    before = {file.name: file.read_bytes() for file in own.iterdir() if file.name != "SHA256SUMS"}
    good = turning(tmp_path / "good", seconds=14.0)
    assert main(["--learn", str(own), str(good), "--horizons", HORIZONS]) == 0
    verify(own)
    assert set(recorded_hashes(own)) == {*before, BASELINE_FILE}
    assert all((own / name).read_bytes() == data for name, data in before.items())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("own")] == ["own"]
    baseline = load_baseline(own / BASELINE_FILE, channels=3)
    assert baseline.ticks > 40 and set(baseline.scs) == {2, 4}
    assert baseline.expectation.weights[0, 2] > 5, "turning left moves the picture right"
    figures = tmp_path / "figures.json"
    arguments = [str(bags / "short"), "--checkpoint", str(own), "--horizons", HORIZONS, "--json", str(figures)]
    assert main([*arguments, "--baseline", "checkpoint"]) == 0
    assert json.loads(figures.read_text())["recordings"]["short"]["learning"] == 0, "judged from the first comparison"
    alone = tmp_path / "deep" / "baseline.json"
    assert main(["--learn", str(alone), str(good), "--checkpoint", str(own), "--horizons", HORIZONS]) == 0
    assert alone.read_bytes() == (own / BASELINE_FILE).read_bytes()


def test_one_broken_recording_does_not_stop_the_others(
    checkpoint: Path, bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turning(tmp_path / "in" / "tiny", seconds=1.0)
    (tmp_path / "in" / "broken.mcap").write_bytes(b"not a recording")
    inputs = [str(tmp_path / "in"), str(bags / "short")]
    out = tmp_path / "out"
    assert main([*inputs, "--checkpoint", str(checkpoint), "--horizons", HORIZONS, "--out", str(out)]) == 1
    found = json.loads((out / "watch.json").read_text())
    assert set(found["failed"]) == {"tiny", "broken"} and list(found["rows"]) == ["short"]
    assert "nothing to compare" in found["failed"]["tiny"]
    assert "2 recordings could not be watched" in (out / "index.html").read_text()
    errors = capsys.readouterr().err
    assert "egowm-watch: tiny: " in errors and "egowm-watch: broken: " in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bag"], "--checkpoint is missing"),
        (["bag", "--checkpoint", "c", "--horizons", "0,2"], "count from 1"),
        (["bag", "--checkpoint", "c", "--every", "0"], "--every"),
        (["bag", "--checkpoint", "c", "--learn-ticks", "5"], "at least 48"),
        (["bag", "--checkpoint", "c", "--image-lag-s", "nan"], "image_lag_s"),
        (["bag", "--checkpoint", "c", "--learn", "b.json", "--baseline", "x.json"], "--learn makes a baseline"),
        (["bag", "--checkpoint", "embedded:base_3dof", "--learn", "."], "the very model"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    errors = capsys.readouterr().err.strip()
    assert words in errors and "\n" not in errors


def test_a_baseline_of_another_robot_or_place_is_refused(
    checkpoint: Path, bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, model = str(bags / "short"), ["--checkpoint", str(checkpoint)]
    assert main([bag, *model, "--baseline", str(tmp_path / "absent.json")]) == 1
    assert main(["--learn", str(tmp_path / "baseline.yaml"), bag, *model]) == 1
    assert "neither FILE.json nor a checkpoint" in capsys.readouterr().err
    broken = save_tiny_checkpoint(tmp_path / "broken", horizon=4)
    config = yaml.safe_load((broken / "config.yaml").read_text())
    (broken / "config.yaml").write_text(yaml.safe_dump({**config, "name": "altered"}))
    assert main(["--learn", str(broken), bag]) == 1
    assert "sha256" in capsys.readouterr().err and not (broken / BASELINE_FILE).exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, checkpoint: Path, bags: Path) -> None:
    mine = tmp_path / "pages" / "mine.html"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(ConfigError, match="new directory"):
        make_room(tmp_path)
    assert main([str(bags / "short"), "--checkpoint", str(checkpoint), "--out", str(tmp_path)]) == 1
    assert mine.read_text() == "mine" and sorted(tmp_path.iterdir()) == [mine.parent]


def test_a_checkpoint_with_folders_is_not_learned_into(checkpoint: Path, tmp_path: Path) -> None:
    from training.watch.learn import check_place

    own = save_tiny_checkpoint(tmp_path / "own", horizon=4)
    (own / "more").mkdir()
    with pytest.raises(CheckpointError, match="folder 'more'"):
        check_place(str(own))

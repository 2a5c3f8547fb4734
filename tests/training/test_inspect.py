"""egowm-inspect: recordings, folders, datasets and checkpoints told apart, their facts, exit status and proposals."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import DataError
from tests.training import bag_fixtures as bags
from tests.training import dataset_fixtures as datasets
from tests.training.trees import tree
from training.convert.cli import main as convert_main
from training.dataset.layout import ENTRIES
from training.inspect import inspect_path, is_healthy, main, render

CHECKPOINT = ("weights.safetensors", "config.yaml", "embodiment.yaml", "norm_stats.json", "README.md")
LAG = {"frames": 2.0, "seconds": 0.667, "convincing": True, "corrected_s": 0.667, "offsets_s": [0.0], "chance": 0.1}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "dataset"
    datasets.build(root, truth=True)
    entry = root / ENTRIES / "000001.json"
    facts = json.loads(entry.read_text()) | {"lag": LAG, "image_topic": "/image", "warnings": ["too fast"]}
    entry.write_text(json.dumps(facts | {"correlation_after": 0.9}))
    return root


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    sums = []
    for name in CHECKPOINT:
        (folder / name).write_text("backbone: tiny\n")
        sums.append(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}")
    (folder / "SHA256SUMS").write_text("\n".join([*sums, f"{'0' * 64}  ../../etc/passwd"]) + "\n")
    return folder


def test_a_recording_lists_its_topics(tmp_path, capsys):
    bag = bags.drive(tmp_path / "run", truth=True)
    facts = inspect_path(bag)
    topics = {topic["topic"]: topic for topic in facts["topics"]}
    image = topics["/image/compressed"]
    assert (facts["kind"], facts["name"], facts["path"]) == ("recording", "run", str(bag))
    assert (image["count"], image["height"], image["width"], image["encoding"]) == (48, 60, 80, "jpeg")
    assert image["rate_hz"] == pytest.approx(8, rel=0.05)
    assert topics["/odom"]["rate_hz"] == pytest.approx(40, rel=0.05)
    assert "height" not in topics["/odom"]
    assert facts["duration_s"] == pytest.approx(6.025, abs=0.03)
    assert main([str(bag)]) == 0
    out = capsys.readouterr().out
    assert "/image/compressed  sensor_msgs/msg/CompressedImage  48 messages" in out
    assert "80x60 jpeg" in out


def test_pictures_that_cannot_be_decoded_and_custom_types_are_told(tmp_path, capsys):
    stamp = bags.START_NS
    messages = [(stamp + i, "/depth", bags.image(stamp, np.zeros((4, 4, 2), np.uint8), "16UC1")) for i in range(3)]
    bag = bags.write_bag(tmp_path / "run", messages)
    (topic,) = inspect_path(bag)["topics"]
    assert "16UC1" in topic["undecodable"]
    assert "height" not in topic
    assert main([str(bag)]) == 0
    assert "NOT DECODABLE" in capsys.readouterr().out


def test_a_folder_goes_on_after_a_bad_recording(tmp_path, capsys):
    bags.drive(tmp_path / "a", seconds=1)
    bags.drive(tmp_path / "sub" / "b", seconds=1)
    facts = inspect_path(tmp_path)
    assert (facts["kind"], [item["name"] for item in facts["recordings"]]) == ("recordings", ["a", "b"])
    assert main([str(tmp_path)]) == 0
    (tmp_path / "bad.mcap").write_bytes(b"no mcap at all")
    facts = inspect_path(tmp_path)
    errors = {item["name"]: item.get("error") for item in facts["recordings"]}
    assert errors["a"] is errors["b"] is None
    assert "bad.mcap" in errors["bad"]
    assert main([str(tmp_path)]) == 1
    assert "error: bag" in capsys.readouterr().out


def test_a_damaged_recording_is_not_healthy(tmp_path):
    bag = bags.drive(tmp_path / "run", seconds=4)
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    facts = inspect_path(bag)
    assert facts["damage"]
    assert not is_healthy(facts)
    assert main([str(bag)]) == 1


def test_a_dataset_tells_totals_recordings_and_actions(dataset, capsys):
    facts = inspect_path(dataset)
    assert (facts["kind"], facts["embodiment"], facts["rate_hz"]) == ("dataset", "base_3dof", 4.0)
    assert (facts["episodes"], facts["frames"], facts["with_truth"]) == (4, 48, 3)
    assert facts["duration_s"] == (48 - 4) / 4
    assert facts["frame_size"] == [datasets.HEIGHT, datasets.WIDTH]
    assert facts["tasks"] == ["drive", "turn"]
    first, second = facts["recordings"]
    assert (first["path"], first["episodes"], "lag" in first) == ("drive_0", 3, False)
    assert second["lag"] == {key: LAG[key] for key in ("seconds", "frames", "convincing", "corrected_s")}
    assert second["warnings"] == ["too fast"]
    stats = json.loads((dataset / "norm_stats.json").read_text())["channels"]
    assert facts["actions"] == stats
    assert is_healthy(facts)
    before = tree(dataset)
    assert main([str(dataset)]) == 0
    assert tree(dataset) == before
    out = capsys.readouterr().out
    assert "recording drive_1" in out
    assert "lag: 2.0 frames (0.667 s), convincing, corrected by 0.667 s" in out
    assert "dyaw: mean" in out


def test_a_dataset_with_a_file_cut_short_is_damaged(dataset, capsys):
    (data,) = dataset.glob("data/*/file-001.parquet")
    data.write_bytes(data.read_bytes()[:100])
    facts = inspect_path(dataset)
    assert "file-001.parquet" in facts["damage"][0]
    assert facts["episodes"] == 4
    assert main([str(dataset)]) == 1
    assert "damage: " in capsys.readouterr().out
    data.unlink()
    assert main([str(dataset)]) == 2
    assert "is missing; restore it" in capsys.readouterr().err


def test_another_programs_dataset_is_a_folder_of_episodes(dataset, tmp_path, capsys):
    shutil.rmtree(dataset / "egowm")
    facts = inspect_path(dataset)
    assert facts["kind"] == "recordings"
    assert [item["name"] for item in facts["recordings"]] == [f"dataset__episode_{i:06d}" for i in range(4)]
    image = next(topic for topic in facts["recordings"][2]["topics"] if "height" in topic)
    assert (image["count"], image["height"], image["width"]) == (20, datasets.HEIGHT, datasets.WIDTH)
    assert main([str(dataset), "--propose", str(tmp_path / "robot.yaml")]) == 0
    assert "'dataset__episode_000002'" in (tmp_path / "robot.yaml").read_text()  # the longest
    assert load_embodiment(tmp_path / "robot.yaml").rate_hz == 4.0


def test_a_checkpoints_sums_are_checked(checkpoint, capsys):
    facts = inspect_path(checkpoint)
    assert facts["kind"] == "checkpoint"
    assert facts["config"] == {"backbone": "tiny"}
    assert {file["state"] for file in facts["files"].values()} == {"ok"}
    assert main([str(checkpoint)]) == 0
    (checkpoint / "weights.safetensors").write_text("other")
    assert inspect_path(checkpoint)["files"]["weights.safetensors"]["state"] == "ALTERED"
    (checkpoint / "README.md").unlink()
    assert inspect_path(checkpoint)["files"]["README.md"]["state"] == "missing"
    assert main([str(checkpoint)]) == 1
    assert "weights.safetensors: ALTERED" in capsys.readouterr().out


def test_what_is_unknown_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / "absent")]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no recording"):
        inspect_path(tmp_path / "empty")
    assert main([str(tmp_path / "empty")]) == 2


def test_json_holds_the_facts_and_converts_inspect_agrees(tmp_path, dataset, checkpoint, capsys):
    bag = bags.drive(tmp_path / "in" / "run", seconds=1)
    for path in (bag, tmp_path / "in", dataset, checkpoint):
        assert main([str(path), "--json", str(tmp_path / "facts.json")]) == 0
        facts = json.loads((tmp_path / "facts.json").read_text())
        assert facts["path"] == str(path)
        assert facts == json.loads(json.dumps(inspect_path(path)))
    capsys.readouterr()
    assert convert_main([str(bag), "--inspect"]) == 0
    assert capsys.readouterr().out == render(inspect_path(bag)) + "\n"


def test_a_proposal_is_written_once_and_converts(tmp_path, capsys):
    bag = bags.moving_bag(tmp_path / "in" / "run", length=40)
    bags.drive(tmp_path / "in" / "short", seconds=1)
    out = tmp_path / "my_robot.yaml"
    assert main([str(tmp_path / "in"), "--propose", str(out), "--json", str(tmp_path / "facts.json")]) == 0
    assert "check: " in capsys.readouterr().out
    assert load_embodiment(out).name == "my_robot"
    assert "'run'" in out.read_text()  # the longer one
    assert json.loads((tmp_path / "facts.json").read_text())["proposed"]["ticks"] == 19
    assert main([str(bag), "--propose", str(out)]) == 2
    assert "exists" in capsys.readouterr().err
    converted = ["--embodiment", str(out), "--curate", "none", "--workers", "1", "--size", "32x64"]
    assert convert_main([str(bag), str(tmp_path / "out"), *converted]) == 0
    assert inspect_path(tmp_path / "out")["frames"] == 20


def test_a_proposal_needs_a_recording_and_a_yaml_file(tmp_path, dataset, capsys):
    assert main([str(dataset), "--propose", str(tmp_path / "robot.yaml")]) == 2
    assert "propose one from a recording" in capsys.readouterr().err
    bag = bags.drive(tmp_path / "run", seconds=2)
    assert main([str(bag), "--propose", str(tmp_path / "robot.json")]) == 2
    assert main([str(bag), "--propose", str(tmp_path / "absent" / "robot.yaml")]) == 2
    assert not list(tmp_path.glob("robot*"))

"""Which recordings egowm-convert takes and which of their topics; what it says of those that it can't use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training import bag_fixtures as bags
from tests.training.convert_fixtures import BASE, CIRCLE, OPTIONS, SHARED, episodes_of, needs_shared, options
from training.convert.cli import main
from training.convert.run import convert
from training.sources.find import find_sources


def test_a_bad_bag_stops_nothing_and_is_named(tmp_path, capsys):
    for name in ("a", "c"):
        bags.drive(tmp_path / "in" / name)
    bad = bags.drive(tmp_path / "in" / "b")
    (storage,) = bad.glob("*.mcap")
    storage.write_bytes(storage.read_bytes()[:-5000])
    broken = tmp_path / "in" / "d.mcap"
    broken.write_bytes(b"not a recording")
    status = main(
        [
            str(tmp_path / "in"),
            str(tmp_path / "out"),
            "--workers",
            "1",
            "--curate",
            "none",
            "--json",
            str(tmp_path / "f.json"),
        ]
    )
    captured = capsys.readouterr()
    assert status == 1
    figures = json.loads((tmp_path / "f.json").read_text())
    assert sorted(figures["rows"]) == ["a", "b", "c"]  # the readable part of b
    assert sorted(figures["failed"]) == ["d"]
    (failure,) = [line for line in captured.out.splitlines() if line.startswith("FAILED")]
    warnings = [line for line in captured.out.splitlines() if line.startswith("warning: b:")]
    assert warnings and all("bag b is damaged" in line for line in warnings)
    assert all("mcap recover" in line for line in (failure, *warnings))
    assert [bool(figures["rows"][name]["damage"]) for name in "abc"] == [False, True, False]
    assert len(episodes_of(tmp_path / "out")) == 3
    assert not (tmp_path / "out" / ".staging").exists()
    for word in ("recording", "frames in", "ticks", "kept", "drops"):
        assert word in captured.out


def test_a_bag_that_breaks_half_way_leaves_no_episode(tmp_path):
    good = bags.drive(tmp_path / "good")
    bad = bags.drive(tmp_path / "bad", seconds=30)
    (storage,) = bad.glob("*.mcap")
    content = bytearray(storage.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    storage.write_bytes(content)
    result = convert([good, bad], tmp_path / "out", OPTIONS)
    assert set(result["failed"]) | set(result["rows"]) == {"good", "bad"}
    assert "good" in result["rows"]
    recordings = {episode.recording for episode in episodes_of(tmp_path / "out")}
    assert recordings == set(result["rows"])


def test_topics_are_found_whatever_the_namespace(tmp_path):
    bag = bags.drive(tmp_path / "run", prefix="/robot_3/front")
    row = convert([bag], tmp_path / "out", OPTIONS)["rows"]["run"]
    assert (row["image_topic"], row["motion_topic"]) == ("/robot_3/front/image/compressed", "/robot_3/front/odom")


def two_cameras(path: Path) -> Path:
    messages = []
    for i in range(40):
        stamp = bags.START_NS + i * 125_000_000
        for topic in ("/left/camera", "/right/camera"):
            messages.append((stamp, topic, bags.image(stamp, bags.scene(i))))
        messages.append((stamp, "/odom", bags.odometry(stamp, bags.known_pose(i / 8))))
    return bags.write_bag(path, messages)


def test_several_cameras_must_be_chosen_from(tmp_path):
    bag = two_cameras(tmp_path / "run")
    message = convert([bag], tmp_path / "out", OPTIONS)["failed"]["run"]
    assert "/left/camera" in message
    assert "/right/camera" in message
    assert "--image-topic" in message
    chosen = options(embodiment=BASE, image_topic="left/camera")
    assert convert([bag], tmp_path / "out", chosen)["rows"]["run"]["image_topic"] == "/left/camera"
    wrong = options(embodiment=BASE, image_topic="/left/camra")
    assert "did you mean '/left/camera'" in convert([bag], tmp_path / "out2", wrong)["failed"]["run"]


def test_commands_alone_are_integrated_only_when_named(tmp_path):
    messages = []
    for i in range(100):
        stamp = bags.START_NS + i * 50_000_000
        messages.append((stamp, "/image/compressed", bags.jpeg(stamp, bags.scene(i))))
        messages.append((stamp, "/cmd_vel", bags.twist((0.4, 0, 0.3))))
    bag = bags.write_bag(tmp_path / "run", messages)
    message = convert([bag], tmp_path / "out", OPTIONS)["failed"]["run"]
    assert "--motion-topic /cmd_vel" in message
    convert([bag], tmp_path / "out", options(embodiment=BASE, motion_topic="cmd_vel"))
    (episode,) = episodes_of(tmp_path / "out")
    np.testing.assert_allclose(episode.actions, np.tile(CIRCLE, (len(episode) - 1, 1)), atol=1e-4)


def test_unusable_recordings_say_why(tmp_path):
    still = bags.drive(tmp_path / "short", seconds=1)
    message = convert([still], tmp_path / "out", OPTIONS)["failed"]["short"]
    assert "no episode of 9 frames" in message
    assert "8 images gave 4 ticks" in message
    slow = bags.drive(tmp_path / "slow", seconds=20, image_hz=1.0)
    assert "image gap" in convert([slow], tmp_path / "out", OPTIONS)["failed"]["slow"]
    fast = bags.write_bag(
        tmp_path / "fast",
        [
            m
            for i in range(60)
            for s in [bags.START_NS + i * 125_000_000]
            for m in ((s, "/image", bags.image(s, bags.scene(i))), (s, "/odom", bags.odometry(s, (0.5 * i, 0, 0))))
        ],
    )
    message = convert([fast], tmp_path / "out", OPTIONS)["failed"]["fast"]
    assert "dx up to 1 m (limit 0.2)" in message


def test_equal_names_are_told_apart(tmp_path):
    for parent in ("monday", "tuesday"):
        bags.drive(tmp_path / parent / "run")
    bags.drive(tmp_path / "other")
    assert [source.name for source in find_sources([tmp_path])] == ["monday__run", "other", "tuesday__run"]


def test_bare_files_and_folders_without_metadata_are_recordings(tmp_path):
    bag = bags.drive(tmp_path / "in" / "run")
    (bag / "metadata.yaml").unlink()
    (storage,) = bag.glob("*.mcap")
    for path in (storage, tmp_path / "in"):
        assert [source.name for source in find_sources([path])] == [storage.stem]
    assert convert([storage], tmp_path / "out", OPTIONS)["totals"]["frames"] == 24


def test_the_command_line_refuses_nonsense(tmp_path, capsys):
    bag = bags.drive(tmp_path / "run", seconds=3)
    for arguments, message in [
        ([str(tmp_path / "absent"), str(tmp_path / "out")], "does not exist"),
        ([str(bag), str(tmp_path / "out"), "--embodiment", "base_3dov"], "did you mean 'base_3dof'"),
        ([str(bag), str(tmp_path / "out"), "--lag", "late"], "none of report, correct and a number"),
        ([str(bag), str(tmp_path / "out"), "--min-length", "1"], "min_length 1"),
    ]:
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(bag)])
    assert not (tmp_path / "out").exists()


@needs_shared
def test_a_real_recording_without_odometry_says_what_to_do(tmp_path):
    message = convert([SHARED / "donkeycar_tub"], tmp_path / "out", OPTIONS)["failed"]["donkeycar_tub"]
    assert "nav_msgs/msg/Odometry" in message
    assert "--motion-topic /cmd_vel" in message

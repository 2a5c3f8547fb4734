"""Recorded bags: right topics and counts, readable, repeatable, resumable, never half there."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from egowm_sim import record
from egowm_sim.bag import RobotBag
from egowm_sim.beat import Beat
from egowm_sim.record import Drive, main, record_drive
from egowm_sim.robot_simulation import START_NS


def _messages(path: Path) -> list[tuple[str, int, bytes]]:
    with AnyReader([path]) as reader:
        return [(connection.topic, stamp, bytes(raw)) for connection, stamp, raw in reader.messages()]


def test_a_bag_reads_back_with_the_right_topics_counts_and_contents(tmp_path: Path) -> None:
    path = tmp_path / "room_000005"
    figures = record_drive(Drive(path, 5, seconds=3.0, truth=True))
    assert figures.frames == 13
    assert figures.size_bytes > 50_000
    assert sorted(file.name for file in path.iterdir()) == ["metadata.yaml", "room_000005.mcap"]
    with AnyReader([path]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        assert counts == {
            "/image/compressed": 13, "/camera_info": 13, "/odom": 61, "/cmd_vel": 60,
            "/truth/segmentation/compressed": 13, "/truth/depth/compressed": 13, "/truth/structures": 1,
        }  # fmt: skip
        stamps: dict[str, list[int]] = {topic: [] for topic in counts}
        for connection, stamp, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            stamps[connection.topic].append(stamp)
            if hasattr(message, "header"):
                assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp
            if connection.topic == "/image/compressed":
                assert cv2.imdecode(message.data, cv2.IMREAD_COLOR).shape == (240, 320, 3)
            elif connection.topic == "/truth/segmentation/compressed":
                segmentation = cv2.imdecode(message.data, cv2.IMREAD_UNCHANGED)
                assert segmentation.dtype == np.uint16
                assert message.format == "16UC1; png"
            elif connection.topic == "/truth/structures":
                table = json.loads(message.data)
        assert set(np.unique(segmentation).tolist()) - {0} <= {int(number) for number in table}
        assert next(iter(table.values()))["static"] is True
        assert stamps["/image/compressed"] == [START_NS + i * 250_000_000 for i in range(13)]
        assert np.diff(stamps["/odom"]).tolist() == [50_000_000] * 60


def test_equal_arguments_give_equal_messages(tmp_path: Path) -> None:
    bags = []
    for name in "ab":
        record_drive(Drive(tmp_path / name / "room", 6, seconds=1.0, height=96, width=128, truth=True))
        bags.append(_messages(tmp_path / name / "room"))
    assert bags[0] == bags[1]


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "room"
    with pytest.raises(RuntimeError, match="stop"), RobotBag(path, height=240, width=320, truth=False) as bag:
        bag.command(START_NS, 0.1, 0.2)
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_the_command_records_resumes_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, figures = tmp_path / "rooms", tmp_path / "figures.json"
    arguments = [str(out), "--rooms", "2", "--seed", "3", "--seconds", "1", "--size", "96x128", "--json", str(figures)]
    assert main(arguments) == 0
    report = json.loads(figures.read_text())
    assert (report["rooms"], report["skipped"], report["frames"]) == (2, 0, 10)
    assert sorted(path.name for path in out.iterdir()) == ["room_000003", "room_000004"]
    written = (out / "room_000003" / "room_000003.mcap").stat().st_mtime_ns
    (out / "room_000005.partial").mkdir()  # as an interrupted run leaves it
    arguments[2] = "3"
    assert main(arguments) == 0
    report = json.loads(figures.read_text())
    assert (report["rooms"], report["skipped"], report["frames"]) == (1, 2, 5)
    assert (out / "room_000003" / "room_000003.mcap").stat().st_mtime_ns == written
    assert sorted(path.name for path in out.iterdir()) == ["room_000003", "room_000004", "room_000005"]
    assert "rooms were there" in capsys.readouterr().out


def test_two_workers_record_what_one_does(tmp_path: Path) -> None:
    common = ["--rooms", "2", "--seconds", "0.5", "--size", "96x128"]
    assert main([str(tmp_path / "one"), *common]) == 0
    assert main([str(tmp_path / "two"), *common, "--workers", "2"]) == 0
    for room in ("room_000000", "room_000001"):
        assert _messages(tmp_path / "one" / room) == _messages(tmp_path / "two" / room)


@pytest.mark.parametrize(
    "arguments",
    [["--rooms", "0"], ["--size", "big"], ["--image-rate-hz", "0"], ["--odom-rate-hz", "500"], ["--seed", "-1"]],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "out"), *arguments])
    assert caught.value.code == 2
    assert not (tmp_path / "out").exists()


def test_a_failure_is_told_and_returns_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "out"), "--rooms", "1", "--size", "4x4"]) == 1
    assert "image size is 4x4" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file"), "--rooms", "1"]) == 1


def test_help_tells_the_defaults() -> None:
    text = record.build_parser().format_help()
    assert "240x320" in text
    assert "mcap" in text


def test_beats_keep_their_rate() -> None:
    beat = Beat(12.0, tick_s=0.01)
    ticks = [tick for tick in range(1000) if beat.due(tick)]
    assert len(ticks) == 120
    assert set(np.diff(ticks)) == {8, 9}
    assert ticks[0] == 0

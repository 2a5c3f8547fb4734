"""Faults in words, in plans and in recorded bags."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader

from egowm_sim.backend import SimulationError
from egowm_sim.faults import RANGES, Fault, FaultKind, FaultPlan, parse_fault, parse_order
from egowm_sim.record import Drive, main, record_drive
from egowm_sim.robot_simulation import START_NS


def test_text_and_fault_are_two_ways_of_writing_one_thing() -> None:
    assert parse_fault("wheel_slip:0.9@20-30.5") == Fault(FaultKind.WHEEL_SLIP, 20.0, 30.5, 0.9, "both")
    assert parse_fault("stuck_wheel.left@3") == Fault(FaultKind.STUCK_WHEEL, 3.0, math.inf, 1.0, "left")
    assert parse_fault(" camera_pitch:-7.5@0 ").severity == -7.5
    for kind in FaultKind:
        assert parse_fault(f"{kind}@1").severity == RANGES[kind].usual
    for text in ("wheel_slip.left:0.5@1-2", "frozen_frame@4", "time_lag:0.25@1.5-2", "people:2@3"):
        assert str(parse_fault(text)) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("wheel_slip", "expected KIND"),
        ("wheel_slip:0.9", "expected KIND"),
        ("wheel_slip:a@1", "expected KIND"),
        ("wheel_slp@1", "did you mean 'wheel_slip'"),
        ("wheel_slip:1.5@1", "0 to 1"),
        ("wheel_slip:0@1", "not 0"),
        ("gain_change:1@1", "not 1"),
        ("people:1.5@1", "whole number"),
        ("people:3@1", "1 to 2"),
        ("frozen_frame:2@1", "1 to 1"),
        ("wheel_slip.front@1", "left, right, both"),
        ("people.left@1", "no wheel"),
        ("people@5-5", "start < end"),
        ("people@5-4", "start < end"),
        ("", "expected KIND"),
    ],
)
def test_bad_text_is_refused(text: str, told: str) -> None:
    with pytest.raises(SimulationError, match=told):
        parse_fault(text)


def test_orders_begin_end_and_clear() -> None:
    fault = parse_order("wheel_slip.left:0.9", now_s=3.0)
    assert fault == parse_order("wheel_slip.left:0.9 on", now_s=3.0) == parse_fault("wheel_slip.left:0.9@3")
    assert parse_order("wheel_slip off", now_s=3.0) is FaultKind.WHEEL_SLIP
    assert parse_order("clear", now_s=3.0) is None
    for text in ("", "clear all", "wheel_slip:0.9@3", "wheel_slip please", "off wheel_slip"):
        with pytest.raises(SimulationError, match="no order"):
            parse_order(text, now_s=0.0)


def test_a_plan_tells_what_changes_in_order() -> None:
    plan = FaultPlan([parse_fault("people@2-3"), parse_fault("lights_out@1-3"), parse_fault("people:2@3")])
    assert plan.advance(0.99) == []
    told = [(change.fault.what, change.active) for t in (1.0, 2.0, 3.0) for change in plan.advance(t)]
    assert told == [
        ("lights_out:0.95", True), ("people:1", True),
        ("lights_out:0.95", False), ("people:1", False), ("people:2", True),
    ]  # fmt: skip
    changes = plan.begin(parse_fault("people@0"), 4.0)  # in place of the one there is
    assert [(change.fault.what, change.active) for change in changes] == [("people:2", False), ("people:1", True)]
    assert plan.end(FaultKind.LIGHTS_OUT, 5.0) == []
    with pytest.raises(SimulationError, match="overlap"):
        FaultPlan([parse_fault("people@2-4"), parse_fault("people@3")])


# ---- bags ----------------------------------------------------------------------------------------------------


def _messages(path: Path) -> list[tuple[str, int, bytes]]:
    with AnyReader([path]) as reader:
        return [(connection.topic, stamp, bytes(raw)) for connection, stamp, raw in reader.messages()]


def test_a_bag_tells_its_faults_and_is_untouched_before_them(tmp_path: Path) -> None:
    common = {"seed": 6, "seconds": 1.5, "truth": True, "height": 96, "width": 128}
    faults = (parse_fault("wheel_slip:0.9@1-1.25"), parse_fault("lights_out@1.1"))
    for name, wrong in (("plain", ()), ("wrong", faults), ("again", faults)):
        record_drive(Drive(tmp_path / name, faults=wrong, **common))  # type: ignore[arg-type]
    plain, wrong, again = (_messages(tmp_path / name) for name in ("plain", "wrong", "again"))
    assert wrong == again
    begins_ns = START_NS + 1_000_000_000
    assert [m for m in wrong if m[1] < begins_ns] == [m for m in plain if m[1] < begins_ns]
    assert [m for m in wrong if m[1] > begins_ns] != [m for m in plain if m[1] > begins_ns]
    assert "/faults" not in {topic for topic, _, _ in plain}
    with AnyReader([tmp_path / "wrong"]) as reader:
        told = [
            (stamp - START_NS, json.loads(reader.deserialize(raw, connection.msgtype).data))
            for connection, stamp, raw in reader.messages()
            if connection.topic == "/faults"
        ]
    assert [(at / 1e9, text["kind"], text["severity"], text["active"], len(text["now"])) for at, text in told] == [
        (1.0, "wheel_slip", 0.9, True, 1), (1.1, "lights_out", 0.95, True, 2), (1.25, "wheel_slip", 0.9, False, 1),
    ]  # fmt: skip


def test_the_command_records_faults(tmp_path: Path) -> None:
    common = ["--rooms", "1", "--seconds", "1", "--size", "96x128"]
    assert main([str(tmp_path / "a"), *common, "--fault", "occlusion:1@0-1", "--fault", "people@0.5"]) == 0
    assert main([str(tmp_path / "b"), *common, "--camera-noise", "2", "--flicker", "0.05"]) == 0
    assert [topic for topic, _, _ in _messages(tmp_path / "a" / "room_000000")].count("/faults") == 3
    assert main([str(tmp_path / "c"), *common]) == 0
    noisy, plain = (
        [raw for topic, _, raw in _messages(tmp_path / name / "room_000000") if topic == "/image/compressed"]
        for name in "bc"
    )
    assert len(noisy) == 5
    assert all(a != b for a, b in zip(noisy, plain, strict=True))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--fault", "wheel_slip"], "expected KIND"),
        (["--fault", "wheel_slip@70"], "begins after the drive's 60 s"),
        (["--fault", "people@1", "--fault", "people:2@2"], "overlap"),
    ],
)
def test_bad_faults_are_refused_by_the_command(
    tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "out"), *arguments])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

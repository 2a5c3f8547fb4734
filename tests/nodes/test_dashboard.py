"""The dashboard: what it makes of messages, what hostile ones cannot do to it, and one real graph that it hears."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("rich")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from egowm_msgs.msg import Drift
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from egowm_core.data.images import decode_image
from egowm_nodes import conversions
from egowm_nodes.dashboard import cli, picture
from egowm_nodes.dashboard.board import SILENT_S, Board, Score, clean
from egowm_nodes.dashboard.view import bar, text_of
from egowm_nodes.pictures import STATE_COLORS
from tests.nodes.streams import at

DOMAIN = 101 + os.getpid() % 100


def status(name: str, message: str, level: int = 0, **values: str) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=bytes([level]), name=name, message=message, values=pairs)


def diagnostics(node: str = "world_model") -> DiagnosticArray:
    found = {"rollouts_hz": "3.90", "latency_ms p50 / p99": "151 / 220", "replaced live": "2", "failures": "1"}
    return DiagnosticArray(
        status=[
            status(f"{node}: lifecycle", "active", state="active"),
            status(f"{node}: inputs", "images and odometry flow", images_hz="10.0", **{"dropped: stamps": "4"}),
            status(f"{node}: inference", "predicting", **found),
            status(f"{node}: plan", "plan too short", 1, origin="plan", extended_rows="3"),
            status("disk of somebody else", "full", 2),
        ]
    )


def drift(**changes: Any) -> Drift:
    message = Drift(
        header=conversions.header(at(2.0), "optical"), state=Drift.WARN, reason="the same picture again and again",
        cause="frozen", alarm=1.2, channels=["motion", "frozen"], strengths=[0.3, 1.2], lag_s=math.nan,
        source=Drift.ERROR, context_stamp=conversions.time_message(at(0.0)), horizons=[2, 8], scs=[91.0, math.nan],
        baseline_scs=[90.0, 84.0], structures=[5, 0], psnr=[24.0, math.nan],
    )  # fmt: skip
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def board(namespace: str = "") -> tuple[Board, SimpleNamespace]:
    clock = SimpleNamespace(now_s=100.0)
    return Board(lambda: clock.now_s, namespace=namespace), clock


def test_nodes_have_their_state_drops_and_a_drift_its_scores_by_source():
    made, _ = board()
    made.hear_diagnostics(diagnostics())
    made.hear_drift("/drift_monitor/drift", drift())
    made.hear_drift("/drift_monitor/drift", drift(source=0, scs=[70.0, 60.0]))
    made.hear_drift("/drift_monitor/drift", drift(horizons=[], scs=[], baseline_scs=[], structures=[], psnr=[]))
    shown = made.snapshot()
    (node,), (judged,) = shown.nodes, shown.drifts
    assert (node.name, node.state, node.drops) == ("world_model", "active", 4 + 2 + 1)
    assert [(s.name, s.level) for s in node.statuses][-1] == ("plan", "WARN") and shown.worst() == "WARN"
    assert (judged.state, judged.cause, judged.alarm) == ("WARN", "frozen", pytest.approx(1.2))
    executed = judged.scores["executed"]  # what carries no scores leaves the last ones standing
    assert [(s.horizon, s.ahead_s, s.scs, s.usual) for s in executed[:1]] == [(2, 0.5, 91.0, 90.0)]
    assert math.isnan(executed[1].scs) and [s.scs for s in judged.scores["planned"]] == [70.0, 60.0]


def test_a_node_that_falls_silent_is_called_so_and_forgotten_after_a_minute():
    made, clock = board()
    made.hear_diagnostics(diagnostics())
    clock.now_s += SILENT_S + 0.1
    assert made.snapshot().nodes[0].state == "silent" and made.snapshot().worst() == "STALE"
    clock.now_s += 60.0
    assert not made.snapshot().nodes


def test_a_namespace_takes_one_robot_alone():
    made, _ = board("/robot1/")
    for node in ("robot1/world_model", "robot10/world_model", "world_model"):
        made.hear_diagnostics(diagnostics(node))
    assert [node.name for node in made.snapshot().nodes] == ["robot1/world_model"]
    assert made.within("/robot1/drift_monitor/drift") and not made.within("/robot2/drift_monitor/drift")


def test_hostile_messages_are_bounded_and_cannot_steer_the_terminal():
    made, _ = board()
    for i in range(100):
        made.hear_diagnostics(DiagnosticArray(status=[status(f"n{i}: s{j}", "x" * 5000, 255) for j in range(40)]))
        made.hear_drift(f"/d{i}", drift(state=200, source=9, scs=[1.0] * 500))
    shown = made.snapshot()
    assert len(shown.nodes) == len(shown.drifts) == 32 and shown.left_out > 0
    assert max(len(node.statuses) for node in shown.nodes) == 16
    assert max(len(s.message) for node in shown.nodes for s in node.statuses) <= 400
    assert shown.drifts[0].state == "200" and len(shown.drifts[0].scores["9"]) == 2
    json.dumps(shown.to_json(), allow_nan=False)
    assert clean("a\x1b[2J\x07b\nc\u202ed") == "a [2J b c d"
    other, _ = board()
    other.hear_diagnostics(DiagnosticArray(status=[status("n: s", "[red]not markup[/red] [/x] \x1b[31m")]))
    assert "[red]not markup[/red] [/x]" in text_of(other.snapshot(), width=200) and "\x1b" not in text_of(
        other.snapshot(), width=200
    )
    assert len(picture.draw(shown)) <= 2 * picture.MARGIN + picture.LINE_HEIGHT * picture.MOST_LINES


def test_the_text_shows_rates_latency_plan_origin_drops_scores_and_cause():
    made, _ = board()
    made.hear_diagnostics(diagnostics())
    made.hear_drift("/drift_monitor/drift", drift())
    text = " ".join(text_of(made.snapshot(), width=160).split())
    for words in ("world_model active", "images_hz 10.0", "dropped: stamps 4", "latency_ms p50 / p99 151 / 220",
                  "origin plan extended_rows 3", "WARN alarm 1.20", "frozen", "2 (0.5 s) 91", "drops 7"):  # fmt: skip
        assert words in text, (words, text)
    assert text_of(board()[0].snapshot(), width=80).count("no diagnostics heard yet") == 1


@pytest.mark.parametrize(
    ("scs", "usual", "expected"),
    [(50.0, math.nan, "#" * 10 + "." * 10), (100.0, 50.0, "#" * 9 + "|" + "#" * 10), (math.nan, 50.0, "." * 20),
     (0.0, 100.0, "." * 19 + "|"), (1e9, math.inf, "#" * 20)],
)  # fmt: skip
def test_scores_are_bars_with_a_mark_at_what_is_usual(scs, usual, expected):
    assert bar(Score(2, 0.5, scs, usual, 1, 20.0)).plain == expected


def test_the_picture_has_a_line_for_each_status_in_its_colour():
    made, _ = board()
    made.hear_diagnostics(diagnostics())
    image = picture.draw(made.snapshot())
    assert image.dtype == np.uint8 and image.shape == (2 * 8 + 5 * picture.LINE_HEIGHT, picture.WIDTH, 3)
    warn = image[8 + 4 * picture.LINE_HEIGHT : 8 + 5 * picture.LINE_HEIGHT].reshape(-1, 3)
    assert tuple(warn[warn.sum(axis=1).argmax()]) == STATE_COLORS["WARN"]


# ---- a real graph -----------------------------------------------------------------------------------------------


@pytest.fixture
def robot(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Image]]:
    """Speaks as two robots' nodes do, and listens to the dashboard's picture."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN, signal_handler_options=SignalHandlerOptions.NO)
    node, stop, seen = Node("speaks", context=context), threading.Event(), []
    status_out = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    drift_out = node.create_publisher(Drift, "/robot1/drift_monitor/drift", 10)
    node.create_subscription(Image, "/robot1/dashboard/image", seen.append, qos_profile_sensor_data)

    def speak() -> None:
        for name in ("robot1/world_model", "robot2/world_model"):
            status_out.publish(diagnostics(name))
        drift_out.publish(drift())

    node.create_timer(0.2, speak)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    yield seen
    stop.set()
    thread.join()
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()


def test_one_board_of_one_robot_of_a_real_graph(robot, tmp_path: Path, capsys):
    out = tmp_path / "figures.json"
    assert cli.main(["--once", "--namespace", "robot1", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    assert "robot1/world_model" in text and "robot2" not in text and "frozen" in text
    figures = json.loads(out.read_text())
    assert figures["namespace"] == "/robot1" and figures["nodes"][0]["state"] == "active"
    assert figures["drifts"][0]["scores"]["executed"][1]["scs"] is None  # NaN is no JSON


def test_without_a_terminal_it_goes_on_printing_and_its_picture_is_heard(robot, capsys):
    assert cli.main(["--seconds", "2.5", "--namespace", "/robot1", "--image"]) == 0
    assert capsys.readouterr().out.count("/robot1/drift_monitor/drift") >= 2
    end = time.monotonic() + 5
    while not robot and time.monotonic() < end:
        time.sleep(0.05)
    assert decode_image(robot[-1]).shape[1] == picture.WIDTH


def test_silence_ends_with_1_and_wrong_options_with_2(monkeypatch, capsys):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    assert cli.main(["--once", "--wait", "0.3"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"domain {DOMAIN}" in said and "start the nodes" in said
    for wrong in (["--namespace", "a b"], ["--seconds", "-1"], ["--wait", "nan"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(wrong)
        assert stopped.value.code == 2

"""The health check against real lifecycle nodes: its exit status is what a container goes by."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.lifecycle import LifecycleNode  # noqa: E402
from rclpy.signals import SignalHandlerOptions  # noqa: E402

from egowm_nodes import health  # noqa: E402

DOMAIN = 1 + os.getpid() % 100


@pytest.fixture(name="nodes")
def _nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, LifecycleNode]]:
    """/one/awake, /one/asleep and /mute, a node that doesn't answer because nobody spins it."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    made = {name: LifecycleNode(name, namespace="one", context=context) for name in ("awake", "asleep")}
    made["mute"] = LifecycleNode("mute", context=context)
    made["awake"].trigger_configure()
    made["awake"].trigger_activate()
    executor, stop = SingleThreadedExecutor(context=context), threading.Event()
    for name in ("awake", "asleep"):
        executor.add_node(made[name])

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    yield made
    stop.set()
    thread.join()
    executor.shutdown()
    for node in made.values():
        node.destroy_node()
    context.try_shutdown()


def test_active_nodes_are_well_and_the_states_can_be_had_as_json(
    nodes: dict[str, LifecycleNode], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "made" / "health.json"
    assert health.main(["awake", "--namespace", "one", "--timeout", "30", "--json", str(path)]) == 0
    assert capsys.readouterr().out == "/one/awake active\n"
    assert json.loads(path.read_text()) == {"well": True, "wanted": "active", "states": {"/one/awake": "active"}}


def test_one_node_in_another_state_is_enough_to_be_unwell(
    nodes: dict[str, LifecycleNode], capsys: pytest.CaptureFixture[str]
) -> None:
    assert health.main(["awake", "/one/asleep", "--namespace", "/one/", "--timeout", "30"]) == 1
    assert "/one/awake active, /one/asleep unconfigured; expected active" in capsys.readouterr().err
    assert health.main(["asleep", "--namespace", "one", "--state", "unconfigured", "--timeout", "30"]) == 0


def test_a_node_that_hangs_or_is_not_there_is_unwell(
    nodes: dict[str, LifecycleNode], capsys: pytest.CaptureFixture[str]
) -> None:
    assert health.main(["mute", "nobody", "--timeout", "1.5"]) == 1
    assert "/mute no answer, /nobody no answer" in capsys.readouterr().err


def test_it_can_wait_until_a_node_is_there(nodes: dict[str, LifecycleNode]) -> None:
    later = threading.Timer(0.5, lambda: (nodes["asleep"].trigger_configure(), nodes["asleep"].trigger_activate()))
    later.start()
    assert health.main(["/one/asleep", "--wait", "--timeout", "30"]) == 0
    later.join()


@pytest.mark.parametrize("wrong", [["a b"], ["--timeout", "0"], ["--state", "well"], ["x", "--namespace", "1/é"]])
def test_wrong_options_are_status_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        health.main(wrong)
    assert ended.value.code == 2


def test_nodes_that_run_on_request_are_asked_where_they_are_named() -> None:
    assert health.parser().parse_args([]).nodes == ["world_model", "drift_monitor"]
    assert health.parser().parse_args(["world_model", "planner"]).nodes == ["world_model", "planner"]


def test_names_are_made_whole_and_asked_once() -> None:
    assert health.full_names(["a", "/b", "a"], "") == ["/a", "/b"]
    assert health.full_names(["a", "/b"], "/fleet/one/") == ["/fleet/one/a", "/b"]

"""``imagine`` and the budget in the world model's own node: a process, a streaming robot, the command line."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

import cv2
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import ParameterType, ParameterValue

from egowm_core.data.images import decode_image
from egowm_core.errors import AnswerError
from egowm_nodes import conversions
from egowm_nodes.imagine import cli
from egowm_nodes.imagine.client import ImagineClient
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint
from tests.nodes.rig import DOMAIN, LIMIT_S, Rig, start_node, stop_node

IMAGINE, INFERENCE = "world_model: imagine", "world_model: inference"
STILL = np.zeros((3, 4, 3), np.float32)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("imagine")
    checkpoint = save_tiny_checkpoint(folder / "tiny", horizon=4)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment.setenv("ROS_DOMAIN_ID", str(DOMAIN))
        environment.setenv("OMP_NUM_THREADS", "1")
        rig = Rig()
        process = start_node(
            "egowm_nodes.world_model_node",
            name="world_model",
            log=folder / "log",
            parameters={"auto_start": "true", "checkpoint": str(checkpoint), "horizon": "8", "budget_ms": "30000"},
        )
        try:
            rig.robot.start()
            rig.next_rollout()
            with ImagineClient("base_3dof") as client:
                yield SimpleNamespace(rig=rig, client=client, process=process, log=folder / "log")
        finally:
            rig.close()
            process.kill()
            process.wait()


def values(rig: Rig, name: str) -> dict[str, str]:
    status = rig.diagnostics.get(name)
    return {} if status is None else {pair.key: pair.value for pair in status.values}


def test_it_imagines_from_what_the_camera_sees_while_live_predictions_go_on(graph) -> None:
    rig = graph.rig
    answer = graph.client.imagine(STILL, horizon=4, timeout_s=LIMIT_S)
    rollout = answer.rollouts[2]
    assert rollout.context_stamp_ns in rig.robot.stamps_ns and rollout.frames.images.shape == (4, 96, 128, 3)
    again = rig.next_rollout(lambda heard: conversions.time_ns(heard.header.stamp) > rollout.context_stamp_ns)
    assert len(again.frames) == 8
    rig.until(lambda: values(rig, IMAGINE).get("done") == "1", "the goal in the diagnostics")


def test_the_command_writes_a_table_and_strips(graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goal = decode_image(graph.rig.next_rollout().frames[-1])
    cv2.imwrite(str(tmp_path / "goal.png"), goal[..., ::-1])
    options = ["--fan", "3", "--goal", str(tmp_path / "goal.png"), "--horizon", "4", "--timeout", f"{LIMIT_S:g}"]
    assert cli.main([*options, "--out", str(tmp_path / "out"), "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert sorted(row["rank"]["4"] for row in found["rows"].values()) == [1, 2, 3] and "straight" in found["rows"]
    assert found["first_frame_s"] <= found["seconds"]
    said = capsys.readouterr().out.splitlines()
    best = min(found["rows"], key=lambda name: found["rows"][name]["cost"]["4"])
    assert said[0].startswith(best) and len(said) == 4
    strips = sorted((tmp_path / "out").glob("*.png"))
    assert len(strips) == 3 and cv2.imread(str(strips[0])).shape == (112, 3 * 130 - 2, 3)
    assert cli.main([*options, "--server", "elsewhere", "--timeout", "0.1"]) == 1
    assert "nobody serves elsewhere/imagine" in capsys.readouterr().err


def test_a_budget_that_nothing_keeps_to_takes_the_least_and_says_so(graph) -> None:
    rig = graph.rig
    assert rig.next_rollout(lambda heard: heard.num_denoising_steps == 2 and len(heard.frames) == 8)
    one = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=1)
    assert rig.set_parameter("world_model", "budget_ms", one).successful
    short = rig.next_rollout(lambda heard: heard.actions.source != heard.actions.EXECUTED and len(heard.frames) == 4)
    assert short.num_denoising_steps == 1 and len(short.stamps) == 4
    hindsight = rig.next_rollout(lambda heard: heard.actions.source == heard.actions.EXECUTED)
    assert (len(hindsight.frames), hindsight.num_denoising_steps) == (8, 2)
    rig.until(lambda: "1 x 4 frames" in values(rig, INFERENCE).get("budget: chosen", ""), "the choice")
    rig.until(lambda: values(rig, INFERENCE)["budget: missed"].split()[0] != "0", "the misses")


def test_an_inactive_node_refuses_and_an_unconfigured_one_has_no_such_action(graph) -> None:
    rig, client = graph.rig, graph.client
    assert rig.change_state("world_model", Transition.TRANSITION_DEACTIVATE)
    with pytest.raises(AnswerError, match="deactivated; activate it"):
        client.imagine(STILL, horizon=4, timeout_s=LIMIT_S)
    assert rig.change_state("world_model", Transition.TRANSITION_CLEANUP)
    rig.until(lambda: not client._client.server_is_ready(), "the action to vanish")
    assert rig.change_state("world_model", Transition.TRANSITION_CONFIGURE)
    assert rig.change_state("world_model", Transition.TRANSITION_ACTIVATE)
    rig.next_rollout()
    assert client.imagine(STILL, horizon=4, timeout_s=LIMIT_S).rollouts


def test_it_stops_cleanly_in_the_middle_of_a_goal(graph) -> None:
    pending = graph.client.start(np.repeat(STILL, 20, axis=0), horizon=4)
    graph.rig.until(lambda: graph.client._spin(0.02) or pending._handle is not None, "the goal's acceptance")
    assert stop_node(graph.process, signal.SIGTERM) == 0
    assert "Traceback" not in graph.log.read_text()
    graph.rig.until(lambda: graph.client._spin(0.02) or pending.done, "the goal's result")
    with pytest.raises(AnswerError, match="deactivated; activate it"):
        pending.result()

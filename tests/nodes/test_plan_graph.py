"""The world model as a process, given a path by topic: predicted with, told in the diagnostics, guarded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from egowm_msgs.msg import ActionSequence as ActionSequenceMsg
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from rcl_interfaces.msg import ParameterType, ParameterValue

from egowm_core.embodiment import load_embodiment
from egowm_core.types import ActionSequence
from egowm_nodes import conversions
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint
from tests.nodes.rig import Rig, start_node

ROBOT = load_embodiment("base_3dof")
PLAN, GUARDS = "world_model: plan", "world_model: guards"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("plans")
    checkpoint = save_tiny_checkpoint(folder / "tiny")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment.setenv("OMP_NUM_THREADS", "1")
        rig = Rig()
        parameters = {"auto_start": "true", "checkpoint": str(checkpoint), "num_denoising_steps": "1"}
        parameters |= {"plan_speed_mps": "0.4", "action_guard": "clip", "blur_faces": "builtin"}
        process = start_node(
            "egowm_nodes.world_model_node", name="world_model", log=folder / "log", parameters=parameters
        )
        try:
            rig.robot.start()
            assert rig.next_rollout()
            yield rig
            assert process.poll() is None
        finally:
            rig.close()
            process.kill()
            process.wait()


def values(rig: Rig, name: str) -> dict[str, str]:
    status = rig.diagnostics.get(name)
    return {} if status is None else {pair.key: pair.value for pair in status.values}


def test_a_path_by_topic_is_what_predictions_are_made_with(rig):
    publisher = rig.node.create_publisher(Path, "plan", 10)
    message = Path(header=conversions.header(0, "odom"))  # stamp 0: from the newest frame on
    for x in (0.0, 1.0, 9.0):  # the scripted robot turns to and fro on the spot, around +x
        message.poses.append(PoseStamped())
        message.poses[-1].pose.position.x = x

    def followed(rollout: Any) -> bool:
        publisher.publish(message)
        return rollout.actions.source == ActionSequenceMsg.PLANNED

    rollout = rig.next_rollout(followed)
    actions = np.reshape(rollout.actions.data, (8, 3))
    np.testing.assert_allclose(np.hypot(*actions[:, :2].T), 0.1, atol=2e-3)
    assert np.abs(actions[:, 1]).max() < 0.02
    assert rig.until(lambda: values(rig, PLAN).get("kind") == "path" and rig.said(PLAN) == "path", "the path's name")
    assert float(values(rig, PLAN)["age_s"]) < 30 and "path" in values(rig, PLAN)["taken"]
    message.header.frame_id = "map"
    rig.until(lambda: publisher.publish(message) or "install tf2_ros" in rig.said(PLAN), "the refusal")
    rig.node.destroy_publisher(publisher)


def test_guards_are_told_and_counted(rig):
    lively = np.tile(np.array([0.3, 0.0, 0.0], np.float32), (8, 1))

    def clipped(rollout: Any) -> bool:
        rig.plans.publish(conversions.action_message(ActionSequence(lively), ROBOT, 0))
        return rollout.actions.source == ActionSequenceMsg.PLANNED and abs(rollout.actions.data[0] - 0.2) < 1e-6

    assert rig.next_rollout(clipped)
    rig.until(lambda: "dx" in values(rig, GUARDS).get("values_clipped", ""), "what was clipped")
    told = values(rig, GUARDS)
    assert int(told["actions_checked"]) > 0 and int(told["predictions_checked"]) > 0
    assert (told["action_guard"], told["frame_guard"], told["faces_blurred"].isdigit()) == ("clip", "drop", True)
    degrees = np.tile(np.array([0.0, 0.0, 5.7], np.float32), (8, 1))
    refused = int(told["actions_refused"])

    def guessed() -> bool:
        rig.plans.publish(conversions.action_message(ActionSequence(degrees), ROBOT, 0))
        return "it looks like degrees" in rig.said(PLAN)

    rig.until(guessed, "the guess")
    rig.until(lambda: int(values(rig, GUARDS)["actions_refused"]) > refused, "the count")


def test_policies_change_live(rig):
    def text(name: str, value: str) -> Any:
        given = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
        return rig.set_parameter("world_model", name, given)

    assert text("plan_extension", "refuse").successful and text("frame_guard", "flag").successful
    assert "expected one of" in text("plan_extension", "hold").reason
    assert "deactivate first" in text("plan_source", "path").reason
    short = np.zeros((2, 3), np.float32)

    def refused() -> bool:
        rig.plans.publish(conversions.action_message(ActionSequence(short), ROBOT, 0))
        return "no actions to predict with" in rig.said(PLAN) and "too short by" in rig.said(PLAN)

    rig.until(refused, "no prediction")
    assert text("plan_extension", "auto").successful
    assert rig.next_rollout(lambda rollout: rollout.actions.source != ActionSequenceMsg.EXECUTED)

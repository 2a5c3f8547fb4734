"""The world model of a humanoid as a process: joint states in any order, in parts, at several rates, wrong and missing.

What it took for executed is compared with the curves that the joints really followed, so a joint that is swapped with
another, taken from another time or made up shows. One graph serves the file; each test leaves it streaming well.
"""

from __future__ import annotations

import math
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from egowm_msgs.msg import ActionSequence, Rollout
from sensor_msgs.msg import JointState

from egowm_core.data.messages import stamp_ns
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint
from tests.nodes.joint_robot import HUMANOID, NAMES, Driver, JointRobot, actions
from tests.nodes.rig import Rig, start_node, stop_node

HORIZON = 3
INPUTS = "world_model: inputs"
ARMS, LEGS, REST = NAMES[6:20], NAMES[:6], NAMES[20:]


class Graph:
    """The world model, the robot and what is heard of them."""

    def __init__(self, rig: Rig, robot: JointRobot) -> None:
        self.rig, self.robot = rig, robot

    def executed(self, *, since_s: float = 0.0) -> Rollout:
        """The next rollout of executed actions that lie wholly after ``since_s`` of the robot's time."""

        def fits(rollout: Rollout) -> bool:
            executed = rollout.actions.source == ActionSequence.EXECUTED
            return bool(executed and self.robot.seconds(stamp_ns(rollout)) >= since_s)

        return self.rig.next_rollout(fits)

    def check_executed(self) -> None:
        """A rollout of what is streamed from now on has the actions that the curves say."""
        rollout = self.executed(since_s=self.now_s())
        assert tuple(rollout.actions.channels) == HUMANOID.channel_names
        stamps = [stamp_ns(rollout), *(at.sec * 10**9 + at.nanosec for at in rollout.stamps)]
        found = np.array(rollout.actions.data).reshape(HORIZON, len(NAMES))
        np.testing.assert_allclose(found, actions(self.robot.seconds(stamps)), atol=2e-3)

    def now_s(self) -> float:
        return float(self.robot.seconds(self.rig.node.get_clock().now().nanoseconds))

    def told(self, *words: str) -> None:
        """The inputs' diagnostics or the newest warnings come to say all of ``words``."""

        def said() -> bool:
            status = self.rig.diagnostics.get(INPUTS)
            text = "" if status is None else status.message + " ".join(pair.value for pair in status.values)
            return all(word in text for word in words)

        self.rig.until(said, f"{words} in {INPUTS}")

    def quiet(self, seconds: float = 1.5) -> bool:
        """Whether no rollout starts from pictures of the time after now."""
        since_s = self.now_s() + 0.5
        heard = self.rig.heard["world_model/rollout"]
        self.rig.until(lambda: self.now_s() > since_s + seconds, "time to pass")
        return not any(self.robot.seconds(stamp_ns(rollout)) > since_s for rollout in list(heard))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    folder = tmp_path_factory.mktemp("joints")
    # an embodiment with states makes a model that is conditioned on them: no rollout without 25 measured positions
    assert len(HUMANOID.states) == len(NAMES)
    checkpoint = save_tiny_checkpoint(folder / "tiny", horizon=HORIZON, embodiment=HUMANOID)
    patch = pytest.MonkeyPatch()
    patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rig = Rig()
    log = folder / "world_model.log"
    parameters = {
        "auto_start": "true", "checkpoint": str(checkpoint), "embodiment": "humanoid_25dof", "hindsight_every": "1",
        "num_denoising_steps": "1",
    }  # fmt: skip
    process = start_node("egowm_nodes.world_model_node", name="world_model", log=log, parameters=parameters)
    robot = JointRobot(rig.node)
    try:
        rig.next_rollout()
        yield Graph(rig, robot)
        assert stop_node(process, signal.SIGTERM) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        robot.close()
        rig.close()
        patch.undo()


@pytest.fixture(autouse=True)
def well_again(graph: Graph) -> Iterator[None]:
    yield
    graph.robot.drive(Driver())


def test_a_whole_message_is_taken_as_it_is(graph: Graph) -> None:
    graph.check_executed()


def test_names_in_any_order_with_others_between_them(graph: Graph) -> None:
    shuffle = random.Random(4)

    def bend(message: JointState) -> JointState:
        pairs = [*zip(message.name, message.position, strict=True), ("LID_ANGLE", 7.0), ("", 1.0)]
        shuffle.shuffle(pairs)
        message.name, message.position = [name for name, _ in pairs], [value for _, value in pairs]
        return message

    graph.robot.drive(Driver(bend=bend))
    graph.check_executed()


def test_parts_from_several_publishers_at_differing_rates_and_late(graph: Graph) -> None:
    graph.robot.drive(
        Driver(names=LEGS, rate_hz=31.0),
        Driver(names=ARMS, rate_hz=50.0, late_s=0.08),
        Driver(names=REST, rate_hz=20.0),
    )
    graph.check_executed()


def test_stamps_that_overtake_each_other_do_not_matter(graph: Graph) -> None:
    """One publisher's messages come in pairs, the younger first: the elder is skipped, nothing is mixed up."""
    held: list[JointState] = []

    def bend(message: JointState) -> JointState | None:
        held.append(message)
        return None if len(held) % 2 else held[-1] if len(held) % 4 else held[-2]

    graph.robot.drive(Driver(names=ARMS + LEGS), Driver(names=REST, rate_hz=60.0, bend=bend))
    graph.check_executed()


def _renamed(message: JointState) -> JointState:
    message.name = ["NECK_PICH" if name == "NECK_PITCH" else name for name in message.name]
    return message


def _not_finite(message: JointState) -> JointState:
    message.position[NAMES.index("LEFT_WRIST_ROLL")] = math.nan
    return message


def _repeated(message: JointState) -> JointState:
    message.name, message.position = [*message.name, "KNEE_PITCH"], [*message.position, 0.123]
    return message


def _uneven(message: JointState) -> JointState:
    message.position = message.position[:-1]
    return message


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (_renamed, ("NECK_PITCH", "NECK_PICH")),
        (_not_finite, ("LEFT_WRIST_ROLL", "not finite")),
        (_repeated, ("KNEE_PITCH", "several positions")),
        (_uneven, ("names", "positions")),
    ],
)
def test_a_joint_that_is_not_known_stops_predictions_and_is_named(
    graph: Graph, bend: Callable[[JointState], JointState], words: tuple[str, ...]
) -> None:
    graph.robot.drive(Driver(bend=bend))
    graph.told(*words)
    assert graph.quiet()
    graph.robot.drive(Driver())
    graph.check_executed()


def test_a_publisher_that_pauses_and_comes_back(graph: Graph) -> None:
    graph.robot.drive(Driver(names=ARMS + LEGS))  # whoever has the hands, the neck and the base is silent
    assert graph.quiet()
    graph.robot.drive(Driver(names=ARMS + LEGS), Driver(names=REST, rate_hz=20.0))
    graph.check_executed()


def test_another_device_on_the_same_topic_changes_nothing(graph: Graph) -> None:
    """Its names match nothing."""

    def bend(message: Any) -> Any:
        message.name, message.position = ["wheel_left", "wheel_right"], [1.0, 2.0]
        return message

    graph.robot.drive(Driver(), Driver(names=REST, rate_hz=100.0, bend=bend))
    graph.check_executed()

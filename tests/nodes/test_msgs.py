"""egowm_msgs as its users meet it: importable, serialisable, and carried by a real rclpy graph."""
# ruff: noqa: E402  (the imports below need what importorskip looks for)

from __future__ import annotations

import os
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from builtin_interfaces.msg import Time
from egowm_msgs.action import Imagine
from egowm_msgs.msg import ActionSequence, Drift, Rollout
from rclpy.action import ActionClient, ActionServer
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from egowm_core.drift import Cause

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ros_ws" / "src" / "egowm_msgs"
LIMIT_S = 10.0
HEIGHT, WIDTH, HORIZON = 96, 128, 8


def stamp(index: int) -> Time:
    """The time of frame ``index`` at 4 Hz."""
    return Time(sec=1_700_000_000 + index // 4, nanosec=(index % 4) * 250_000_000)


def image(index: int) -> Image:
    """A random rgb8 frame that is stamped ``index`` ticks after the start."""
    pixels = np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    header = Header(stamp=stamp(index), frame_id="camera_optical_frame")
    return Image(
        header=header,
        height=HEIGHT,
        width=WIDTH,
        encoding="rgb8",
        step=3 * WIDTH,
        data=pixels.tobytes(),
        is_bigendian=0,
    )


def action_sequence(source: int = ActionSequence.PLANNED) -> ActionSequence:
    """A base_3dof sequence whose (T,D) values tell rows from columns."""
    values = np.arange(HORIZON * 3, dtype=np.float32).reshape(HORIZON, 3) / 100
    return ActionSequence(
        header=Header(stamp=stamp(0), frame_id="base_link"),
        embodiment="base_3dof",
        channels=["dx", "dy", "dyaw"],
        rate_hz=4.0,
        source=source,
        data=values.ravel().tolist(),
    )


def rollout() -> Rollout:
    return Rollout(
        header=Header(stamp=stamp(0), frame_id="camera_optical_frame"),
        model="base_3dof",
        embodiment="base_3dof",
        actions=action_sequence(ActionSequence.EXECUTED),
        stamps=[stamp(index) for index in range(1, HORIZON + 1)],
        frames=[image(index) for index in range(1, HORIZON + 1)],
        num_denoising_steps=4,
        seed=2**64 - 1,
        inference_s=0.25,
        sequence=7,
    )


def drift() -> Drift:
    return Drift(
        header=Header(stamp=stamp(8), frame_id="camera_optical_frame"),
        state=Drift.WARN,
        reason="scs 61 is below 80 at horizon 4",
        cause="camera moved",
        alarm=1.5,
        channels=["motion", "jump"],
        strengths=[0.25, 1.5],
        lag_s=float("nan"),
        source=ActionSequence.EXECUTED,
        context_stamp=stamp(0),
        horizons=[1, 4, 8],
        scs=[92.0, 61.0, float("nan")],
        structures=[5, 3, 0],
        psnr=[24.5, 19.0, 15.5],
        baseline_scs=[94.0, 88.0, float("nan")],
    )


@pytest.fixture
def executor() -> Iterator[SingleThreadedExecutor]:
    """An executor in a ROS context and a domain of its own, out of reach of whatever else runs here."""
    context = Context()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        rclpy.init(context=context, domain_id=1 + os.getpid() % 100, signal_handler_options=SignalHandlerOptions.NO)
        executor = SingleThreadedExecutor(context=context)
        try:
            yield executor
        finally:
            for node in executor.get_nodes():
                node.destroy_node()
            executor.shutdown()
            context.shutdown()


def add_node(executor: SingleThreadedExecutor, name: str) -> Node:
    node = Node(name, context=executor.context, namespace="egowm_msgs_test")
    executor.add_node(node)
    return node


def spin_until(executor: SingleThreadedExecutor, done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not done():
        assert time.monotonic() < deadline, f"nothing within {LIMIT_S} s"
        executor.spin_once(timeout_sec=0.05)


def test_versions_agree() -> None:
    found = re.search(r'^version = "([^"]+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert ET.parse(PACKAGE / "package.xml").findtext("version") == found[1]
    assert metadata.version("egowm_msgs") == found[1]


def test_every_interface_is_generated() -> None:
    declared = set(re.findall(r'"((?:msg|action)/\w+\.(?:msg|action))"', (PACKAGE / "CMakeLists.txt").read_text()))
    present = {path.relative_to(PACKAGE).as_posix() for kind in ("msg", "action") for path in PACKAGE.glob(f"{kind}/*")}
    assert declared == present


def test_every_field_is_described() -> None:
    """A comment stands directly above each field, or beside each constant."""
    for path in [*PACKAGE.glob("msg/*.msg"), *PACKAGE.glob("action/*.action")]:
        above = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and line != "---" and not line.startswith("#"):
                described = above.startswith("#") or ("=" in line and "#" in line)
                assert described, f"{path.name}: {line!r} has no comment"
            above = line


def test_constants() -> None:
    assert (ActionSequence.PLANNED, ActionSequence.HELD, ActionSequence.EXECUTED) == (0, 1, 2)
    assert (Drift.OK, Drift.WARN, Drift.ERROR, Drift.STALE, Drift.UNDEFINED) == (0, 1, 2, 3, 4)


def test_states_match_the_levels_of_diagnostics() -> None:
    status = pytest.importorskip("diagnostic_msgs.msg").DiagnosticStatus
    levels = [level[0] for level in (status.OK, status.WARN, status.ERROR, status.STALE)]
    assert levels == [Drift.OK, Drift.WARN, Drift.ERROR, Drift.STALE]


@pytest.mark.parametrize("make", [action_sequence, rollout], ids=["ActionSequence", "Rollout"])
def test_round_trip(make: Callable[[], Any]) -> None:
    message = make()
    assert deserialize_message(serialize_message(message), type(message)) == message


def test_action_rows_survive_a_round_trip() -> None:
    message = deserialize_message(serialize_message(action_sequence()), ActionSequence)
    values = np.asarray(message.data, dtype=np.float32).reshape(-1, len(message.channels))
    assert values.shape == (HORIZON, 3)
    np.testing.assert_array_equal(values[1], np.float32([0.03, 0.04, 0.05]))


def test_drift_keeps_nan_in_a_round_trip() -> None:
    sent = drift()
    got = deserialize_message(serialize_message(sent), Drift)
    np.testing.assert_array_equal(got.scs, sent.scs)  # NaN equals NaN here
    np.testing.assert_array_equal(got.psnr, sent.psnr)
    assert (got.header, got.state, got.reason, got.source) == (sent.header, sent.state, sent.reason, sent.source)
    assert (got.horizons, got.structures, got.context_stamp) == (sent.horizons, sent.structures, sent.context_stamp)
    np.testing.assert_array_equal(got.baseline_scs, sent.baseline_scs)
    assert (got.cause, got.alarm, list(got.channels)) == ("camera moved", 1.5, ["motion", "jump"])
    np.testing.assert_array_equal(got.strengths, sent.strengths)
    assert np.isnan(got.lag_s)


def test_the_words_for_causes_are_those_of_the_detector() -> None:
    text = (PACKAGE / "msg" / "Drift.msg").read_text(encoding="utf-8")
    above = text[: text.index("string cause")].rsplit("\n\n", 1)[1]
    listed = above.replace("\n", " ").replace("# ", "").split(": ", 1)[1].strip().rstrip(".").replace(" or ", ", ")
    assert {word.strip() for word in listed.split(",")} == {cause.value for cause in Cause}


def test_rollout_reaches_a_subscriber(executor: SingleThreadedExecutor) -> None:
    sent, received = rollout(), []
    publisher = add_node(executor, "publisher").create_publisher(Rollout, "rollout", 1)
    add_node(executor, "subscriber").create_subscription(Rollout, "rollout", received.append, 1)
    spin_until(executor, publisher.get_subscription_count)
    publisher.publish(sent)
    spin_until(executor, lambda: received)
    assert received == [sent]


def test_imagine_streams_feedback_and_ranks(executor: SingleThreadedExecutor) -> None:
    """Goal, feedback and result of the action all cross a real graph."""

    def execute(handle: Any) -> Imagine.Result:
        for candidate in range(len(handle.request.candidates)):
            handle.publish_feedback(Imagine.Feedback(candidate=candidate, frame=1, image=image(1), progress=0.5))
        handle.succeed()
        return Imagine.Result(success=True, rollouts=[rollout()], ranking=[1, 0], costs=[0.5, 0.25])

    server = ActionServer(add_node(executor, "server"), Imagine, "imagine", execute)
    client = ActionClient(add_node(executor, "client"), Imagine, "imagine")
    spin_until(executor, client.server_is_ready)

    heard: list[Imagine.Feedback] = []
    goal = Imagine.Goal(candidates=[action_sequence(), action_sequence()], horizon=HORIZON, seed=3)
    accepted = client.send_goal_async(goal, feedback_callback=lambda message: heard.append(message.feedback))
    spin_until(executor, accepted.done)
    finished = accepted.result().get_result_async()
    spin_until(executor, lambda: finished.done() and len(heard) == 2)

    result = finished.result().result
    assert result.success
    assert (list(result.ranking), list(result.costs)) == ([1, 0], [0.5, 0.25])
    assert list(result.rollouts) == [rollout()]
    assert [feedback.candidate for feedback in heard] == [0, 1]
    assert heard[0].image == image(1)
    client.destroy()
    server.destroy()

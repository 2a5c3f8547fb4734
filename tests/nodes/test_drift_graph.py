"""Drift in a real ROS graph with a baseline from a file: a fault is named within seconds, a foreign robot is refused.

The baseline is learned offline with the same parts, model and pictures, so that the monitor judges from the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from egowm_msgs.msg import ActionSequence as ActionSequenceMsg
from egowm_msgs.msg import Drift, Rollout
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import ParameterType, ParameterValue

from egowm_core.data.images import decode_image
from egowm_core.data.preprocess import Preprocess
from egowm_core.drift import BaselineLearner, Comparison, judge_comparison
from egowm_core.embodiment import load_embodiment
from egowm_core.loading import load_world_model
from egowm_core.scs import DenseFlowTracker
from egowm_core.types import ActionSource
from egowm_nodes import conversions
from egowm_nodes.drift.history import HEIGHT, WIDTH
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint
from tests.nodes.rig import Rig, good_picture, start_node
from tests.nodes.streams import at, picture_at, yaw_at

ROBOT = load_embodiment("base_3dof")
TICKS, HORIZON, EVERY = 88, 8, 4
LIFECYCLE = "drift_monitor: lifecycle"


def learn(checkpoint: Path) -> Any:
    """What is usual for the tiny model before the scripted robot."""
    model, preprocess = load_world_model(checkpoint), Preprocess(96, 128)
    times = np.arange(TICKS) / 4
    jpegs = [good_picture(when, at(when)) for when in times]
    frames = np.stack([preprocess(decode_image(message)) for message in jpegs])
    yaws = np.array([yaw_at(when) for when in times])
    actions = np.zeros((TICKS, 3), np.float32)
    actions[1:, 2] = np.diff(yaws)
    learner, tracker = BaselineLearner(ROBOT.scales), DenseFlowTracker()
    for newest in range(HORIZON, TICKS, EVERY):
        future = slice(newest - HORIZON + 1, newest + 1)
        context = frames[newest - HORIZON][None, None]
        predicted = model.predict(context, actions[None, future], state=None, seed=0).images[0]
        comparison = Comparison(
            source=ActionSource.EXECUTED,
            context_stamp_ns=at(times[newest - HORIZON]),
            stamps_ns=np.array([at(when) for when in times[future]], np.int64),
            context=frames[newest - HORIZON],
            predicted=predicted,
            observed=frames[future],
            actions=actions[future],
        )
        learner.add(judge_comparison(comparison, (2, 4, 8), max_structures=8, tracker=tracker).evidence)
    return learner.learn()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Both nodes, streaming; the monitor was first told of checkpoints and files that have no baseline for it."""
    folder = tmp_path_factory.mktemp("drift")
    checkpoint = save_tiny_checkpoint(folder / "tiny")
    baseline = folder / "usual.json"
    learn(checkpoint).save(baseline)
    processes: list[Popen[bytes]] = []
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment.setenv("OMP_NUM_THREADS", "1")
        rig = Rig()
        try:
            processes.append(
                start_node(
                    "egowm_nodes.drift_monitor_node",
                    name="drift_monitor",
                    log=folder / "drift_monitor",
                    parameters={"auto_start": "true", "baseline": str(checkpoint), "stale_after_s": "10.0"},
                    remap=("rollouts:=world_model/rollout",),
                )
            )
            processes.append(
                start_node(
                    "egowm_nodes.world_model_node",
                    name="world_model",
                    log=folder / "world_model",
                    parameters={"auto_start": "true", "checkpoint": str(checkpoint)},
                )
            )
            rig.until(lambda: "has no drift_baseline.json" in rig.said(LIFECYCLE), "the refusal")
            refused = SimpleNamespace(message=rig.said(LIFECYCLE), state=rig.state("drift_monitor"))
            text = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(baseline))
            assert rig.set_parameter("drift_monitor", "baseline", text).successful
            assert rig.change_state("drift_monitor", Transition.TRANSITION_CONFIGURE)
            assert rig.change_state("drift_monitor", Transition.TRANSITION_ACTIVATE)
            rig.robot.start()
            yield SimpleNamespace(rig=rig, refused=refused, folder=folder)
        finally:
            rig.close()
            for process in processes:
                process.kill()
                process.wait()


@pytest.fixture
def rig(graph: SimpleNamespace) -> Iterator[Rig]:
    yield graph.rig
    graph.rig.robot.behave()


def executed(rig: Rig, fits: Any = lambda _: True) -> Drift:
    """The next drift message of executed actions of which ``fits`` is true."""
    heard = rig.heard["drift_monitor/drift"]
    heard.clear()
    return rig.until(
        lambda: next((d for d in list(heard) if d.source == ActionSequenceMsg.EXECUTED and d.scs and fits(d)), None),
        "a drift message",
    )


def test_a_checkpoint_without_a_baseline_is_refused_in_words(graph):
    assert graph.refused.state == "unconfigured"
    assert "cannot configure" in graph.refused.message and "egowm-watch --learn" in graph.refused.message


def test_a_given_baseline_judges_from_the_first_comparison_on(rig):
    first = executed(rig)
    assert "learning" not in first.reason and first.channels
    assert all(0 < value <= 100 for value in first.baseline_scs)
    calm = executed(rig, lambda d: d.state == Drift.OK)
    assert calm.cause == "none" and calm.alarm < 1 and calm.reason == ""
    rig.until(lambda: rig.said("drift_monitor: drift").startswith("OK"), "the state in the diagnostics")


def test_a_frozen_camera_is_an_error_with_its_cause_within_seconds_and_passes(rig):
    executed(rig, lambda d: d.state == Drift.OK)
    held = picture_at(0.0)
    rig.robot.picture = lambda _, stamp_ns: conversions.compressed_message(held, stamp_ns, "optical")
    began_ns = rig.robot.stamps_ns[-1]
    error = executed(rig, lambda d: d.state == Drift.ERROR and d.cause == "frozen")
    assert error.alarm >= 1.5 and dict(zip(error.channels, error.strengths, strict=True))["frozen"] >= 1.5
    assert "same picture" in error.reason and np.isnan(error.lag_s)
    assert conversions.time_ns(error.header.stamp) - began_ns < 8e9  # it swings: at its ends there is no motion to miss
    rig.until(lambda: rig.said("drift_monitor: drift").startswith("ERROR, frozen"), "the cause in the diagnostics")
    assert rig.diagnostics["drift_monitor: drift"].level == b"\x02"
    rig.robot.behave()
    executed(rig, lambda d: d.cause != "frozen")


def test_the_last_minute_is_drawn_at_most_twice_a_second(rig):
    history = rig.heard["drift_monitor/history"]
    history.clear()
    rig.until(lambda: len(history) >= 3, "three plots")
    stamps = [conversions.time_ns(message.header.stamp) for message in list(history)]
    assert (stamps[-1] - stamps[0]) / (len(stamps) - 1) > 0.35e9
    picture = decode_image(history[-1])
    assert picture.shape == (HEIGHT, WIDTH, 3) and (picture[HEIGHT - 45, WIDTH // 2 :] > 60).any()


def test_reset_keeps_the_given_baseline(rig):
    answer = rig.trigger("drift_monitor/reset")
    assert answer.success and "given baseline stays" in answer.message
    assert executed(rig, lambda d: d.channels)
    assert not [d for d in list(rig.heard["drift_monitor/drift"]) if "learning" in d.reason]


def test_rollouts_of_another_robot_are_refused_in_words_and_ours_go_on(rig):
    publisher = rig.node.create_publisher(Rollout, "world_model/rollout", 5)
    foreign = Rollout(embodiment="unitree_g1_26")
    foreign.actions = ActionSequenceMsg(channels=[f"joint_{i}" for i in range(26)], data=[0.0] * 26, rate_hz=4.0)

    def refused() -> bool:
        publisher.publish(foreign)
        return "it is of another robot: unitree_g1_26" in rig.said("drift_monitor: inputs")

    rig.until(refused, "the refusal of a foreign rollout")
    assert "[dx, dy, dyaw]; set parameter embodiment" in rig.said("drift_monitor: inputs")
    rig.node.destroy_publisher(publisher)
    assert executed(rig)

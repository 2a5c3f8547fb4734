"""Both nodes as processes of a real ROS graph: what they publish, what they survive, how they stop.

One graph serves the file; each test leaves it streaming well. The scripted robot streams in real time.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from egowm_msgs.msg import ActionSequence as ActionSequenceMsg
from geometry_msgs.msg import Twist
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import ParameterType, ParameterValue

from egowm_core.data.images import decode_image
from egowm_core.types import ActionSequence
from egowm_nodes import conversions
from egowm_nodes.pictures import CAPTION_HEIGHT
from tests.nodes import running_graph
from tests.nodes.rig import good_odometry, good_picture, stop_node, threads_of
from tests.nodes.running_graph import INPUTS, LIFECYCLE, PLAN, ROBOT, source_is, stamps_of
from tests.nodes.streams import picture_at

checkpoint, broken_checkpoint = running_graph.checkpoint, running_graph.broken_checkpoint
graph, rig = running_graph.graph, running_graph.rig

ANALYZERS = Path(__file__).parents[2] / "ros_ws" / "src" / "egowm_bringup" / "config" / "diagnostics.yaml"
TICK_NS = 250_000_000
LEVELS = {"OK": b"\x00", "WARN": b"\x01", "ERROR": b"\x02", "STALE": b"\x03"}


def test_a_checkpoint_that_was_altered_or_is_for_another_robot_is_refused_and_the_node_lives_on(graph):
    altered, foreign = graph.refusals["hash"], graph.refusals["embodiment"]
    assert altered.level == foreign.level == LEVELS["ERROR"] and altered.state == foreign.state == "unconfigured"
    assert "weights.safetensors" in altered.message and "get the checkpoint again" in altered.message
    assert "rate: expected 5 Hz, got 4 Hz" in foreign.message and "slower.yaml" in foreign.message


def test_held_rollouts_predict_the_future_of_a_frame_that_the_camera_saw(rig):
    rollout = rig.next_rollout(source_is(ActionSequenceMsg.HELD))
    context_ns, stamps = stamps_of(rollout)
    assert context_ns in rig.robot.stamps_ns
    assert stamps == [context_ns + TICK_NS * i for i in range(1, 9)]
    assert [(image.height, image.width, image.encoding) for image in rollout.frames] == [(96, 128, "rgb8")] * 8
    assert rollout.frames[3].header.stamp == rollout.stamps[3] and rollout.header.frame_id == "optical"
    assert (rollout.model, rollout.embodiment, rollout.num_denoising_steps) == ("tiny", "base_3dof", 2)
    assert rollout.inference_s > 0
    later = rig.next_rollout()
    assert later.sequence > rollout.sequence


def test_hindsight_rollouts_carry_what_was_done_and_the_stamps_then_observed(rig):
    rollout = rig.next_rollout(source_is(ActionSequenceMsg.EXECUTED))
    context_ns, stamps = stamps_of(rollout)
    assert {context_ns, *stamps} <= set(rig.robot.stamps_ns)
    np.testing.assert_allclose(np.diff([context_ns, *stamps]), TICK_NS, rtol=1e-6)
    actions = np.reshape(rollout.actions.data, (8, 3))
    assert np.abs(actions[:, 2]).max() > 0.005 and np.abs(actions[:, :2]).max() < 1e-3


def test_the_predicted_picture_bears_its_future_time(rig):
    pictures = rig.heard["world_model/predicted/image_raw"]
    pictures.clear()
    picture = rig.until(lambda: pictures[0] if pictures else None, "a predicted picture")
    rollouts = rig.heard["world_model/rollout"]
    match = rig.until(lambda: [r for r in list(rollouts) if r.stamps[-1] == picture.header.stamp], "its rollout")
    np.testing.assert_array_equal(decode_image(picture), decode_image(match[0].frames[-1]))
    jpeg = rig.until(lambda: rig.heard["world_model/predicted/image_raw/compressed"], "a compressed one")[-1]
    assert decode_image(jpeg).shape == (96, 128, 3)
    info = rig.until(lambda: rig.heard["world_model/predicted/camera_info"], "its camera info")[-1]
    assert (info.height, info.width) == (96, 128) and info.k[0] == pytest.approx(64.0)
    strip = rig.until(lambda: rig.heard["world_model/predicted/strip"], "a strip")[-1]
    assert (strip.height, strip.width) == (112, 5 * 130 - 2)


def test_cmd_vel_is_held_and_a_fresh_plan_comes_first(rig):
    command = Twist()
    command.linear.x = 0.4

    def commanded(rollout: Any) -> bool:
        rig.commands.publish(command)
        return rollout.actions.source == ActionSequenceMsg.HELD and abs(rollout.actions.data[0] - 0.1) < 1e-6

    rig.next_rollout(commanded)
    assert rig.until(lambda: "cmd_vel" in rig.said(PLAN), "cmd_vel in the diagnostics")
    values = np.tile(np.array([0.12, 0.0, 0.05], np.float32), (5, 1))

    def planned(rollout: Any) -> bool:
        if rollout.actions.source != ActionSequenceMsg.EXECUTED:  # stamp 0: from the newest frame on
            rig.plans.publish(conversions.action_message(ActionSequence(values), ROBOT, 0))
        return rollout.actions.source == ActionSequenceMsg.PLANNED

    rollout = rig.next_rollout(planned)
    np.testing.assert_allclose(np.reshape(rollout.actions.data, (8, 3)), np.tile(values[0], (8, 1)))

    def shown() -> bool:  # plans go on: diagnostics come once a second, and a plan is over by then
        rig.plans.publish(conversions.action_message(ActionSequence(values), ROBOT, 0))
        return "its last action held for" in rig.said(PLAN)

    rig.until(shown, "the extension in the diagnostics")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": [0.6, 0.0, 0.0]}, "dx"),
        ({"channels": ["dyaw", "dy", "dx"]}, "in this order"),
        ({"rate_hz": 0.0}, "fill in rate_hz"),
        ({"data": [float("nan"), 0.0, 0.0]}, "not finite"),
        ({"data": [0.0, 0.0]}, "whole number of rows"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_in_words(rig, change, words):
    message = conversions.action_message(ActionSequence(np.zeros((1, 3), np.float32)), ROBOT, 0)
    for field, value in change.items():
        setattr(message, field, value)
    rig.plans.publish(message)
    rig.until(lambda: "plan refused" in rig.said(PLAN) and words in rig.said(PLAN), words)
    assert rig.diagnostics[PLAN].level == LEVELS["WARN"]
    assert rig.next_rollout(source_is(ActionSequenceMsg.HELD))


def corrupt(when: float, stamp_ns: int) -> Any:
    message = good_picture(when, stamp_ns)
    message.data = bytes(message.data[:400])
    return message


def depth(when: float, stamp_ns: int) -> Any:
    message = conversions.image_message(picture_at(when), stamp_ns, "optical")
    message.encoding = "16UC1"
    return message


def wide(when: float, stamp_ns: int) -> Any:
    return conversions.compressed_message(picture_at(when, height=240, width=426), stamp_ns, "optical")


def backwards(when: float, stamp_ns: int) -> Any:
    return good_picture(when, stamp_ns - 300_000_000 * (round(when * 12) % 5 == 0))


@pytest.mark.parametrize(
    ("picture", "words"),
    [(corrupt, "cut short"), (depth, "16UC1"), (wide, "240x426"), (backwards, "before the last one")],
)
def test_bad_pictures_are_skipped_in_words_and_good_ones_go_on(rig, picture, words):
    rig.robot.picture = picture
    rig.until(lambda: words in rig.said(INPUTS), words)
    assert rig.diagnostics[INPUTS].level in (LEVELS["WARN"], LEVELS["STALE"])
    rig.robot.behave()
    assert rig.next_rollout(source_is(ActionSequenceMsg.HELD))


def test_odometry_that_is_not_finite_is_skipped(rig):
    def sometimes_nan(when: float, stamp_ns: int) -> Any:
        message = good_odometry(when, stamp_ns)
        if round(when * 20) % 5 == 0:
            message.pose.pose.position.x = float("nan")
        return message

    rig.robot.odometry = sometimes_nan
    rig.until(lambda: "not finite" in rig.said(INPUTS), "not finite")
    assert rig.next_rollout(source_is(ActionSequenceMsg.HELD))


def test_a_jump_of_all_stamps_starts_over(rig):
    rig.robot.shift_s += 30.0
    rig.until(lambda: "apart" in rig.said(INPUTS), "apart")
    rig.robot.shift_s -= 60.0
    rig.until(lambda: "clock was reset" in rig.said(INPUTS), "clock was reset")
    assert rig.next_rollout(source_is(ActionSequenceMsg.EXECUTED))
    rig.robot.shift_s = 0.0


def test_a_silent_topic_is_named(rig):
    rig.robot.picture = lambda *_: None
    rig.robot.odometry = lambda *_: None
    rig.until(lambda: "no image for 2." in rig.said(INPUTS), "no image")
    rig.until(lambda: "no odometry for " in rig.said(INPUTS), "no odometry")
    assert rig.diagnostics[INPUTS].level == LEVELS["STALE"]
    rig.until(lambda: "no image for" in rig.said("drift_monitor: inputs"), "the monitor's word")
    rig.robot.behave()
    rig.until(lambda: "no image" not in rig.said(INPUTS), "images again")
    assert rig.next_rollout()


def test_drift_is_judged_on_what_was_executed_and_reset_forgets(rig):
    heard = rig.heard["drift_monitor/drift"]
    heard.clear()
    executed = rig.until(
        lambda: [d for d in list(heard) if d.source == ActionSequenceMsg.EXECUTED and d.horizons and d.channels],
        "a drift score against a learned baseline",
    )[0]
    assert list(executed.horizons) == [2, 4, 8] and all(0 <= value <= 100 for value in executed.scs)
    assert min(executed.structures) >= 1 and min(executed.psnr) > 10
    assert len(executed.baseline_scs) == 3 and all(0 < value <= 100 for value in executed.baseline_scs)
    assert max(executed.strengths) == pytest.approx(executed.alarm) and len(executed.strengths) == len(
        executed.channels
    )
    context_ns, newest_ns = (conversions.time_ns(t) for t in (executed.context_stamp, executed.header.stamp))
    assert newest_ns - context_ns == pytest.approx(8 * TICK_NS, rel=1e-6)
    rig.until(
        lambda: [d for d in list(heard) if d.source == ActionSequenceMsg.HELD and d.horizons],
        "a held rollout judged when due",
    )
    overlay = rig.until(lambda: rig.heard["drift_monitor/overlay"], "an overlay")[-1]
    assert (overlay.height, overlay.width) == (3 * 96 + CAPTION_HEIGHT, 3 * 128)

    def told() -> dict[str, str] | None:  # diagnostics come once a second: the first may be from before
        values = {pair.key: pair.value for pair in rig.diagnostics["drift_monitor: drift"].values}
        return values if values["baseline"].startswith("learned from") else None

    values = rig.until(told, "diagnostics of a learned baseline")
    assert float(values["usual scs executed 8"]) > 0
    assert rig.trigger("drift_monitor/reset").success
    heard.clear()
    rig.until(lambda: [d for d in list(heard) if d.state == d.UNDEFINED and "learning" in d.reason], "learning anew")


def test_what_was_sampled_and_what_it_cost_is_told(rig):
    def counted() -> dict[str, str]:
        status = rig.diagnostics.get("drift_monitor: sampling")
        return {} if status is None else {pair.key: pair.value for pair in status.values}

    values = rig.until(lambda: int((found := counted()).get("executed judged", 0)) > 3 and found, "judged rollouts")
    heard, judged, replaced = (int(values[f"executed {what}"]) for what in ("heard", "judged", "replaced"))
    assert judged + replaced <= heard and "ms" not in values["scoring_ms p50 / p99"]
    assert int(values["planned passed over"]) > 0  # one in a second is judged
    assert 0 < float(values["cpu_share of one core"].split()[0]) < 400


def test_the_aggregator_knows_every_status_that_is_published(rig):
    """Each status of both nodes belongs to exactly one analyzer, and no analyzer waits for what nobody publishes."""
    parameters = yaml.safe_load(ANALYZERS.read_text())["/**"]["ros__parameters"]
    analyzers = {name: value for name, value in parameters.items() if isinstance(value, dict)}
    rig.until(lambda: {"world_model: plan", "drift_monitor: drift"} <= set(rig.diagnostics), "statuses of both")
    names = [name for name in rig.diagnostics if name.startswith(("world_model: ", "drift_monitor: "))]
    for name in names:
        fits = [key for key, analyzer in analyzers.items() if any(part in name for part in analyzer["contains"])]
        assert len(fits) == 1, f"{name}: {fits}"
    for analyzer in analyzers.values():
        assert analyzer["type"] == "diagnostic_aggregator/GenericAnalyzer" and analyzer["timeout"] > 1.0
        if analyzer.get("num_items") == 0:  # of a node that runs on request
            assert analyzer["contains"] == ["planner: "]
            continue
        for part in analyzer["contains"]:
            assert any(part in name for name in names), part


def test_parameters_change_live_or_are_refused_with_a_reason(rig):
    integer = ParameterType.PARAMETER_INTEGER
    good = rig.set_parameter("world_model", "num_denoising_steps", ParameterValue(type=integer, integer_value=1))
    assert good.successful and rig.next_rollout(lambda r: r.num_denoising_steps == 1)
    bad = rig.set_parameter("world_model", "predicted_frame", ParameterValue(type=integer, integer_value=9))
    assert not bad.successful and "expected 0..8" in bad.reason
    text = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="elsewhere")
    locked = rig.set_parameter("world_model", "checkpoint", text)
    assert not locked.successful and "clean up first" in locked.reason


def test_lifecycle_cycles_leave_nothing_behind(rig, graph):
    model = graph.processes["world_model"]
    assert rig.next_rollout()
    threads = []
    for _ in range(3):
        assert rig.change_state("world_model", Transition.TRANSITION_DEACTIVATE)
        heard = rig.heard["world_model/rollout"]
        rig.until(lambda: rig.said(LIFECYCLE) == "inactive", "inactive")
        heard.clear()
        assert rig.change_state("world_model", Transition.TRANSITION_ACTIVATE)
        assert rig.next_rollout().sequence < 20
        threads.append(threads_of(model))
    assert threads[0] == threads[-1]
    assert not rig.change_state("world_model", Transition.TRANSITION_CONFIGURE)  # not from active: refused, alive
    assert rig.state("world_model") == "active"
    assert rig.change_state("world_model", Transition.TRANSITION_DEACTIVATE)
    assert rig.change_state("world_model", Transition.TRANSITION_CLEANUP)
    assert rig.state("world_model") == "unconfigured"
    assert rig.change_state("world_model", Transition.TRANSITION_CONFIGURE)
    assert rig.change_state("world_model", Transition.TRANSITION_ACTIVATE)
    assert rig.next_rollout()
    assert rig.change_state("drift_monitor", Transition.TRANSITION_DEACTIVATE)
    assert rig.change_state("drift_monitor", Transition.TRANSITION_ACTIVATE)


def test_each_stops_cleanly_on_a_signal(graph):
    assert graph.rig.next_rollout(source_is(ActionSequenceMsg.EXECUTED))
    numbers = {"drift_monitor": signal.SIGINT, "world_model": signal.SIGTERM}
    for name, number in numbers.items():
        code, said = stop_node(graph.processes[name], number), (graph.logs / name).read_text()
        assert code == 0 and "Traceback" not in said, said
        warnings = sum("[WARN]" in line for line in said.splitlines())
        assert warnings < 60, said  # everything was said, nothing a thousand times

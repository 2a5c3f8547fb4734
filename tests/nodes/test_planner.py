"""The planner: its plain parts, and the node beside a world model in a real graph."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from dataclasses import fields, replace

from egowm_msgs.msg import ActionSequence
from geometry_msgs.msg import Twist
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import ParameterType, ParameterValue
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from egowm_core.checkpoint import load_checkpoint, save_checkpoint
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, DataError
from egowm_core.planning import Plan
from egowm_nodes import conversions
from egowm_nodes.launching.node_table import CONFIG_DIR
from egowm_nodes.planning.base import Drive, load_base, make_search
from egowm_nodes.planning.goal import goal_from_file, goal_from_message
from egowm_nodes.planning.markers import MOST, candidate_markers, colors_of
from egowm_nodes.planning.params import PlannerParams
from egowm_nodes.planning.status import Figures, Phase, plan_status
from egowm_nodes.runtime.diagnostics import Level
from tests.fixtures.awake_model import awake_model
from tests.fixtures.tiny_checkpoint import made_up_picture
from tests.nodes.rig import DOMAIN, Rig, start_node, stop_node
from tests.nodes.streams import picture_at

ROBOT = load_embodiment("base_3dof")
PLAN = "planner: plan"
MARKERS = "planner/candidates"
HEARD = {"cmd_vel": Twist, "actions": ActionSequence, MARKERS: MarkerArray}


def test_the_parameter_file_says_what_the_defaults_are() -> None:
    known = yaml.safe_load((CONFIG_DIR / "planner.yaml").read_text())["/**/planner"]["ros__parameters"]
    assert known == {item.name: item.default for item in fields(PlannerParams)}
    for wrong in ({"elites": 17}, {"knots": 9}, {"execute": 9}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            PlannerParams(**wrong)


def test_a_search_keeps_to_what_the_base_may_do() -> None:
    limits = make_search(ROBOT, PlannerParams(max_speed_mps=0.4, max_reverse_mps=0.1, max_turn_radps=0.6)).limits
    assert limits == pytest.approx(np.array([[-0.025, 0.1], [0, 0], [-0.15, 0.15]]))
    fast = make_search(ROBOT, PlannerParams(max_speed_mps=5.0)).limits
    assert fast[0, 1] == ROBOT.limits[0, 1]  # never beyond the embodiment's
    slow = load_base(PlannerParams(tick_rate_hz=2.0))
    assert (load_base(PlannerParams()).rate_hz, slow.rate_hz) == (ROBOT.rate_hz, 2.0)
    with pytest.raises(ConfigError, match="humanoid"):
        make_search(load_embodiment("humanoid_25dof"), PlannerParams())


def test_rows_become_velocities_one_after_another() -> None:
    drive = Drive(np.array([[0.1, 0, 0], [0.0, 0, -0.1]], np.float32), 0.25, 10.0)
    assert drive.velocity(10.01) == pytest.approx([0.4, 0, 0]) and drive.velocity(10.3) == pytest.approx([0, 0, -0.4])
    assert drive.velocity(10.51) is None and drive.velocity(9.0) is None


def test_goals_are_pictures_of_the_cameras_aspect(tmp_path: Path) -> None:
    camera, picture = ROBOT.camera(), made_up_picture(240, 320, seed=1)
    goal = goal_from_message(conversions.image_message(picture, 0, "optical"), camera)
    assert goal.picture.shape == (96, 128, 3) and goal.cost_of(picture) == pytest.approx(0, abs=1e-5)
    assert goal.cost_of(made_up_picture(240, 320, seed=2)) > 0.05
    cv2.imwrite(str(tmp_path / "goal.png"), picture[..., ::-1])
    assert np.array_equal(goal_from_file(tmp_path / "goal.png", camera).picture, goal.picture)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for path in ("bad.png", "absent.png"):
        with pytest.raises(DataError):
            goal_from_file(tmp_path / path, camera)
    with pytest.raises(DataError, match="aspect"):
        goal_from_message(conversions.image_message(made_up_picture(240, 240, seed=1), 0, ""), camera)
    for wrong in (Image(height=5000, width=10), Image(height=240, width=320, encoding="rgb8", step=960)):
        with pytest.raises(DataError):
            goal_from_message(wrong, camera)


def test_markers_tell_good_candidates_from_bad_ones() -> None:
    rows = np.zeros((MOST + 4, 4, 3), np.float32)
    rows[:, :, 0] = 0.1
    costs = np.linspace(1, 2, len(rows)).astype(np.float32)
    costs[3] = np.inf
    plan = Plan(rows[0], 1.0, rows, costs)
    message = candidate_markers(plan, stamp_ns=5, frame_id="base_link", lifetime_s=1.5)
    wipe, first, *_, last, best = message.markers
    assert len(message.markers) == MOST + 2 and wipe.action == Marker.DELETEALL
    assert first.color.g > first.color.r and last.color.r > last.color.g
    assert best.ns == "best" and best.scale.x > first.scale.x
    assert [point.x for point in first.points] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert (first.header.frame_id, first.lifetime.sec, first.lifetime.nanosec) == ("base_link", 1, 500_000_000)
    assert len({(marker.ns, marker.id) for marker in message.markers[1:]}) == MOST + 1
    same = colors_of(np.array([0.5, np.inf], np.float32))
    assert same[0].g > same[0].r and same[1].r > same[1].g


def test_the_status_names_what_hinders_before_how_far_it_is() -> None:
    figures = Figures()
    assert plan_status(figures, None, []).message == "no goal"
    figures.begin()
    figures.saw(0.4)
    figures.saw(0.2)
    figures.saw(0.3)
    status = plan_status(figures, None, [])
    assert status.values["cost_first"] == "0.4000" and status.values["cost_lowest"] == "0.2000"
    figures.phase, figures.end = Phase.OVER, "reached"
    assert plan_status(figures, None, []).message == "over: reached"
    stale = plan_status(figures, "no image", ["a plan failed"])
    assert stale.level is Level.STALE and "no image" in stale.message and "a plan failed" in stale.message


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A world model of random weights, and a planner that drives for any gain, however small, as those promise none."""
    folder = tmp_path_factory.mktemp("planner")
    model = awake_model(folder / "asleep")  # whose actions do move something
    kept = load_checkpoint(folder / "asleep")
    weights = kept.weights | {f"denoiser.{name}": value for name, value in model.denoiser.state_dict().items()}
    checkpoint = folder / "tiny"
    save_checkpoint(checkpoint, replace(kept, weights=weights))
    parameters = {"auto_start": "true", "horizon": "4", "execute": "2", "candidates": "4", "elites": "2"}
    parameters |= {"iterations": "1", "least_gain": "0.0", "settle": "0", "patience": "0", "reached_below": "0.0"}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment.setenv("ROS_DOMAIN_ID", str(DOMAIN))
        environment.setenv("OMP_NUM_THREADS", "1")
        rig = Rig()
        options = {"auto_start": "true", "checkpoint": str(checkpoint)}
        processes = [
            start_node("egowm_nodes.planner_node", name="planner", log=folder / "planner", parameters=parameters),
            start_node("egowm_nodes.world_model_node", name="world_model", log=folder / "model", parameters=options),
        ]
        try:
            for topic, kind in HEARD.items():
                rig.heard[topic] = deque(maxlen=2000)
                rig.node.create_subscription(kind, topic, rig._keeper(topic), 50)
            goals = rig.node.create_publisher(Image, "goal_image", QoSProfile(depth=1))
            rig.until(goals.get_subscription_count, "the planner")
            rig.robot.start()
            rig.next_rollout()
            yield SimpleNamespace(rig=rig, heard=rig.heard, goals=goals, planner=processes[0], folder=folder)
        finally:
            rig.close()
            for process in processes:
                process.kill()
                process.wait()


def values(rig: Rig) -> dict[str, str]:
    status = rig.diagnostics.get(PLAN)
    return {} if status is None else {pair.key: pair.value for pair in status.values}


def moving(message: Twist) -> bool:
    return message.linear.x != 0 or message.angular.z != 0


def goal_message(picture: Any) -> Image:
    return conversions.image_message(picture, 1, "optical")


def test_without_a_goal_it_leaves_the_base_alone(graph: SimpleNamespace) -> None:
    graph.rig.until(lambda: graph.rig.said(PLAN) == "no goal", "the planner's status")
    assert not graph.heard["cmd_vel"]


def test_it_plans_drives_and_shows_its_candidates(graph: SimpleNamespace) -> None:
    rig, heard = graph.rig, graph.heard
    graph.goals.publish(goal_message(picture_at(3.0)))
    rig.until(lambda: int(values(rig).get("plans", 0)) >= 2, "two plans")
    rig.until(lambda: any(moving(message) for message in list(heard["cmd_vel"])), "motion")
    for message in list(heard["cmd_vel"]):
        assert 0 <= message.linear.x <= 0.4 + 1e-6 and abs(message.angular.z) <= 0.6 + 1e-6 and message.linear.y == 0
    actions = heard["actions"][0]
    assert tuple(actions.channels) == ROBOT.channel_names and len(actions.data) == 2 * 3
    assert actions.source == ActionSequence.PLANNED
    lines = [marker for marker in heard[MARKERS][0].markers if marker.ns == "candidates"]
    assert len(lines) == 4 and all(len(line.points) == 5 for line in lines)
    assert float(values(rig)["cost_now"]) > 0


def test_a_goal_that_is_none_is_refused_and_the_former_stays(graph: SimpleNamespace) -> None:
    graph.goals.publish(goal_message(made_up_picture(96, 96, seed=0)))
    graph.rig.until(lambda: values(graph.rig).get("goals refused") == "1", "the refusal")
    assert values(graph.rig)["phase"] in {Phase.LOOKING.value, Phase.PLANNING.value, Phase.DRIVING.value}


def test_no_goal_any_more_stops_the_base_and_lets_go_of_it(graph: SimpleNamespace) -> None:
    rig, heard = graph.rig, graph.heard
    graph.goals.publish(Image())
    rig.until(lambda: values(rig).get("phase") == Phase.NO_GOAL.value, "the end")
    time.sleep(1.0)
    assert not moving(heard["cmd_vel"][-1])
    heard["cmd_vel"].clear()
    time.sleep(0.5)
    assert not heard["cmd_vel"]


def test_it_says_when_the_goal_is_reached_and_stands_still_then(graph: SimpleNamespace) -> None:
    rig, heard = graph.rig, graph.heard
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert rig.change_state("planner", transition)
    near = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=5.0)
    assert rig.set_parameter("planner", "reached_below", near).successful
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert rig.change_state("planner", transition)
    heard["cmd_vel"].clear()
    rig.until(graph.goals.get_subscription_count, "the planner")
    graph.goals.publish(goal_message(picture_at(3.0)))
    rig.until(lambda: rig.said(PLAN) == "over: reached", "the end")
    assert not any(moving(message) for message in list(heard["cmd_vel"]))


def test_it_ends_cleanly(graph: SimpleNamespace) -> None:
    assert stop_node(graph.planner, signal.SIGINT) == 0
    assert "Traceback" not in (graph.folder / "planner").read_text()

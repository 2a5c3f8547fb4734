"""The planner as it is launched: simulated robot, world model and planner from the node table, in one real graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")
pytest.importorskip("mujoco")

from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from egowm_core.data.messages import odometry_pose
from egowm_core.geometry import se2_compose, se2_delta
from egowm_nodes.health import main as health
from egowm_nodes.launching import node_table
from egowm_nodes.stress.system import System, with_parameters
from egowm_sim.futures import Stage
from tests.nodes.rig import DOMAIN, Rig

SEED = 970005  # a room with free floor ahead of where the robot starts
GOAL = np.array([1.59, 0.07, 0.09])  # x, y, yaw from there
NEARER_M = 0.3
PLAN = "planner: plan"
SEARCH = {"candidates": 8, "iterations": 1}  # few: the test is for the way, not for how well it is chosen


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("drive")
    with Stage(seed=SEED, height=240, width=320) as stage:
        start = stage.drive(0.25, rate_hz=4.0)[0]
        goal = stage.render(se2_compose(start, GOAL)[None]).images[0]
    cv2.imwrite(str(folder / "goal.png"), goal[..., ::-1])
    values = {"seed": SEED, "planner": True, "goal_file": folder / "goal.png"}
    runs = node_table.plan(node_table.SIM, values, without=("drift_monitor",))
    with pytest.MonkeyPatch.context() as environment:
        for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
            environment.setenv(name, "")  # put back as it was: the system sets them
        with System(folder, domain_id=DOMAIN) as system:
            rig = Rig()
            for topic, kind in (("odom", Odometry), ("cmd_vel", Twist)):
                rig.heard[topic] = deque(maxlen=20000)
                rig.node.create_subscription(kind, topic, rig._keeper(topic), 50)
            goals = rig.node.create_publisher(Image, "goal_image", QoSProfile(depth=1))
            try:
                for run in runs:
                    system.start(with_parameters(run, **SEARCH) if run.entry.name == "planner" else run)
                yield SimpleNamespace(rig=rig, heard=rig.heard, goals=goals, system=system)
            finally:
                rig.close()


def moving(message: Twist) -> bool:
    return message.linear.x != 0 or message.angular.z != 0


def off_m(drive: SimpleNamespace) -> float:
    """How far the robot is from where the goal picture was taken."""
    here: NDArray[np.float64] = odometry_pose(drive.heard["odom"][-1])
    return float(np.hypot(*se2_delta(here, GOAL)[:2]))


def test_it_drives_the_simulated_robot_nearer_to_the_goal(drive: SimpleNamespace) -> None:
    rig, heard = drive.rig, drive.heard
    rig.until(lambda: heard["odom"], "odometry")
    begin_m = off_m(drive)
    rig.until(lambda: off_m(drive) < begin_m - NEARER_M, "the way")
    assert any(moving(message) for message in list(heard["cmd_vel"]))
    speaking = {each.node_name for each in rig.node.get_publishers_info_by_topic("cmd_vel")}
    assert speaking == {"rig", "planner"}  # the robot obeys; it does not wander beside the planner
    assert health(["world_model", "planner", "--wait", "--timeout", "60"]) == 0


def test_without_a_goal_any_more_the_robot_comes_to_rest(drive: SimpleNamespace) -> None:
    rig, heard = drive.rig, drive.heard
    drive.goals.publish(Image())
    rig.until(lambda: rig.said(PLAN) == "no goal", "the end")
    rig.until(lambda: not moving(heard["odom"][-1].twist.twist), "the robot to stand still")
    place = odometry_pose(heard["odom"][-1])
    heard["odom"].clear()
    heard["cmd_vel"].clear()
    rig.until(lambda: len(heard["odom"]) > 20, "a second of odometry")
    assert odometry_pose(heard["odom"][-1]) == pytest.approx(place, abs=1e-3)
    assert not any(moving(message) for message in list(heard["cmd_vel"]))
    assert all(drive.system.alive(name) for name in drive.system.processes)

"""Faults of the live robot: planned by a parameter, ordered on a topic, told on a latched one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from egowm_sim.backend import SimulationError  # noqa: E402
from egowm_sim.fault_desk import planned_faults  # noqa: E402

DOMAIN = str(1 + os.getpid() % 100)
LIMIT_S = 60.0


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("ROS_DOMAIN_ID", DOMAIN)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return dict(os.environ)


@pytest.fixture
def node(environment: dict[str, str]) -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context)
    made = Node("operator", context=context)
    yield made
    made.destroy_node()
    context.try_shutdown()


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def begin(*parameters: str) -> subprocess.Popen[str]:
        arguments = [part for parameter in parameters for part in ("-p", parameter)]
        command = [sys.executable, "-m", "egowm_sim.node", "--ros-args", *arguments]
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_several_faults_in_one_parameter() -> None:
    faults = planned_faults("wheel_slip:0.9@2-3, lights_out@4  people@5")
    assert [str(fault) for fault in faults] == ["wheel_slip:0.9@2-3", "lights_out:0.95@4", "people:1@5"]
    assert planned_faults("") == []
    with pytest.raises(SimulationError, match="expected KIND"):
        planned_faults("wheel_slip")


def test_the_robot_obeys_orders_tells_what_is_wrong_and_survives_nonsense(
    node: Node, start: Callable[..., subprocess.Popen[str]]
) -> None:
    told: list[dict[str, Any]] = []
    images: list[bytes] = []
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    orders = node.create_publisher(String, "sim_robot/fault", 10)
    node.create_subscription(Image, "image", lambda m: images.append(bytes(m.data)), qos_profile_sensor_data)

    def until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end, (told, len(images))
            executor.spin_once(timeout_sec=0.05)

    def order(text: str, condition: Callable[[], bool]) -> None:
        until(lambda: orders.get_subscription_count() > 0)
        orders.publish(String(data=text))
        until(condition)

    process = start(
        "seed:=10", "image_height:=96", "image_width:=128", "image_transport:=raw",
        "faults:=frozen_frame@0, gain_change:0.8@0", "camera_noise:=2.0",
    )  # fmt: skip
    until(lambda: len(images) > 3)
    assert len(set(images)) == 1  # frozen, in spite of noise
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)  # told long before we ask
    node.create_subscription(String, "sim_robot/faults", lambda m: told.append(json.loads(m.data)), latched)
    until(lambda: bool(told))
    assert sorted(told[-1]["now"]) == ["frozen_frame", "gain_change:0.8"]

    order("frozen_frame off", lambda: told[-1]["now"] == ["gain_change:0.8"])
    assert (told[-1]["kind"], told[-1]["active"]) == ("frozen_frame", False)
    images.clear()
    until(lambda: len(images) > 3)
    assert len(set(images)) == len(images)

    orders.publish(String(data="wheel_slop:0.9"))
    order("wheel_slip.left:0.9", lambda: told[-1]["kind"] == "wheel_slip")
    assert (told[-1]["severity"], told[-1]["wheel"], told[-1]["active"]) == (0.9, "left", True)
    order("people:2", lambda: "people:2" in told[-1]["now"])
    order("lights_out:1", lambda: "lights_out:1" in told[-1]["now"])
    until(lambda: float(np.frombuffer(images[-1], np.uint8).mean()) < 5)
    order("clear", lambda: told[-1]["now"] == [])
    until(lambda: float(np.frombuffer(images[-1], np.uint8).mean()) > 30)

    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    executor.shutdown()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "fault order ignored: fault 'wheel_slop'" in errors
    assert "fault lights_out:1 begins" in errors
    assert "fault people:2 ends" in errors


def test_a_bad_plan_ends_it_with_1(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("faults:=wheel_slip:7@1")
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "wheel_slip of severity 7" in errors
    assert "Traceback" not in errors

"""A test's end of a real ROS graph: node processes, a scripted robot that streams in real time, and all that is heard.

Everything runs in a domain of its own on this machine alone.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from egowm_msgs.msg import ActionSequence, Drift, Rollout
from geometry_msgs.msg import Twist
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger

from egowm_core.channels import Camera
from egowm_nodes import conversions
from tests.nodes.streams import picture_at, yaw_at

LIMIT_S = 120.0
CAMERA = Camera(name="scripted", topic="image", optical_frame="optical", height=240, width=320, hfov_deg=90.0)
DOMAIN = 1 + os.getpid() % 100
IMAGE_HZ, ODOM_HZ = 12.0, 20.0
HEARD = {
    "world_model/rollout": (Rollout, 10),
    "world_model/predicted/image_raw": (Image, qos_profile_sensor_data),
    "world_model/predicted/image_raw/compressed": (CompressedImage, qos_profile_sensor_data),
    "world_model/predicted/camera_info": (CameraInfo, qos_profile_sensor_data),
    "world_model/predicted/strip": (Image, qos_profile_sensor_data),
    "drift_monitor/drift": (Drift, 10),
    "drift_monitor/overlay": (Image, qos_profile_sensor_data),
    "drift_monitor/history": (Image, qos_profile_sensor_data),
}


class Rig:
    """Hears every output, knows the newest diagnostics by status name, and drives the scripted robot."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("rig", context=self.context)
        self.heard: dict[str, deque[Any]] = {topic: deque(maxlen=200) for topic in HEARD}
        for topic, (kind, qos) in HEARD.items():
            self.node.create_subscription(kind, topic, self._keeper(topic), qos)
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.plans = self.node.create_publisher(ActionSequence, "actions", 10)
        self.commands = self.node.create_publisher(Twist, "cmd_vel", 10)
        self.robot = ScriptedRobot(self.node)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._spinner = threading.Thread(target=self._spin, daemon=True)
        self._spinner.start()

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _keeper(self, topic: str) -> Callable[[Any], None]:
        def keep(message: Any) -> None:
            self.heard[topic].append(message)

        return keep

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics.update({status.name: status for status in message.status})

    def said(self, name: str) -> str:
        """The newest message of a diagnostic status."""
        status = self.diagnostics.get(name)
        return "" if status is None else status.message

    def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Wait for a true value and return it."""
        end = time.monotonic() + LIMIT_S
        while not (value := condition()):
            said = {name: status.message for name, status in self.diagnostics.items()}
            assert time.monotonic() < end, f"waited {LIMIT_S} s for {what}; {said}"
            time.sleep(0.02)
        return value

    def next_rollout(self, fits: Callable[[Rollout], bool] = lambda _: True) -> Rollout:
        """The next rollout of which ``fits`` is true."""
        heard = self.heard["world_model/rollout"]
        heard.clear()
        return self.until(lambda: next((rollout for rollout in list(heard) if fits(rollout)), None), "a rollout")

    def call(self, kind: type, name: str, request: Any) -> Any:
        """Call a service."""
        client = self.node.create_client(kind, name)
        try:
            assert client.wait_for_service(timeout_sec=LIMIT_S), name
            future = client.call_async(request)
            self.until(future.done, name)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def change_state(self, node: str, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def state(self, node: str) -> str:
        return str(self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label)

    def set_parameter(self, node: str, name: str, value: ParameterValue) -> Any:
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
        return self.call(SetParameters, f"{node}/set_parameters", request).results[0]

    def trigger(self, name: str) -> Trigger.Response:
        return self.call(Trigger, name, Trigger.Request())

    def close(self) -> None:
        self.robot.close()
        self._stop.set()
        self._spinner.join()
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


class ScriptedRobot:
    """Streams JPEGs, camera info and odometry of a robot that turns to and fro; a test bends the streams.

    ``picture`` makes the image message of a time (or None for no picture), ``odometry`` that of the odometry.
    ``shift_s`` is added to all stamps.
    """

    def __init__(self, node: Node) -> None:
        self._images = node.create_publisher(CompressedImage, "image/compressed", qos_profile_sensor_data)
        self._raw = node.create_publisher(Image, "image", qos_profile_sensor_data)
        self._info = node.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
        self._odometry = node.create_publisher(Odometry, "odom", 10)
        self.shift_s = 0.0
        self.behave()
        self.stamps_ns: deque[int] = deque(maxlen=2000)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def behave(self) -> None:
        """Good streams again."""
        self.picture: Callable[[float, int], Any] = good_picture
        self.odometry: Callable[[float, int], Any] = good_odometry

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        started_s, base_ns = time.monotonic(), time.time_ns()
        images = poses = 0
        while not self._stop.is_set():
            now_s = time.monotonic() - started_s
            while images / IMAGE_HZ <= now_s or poses / ODOM_HZ <= now_s:
                if images / IMAGE_HZ <= poses / ODOM_HZ:
                    when, images = images / IMAGE_HZ, images + 1
                    self._publish_picture(when, base_ns + round((when + self.shift_s) * 1e9))
                else:
                    when, poses = poses / ODOM_HZ, poses + 1
                    message = self.odometry(when, base_ns + round((when + self.shift_s) * 1e9))
                    if message is not None:
                        self._odometry.publish(message)
            self._stop.wait(0.005)

    def _publish_picture(self, when: float, stamp_ns: int) -> None:
        message = self.picture(when, stamp_ns)
        if message is None:
            return
        self.stamps_ns.append(stamp_ns)
        (self._raw if isinstance(message, Image) else self._images).publish(message)
        info = conversions.camera_info_of(CAMERA)
        assert info is not None
        info.header = message.header
        self._info.publish(info)


def good_picture(when: float, stamp_ns: int) -> CompressedImage:
    return conversions.compressed_message(picture_at(when), stamp_ns, "optical")


def good_odometry(when: float, stamp_ns: int) -> Odometry:
    message = Odometry(header=conversions.header(stamp_ns, "odom"), child_frame_id="base_link")
    half = yaw_at(when) / 2
    orientation = message.pose.pose.orientation
    orientation.z, orientation.w = math.sin(half), math.cos(half)
    return message


def start_node(
    module: str, *, name: str, log: Path, parameters: dict[str, str], remap: tuple[str, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start a node process of this test's domain; what it says goes to ``log``."""
    command = [sys.executable, "-m", module, "--ros-args", "-r", f"__node:={name}"]
    command += [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
    command += [part for rule in remap for part in ("-r", rule)]
    environment = os.environ | {"ROS_DOMAIN_ID": str(DOMAIN), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    with log.open("wb") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)


def stop_node(process: subprocess.Popen[bytes], number: int) -> int:
    """Signal a node process and return its exit code."""
    process.send_signal(number)
    try:
        return process.wait(timeout=LIMIT_S)
    finally:
        process.kill()


def threads_of(process: subprocess.Popen[bytes]) -> int:
    """How many threads a process has."""
    return len(list(Path(f"/proc/{process.pid}/task").iterdir()))

"""``sim_robot``: the simulated robot behind ordinary ROS topics, in real time.

Publishes image, image/compressed, camera_info, odom and tf; obeys cmd_vel, or drives itself and says on cmd_vel
what it does. Physics and odometry run on the executor's thread, pictures on their own. Things go wrong with it as
planned in a parameter or as ordered on ~/fault. Knows no world model.

    python -m egowm_sim.node --ros-args -p seed:=7 -p drive:=auto
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry as OdometryMsg
from numpy.typing import NDArray
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from egowm_core.errors import EgowmError
from egowm_sim import messages
from egowm_sim.backend import SimulationError
from egowm_sim.beat import Beat
from egowm_sim.driver import CONTROL_PERIOD_S, WanderingDriver
from egowm_sim.fault_desk import FaultDesk, planned_faults
from egowm_sim.faults import MOST_PEOPLE
from egowm_sim.faulty import FaultySimulation
from egowm_sim.lens import MOST_FLICKER, MOST_NOISE
from egowm_sim.pump import CameraPump
from egowm_sim.simulation import TICK_S, Instant

PHYSICS_PERIOD_S = 0.02
MOST_CATCH_UP_S = 0.5  # a longer stall of the machine is skipped, not made up for
TICK_NS = round(TICK_S * 1e9)
DRIVES = ("cmd_vel", "auto")
TRANSPORTS = ("both", "raw", "compressed")


def _integer(description: str, low: int, high: int) -> ParameterDescriptor:
    return ParameterDescriptor(
        description=description, read_only=True, integer_range=[IntegerRange(from_value=low, to_value=high, step=1)]
    )


def _number(description: str, low: float, high: float) -> ParameterDescriptor:
    return ParameterDescriptor(
        description=description,
        read_only=True,
        floating_point_range=[FloatingPointRange(from_value=low, to_value=high)],
    )


def _text(description: str) -> ParameterDescriptor:
    return ParameterDescriptor(description=description, read_only=True)


class SimRobot(Node):
    """One simulated robot in one room.

    Raises:
        SimulationError: a parameter is none of its choices, or no OpenGL back end works.
    """

    def __init__(self) -> None:
        super().__init__("sim_robot")
        number, choice = self._value, self._choice
        seed = number("seed", 0, _integer("picks the room, the start and the wheel errors", 0, 2**31 - 1))
        height = number("image_height", 240, _integer("picture height in pixels", 16, 1080))
        width = number("image_width", 320, _integer("picture width in pixels", 16, 1920))
        image_rate_hz = number("image_rate_hz", 12.0, _number("pictures a second", 0.1, 60.0))
        odom_rate_hz = number("odom_rate_hz", 20.0, _number("odometry messages a second", 1.0, 100.0))
        self._timeout_s = number("cmd_vel_timeout_s", 0.5, _number("stop when no command came for so long", 0.05, 10.0))
        self._drive = choice(
            "drive", DRIVES, "who drives: cmd_vel obeys the topic, auto wanders and publishes what it does on cmd_vel"
        )
        transport = choice(
            "image_transport", TRANSPORTS, "which image topics: image (raw), image/compressed (compressed) or both"
        )
        faults = planned_faults(
            str(number("faults", "", _text("what goes wrong: KIND[.WHEEL][:SEVERITY]@START[-END] ... in seconds")))
        )
        camera_noise = number("camera_noise", 0.0, _number("sigma of every pixel in grey levels", 0.0, MOST_NOISE))
        flicker = number("flicker", 0.0, _number("sigma of the exposure, as a share", 0.0, MOST_FLICKER))
        self._images, self._odometry, self._control = (
            Beat(rate, tick_s=TICK_S) for rate in (image_rate_hz, odom_rate_hz, 1 / CONTROL_PERIOD_S)
        )

        self._simulation = FaultySimulation(
            seed=seed,
            height=height,
            width=width,
            start_ns=0,
            faults=faults,
            camera_noise=camera_noise,
            flicker=flicker,
            people=MOST_PEOPLE,
        )
        self._camera_info = messages.camera_info_message(height, width, 0)
        self._driver = WanderingDriver(self._simulation.room.floor_map, seed=seed)
        self._command = (0.0, 0.0)
        self._command_s = -math.inf
        self._ticks = 0
        self._skipped_s = 0.0
        self._start_topics(transport)
        self._desk = FaultDesk(self, self._simulation)
        self._pump = CameraPump(self._simulation, self._publish_image)
        self._started_s = time.monotonic()
        self._simulation.shift_clock(self.get_clock().now().nanoseconds)
        self.create_timer(PHYSICS_PERIOD_S, self._physics)
        plan, structures = self._simulation.room.plan, self._simulation.room.structures.values()
        static = sum(bool(structure["static"]) for structure in structures)
        self.get_logger().info(
            f"room {seed}: {plan.width:.1f} x {plan.depth:.1f} m, {static} structures, "
            f"{height}x{width} pictures at {image_rate_hz:g} Hz, drive: {self._drive}"
        )

    def _value(self, name: str, default: Any, descriptor: ParameterDescriptor) -> Any:
        return self.declare_parameter(name, default, descriptor).value

    def _choice(self, name: str, choices: Sequence[str], description: str) -> str:
        descriptor = ParameterDescriptor(description=f"{description} ({' | '.join(choices)})", read_only=True)
        value = str(self.declare_parameter(name, choices[0], descriptor).value)
        if value not in choices:
            raise SimulationError(f"parameter {name} is {value!r}; expected one of {', '.join(choices)}")
        return value

    def _start_topics(self, transport: str) -> None:
        reliable = QoSProfile(depth=10)
        self._raw = (
            self.create_publisher(Image, "image", qos_profile_sensor_data) if transport != "compressed" else None
        )
        self._jpeg = (
            self.create_publisher(CompressedImage, "image/compressed", qos_profile_sensor_data)
            if transport != "raw"
            else None
        )
        self._info = self.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
        self._odom = self.create_publisher(OdometryMsg, "odom", reliable)
        self._said = self.create_publisher(Twist, "cmd_vel", reliable) if self._drive == "auto" else None
        if self._drive == "cmd_vel":
            self.create_subscription(Twist, "cmd_vel", self._obey, reliable)
        self._tf_class = messages.tf_message_class()
        if self._tf_class is None:
            self.get_logger().info(
                "tf2_msgs is not installed: odom carries the pose, /tf and /tf_static are not published"
            )
            return
        self._tf = self.create_publisher(self._tf_class, "/tf", QoSProfile(depth=100))
        latched = QoSProfile(
            depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE
        )
        self._tf_static = self.create_publisher(self._tf_class, "/tf_static", latched)
        self._tf_static.publish(
            self._tf_class(transforms=messages.camera_transforms(self.get_clock().now().nanoseconds))
        )

    def _obey(self, message: Twist) -> None:
        v, w = message.linear.x, message.angular.z
        if not (math.isfinite(v) and math.isfinite(w)):
            self.get_logger().warning(
                f"cmd_vel ({v}, {w}) is not finite and was ignored; send numbers", throttle_duration_sec=5.0
            )
            return
        self._command, self._command_s = (v, w), time.monotonic()

    def _physics(self) -> None:
        """Bring the simulation up to the present, publishing at exact ticks on the way."""
        elapsed_s = time.monotonic() - self._started_s - self._skipped_s
        behind = int(elapsed_s / TICK_S) - self._ticks
        most = round(MOST_CATCH_UP_S / TICK_S)
        if behind > most:
            skipped = behind - most
            self._skipped_s += skipped * TICK_S
            self._simulation.shift_clock(skipped * TICK_NS)
            self.get_logger().warning(
                f"machine busy: {self._skipped_s:.1f} s skipped so far; lower image_rate_hz or the picture size",
                throttle_duration_sec=10.0,
            )
            behind = most
        end = self._ticks + behind
        while self._ticks < end:
            if self._control.due(self._ticks):
                self._think()
            if self._odometry.due(self._ticks):
                self._publish_odometry()
            if self._images.due(self._ticks):
                self._pump.shoot()
            ahead = min(end, self._control.next_tick, self._odometry.next_tick, self._images.next_tick) - self._ticks
            self._simulation.step(*self._command, ahead * TICK_S)
            self._desk.tell()
            self._ticks += ahead

    def _think(self) -> None:
        if self._said is not None:
            pose = self._simulation.pose()
            self._command = self._driver.command(pose.x, pose.y, pose.yaw)
            self._said.publish(messages.twist_message(*self._command))
        elif time.monotonic() - self._command_s > self._timeout_s:
            self._command = (0.0, 0.0)

    def _publish_odometry(self) -> None:
        odometry = self._simulation.odometry()
        self._odom.publish(messages.odometry_message(odometry))
        if self._tf_class is not None:
            self._tf.publish(self._tf_class(transforms=[messages.odometry_transform(odometry)]))

    def _publish_image(self, image: NDArray[np.uint8], instant: Instant) -> None:
        """Called on the camera's thread."""
        if self._raw is not None:
            self._raw.publish(messages.image_message(image, instant.stamp_ns))
        if self._jpeg is not None:
            self._jpeg.publish(messages.compressed_message(image, instant.stamp_ns))
        self._camera_info.header.stamp = messages.time_message(instant.stamp_ns)
        self._info.publish(self._camera_info)

    def close(self) -> None:
        """Stop the camera's thread, then the node."""
        self._pump.close()
        if self._pump.dropped:
            self.get_logger().info(f"{self._pump.dropped} pictures were dropped because rendering was behind")
        self.destroy_node()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 after a stop by signal, 1 if the robot cannot run."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=list(argv) if argv is not None else None, signal_handler_options=SignalHandlerOptions.NO)
    robot: SimRobot | None = None
    executor = SingleThreadedExecutor()
    try:
        robot = SimRobot()
        executor.add_node(robot)
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
    except (EgowmError, InvalidParameterValueException, InvalidParameterTypeException) as error:
        print(f"sim_robot: {error}", file=sys.stderr)
        return 1
    finally:
        if robot is not None:
            robot.close()
        executor.shutdown()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())

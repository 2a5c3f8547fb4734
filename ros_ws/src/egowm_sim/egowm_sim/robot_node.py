"""What simulated robots have in common as nodes: real time, camera, odometry and tf, parameters, a clean end.

The physics runs on the executor's thread, at exact ticks; pictures are drawn on their own. Knows no robot in
particular: who inherits makes the simulation, moves it and publishes what only that robot has.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry as OdometryMsg
from numpy.typing import NDArray
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from egowm_nodes.runtime.main_loop import spin
from egowm_sim import messages
from egowm_sim.backend import SimulationError
from egowm_sim.beat import Beat
from egowm_sim.pump import CameraPump
from egowm_sim.robot_simulation import TICK_S, Instant

PHYSICS_PERIOD_S = 0.02
MOST_CATCH_UP_S = 0.5  # a longer stall of the machine is skipped, not made up for
LONGEST_TEXT = 2000  # characters of a log line
TICK_NS = round(TICK_S * 1e9)
TRANSPORTS = ("both", "raw", "compressed")


class RobotNode(Node, ABC):
    """A node whose simulation keeps to the clock.

    Inheriting: make ``simulation`` of ``image_height`` x ``image_width`` pictures with ``start_ns=0``, then call
    ``begin``, and implement ``advance``.

    Raises:
        SimulationError: a parameter is none of its choices, or no OpenGL back end works.
    """

    simulation: Any
    image_height: int
    image_width: int

    def __init__(self, name: str, *, optical_frame: str, image_rate_hz: float) -> None:
        super().__init__(name)
        self._optical_frame = optical_frame
        self.image_height = self.integer("image_height", 240, "picture height in pixels", 16, 1080)
        self.image_width = self.integer("image_width", 320, "picture width in pixels", 16, 1920)
        self.image_rate_hz = self.number("image_rate_hz", image_rate_hz, "pictures a second", 0.1, 60.0)
        self._odom_rate_hz = self.number("odom_rate_hz", 20.0, "odometry messages a second", 1.0, 100.0)
        self._transport = self.choice(
            "image_transport", TRANSPORTS, "which image topics: image (raw), image/compressed (compressed) or both"
        )
        self._prefix = self.text("frame_prefix", "before all frame names, such as robot_1/ beside other robots")
        self._events: list[tuple[Beat, Callable[[], None]]] = []
        self._ticks = 0
        self._skipped_s = 0.0

    # ---- parameters ---------------------------------------------------------------------------------------------

    def integer(self, name: str, default: int, description: str, low: int, high: int) -> int:
        """A read-only parameter from ``low`` to ``high``."""
        limits = [IntegerRange(from_value=low, to_value=high, step=1)]
        descriptor = ParameterDescriptor(description=description, read_only=True, integer_range=limits)
        return int(self.declare_parameter(name, default, descriptor).value)

    def number(self, name: str, default: float, description: str, low: float, high: float) -> float:
        """A read-only parameter from ``low`` to ``high``."""
        limits = [FloatingPointRange(from_value=low, to_value=high)]
        descriptor = ParameterDescriptor(description=description, read_only=True, floating_point_range=limits)
        return float(self.declare_parameter(name, default, descriptor).value)

    def text(self, name: str, description: str) -> str:
        """A read-only text, empty by default."""
        descriptor = ParameterDescriptor(description=description, read_only=True)
        return str(self.declare_parameter(name, "", descriptor).value)

    def flag(self, name: str, description: str) -> bool:
        """A read-only switch, off by default."""
        descriptor = ParameterDescriptor(description=description, read_only=True)
        return bool(self.declare_parameter(name, False, descriptor).value)

    def choice(self, name: str, choices: Sequence[str], description: str) -> str:
        """A read-only parameter that is one of ``choices``, by default the first. Raises SimulationError."""
        descriptor = ParameterDescriptor(description=f"{description} ({' | '.join(choices)})", read_only=True)
        value = str(self.declare_parameter(name, choices[0], descriptor).value)
        if value not in choices:
            raise SimulationError(f"parameter {name} is {value!r}; expected one of {', '.join(choices)}")
        return value

    # ---- for who inherits ---------------------------------------------------------------------------------------

    def every(self, rate_hz: float, act: Callable[[], None]) -> None:
        """Call ``act`` ``rate_hz`` times a simulated second, at exact ticks, in the order of these calls."""
        self._events.append((Beat(rate_hz, tick_s=TICK_S), act))

    def begin(self, *, mounts: Sequence[TransformStamped] = ()) -> None:
        """Advertise, start the camera's thread and the clock. ``mounts`` are frames that never move on the robot."""
        raw, packed = self._transport != "compressed", self._transport != "raw"
        sensor = qos_profile_sensor_data
        self._raw = self.create_publisher(Image, "image", sensor) if raw else None
        self._jpeg = self.create_publisher(CompressedImage, "image/compressed", sensor) if packed else None
        self._info = self.create_publisher(CameraInfo, "camera_info", sensor)
        self._odom = self.create_publisher(OdometryMsg, "odom", QoSProfile(depth=10))
        self._camera_info = messages.camera_info_message(self.image_height, self.image_width, 0)
        self._camera_info.header.frame_id = self._prefix + self._optical_frame
        self._start_transforms(mounts)
        self._pump = CameraPump(self.simulation, self._publish_image)
        self.every(self._odom_rate_hz, self._publish_odometry)
        self.every(self.image_rate_hz, self._shoot)
        self._started_s = time.monotonic()
        self.simulation.shift_clock(self.get_clock().now().nanoseconds)
        self.create_timer(PHYSICS_PERIOD_S, self._physics)

    @abstractmethod
    def advance(self, seconds: float) -> None:
        """Move the simulation on (a multiple of TICK_S)."""

    def send_transforms(self, transforms: Sequence[TransformStamped]) -> None:
        """Publish moving frames on /tf, where tf2_msgs is installed."""
        if self._tf_class is not None:
            self._tf.publish(self._tf_class(transforms=[self._prefixed(transform) for transform in transforms]))

    # ---- the clock ----------------------------------------------------------------------------------------------

    def _physics(self) -> None:
        """Bring the simulation up to the present, publishing at exact ticks on the way."""
        elapsed_s = time.monotonic() - self._started_s - self._skipped_s
        behind = int(elapsed_s / TICK_S) - self._ticks
        most = round(MOST_CATCH_UP_S / TICK_S)
        if behind > most:
            skipped = behind - most
            self._skipped_s += skipped * TICK_S
            self.simulation.shift_clock(skipped * TICK_NS)
            self.get_logger().warning(
                f"machine busy: {self._skipped_s:.1f} s skipped so far; lower image_rate_hz or the picture size",
                throttle_duration_sec=10.0,
            )
            behind = most
        end = self._ticks + behind
        while self._ticks < end:
            for beat, act in self._events:
                if beat.due(self._ticks):
                    act()
            ahead = min(end, *(beat.next_tick for beat, _ in self._events)) - self._ticks
            self.advance(ahead * TICK_S)
            self._ticks += ahead

    def _shoot(self) -> None:
        self._pump.shoot()

    # ---- what every robot publishes -----------------------------------------------------------------------------

    def _start_transforms(self, mounts: Sequence[TransformStamped]) -> None:
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
        self._tf_static.publish(self._tf_class(transforms=[self._prefixed(mount) for mount in mounts]))

    def _prefixed(self, transform: TransformStamped) -> TransformStamped:
        transform.header.frame_id = self._prefix + transform.header.frame_id
        transform.child_frame_id = self._prefix + transform.child_frame_id
        return transform

    def _publish_odometry(self) -> None:
        odometry = self.simulation.odometry()
        message = messages.odometry_message(odometry)
        message.header.frame_id = self._prefix + message.header.frame_id
        message.child_frame_id = self._prefix + message.child_frame_id
        self._odom.publish(message)
        if self._tf_class is not None:
            self.send_transforms([messages.odometry_transform(odometry)])

    def _publish_image(self, image: NDArray[np.uint8], instant: Instant) -> None:
        """Called on the camera's thread."""
        frame = self._prefix + self._optical_frame
        if self._raw is not None:
            raw = messages.image_message(image, instant.stamp_ns)
            raw.header.frame_id = frame
            self._raw.publish(raw)
        if self._jpeg is not None:
            packed = messages.compressed_message(image, instant.stamp_ns)
            packed.header.frame_id = frame
            self._jpeg.publish(packed)
        self._camera_info.header.stamp = messages.time_message(instant.stamp_ns)
        self._info.publish(self._camera_info)

    def close(self) -> None:
        """Stop the camera's thread, then the node."""
        if hasattr(self, "_pump"):
            self._pump.close()
            if self._pump.dropped:
                self.get_logger().info(f"{self._pump.dropped} pictures were dropped because rendering was behind")
        self.destroy_node()


def run(make: Callable[[], RobotNode], name: str, argv: Sequence[str] | None = None) -> int:
    """Run a robot until SIGINT or SIGTERM; returns 0 after a stop by signal, 1 if it cannot run."""

    def report(robot: RobotNode, _: str, text: str) -> None:
        robot.get_logger().error(text[:LONGEST_TEXT], throttle_duration_sec=5.0)

    return spin(make, argv, name=name, report=report, close=RobotNode.close, fatal=(SimulationError,))

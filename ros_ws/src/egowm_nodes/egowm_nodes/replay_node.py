"""``replay``: plays a recording onto image (or image/compressed) and odom (or cmd_vel) in real time, then ends.

Needs no rosbag2. By default all stamps are shifted by one constant, so that the recording begins now. Knows message
layouts and a clock; what is due when is ``playback``'s.

    python -m egowm_nodes.replay_node --ros-args -p bag:=runs/office.mcap
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.duration import Duration
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from egowm_core.data.values import ODOMETRY, ImageValue, OdometryValue, Stamped, TwistValue
from egowm_core.errors import ConfigError, EgowmError
from egowm_nodes.playback import look, timetable

ODOM_FRAME, BASE_FRAME = "odom", "base_link"
LAST_DELIVERY_S = 2.0


class Replay(Node):
    """Plays one recording in a thread of its own; ``done`` is set at its end, ``error`` says what went wrong.

    Raises:
        DataError, ConfigError: the recording cannot be played as the parameters ask.
    """

    def __init__(self) -> None:
        super().__init__("replay")
        text, number = self._text, self._number
        bag = text("bag", "the recording: a bag directory or file, ROS 1 or ROS 2")
        image_topic = text("image_topic", "recorded image topic; empty: found by type and name")
        odom_topic = text("odom_topic", "recorded odometry or velocity topic; empty: found by type and name")
        self._rate = number("rate", 1.0, "speed, 1 is real time", 0.01, 100.0)
        self._wait_s = number("wait_s", 60.0, "how long to wait for subscribers before the first message", 0.0, 3600.0)
        self._loop = self._flag("loop", default=False, description="start over at the end")
        self._restamp = self._flag("restamp", default=True, description="shift all stamps so that it begins now")
        self._recording = look(bag, image_topic=image_topic, odom_topic=odom_topic)
        self.played: Counter[str] = Counter()
        self.error: EgowmError | None = None
        self.done, self._stop = threading.Event(), threading.Event()
        self._finished = False
        self._topics = self._advertise()
        image, motion = self._recording.image, self._recording.motion
        self.get_logger().info(
            f"{self._recording.path}: {image.name} ({image.count} images, {self._recording.image_rate_hz:.3g} Hz), "
            f"{motion.name if motion else 'no motion'}, {self._recording.duration_s:.1f} s"
        )
        self._thread = threading.Thread(target=self._run, name="player", daemon=True)
        self._thread.start()

    def _text(self, name: str, description: str) -> str:
        return str(self.declare_parameter(name, "", ParameterDescriptor(description=description, read_only=True)).value)

    def _number(self, name: str, default: float, description: str, low: float, high: float) -> float:
        limits = [FloatingPointRange(from_value=low, to_value=high)]
        descriptor = ParameterDescriptor(description=description, read_only=True, floating_point_range=limits)
        return float(self.declare_parameter(name, default, descriptor).value)

    def _flag(self, name: str, *, default: bool, description: str) -> bool:
        return bool(
            self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True)).value
        )

    def _advertise(self) -> dict[str, Any]:
        """Publishers by recorded topic."""
        image, motion = self._recording.image, self._recording.motion
        if image.type.endswith("CompressedImage"):
            topics = {image.name: self.create_publisher(CompressedImage, "image/compressed", qos_profile_sensor_data)}
        else:
            topics = {image.name: self.create_publisher(Image, "image", qos_profile_sensor_data)}
        if motion is not None:
            kind, name = (Odometry, "odom") if motion.type == ODOMETRY else (Twist, "cmd_vel")
            topics[motion.name] = self.create_publisher(kind, name, QoSProfile(depth=10))
        return topics

    def _run(self) -> None:
        try:
            self._await_subscribers()
            while not self._stop.is_set():
                self._play_once()
                if not self._loop:
                    self._finished = not self._stop.is_set()
                    break
        except EgowmError as error:
            self.error = error
        finally:
            for publisher in self._topics.values():  # let reliable messages arrive before the publisher goes
                publisher.wait_for_all_acked(Duration(seconds=LAST_DELIVERY_S))
            self.done.set()

    def _await_subscribers(self) -> None:
        end = time.monotonic() + self._wait_s
        while waiting := [p.topic_name for p in self._topics.values() if p.get_subscription_count() == 0]:
            if time.monotonic() > end:
                self.get_logger().warning(f"nobody listens to {', '.join(waiting)} after {self._wait_s:g} s; playing")
                return
            if self._stop.wait(0.05):
                return

    def _play_once(self) -> None:
        started, shift_ns = time.monotonic(), 0
        for number, due in enumerate(timetable(self._recording, rate=self._rate)):
            if number == 0 and self._restamp:
                shift_ns = self.get_clock().now().nanoseconds - due.item.stamp_ns
            if self._stop.wait(max(0.0, started + due.after_s - time.monotonic())):
                return
            self._topics[due.item.topic].publish(_message(due.item, due.item.stamp_ns + shift_ns))
            self.played[due.item.topic] += 1

    def close(self) -> None:
        """Stop the player, say what was played, end the node."""
        self._stop.set()
        self._thread.join(timeout=5.0)
        counts = ", ".join(f"{count} of {topic}" for topic, count in sorted(self.played.items()))
        self.get_logger().info(f"recording {'finished' if self._finished else 'stopped'}: {counts or 'nothing'}")
        self.destroy_node()


def _time(stamp_ns: int) -> Time:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    if not 0 <= seconds < 2**31:
        raise ConfigError(f"stamp {stamp_ns} ns does not fit a ROS time; play with restamp:=false or a later clock")
    return Time(sec=seconds, nanosec=nanoseconds)


def _message(item: Stamped, stamp_ns: int) -> Any:
    """The ROS message of a recorded value, stamped ``stamp_ns``."""
    value = item.value
    if isinstance(value, ImageValue):
        return _image(value.message, stamp_ns)
    if isinstance(value, OdometryValue):
        message = Odometry(child_frame_id=BASE_FRAME)
        message.header.frame_id, message.header.stamp = ODOM_FRAME, _time(stamp_ns)
        pose, yaw = message.pose.pose, float(value.pose[2])
        pose.position.x, pose.position.y = float(value.pose[0]), float(value.pose[1])
        pose.orientation.z, pose.orientation.w = math.sin(yaw / 2), math.cos(yaw / 2)
        message.twist.twist = _twist(value.twist)
        return message
    if isinstance(value, TwistValue):
        return _twist(value.twist)
    raise ConfigError(f"{item.topic} has messages that are not played: {type(value).__name__}")


def _twist(values: Any) -> Twist:
    message = Twist()
    message.linear.x, message.linear.y, message.angular.z = (float(value) for value in values)
    return message


def _image(recorded: Any, stamp_ns: int) -> Image | CompressedImage:
    if hasattr(recorded, "format"):
        message: Image | CompressedImage = CompressedImage(format=str(recorded.format))
    else:
        message = Image(
            height=int(recorded.height), width=int(recorded.width), encoding=str(recorded.encoding),
            is_bigendian=int(recorded.is_bigendian), step=int(recorded.step),
        )  # fmt: skip
    message.header.frame_id, message.header.stamp = str(recorded.header.frame_id), _time(stamp_ns)
    message.data = recorded.data.tobytes()  # bytes: assigning an array takes a hundred times longer
    return message


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 at the end of the recording or after a signal, 1 if it cannot be played."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=list(argv) if argv is not None else None, signal_handler_options=SignalHandlerOptions.NO)
    node: Replay | None = None
    executor = SingleThreadedExecutor()
    try:
        node = Replay()
        executor.add_node(node)
        while not stop.is_set() and not node.done.is_set():
            executor.spin_once(timeout_sec=0.1)
        if node.error is not None:
            raise node.error
    except (EgowmError, InvalidParameterValueException, InvalidParameterTypeException) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 1
    finally:
        if node is not None:
            node.close()
        executor.shutdown()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())

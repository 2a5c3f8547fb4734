"""``replay``: plays a recording in real time, then ends.

Pictures on image (or image/compressed), what measures the robot's motion on odom, joint_states, cmd_vel or what the
embodiment names it, and, where ``plan_topic`` names recorded joint commands, their next seconds as a plan on
joint_trajectory. Needs no rosbag2. By default all stamps are shifted by one constant, so that the recording begins now.
Knows publishers and a clock; what is due when is ``replay.playback``'s, how a message looks ``replay.messages``'.

    python -m egowm_nodes.replay_node --ros-args -p bag:=runs/office.mcap
    python -m egowm_nodes.replay_node --ros-args -p bag:=runs/g1.mcap -p embodiment:=unitree_g1_26
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from trajectory_msgs.msg import JointTrajectory

from egowm_core.data.values import IMAGE_TYPES
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import EgowmError
from egowm_nodes.replay.messages import MESSAGE_TYPES, message_of, trajectory_message
from egowm_nodes.replay.playback import Recording, look, timetable
from egowm_nodes.runtime.main_loop import spin

LAST_DELIVERY_S = 2.0
MOTION_DEPTH = 50  # joint states come hundreds a second
PLAN_RATE_HZ = 5.0  # plans a second, and their points a second


class Replay(Node):
    """Plays one recording in a thread of its own; ``done`` is set at its end, ``error`` says what went wrong.

    Raises:
        DataError, ConfigError: the recording cannot be played as the parameters ask.
    """

    def __init__(self) -> None:
        super().__init__("replay")
        text, number = self._text, self._number
        bag = text("bag", "the recording: a bag directory or file, ROS 1 or ROS 2")
        robot = text("embodiment", "whose topics to play: a built-in embodiment or a YAML path; empty: by type")
        image_topic = text("image_topic", "recorded image topic; empty: found by type and name")
        odom_topic = text("odom_topic", "recorded topics of the motion, with commas; empty: found by type and name")
        plan_topic = text("plan_topic", "recorded joint commands, played as plans on joint_trajectory; empty: none")
        self._plan_s = number("plan_s", 2.0, "how far a played plan reaches", 0.2, 60.0)
        self._rate = number("rate", 1.0, "speed, 1 is real time", 0.01, 100.0)
        self._wait_s = number("wait_s", 60.0, "how long to wait for subscribers before the first message", 0.0, 3600.0)
        self._loop = self._flag("loop", default=False, description="start over at the end")
        self._restamp = self._flag("restamp", default=True, description="shift all stamps so that it begins now")
        self._recording = look(
            bag,
            image_topic=image_topic,
            odom_topic=odom_topic,
            plan_topic=plan_topic,
            embodiment=load_embodiment(robot) if robot else None,
        )
        self.played: Counter[str] = Counter()
        self.error: EgowmError | None = None
        self.done, self._stop = threading.Event(), threading.Event()
        self._finished = False
        self.unplayable: Counter[str] = Counter()
        self._topics = self._advertise()
        self._plans: Any = None
        if self._recording.commands is not None:
            self._plans = self.create_publisher(JointTrajectory, "joint_trajectory", QoSProfile(depth=10))
        self.get_logger().info(_described(self._recording))
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
        """Publishers by recorded topic: pictures as sensor data, motion reliably."""
        topics = {}
        for stream in self._recording.streams:
            quality = qos_profile_sensor_data if stream.type in IMAGE_TYPES else QoSProfile(depth=MOTION_DEPTH)
            topics[stream.topic.name] = self.create_publisher(MESSAGE_TYPES[stream.type], stream.name, quality)
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
        started, shift_ns, next_plan_ns = time.monotonic(), 0, 0
        kinds = {stream.topic.name: MESSAGE_TYPES[stream.type] for stream in self._recording.streams}
        for number, due in enumerate(timetable(self._recording, rate=self._rate)):
            if number == 0 and self._restamp:
                shift_ns = self.get_clock().now().nanoseconds - due.item.stamp_ns
            if self._stop.wait(max(0.0, started + due.after_s - time.monotonic())):
                return
            topic, stamp_ns = due.item.topic, due.item.stamp_ns
            message = message_of(due.item, stamp_ns + shift_ns, kinds[topic])
            if message is None:
                self.unplayable[topic] += 1
                continue
            if self._plans is not None and stamp_ns >= next_plan_ns:  # first, so that it is there with its picture
                self._play_plan(stamp_ns, shift_ns)
                next_plan_ns = stamp_ns + round(1e9 / PLAN_RATE_HZ)
            self._topics[topic].publish(message)
            self.played[topic] += 1

    def _play_plan(self, at_ns: int, shift_ns: int) -> None:
        """Publish what was commanded in the seconds after ``at_ns``, where the recording still has some."""
        commands = self._recording.commands
        assert commands is not None
        times_s, positions = commands.ahead(at_ns, seconds=self._plan_s, rate_hz=PLAN_RATE_HZ)
        if len(times_s):
            self._plans.publish(trajectory_message(commands.names, at_ns + shift_ns, times_s, positions))
            self.played["joint_trajectory"] += 1

    def close(self) -> None:
        """Stop the player, say what was played, end the node."""
        self._stop.set()
        self._thread.join(timeout=5.0)
        counts = ", ".join(f"{count} of {topic}" for topic, count in sorted(self.played.items()))
        lost = "".join(f"; {count} of {topic} could not be played" for topic, count in self.unplayable.items())
        self.get_logger().info(f"recording {'finished' if self._finished else 'stopped'}: {counts or 'nothing'}{lost}")
        self.destroy_node()


def _described(recording: Recording) -> str:
    image, commands = recording.image, recording.commands
    motions = ", ".join(f"{stream.topic.name} as {stream.name}" for stream in recording.motions)
    plans = ""
    if commands is not None:
        plans = f", {commands.topic} as joint_trajectory ({len(commands.names)} joints, {commands.skipped} skipped)"
    return (
        f"{recording.path}: {image.name} ({image.count} images, {recording.image_rate_hz:.3g} Hz), "
        f"{motions or 'no motion'}{plans}, {recording.duration_s:.1f} s"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 at the end of the recording or after a signal, 1 if it cannot be played."""

    def done(node: Replay) -> bool:
        if node.error is not None:
            raise node.error
        return node.done.is_set()

    def report(node: Replay, key: str, text: str) -> None:
        node.get_logger().error(text, throttle_duration_sec=5.0)

    return spin(Replay, argv, name="replay", done=done, report=report, close=Replay.close)


if __name__ == "__main__":
    sys.exit(main())

"""The topics that an embodiment measures its motion by: subscribed, and watched for silence.

Knows rclpy's subscriptions and the message types; what the messages mean is the taker's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import JointState

from egowm_core.channels import ActionTopic
from egowm_core.data.measured import motion_sources
from egowm_core.data.values import ODOMETRY
from egowm_core.embodiment import Embodiment
from egowm_nodes.runtime.diagnostics import InputWatch
from egowm_nodes.runtime.qos import SENSOR

MOTION_TYPES: dict[str, type[Any]] = {
    ODOMETRY: Odometry,
    "geometry_msgs/msg/PoseStamped": PoseStamped,
    "geometry_msgs/msg/Twist": Twist,
    "geometry_msgs/msg/TwistStamped": TwistStamped,
    "sensor_msgs/msg/JointState": JointState,
}


class MotionInputs:
    """Subscribes every motion source of ``embodiment``, odometry as ``odom``, and calls ``take(source, message)``."""

    def __init__(
        self, node: Node, embodiment: Embodiment, take: Callable[[ActionTopic, Any], None], *, timeout_s: float
    ) -> None:
        self._node, self._take = node, take
        self._subscriptions = [
            node.create_subscription(
                MOTION_TYPES[source.type],
                "odom" if source.type == ODOMETRY else source.topic,
                partial(self._listen, source),
                SENSOR,
            )
            for source in motion_sources(embodiment)
        ]
        topic = self._subscriptions[0].topic_name
        self.watch = InputWatch("odometry", topic, time.monotonic, timeout_s=timeout_s)

    def missing(self) -> str | None:
        """What is wrong with the inputs, in words; None when the robot's motion is told."""
        return self.watch.missing(publishers=self._node.count_publishers(self.watch.topic))

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _listen(self, source: ActionTopic, message: Any) -> None:
        self.watch.arrived()
        self._take(source, message)

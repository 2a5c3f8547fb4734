"""Faults of the live robot over ROS: orders on ``~/fault``, what is wrong on ``~/faults`` (latched), all of it logged.

Knows a node, std_msgs/String and a FaultySimulation, whose thread its callbacks share; decides nothing itself.
"""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from egowm_sim.backend import SimulationError
from egowm_sim.faults import Fault, FaultKind, change_json, parse_fault, parse_order
from egowm_sim.faulty import FaultySimulation


def planned_faults(text: str) -> list[Fault]:
    """``KIND[.WHEEL][:SEVERITY]@START[-END]``, several with spaces or commas between.

    Raises:
        SimulationError: a part is no fault.
    """
    return [parse_fault(part) for part in text.replace(",", " ").split()]


class FaultDesk:
    """Takes orders and tells what changed; ``tell`` is for whoever steps the simulation, after each step."""

    def __init__(self, node: Node, simulation: FaultySimulation) -> None:
        self._simulation, self._logger = simulation, node.get_logger()
        latched = QoSProfile(
            depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE
        )
        self._state = node.create_publisher(String, "~/faults", latched)
        self._orders = node.create_subscription(String, "~/fault", self._obey, QoSProfile(depth=10))
        self._state.publish(String(data=change_json(None)))
        self.tell()  # what is wrong from the start

    def _obey(self, message: String) -> None:
        try:
            order = parse_order(message.data, now_s=self._simulation.time_s)
            if isinstance(order, Fault):
                self._simulation.begin(order)
            else:
                self._end(order)
        except SimulationError as error:
            self._logger.warning(f"fault order ignored: {str(error)[:300]}", throttle_duration_sec=1.0)
        self.tell()

    def _end(self, kind: FaultKind | None) -> None:
        if not self._simulation.active or (kind and all(fault.kind is not kind for fault in self._simulation.active)):
            self._logger.info(f"nothing to end: {f'{kind} is not active' if kind else 'no fault is active'}")
        self._simulation.end(kind)

    def tell(self) -> None:
        """Publish and log the faults that began or ended since the last call."""
        for change in self._simulation.changes():
            self._state.publish(String(data=change_json(change)))
            self._logger.info(
                f"fault {change.fault.what} {'begins' if change.active else 'ends'} at {change.time_s:.2f} s"
            )

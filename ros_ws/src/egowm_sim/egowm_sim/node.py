"""``sim_robot``: the simulated robot behind ordinary ROS topics, in real time.

Publishes image, image/compressed, camera_info, odom and tf; obeys cmd_vel, or drives itself and says on cmd_vel
what it does. Things go wrong with it as planned in a parameter or as ordered on ~/fault. Knows no world model.

    python -m egowm_sim.node --ros-args -p seed:=7 -p drive:=auto
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence

from geometry_msgs.msg import Twist
from rclpy.qos import QoSProfile

from egowm_sim import messages
from egowm_sim.camera import OPTICAL_FRAME
from egowm_sim.driver import CONTROL_PERIOD_S, WanderingDriver
from egowm_sim.fault_desk import FaultDesk, planned_faults
from egowm_sim.faults import MOST_PEOPLE
from egowm_sim.faulty import FaultySimulation
from egowm_sim.lens import MOST_FLICKER, MOST_NOISE
from egowm_sim.robot_node import RobotNode, run

DRIVES = ("cmd_vel", "auto")


class SimRobot(RobotNode):
    """One simulated robot in one room.

    Raises:
        SimulationError: a parameter is none of its choices, or no OpenGL back end works.
    """

    def __init__(self) -> None:
        super().__init__("sim_robot", optical_frame=OPTICAL_FRAME, image_rate_hz=12.0)
        seed = self.integer("seed", 0, "picks the room, the start and the wheel errors", 0, 2**31 - 1)
        self._timeout_s = self.number("cmd_vel_timeout_s", 0.5, "stop when no command came for so long", 0.05, 10.0)
        self._drive = self.choice(
            "drive", DRIVES, "who drives: cmd_vel obeys the topic, auto wanders and publishes what it does on cmd_vel"
        )
        faults = planned_faults(self.text("faults", "what goes wrong: KIND[.WHEEL][:SEVERITY]@START[-END] ... in s"))
        camera_noise = self.number("camera_noise", 0.0, "sigma of every pixel in grey levels", 0.0, MOST_NOISE)
        flicker = self.number("flicker", 0.0, "sigma of the exposure, as a share", 0.0, MOST_FLICKER)
        self.simulation = FaultySimulation(
            seed=seed,
            height=self.image_height,
            width=self.image_width,
            start_ns=0,
            faults=faults,
            camera_noise=camera_noise,
            flicker=flicker,
            people=MOST_PEOPLE,
        )
        self._driver = WanderingDriver(self.simulation.room.floor_map, seed=seed)
        self._command = (0.0, 0.0)
        self._command_s = -math.inf
        reliable = QoSProfile(depth=10)
        self._said = self.create_publisher(Twist, "cmd_vel", reliable) if self._drive == "auto" else None
        if self._drive == "cmd_vel":
            self.create_subscription(Twist, "cmd_vel", self._obey, reliable)
        self._desk = FaultDesk(self, self.simulation)
        self.every(1 / CONTROL_PERIOD_S, self._think)
        self.begin(mounts=messages.camera_transforms(self.get_clock().now().nanoseconds))
        plan, structures = self.simulation.room.plan, self.simulation.room.structures.values()
        static = sum(bool(structure["static"]) for structure in structures)
        self.get_logger().info(
            f"room {seed}: {plan.width:.1f} x {plan.depth:.1f} m, {static} structures, "
            f"{self.image_height}x{self.image_width} pictures at {self.image_rate_hz:g} Hz, drive: {self._drive}"
        )

    def advance(self, seconds: float) -> None:
        self.simulation.step(*self._command, seconds)
        self._desk.tell()

    def _obey(self, message: Twist) -> None:
        v, w = message.linear.x, message.angular.z
        if not (math.isfinite(v) and math.isfinite(w)):
            self.get_logger().warning(
                f"cmd_vel ({v}, {w}) is not finite and was ignored; send numbers", throttle_duration_sec=5.0
            )
            return
        self._command, self._command_s = (v, w), time.monotonic()

    def _think(self) -> None:
        if self._said is not None:
            pose = self.simulation.pose()
            self._command = self._driver.command(pose.x, pose.y, pose.yaw)
            self._said.publish(messages.twist_message(*self._command))
        elif time.monotonic() - self._command_s > self._timeout_s:
            self._command = (0.0, 0.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 after a stop by signal, 1 if the robot cannot run."""
    return run(SimRobot, "sim_robot", argv)


if __name__ == "__main__":
    sys.exit(main())

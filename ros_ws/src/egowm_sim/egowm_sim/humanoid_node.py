"""``sim_humanoid``: the simulated humanoid behind ordinary ROS topics, in real time.

Publishes joint_states, image, image/compressed, camera_info, odom and tf; obeys joint_trajectory and cmd_vel, or works
by itself and says what it plans on joint_trajectory (the next seconds) and cmd_vel. Knows no world model.

    python -m egowm_sim.humanoid_node --ros-args -p seed:=7 -p drive:=auto
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Twist
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from egowm_core.errors import DataError
from egowm_sim import humanoid_messages, messages
from egowm_sim.driver import CONTROL_PERIOD_S
from egowm_sim.humanoid import JOINT_NAMES, JOINTS, HumanoidOperator, HumanoidSimulation
from egowm_sim.humanoid.simulation import HOME
from egowm_sim.humanoid_messages import OPTICAL_FRAME
from egowm_sim.joint_targets import JointTargets
from egowm_sim.robot_node import RobotNode, run

DRIVES = ("topic", "auto")
PLAN_RATE_HZ, PLAN_S, PLAN_STEP_S = 5.0, 2.0, 0.2
SECOND_RATE = 0.6  # of the joints' rate, where their states come from two publishers
BODY, EXTREMITIES = JOINT_NAMES[:21], tuple(reversed(JOINT_NAMES[21:]))  # the second names hands and base, base first


class SimHumanoid(RobotNode):
    """One simulated humanoid at one table.

    Raises:
        SimulationError: a parameter is none of its choices, or no OpenGL back end works.
    """

    def __init__(self) -> None:
        super().__init__("sim_humanoid", optical_frame=OPTICAL_FRAME, image_rate_hz=10.0)
        seed = self.integer("seed", 0, "picks the room, the things on the table and what is done", 0, 2**31 - 1)
        joint_rate_hz = self.number("joint_rate_hz", 50.0, "joint states a second", 1.0, 100.0)
        timeout_s = self.number("cmd_vel_timeout_s", 0.5, "stop the base when told nothing for so long", 0.05, 10.0)
        split = self.flag(
            "split_joint_states",
            "publish body and hands with base apart, from two publishers at two rates, as several drivers do",
        )
        self._drive = self.choice(
            "drive", DRIVES, "who moves it: topic obeys joint_trajectory and cmd_vel, auto works and says what it plans"
        )
        self.simulation = HumanoidSimulation(seed=seed, height=self.image_height, width=self.image_width, start_ns=0)
        self._operator = HumanoidOperator(self.simulation, seed=seed) if self._drive == "auto" else None
        self._targets = JointTargets(
            JOINT_NAMES[:-2],
            (JOINT_NAMES[-2], JOINT_NAMES[-1]),
            low=np.array([joint.low for joint in JOINTS]),
            high=np.array([joint.high for joint in JOINTS]),
            rest=HOME,
            timeout_s=timeout_s,
        )
        self._command = np.append(HOME, [0.0, 0.0])
        self._start_commands()
        self.every(1 / CONTROL_PERIOD_S, self._think)
        if self._operator is not None:
            self.every(PLAN_RATE_HZ, self._tell_plan)
        states = self.create_publisher(JointState, "joint_states", QoSProfile(depth=50))
        self._parts = [(states, BODY if split else JOINT_NAMES)]
        self.every(joint_rate_hz, lambda: self._publish_joints(0))
        if split:
            self._parts.append((self.create_publisher(JointState, "joint_states", QoSProfile(depth=50)), EXTREMITIES))
            self.every(SECOND_RATE * joint_rate_hz, lambda: self._publish_joints(1))
        self.begin()
        plan, things = self.simulation.room.plan, self.simulation.workplace.things
        self.get_logger().info(
            f"room {seed}: {plan.width:.1f} x {plan.depth:.1f} m, {len(things)} things on the table, "
            f"{self.image_height}x{self.image_width} pictures at {self.image_rate_hz:g} Hz, joints at "
            f"{joint_rate_hz:g} Hz{' in two parts' if split else ''}, drive: {self._drive}"
        )

    def advance(self, seconds: float) -> None:
        self.simulation.step(self._command[:-2], float(self._command[-2]), float(self._command[-1]), seconds)

    def _start_commands(self) -> None:
        reliable = QoSProfile(depth=10)
        if self._operator is not None:
            self._plans = self.create_publisher(JointTrajectory, "joint_trajectory", reliable)
            self._said = self.create_publisher(Twist, "cmd_vel", reliable)
        else:
            self.create_subscription(JointTrajectory, "joint_trajectory", self._follow, reliable)
            self.create_subscription(Twist, "cmd_vel", self._obey, reliable)

    # ---- obeying ------------------------------------------------------------------------------------------------

    def _follow(self, message: JointTrajectory) -> None:
        try:
            cut = self._targets.follow(humanoid_messages.trajectory(message), now_ns=self.simulation.stamp_ns)
        except DataError as error:
            self.get_logger().warning(f"joint_trajectory ignored: {error}", throttle_duration_sec=5.0)
            return
        if cut:
            self.get_logger().warning(
                f"joint_trajectory goes beyond the limits of {', '.join(cut)}: cut there", throttle_duration_sec=5.0
            )

    def _obey(self, message: Twist) -> None:
        try:
            self._targets.drive(message.linear.x, message.angular.z, now_ns=self.simulation.stamp_ns)
        except DataError as error:
            self.get_logger().warning(f"cmd_vel ignored: {error}", throttle_duration_sec=5.0)

    # ---- working ------------------------------------------------------------------------------------------------

    def _think(self) -> None:
        if self._operator is None:
            self._command = self._targets.at(self.simulation.stamp_ns)
            return
        command = self._operator.command()
        self._command = np.append(command.joints, [command.v, command.w])
        self._said.publish(messages.twist_message(command.v, command.w))

    def _tell_plan(self) -> None:
        """What the operator is going to do, from the end of its present command on."""
        assert self._operator is not None
        ahead = self._operator.ahead(PLAN_S, step_s=PLAN_STEP_S)
        points = [(CONTROL_PERIOD_S, self._command)]
        points += [(CONTROL_PERIOD_S + after_s, np.append(joints, [v, w])) for after_s, joints, v, w in ahead]
        self._plans.publish(humanoid_messages.trajectory_message(JOINT_NAMES, self.simulation.stamp_ns, points))

    # ---- telling ------------------------------------------------------------------------------------------------

    def _publish_joints(self, part: int) -> None:
        publisher, names = self._parts[part]
        publisher.publish(humanoid_messages.joint_state(self.simulation.reading(), names=names))
        if part == 0:
            self.send_transforms([humanoid_messages.head_transform(self.simulation.data, self.simulation.stamp_ns)])


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 after a stop by signal, 1 if the robot cannot run."""
    return run(SimHumanoid, "sim_humanoid", argv)


if __name__ == "__main__":
    sys.exit(main())

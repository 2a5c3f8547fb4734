"""The topics that plans come by: subscribed, turned into plans and offered to the chooser; refusals said and counted.

Knows rclpy's subscriptions and the messages; knows no model and no picture. Callbacks run on the executor's thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from egowm_msgs.msg import ActionSequence as ActionSequenceMsg
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Path
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from trajectory_msgs.msg import JointTrajectory

from egowm_core.data.measured import motion_sources
from egowm_core.data.messages import pose6, stamp_ns, twist_velocity
from egowm_core.data.values import JOINT_STATE, ODOMETRY, POSE_STAMPED
from egowm_core.embodiment import Embodiment
from egowm_core.errors import EgowmError
from egowm_core.types import NANOSECONDS_PER_SECOND
from egowm_nodes.plans import messages as plan_messages
from egowm_nodes.plans.chooser import ACTIONS, AUTO, CMD_VEL, JOINTS, PATH, ActionChooser
from egowm_nodes.plans.frames import PoseHistory, TransformTree, transform_tree
from egowm_nodes.plans.path import PathPlan
from egowm_nodes.runtime.qos import SENSOR

RELIABLE = QoSProfile(depth=5)
_NAMES = {ACTIONS: "plan", PATH: "path", JOINTS: "joint_trajectory"}


class PlanInputs:
    """Subscribes what ``embodiment`` can follow: actions, plan (a planar base), joint_trajectory (joints), cmd_vel.

    ``newest_frame_ns`` gives the stamp of the newest frame, ``report(key, text)`` says what is not used. ``cmd_vel``
    carries TwistStamped where ``stamped_commands``. With ``chooser.source`` other than auto, the other kinds of plan
    are not even subscribed; commands always are, as they give a base's velocity and a path's speed.
    """

    def __init__(
        self,
        node: Node,
        embodiment: Embodiment,
        chooser: ActionChooser,
        *,
        newest_frame_ns: Callable[[], int | None],
        report: Callable[[str, str], None],
        speed_mps: float = 0.0,
        image_lag_s: float = 0.0,
        stamped_commands: bool = False,
    ) -> None:
        self._node, self._embodiment, self._chooser = node, embodiment, chooser
        self._newest_frame_ns, self._report = newest_frame_ns, report
        self.speed_mps = speed_mps
        self._lag_ns = round(image_lag_s * NANOSECONDS_PER_SECOND)
        self._history = PoseHistory(embodiment.base_frame)
        self._tree: TransformTree | None = None
        self.refused: Counter[str] = Counter()
        planar = embodiment.integrate == "se2"
        jointed = any(source.type == JOINT_STATE for source in motion_sources(embodiment))
        wanted = [(ACTIONS, ActionSequenceMsg, "actions", self._on_actions)]
        wanted += [(PATH, Path, "plan", self._on_path)] if planar else []
        wanted += [(JOINTS, JointTrajectory, "joint_trajectory", self._on_joints)] if jointed else []
        self._subscriptions = [
            node.create_subscription(kind, topic, callback, RELIABLE)
            for name, kind, topic, callback in wanted
            if chooser.source in (AUTO, name)
        ]
        if chooser.takes_commands:
            twist = TwistStamped if stamped_commands else Twist
            self._subscriptions.append(node.create_subscription(twist, "cmd_vel", self._on_command, SENSOR))
        if planar and chooser.source in (AUTO, PATH):
            self._tree = transform_tree(node)

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        if self._tree is not None:
            self._tree.close()
            self._tree = None

    def add_motion(self, message: Any, message_type: str) -> None:
        """See a motion message on its way to the context: a path is followed by where the robot is."""
        if self._embodiment.integrate == "se2" and message_type in (ODOMETRY, POSE_STAMPED):
            child = str(message.child_frame_id) if message_type == ODOMETRY else ""
            pose = pose6(message)[[0, 1, 5]]
            self._history.add(stamp_ns(message), pose, frame=str(message.header.frame_id), child=child)

    def pose_at(self, context_ns: int) -> NDArray[np.float64] | None:
        """(3,) where the robot was at a frame, in the odometry frame."""
        return self._history.at(context_ns - self._lag_ns)

    def clock_reset(self) -> None:
        """Forget what was planned and where the robot was, by the former clock."""
        self._chooser.forget()
        self._history.clear()

    # ---- messages -----------------------------------------------------------------------------------------------

    def _on_actions(self, message: Any) -> None:
        def take() -> None:
            plan = plan_messages.plan_from_message(message)
            self._chooser.offer_plan(plan, newest_frame_ns=self._newest_frame_ns())

        self._offer(ACTIONS, take)

    def _on_path(self, message: Any) -> None:
        def take() -> None:
            raw = plan_messages.path_from_message(message)
            start_ns = self._chooser.start_of(raw.stamp_ns, self._newest_frame_ns())
            poses = self._history.place(raw.poses, frame=raw.frame, stamp_ns=start_ns, tree=self._tree)
            times_s = None
            if raw.stamps_ns is not None:
                times_s = (raw.stamps_ns - start_ns).astype(np.float64) / NANOSECONDS_PER_SECOND
            path = PathPlan(self._embodiment, poses, start_ns, times_s, self.speed_mps)
            self._chooser.offer_path(path)

        self._offer(PATH, take)

    def _on_joints(self, message: Any) -> None:
        def take() -> None:
            start_ns = self._chooser.start_of(stamp_ns(message), self._newest_frame_ns())
            self._chooser.offer_joints(plan_messages.joints_from_message(message, self._embodiment, start_ns))

        self._offer(JOINTS, take)

    def _on_command(self, message: Any) -> None:
        stamp = stamp_ns(message) if hasattr(message, "header") else 0
        try:
            self._chooser.offer_command(twist_velocity(message), now_s=time.monotonic(), stamp_ns=stamp)
        except EgowmError as error:
            self.refused[CMD_VEL] += 1
            self._report("plan: cmd_vel", f"cmd_vel not used: {error}")

    def _offer(self, kind: str, take: Callable[[], None]) -> None:
        try:
            take()
        except EgowmError as error:
            self.refused[kind] += 1
            self._report("plan: refused", f"{_NAMES[kind]} refused: {error}")

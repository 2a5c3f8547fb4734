"""``planner``: drives to where a picture was taken, by asking the world model what it would see on the way.

A lifecycle node around plain parts: ``egowm_core.planning`` (cost, search, receding horizon), ``planning.asking`` (the
world model's ``imagine`` evaluates), ``planning.base`` (plans as velocities), ``worker`` (the search off the callback
thread).

    python -m egowm_nodes.planner_node --ros-args -p auto_start:=true -p goal_file:=goal.png

It looks, plans while it stands still, drives the first part, and looks again: what is imagined starts from the newest
picture, so a base that moved on meanwhile would be somewhere else. It stops for good when the goal is reached, when
nothing imagined is nearer, or when what is seen becomes less like the goal; at once when pictures stay away, when the
world model does not answer, and when it is deactivated. A new goal begins anew.

Subscribes image, image/compressed and goal_image (a picture by the robot's own camera; width 0 means none any more).
Publishes cmd_vel while it has a goal, actions (the part that is driven), ~/candidates (coloured by cost), /diagnostics.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from egowm_msgs.msg import ActionSequence as ActionSequenceMsg
from geometry_msgs.msg import Twist, TwistStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

from egowm_core.data.images import decode_image
from egowm_core.errors import EgowmError, Stopped
from egowm_core.planning import Progress, RecedingHorizon, Step
from egowm_core.types import ActionSequence
from egowm_nodes import conversions
from egowm_nodes.imagine.client import ImagineClient
from egowm_nodes.planning.asking import AskedCost
from egowm_nodes.planning.base import Drive, load_base, make_search
from egowm_nodes.planning.goal import Goal, goal_from_file, goal_from_message
from egowm_nodes.planning.markers import candidate_markers
from egowm_nodes.planning.params import PlannerParams
from egowm_nodes.planning.status import Figures, Phase, plan_status
from egowm_nodes.runtime.diagnostics import Status
from egowm_nodes.runtime.image_input import ImageInput
from egowm_nodes.runtime.lifecycle_main import run
from egowm_nodes.runtime.managed_node import ManagedNode
from egowm_nodes.runtime.worker import LatestWorker

BEAT_S = 0.05
FAREWELL_S = 0.5  # how long a base is told to stand still before it is left to others
PLAN = "plan"


@dataclass(frozen=True, eq=False)
class _Task:
    """A plan to be made from a picture of ``cost``, taken at ``stamp_ns``; ``halt`` gives it up."""

    cost: float
    stamp_ns: int
    goal: Goal
    receding: RecedingHorizon
    halt: threading.Event
    generator: np.random.Generator


class PlannerNode(ManagedNode[PlannerParams]):
    """See the module. Publishers and the client exist while configured; subscriptions and the worker while active."""

    def __init__(self) -> None:
        super().__init__("planner", PlannerParams)
        self._publishers_made: list[Any] = []
        self._client: ImagineClient | None = None
        self._images: ImageInput | None = None
        self._subscription: Any = None
        self._timer: Any = None
        self._worker: LatestWorker[_Task] | None = None
        self._goal: Goal | None = None
        self._figures = Figures()

    # ---- lifecycle ----------------------------------------------------------------------------------------------

    def configure(self) -> None:
        p = self.parameters
        self._robot = load_base(p)
        self._search = make_search(self._robot, p)
        self._client = ImagineClient(self._robot, node=self, server=p.server)
        self._cmd_vel = self._output(TwistStamped if p.cmd_vel_stamped else Twist, "cmd_vel", 10)
        self._actions = self._output(ActionSequenceMsg, "actions", 10)
        self._markers = self._output(MarkerArray, "~/candidates", 5)

    def activate(self) -> None:
        p = self.parameters
        self._figures = Figures()
        self._newest: tuple[Any, float] | None = None  # picture message, steady seconds
        self._drive: Drive | None = None
        self._done: tuple[_Task, Step | Exception, float] | None = None
        self._task: _Task | None = None
        self._look_after_s = self._leave_at_s = 0.0
        goal = goal_from_file(Path(p.goal_file), self._robot.camera()) if p.goal_file else None
        self._worker = LatestWorker(self._plan, slots=(PLAN,), on_error=self._planning_failed, name="planning")
        self._images = ImageInput(self, p.image_transport, self._on_image, timeout_s=p.input_timeout_s)
        self._subscription = self.create_subscription(Image, "goal_image", self._on_goal, QoSProfile(depth=1))
        self._timer = self.create_timer(BEAT_S, self._beat, clock=self._steady)
        self._begin(goal)

    def deactivate(self) -> None:
        if self._worker is not None:
            if self._goal is not None:
                self._command(None)
            self._give_up()
            if not self._worker.close():
                self.get_logger().error("the planning thread did not end in time; it is left behind")
        if self._images is not None:
            self._images.close()
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
        if self._timer is not None:
            self.destroy_timer(self._timer)
        self._images = self._subscription = self._timer = self._worker = self._goal = None

    def cleanup(self) -> None:
        for publisher in self._publishers_made:
            self.destroy_lifecycle_publisher(publisher)
        if self._client is not None:
            self._client.close()
        self._publishers_made, self._client = [], None

    def _output(self, kind: type[Any], topic: str, depth: int) -> Any:
        self._publishers_made.append(self.create_lifecycle_publisher(kind, topic, QoSProfile(depth=depth)))
        return self._publishers_made[-1]

    # ---- inputs -------------------------------------------------------------------------------------------------

    def _on_image(self, message: Any, arrived_s: float) -> None:
        self._newest = (message, arrived_s)

    def _on_goal(self, message: Image) -> None:
        if self._worker is None:
            return
        if not message.width:
            self._begin(None)
            return
        try:
            goal = goal_from_message(message, self._robot.camera())
        except EgowmError as error:
            self._figures.counts["goals refused"] += 1
            self.report("goal: refused", f"{error}; the former goal stays")
            return
        self._begin(goal)

    def _begin(self, goal: Goal | None) -> None:
        """Off to a goal, or to none: stop first."""
        self._give_up()
        if self._goal is not None:
            self._leave_at_s = time.monotonic() + FAREWELL_S
        self._goal, self._drive = goal, None
        if goal is None:
            self._figures.phase = Phase.NO_GOAL
            return
        p = self.parameters
        self._receding = RecedingHorizon(
            self._search,
            execute=p.execute,
            reached_below=p.reached_below,
            least_gain=p.least_gain,
            settle=p.settle,
            rise=p.rise,
            patience=p.patience,
            pauses=True,
        )
        self._generator = np.random.default_rng(p.seed)
        self._figures.begin()
        self._look_after_s = time.monotonic() + p.pause_s
        self.get_logger().info("a goal picture came: on the way")

    def _give_up(self) -> None:
        """Whatever plan is being made isn't wanted any more."""
        if self._task is not None:
            self._task.halt.set()
        self._task = self._done = None

    # ---- the way, on the executor's thread ----------------------------------------------------------------------

    def _beat(self) -> None:
        if self._worker is None or self._images is None:
            return
        now_s = time.monotonic()
        if self._goal is None or self._figures.phase is Phase.OVER:
            if now_s < self._leave_at_s:
                self._command(None)
            return
        if (missing := self._images.missing()) is not None:
            self.report("missing: image", f"standing still: {missing}")
            self._look_again(now_s)
        elif self._figures.phase is Phase.PLANNING and self._done is not None:
            self._follow(*self._done, now_s)
        elif self._figures.phase is Phase.LOOKING:
            self._look(now_s)
        velocity = None if self._drive is None else self._drive.velocity(now_s)
        if self._drive is not None and velocity is None:
            self._look_again(now_s)
        self._command(velocity)

    def _look(self, now_s: float) -> None:
        """Once a picture came that shows where the base stands now: how far is it, and what next?"""
        assert self._goal is not None and self._worker is not None
        if self._newest is None or self._newest[1] < self._look_after_s:
            return
        message = self._newest[0]
        try:
            cost = self._goal.cost_of(decode_image(message))
        except EgowmError as error:
            self.report("input: image", f"image skipped: {error}")
            self._newest = None
            return
        self._figures.saw(cost)
        self._figures.phase = Phase.PLANNING
        self._task = _Task(
            cost,
            conversions.time_ns(message.header.stamp),
            self._goal,
            self._receding,
            threading.Event(),
            self._generator,
        )
        self._worker.offer(PLAN, self._task)

    def _follow(self, task: _Task, found: Step | Exception, took_s: float, now_s: float) -> None:
        self._done = None
        if task is not self._task:  # given up while it was being finished
            return
        if isinstance(found, Exception):
            self._figures.counts["plans failed"] += 1
            expected = isinstance(found, EgowmError)
            self.report("plan: failed", str(found) if expected else f"{type(found).__name__}: {found}")
            self._look_again(now_s, wait_s=1.0)
            return
        if found.progress is not Progress.DRIVING or found.plan is None:
            self._figures.phase, self._figures.end = Phase.OVER, found.progress.value
            self._figures.counts[found.progress.value] += 1
            self._leave_at_s = now_s + FAREWELL_S
            self.get_logger().info(f"{found.progress.value} at a cost of {found.cost:.3f}")
            return
        self._figures.plans += 1
        self._figures.took.add(took_s)
        self._figures.best, self._figures.phase = found.plan.cost, Phase.DRIVING
        self._drive = Drive(found.actions, 1 / self._robot.rate_hz, now_s)
        start_ns = self.get_clock().now().nanoseconds
        self._actions.publish(conversions.action_message(ActionSequence(found.actions), self._robot, start_ns))
        frame_id, lifetime_s = self._robot.base_frame, self.parameters.marker_lifetime_s
        self._markers.publish(
            candidate_markers(found.plan, stamp_ns=task.stamp_ns, frame_id=frame_id, lifetime_s=lifetime_s)
        )

    def _look_again(self, now_s: float, *, wait_s: float = 0.0) -> None:
        """Stand still, and plan from what is seen then."""
        self._give_up()
        self._drive, self._figures.phase = None, Phase.LOOKING
        self._look_after_s = now_s + max(wait_s, self.parameters.pause_s)

    def _command(self, velocity: Any) -> None:
        twist = Twist()
        if velocity is not None:
            twist.linear.x, twist.linear.y, twist.angular.z = (float(value) for value in velocity)
        if self.parameters.cmd_vel_stamped:
            now_ns = self.get_clock().now().nanoseconds
            self._cmd_vel.publish(TwistStamped(header=conversions.header(now_ns, self._robot.base_frame), twist=twist))
        else:
            self._cmd_vel.publish(twist)

    # ---- plans, on the planning thread --------------------------------------------------------------------------

    def _plan(self, task: _Task) -> None:
        assert self._client is not None
        p, began_s = self.parameters, time.monotonic()
        evaluate = AskedCost(
            self._client, task.goal.picture, p.imagine_timeout_s, p.seed, task.halt, p.imagine_silence_s
        )
        found: Step | Exception
        try:
            found = task.receding.step(task.cost, evaluate, generator=task.generator)
        except Stopped:
            return
        except Exception as error:  # of whatever kind: the node stops the base and tells, on its own thread
            found = error
        if self._task is task:  # else a newer goal came meanwhile
            self._done = (task, found, time.monotonic() - began_s)

    def _planning_failed(self, error: Exception) -> None:
        self.report("plan: failed", f"planning failed: {type(error).__name__}: {error}")

    # ---- diagnostics --------------------------------------------------------------------------------------------

    def statuses(self) -> list[Status]:
        if self._images is None:
            return []
        troubles = [notice.text for notice in self.notices.recent() if not notice.key.startswith("missing")]
        return [plan_status(self._figures, self._images.missing(), troubles)]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(PlannerNode, argv, name="planner")


if __name__ == "__main__":
    sys.exit(main())

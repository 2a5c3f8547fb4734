"""Brings lifecycle nodes up: asks for their state, asks for the transition, and hears why one cannot get there.

An answer that got lost (a service may be matched in one direction only, at first) is asked for again. Knows rclpy and
the lifecycle services; waits for nothing itself.
"""

from __future__ import annotations

import math
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node
from rclpy.serialization import deserialize_message

DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
_REACHED = {
    CONFIGURE: (State.PRIMARY_STATE_INACTIVE, State.PRIMARY_STATE_ACTIVE),
    ACTIVATE: (State.PRIMARY_STATE_ACTIVE,),
}
_FROM = {CONFIGURE: State.PRIMARY_STATE_UNCONFIGURED, ACTIVATE: State.PRIMARY_STATE_INACTIVE}
ASK_PERIOD_S, LOST_AFTER_S, TOLD_AFTER_S = 0.3, 2.0, 3.0


class LifecycleManager:
    """Transitions for the nodes ``names``. ``step`` is called again and again while the executor spins."""

    def __init__(self, node: Node, names: list[str]) -> None:
        self._node = node
        self._states = {name: node.create_client(GetState, f"{name}/get_state") for name in names}
        self._changes = {name: node.create_client(ChangeState, f"{name}/change_state") for name in names}
        self._asked: dict[str, tuple[float, Any]] = {}  # when, future
        self._changing: dict[str, tuple[float, Any]] = {}  # when, future
        self._names = names
        self.waiting: set[str] = set()
        self.trouble: dict[str, str] = {}  # what a node says of its failed transition
        self._transition = CONFIGURE

    def begin(self, transition: int) -> None:
        """Aim for the state after ``transition``."""
        self._transition = transition
        self._changing.clear()
        self.waiting = set(self._names)

    def hear(self, topic: str, kind: str, data: bytes, received_ns: int) -> None:
        """Take a message; only diagnostics matter."""
        if kind != DIAGNOSTICS:
            return
        for status in deserialize_message(data, DiagnosticArray).status:
            name, _, what = status.name.partition(":")
            if what.strip() == "lifecycle" and status.level == DiagnosticStatus.ERROR:
                self.trouble[name.strip().lstrip("/")] = status.message

    def step(self) -> bool:
        """Whether all nodes are there."""
        now_s = time.monotonic()
        for name in sorted(self.waiting):
            self._step_one(name, now_s)
        return not self.waiting

    def _step_one(self, name: str, now_s: float) -> None:
        asked_s, future = self._asked.get(name, (-ASK_PERIOD_S, None))
        if future is not None and future.done():
            answer = future.result()
            self._asked[name] = now_s, None  # and look again in a while
            state = None if answer is None else answer.current_state.id
            if state in _REACHED[self._transition]:
                self.waiting.discard(name)
            elif state == _FROM[self._transition]:
                self._change(name, now_s)
            return
        if now_s - asked_s < (ASK_PERIOD_S if future is None else LOST_AFTER_S):
            return
        if future is not None:
            self._states[name].remove_pending_request(future)
        if self._states[name].service_is_ready():
            self._asked[name] = now_s, self._states[name].call_async(GetState.Request())

    def _change(self, name: str, now_s: float) -> None:
        """Ask for the transition, unless that is under way; a refusal is told by the node, or else here."""
        asked_s, future = self._changing.get(name, (-math.inf, None))
        if future is not None and future.done() and future.result() is not None and not future.result().success:
            if now_s - asked_s > TOLD_AFTER_S:
                self.trouble.setdefault(name, f"refused transition {self._transition}")
        elif now_s - asked_s > LOST_AFTER_S and self._changes[name].service_is_ready():
            request = ChangeState.Request(transition=Transition(id=self._transition))
            self._changing[name] = now_s, self._changes[name].call_async(request)

"""A stress run's own end of the graph: hears rollouts, drift and diagnostics, and asks nodes for their state.

Knows rclpy and the topics of the suite; starts no process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from egowm_msgs.msg import ActionSequence, Drift, Rollout
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from egowm_core.errors import EgowmError
from egowm_nodes.conversions import time_ns
from egowm_nodes.runtime.steady_executor import SteadyExecutor

PATIENCE_S = 120.0
_STEP_S = 0.01


class StressError(EgowmError):
    """A run could not be carried out: a node did not start, or does not answer."""


class Heard:
    """Arrivals of one topic: (steady s, header stamp ns, what was kept of the message)."""

    def __init__(self) -> None:
        self.count = 0
        self.arrivals: deque[tuple[float, int, Any]] = deque(maxlen=20_000)

    def rate_hz(self, since_s: float, until_s: float) -> float:
        """Arrivals a second in that time."""
        inside = sum(since_s <= at_s <= until_s for at_s, _, _ in list(self.arrivals))
        return inside / max(until_s - since_s, 1e-9)


class Probe:
    """Spins in a thread of its own, in ``namespace`` (without its slash). A context manager."""

    def __init__(self, *, domain_id: int, namespace: str = "") -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("stress", context=self.context, namespace=namespace)
        self.namespace = namespace
        self.diagnostics: dict[str, tuple[int, str, dict[str, str]]] = {}
        self.rollouts, self.drifts = Heard(), Heard()
        qos = QoSProfile(depth=20)
        self.node.create_subscription(Rollout, "world_model/rollout", self._on_rollout, qos)
        self.node.create_subscription(Drift, "drift_monitor/drift", self._on_drift, qos)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self._clients: dict[str, Any] = {}
        self._executor = SteadyExecutor(on_error=lambda *_: None, context=self.context)
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="probe", daemon=True)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    # ---- asking -------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], Any], what: str, *, timeout_s: float = PATIENCE_S) -> Any:
        """Wait for a true value and return it. Raises StressError when it does not come."""
        end_s = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > end_s:
                raise StressError(f"waited {timeout_s:.0f} s for {what}; look into the node's log")
            time.sleep(_STEP_S)
        return value

    def state(self, name: str, *, timeout_s: float = 5.0) -> tuple[str, float] | None:
        """A lifecycle node's state and how long the answer took (s); None where none came in time."""
        answer = self.call(GetState, f"{name}/get_state", GetState.Request(), timeout_s=timeout_s)
        return None if answer is None else (str(answer[0].current_state.label), answer[1])

    def change(self, name: str, transition: int, *, timeout_s: float = PATIENCE_S) -> bool:
        """Ask for a transition; whether it succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = self.call(ChangeState, f"{name}/change_state", request, timeout_s=timeout_s)
        return answer is not None and bool(answer[0].success)

    def call(self, kind: type[Any], service: str, request: Any, *, timeout_s: float) -> tuple[Any, float] | None:
        """A service's response and how long it took (s); None where none came in time."""
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self.node.create_client(kind, service)
        end_s = time.monotonic() + timeout_s
        while not client.service_is_ready():
            if time.monotonic() > end_s:
                return None
            time.sleep(_STEP_S)
        asked_s = time.monotonic()
        future = client.call_async(request)
        while not future.done():
            if time.monotonic() > end_s:
                client.remove_pending_request(future)
                return None
            time.sleep(0.001)
        return future.result(), time.monotonic() - asked_s

    def wait_active(self, names: list[str]) -> None:
        """Wait until all of these lifecycle nodes are active. Raises StressError."""
        for name in names:
            self.until(
                lambda name=name: (self.state(name, timeout_s=2.0) or ("", 0.0))[0] == "active",
                f"{name} to become active",
            )

    def figure(self, status: str, key: str) -> float | None:
        """A number from the newest diagnostics, such as ``("world_model: process", "images_heard")``."""
        found = self.diagnostics.get(status)
        try:
            return None if found is None else float(found[2][key])
        except (KeyError, ValueError):
            return None

    # ---- hearing ------------------------------------------------------------------------------------------------

    def _on_rollout(self, message: Rollout) -> None:
        now_s = time.monotonic()
        executed = message.actions.source == ActionSequence.EXECUTED
        self.rollouts.count += 1
        self.rollouts.arrivals.append((now_s, time_ns(message.header.stamp), (executed, float(message.inference_s))))

    def _on_drift(self, message: Drift) -> None:
        self.drifts.count += 1
        self.drifts.arrivals.append((time.monotonic(), time_ns(message.header.stamp), int(message.state)))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self.diagnostics[status.name] = (int.from_bytes(status.level, "little"), status.message, values)

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.1)

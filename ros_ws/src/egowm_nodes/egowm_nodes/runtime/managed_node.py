"""The lifecycle node that both nodes are: guarded transitions, declared parameters, notices and diagnostics.

A subclass says what to do in ``configure``, ``activate``, ``deactivate`` and ``cleanup``, and what there is to report
in ``statuses``; an exception from the first two is logged, shown in the diagnostics and answered with FAILURE, so the
node stays in its state and lives on. Knows no model, no image and no score.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from egowm_core.errors import ConfigError, EgowmError
from egowm_nodes.runtime import params
from egowm_nodes.runtime.diagnostics import Level, Status
from egowm_nodes.runtime.notices import Notices, harmless
from egowm_nodes.runtime.process_figures import process_figures
from egowm_nodes.runtime.status_messages import diagnostics_message

P = TypeVar("P")
DIAGNOSTICS_PERIOD_S = 1.0
_LONGEST_TEXT, _MOST_ELEMENTS = 4096, 1024  # of a parameter
_LONGEST_VALUE = 1000  # of a figure in the diagnostics


class ManagedNode(LifecycleNode, Generic[P]):
    """``parameters`` always holds the present values of the ``kind`` of parameters given."""

    def __init__(self, name: str, kind: type[P]) -> None:
        super().__init__(name)
        self._kind = kind
        self.notices = Notices(time.monotonic)
        self.lifecycle_state = "unconfigured"
        self.trouble = ""  # why the last transition failed
        self.counters: dict[str, Callable[[], int]] = {}  # what inputs count, for the diagnostics
        self.parameters: P = params.declare(self, kind)
        for item in fields(kind):  # type: ignore[arg-type]
            if reason := _unfit(item.name, getattr(self.parameters, item.name)):
                raise ConfigError(reason)
        for sentence in params.unknown(kind, getattr(self, "_parameter_overrides", {})):
            self.get_logger().warning(sentence)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._left = False
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)  # diagnostics go on when simulated time stands still
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=10))
        self.create_timer(DIAGNOSTICS_PERIOD_S, self.publish_diagnostics, clock=self._steady)
        self._refuse_impossible_transitions()

    # ---- for subclasses -----------------------------------------------------------------------------------------

    hardware_id = ""

    def configure(self) -> None:
        """Get ready to be activated; raise to stay unconfigured."""

    def activate(self) -> None:
        """Start; raise to stay inactive."""

    def deactivate(self) -> None:
        """Undo ``activate``, however far it came; also called after it raised."""

    def cleanup(self) -> None:
        """Undo ``configure``, however far it came; also called after it raised."""

    def parameters_changed(self) -> None:
        """``parameters`` has new values."""

    def statuses(self) -> list[Status]:
        """What to report while active."""
        return []

    def report(self, key: str, text: str) -> None:
        """One warning, rate-limited by ``key``; shown in the diagnostics, too. Callable from any thread."""
        said = self.notices.report(key, text)
        if said is not None:
            self.get_logger().warning(said)

    # ---- lifecycle ----------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Configure and activate; whether both went well."""
        success = TransitionCallbackReturn.SUCCESS
        return bool(self.trigger_configure() == success and self.trigger_activate() == success)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("configure", self.configure, self.cleanup, "inactive", super().on_configure, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("activate", self.activate, self.deactivate, "active", super().on_activate, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._undo("deactivate", self.deactivate)
        self.lifecycle_state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._undo("clean up", self.cleanup)
        self.lifecycle_state = "unconfigured"
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.stop()
        self.lifecycle_state = "finalized"
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.stop()
        self.lifecycle_state = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def leave(self) -> bool:
        """Deactivate, whatever the state; whether there are still answers to give, for which it must be spun."""
        if not self._left:
            self._left = True
            self._undo("deactivate", self.deactivate)
        return self.answering()

    def answering(self) -> bool:
        """Whether somebody who asked still waits for an answer that is on its way."""
        return False

    def stop(self) -> None:
        """Deactivate and clean up, whatever the state."""
        self._undo("deactivate", self.deactivate)
        self._undo("clean up", self.cleanup)

    def _undo(self, verb: str, act: Callable[[], None]) -> None:
        """The way back never fails: what goes wrong on it is told."""
        try:
            act()
        except Exception as error:
            self.report(f"{verb}: failed", f"trouble to {verb}: {type(error).__name__}: {error}")
            self.get_logger().error(traceback.format_exc())

    def _attempt(
        self,
        verb: str,
        act: Callable[[], None],
        undo: Callable[[], None],
        reached: str,
        entities: Callable[[LifecycleState], TransitionCallbackReturn],
        state: LifecycleState,
    ) -> TransitionCallbackReturn:
        try:
            act()
            result = entities(state)
        except Exception as error:
            self._undo(f"undo {verb}", undo)
            expected = isinstance(error, EgowmError)
            detail = str(error) if expected else f"{type(error).__name__}: {error}"
            self.trouble = harmless(f"cannot {verb}: {detail}")
            self.get_logger().error(self.trouble if expected else f"{self.trouble}\n{traceback.format_exc()}")
            return TransitionCallbackReturn.FAILURE
        self.trouble = ""
        self.lifecycle_state = reached
        self.get_logger().info(reached)
        return result

    def _refuse_impossible_transitions(self) -> None:
        """Answer a transition that the present state doesn't have with ``success: false``; stock rclpy would raise."""
        service = self._service_change_state
        stock = service.callback

        def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
            try:
                return stock(request, response)
            except Exception as error:
                wanted = request.transition.label or request.transition.id
                self.report("transition", f"transition {wanted} refused in state {self.lifecycle_state}: {error}")
                response.success = False
                return response

        service.callback = answer

    # ---- parameters and diagnostics -----------------------------------------------------------------------------

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        proposed: dict[str, Any] = {change.name: change.value for change in changes}
        reason = next(filter(None, (_unfit(name, value) for name, value in proposed.items())), None)
        reason = reason or params.locked(self._kind, proposed, self.lifecycle_state)
        if reason is not None:
            return SetParametersResult(successful=False, reason=reason)
        former = self.parameters
        try:
            self.parameters = params.read(self, self._kind, proposed)
            self.parameters_changed()
        except EgowmError as error:
            self.parameters = former
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def publish_diagnostics(self) -> None:
        """Publish what there is to report now."""
        level = Level.ERROR if self.trouble else Level.OK
        message = self.trouble or self.lifecycle_state
        reports = [Status("lifecycle", level, message, {"state": self.lifecycle_state})]
        figures = process_figures() | {name: str(count()) for name, count in self.counters.items()}
        reports.append(Status("process", Level.OK, "as measured", figures))
        if self.lifecycle_state == "active":
            try:
                reports += self.statuses()
            except Exception as error:
                self.report("diagnostics", f"the diagnostics are incomplete: {type(error).__name__}: {error}")
                self.get_logger().debug(traceback.format_exc())
        reports = [_bounded(status) for status in reports]
        name = self.get_fully_qualified_name().lstrip("/")
        now_ns = self.get_clock().now().nanoseconds
        self._diagnostics.publish(
            diagnostics_message(reports, node=name, hardware_id=self.hardware_id, stamp_ns=now_ns)
        )


def _unfit(name: str, value: Any) -> str | None:
    """Why a parameter's value is refused before anybody looks at it; ROS's own ranges let NaN through."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(values) > _MOST_ELEMENTS:
        return f"parameter {name} has {len(values)} elements; expected at most {_MOST_ELEMENTS}"
    for one in values:
        if isinstance(one, float) and not math.isfinite(one):
            return f"parameter {name} is {one}; expected a finite number"
        if isinstance(one, str) and (len(one) > _LONGEST_TEXT or "\0" in one):
            return f"parameter {name} is a text of {len(one)} characters; expected at most {_LONGEST_TEXT} and no NUL"
    return None


def _bounded(status: Status) -> Status:
    """Diagnostics quote what came over topics: of bounded length, without control characters."""
    values = {key: harmless(value, longest=_LONGEST_VALUE) for key, value in status.values.items()}
    return replace(status, message=harmless(status.message), values=values)

"""An executor that outlives a message it cannot take and a request that cannot be answered.

Where taking a message, request or response raises (no memory, a value that Python cannot hold), rclpy 7 leaves the
entity marked as busy and its callback group as executing: nothing of that group ever runs again, services included.
Where a service's callback raises, its client waits for ever; rclpy's own parameter services raise for a value of an
unknown type. Here the failure is told, the client gets an empty response, and the node goes on. Knows no node and no
message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor

_ENDS = (ExternalShutdownException, ShutdownException)


class SteadyExecutor(SingleThreadedExecutor):
    """``on_error(topic_or_service, error)`` hears of everything that could not be taken or answered."""

    def __init__(self, *, on_error: Callable[[str, Exception], None], context: Any = None) -> None:
        super().__init__(context=context)
        self._on_error = on_error

    def _take_subscription(self, sub: Any) -> Any:
        return self._guarded(super()._take_subscription, sub, "topic_name")

    def _take_service(self, srv: Any) -> Any:
        if not isinstance(srv.callback, _Answering):
            srv.callback = _Answering(srv.callback, srv.srv_name, self._on_error)
        return self._guarded(super()._take_service, srv, "srv_name")

    def _take_client(self, client: Any) -> Any:
        return self._guarded(super()._take_client, client, "srv_name")

    def _take_waitable(self, waitable: Any) -> Any:
        return self._guarded(super()._take_waitable, waitable, "_action_name")

    def _guarded(self, take: Callable[[Any], Any], entity: Any, name: str) -> Any:
        try:
            return take(entity)
        except _ENDS:
            raise
        except Exception as error:
            self._on_error(str(getattr(entity, name, type(entity).__name__)), error)
            return None


class _Answering:
    """A service's callback that always has a response."""

    def __init__(
        self, answer: Callable[[Any, Any], Any], name: str, on_error: Callable[[str, Exception], None]
    ) -> None:
        self._answer, self._name, self._on_error = answer, name, on_error

    def __call__(self, request: Any, response: Any) -> Any:
        try:
            return self._answer(request, response)
        except Exception as error:
            self._on_error(self._name, error)
            return type(response)()

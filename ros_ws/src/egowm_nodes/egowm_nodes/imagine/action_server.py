"""rclpy's action server, made fit for hostile clients: it outlives what it cannot take, and forgets what is big.

rclpy 7 keeps each goal's request until its result expires, by a clock that may stand still; and where taking one kind
of request raises, it loses those of other kinds that came along, and leaves the whole callback group as executing for
ever: nothing of that group ever runs again. Knows rclpy; no model and no picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer
from rclpy.exceptions import InvalidHandle

_READY = ("_is_goal_request_ready", "_is_cancel_request_ready", "_is_result_request_ready", "_is_goal_expired")


class SteadyActionServer(ActionServer):
    """``on_error(error)`` hears of requests that could not be taken, and of results that could not be sent."""

    def __init__(self, *args: Any, on_error: Callable[[Exception], None], **options: Any) -> None:
        self._on_error = on_error
        super().__init__(*args, **options)

    def take_data(self) -> dict[str, Any]:
        """One kind of request after another: where one cannot be taken, the others are."""
        ready = {name: getattr(self, name, False) for name in _READY}
        taken: dict[str, Any] = {}
        for chosen in _READY:
            if not ready[chosen]:
                continue
            for name in _READY:
                setattr(self, name, name == chosen)
            try:
                taken |= super().take_data()
            except Exception as error:  # of many types: no memory, not UTF-8, gone meanwhile
                self._on_error(error)
        return taken

    def _send_result_response(self, request_header: Any, future: Any) -> None:
        try:
            super()._send_result_response(request_header, future)
        except InvalidHandle as error:  # closed meanwhile
            self._on_error(error)


def forget_request(goal_handle: Any) -> None:
    """Let the goal's message go as soon as it was read; rclpy would keep it as long as the result."""
    goal_handle._goal_request = None

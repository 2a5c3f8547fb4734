"""The action server ``~/imagine``: which goal is worked on, which wait, which are turned away, and how each ends.

One goal is worked on at a time, a few wait, more are rejected, as are more than ``MOST_GOALS`` in ``RESULT_S`` (each is
remembered for so long). A goal that does not fit is accepted and at once aborted: only so can the client be told why.
The work is offered in turns to whoever owns the model; goals change state on the executor's thread alone. Knows rclpy
and the messages; how a goal is read and imagined is the business of ``goals`` and ``work``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from egowm_msgs.action import Imagine
from rclpy.action import CancelResponse, GoalResponse
from rclpy.task import Future

from egowm_core.embodiment import Embodiment
from egowm_core.errors import EgowmError, Stopped
from egowm_nodes.imagine.action_server import SteadyActionServer, forget_request
from egowm_nodes.imagine.goals import ImagineGoal
from egowm_nodes.imagine.qos import FEEDBACK, REQUESTS
from egowm_nodes.imagine.results import feedback_messages, result_message
from egowm_nodes.imagine.status import ImagineFigures
from egowm_nodes.imagine.work import Imagination, Situation

if TYPE_CHECKING:
    from egowm_nodes.runtime.managed_node import ManagedNode

ACTION = "~/imagine"
RESULT_S = 10  # how long a result can be asked for
MOST_GOALS = 64
_SENT_S = 0.2  # within which a client asks for a result that is there and gets it, while the node is spun
KEPT_RESULTS = 3  # whose frames are kept so long; those of older ones are forgotten
CANCELLED = "cancelled by the client"

Begin = Callable[[ImagineGoal, Callable[[], bool]], tuple[Imagination, Situation]]


@dataclass(eq=False)
class _Ticket:
    """A goal from its acceptance to its end. ``stopped`` says why it is to end early, ``message`` why it failed."""

    handle: Any
    done: Any  # rclpy's Future: set when there is nothing more to wait for
    goal: ImagineGoal | None = None
    imagination: Imagination | None = None
    frame_id: str = ""
    stopped: str = ""
    message: str = ""
    result: Any = None


class ImagineServer:
    """See the module. It serves while it is open; between :meth:`stop` and :meth:`start` goals are aborted with reason.

    Args:
        node: its clock, executor, parameters (``imagine_queue``) and reports are used.
        model, embodiment: named in results.
        read: the goal of a message; raises EgowmError for what does not fit.
        begin: the work of a goal and where it starts, at the moment when its turn has come; raises EgowmError.
        offer: takes a turn, to be called once, on any thread; drops it where there is nobody to do it.
    """

    def __init__(
        self,
        node: ManagedNode[Any],
        *,
        model: str,
        embodiment: Embodiment,
        read: Callable[[Any], ImagineGoal],
        begin: Begin,
        offer: Callable[[Callable[[], None]], None],
    ) -> None:
        self._node, self._model, self._embodiment = node, model, embodiment
        self._read, self._begin, self._offer = read, begin, offer
        self._closed_for = f"{node.get_name()} is not active; activate it and ask again"
        self._tickets: dict[bytes, _Ticket] = {}
        self._waiting: deque[_Ticket] = deque()
        self._running: _Ticket | None = None
        self._accepted_s: deque[float] = deque(maxlen=MOST_GOALS)
        self._kept: deque[Imagine.Result] = deque()
        self._concluded_s = -_SENT_S
        self.figures = ImagineFigures()
        self._server = SteadyActionServer(
            node,
            Imagine,
            ACTION,
            self._execute,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
            goal_service_qos_profile=REQUESTS,
            result_service_qos_profile=REQUESTS,
            cancel_service_qos_profile=REQUESTS,
            feedback_pub_qos_profile=FEEDBACK,
            result_timeout=RESULT_S,
            on_error=lambda error: node.report("imagine: not taken", f"imagine: {type(error).__name__}: {error}"),
        )
        self._feedback_topic = node.resolve_topic_name(f"{ACTION}/_action/feedback")

    @property
    def running(self) -> bool:
        """Whether a goal is worked on."""
        return self._running is not None

    @property
    def waiting(self) -> int:
        """How many goals wait for their turn."""
        return len(self._waiting)

    @property
    def answering(self) -> bool:
        """Whether a goal has no result yet, or one that may not have been sent."""
        return bool(self._tickets) or time.monotonic() < self._concluded_s + _SENT_S

    # ---- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Serve goals from now on."""
        self._closed_for = ""

    def stop(self, reason: str) -> None:
        """Serve no more; work in progress stops before its next denoising step. Then close what does the turns."""
        self._closed_for = reason
        for ticket in self._tickets.values():
            ticket.stopped = ticket.stopped or reason

    def abandon(self) -> None:
        """Once nobody does turns any more: end what was under way."""
        while self._waiting:
            self._waiting.popleft().handle.execute()
        for ticket in self._tickets.values():
            if not ticket.done.done():
                ticket.done.set_result(None)

    def close(self) -> None:
        """Take the action away."""
        self._server.destroy()

    # ---- goals, on the executor's thread ----------------------------------------------------------------------------

    def _on_goal(self, request: Any) -> GoalResponse:
        now_s = time.monotonic()
        often = len(self._accepted_s) == MOST_GOALS and now_s - self._accepted_s[0] < RESULT_S
        queue = self._node.parameters.imagine_queue
        if often or (self._running is not None and len(self._waiting) >= queue):
            self.figures.rejected += 1
            why = f"{MOST_GOALS} came within {RESULT_S} s" if often else f"{len(self._waiting)} wait already"
            self._node.report("imagine: rejected", f"a goal of imagine was rejected: {why}; ask again later")
            return GoalResponse.REJECT
        self._accepted_s.append(now_s)
        return GoalResponse.ACCEPT

    def _on_accepted(self, handle: Any) -> None:
        executor = self._node.executor
        ticket = _Ticket(handle, Future(executor=executor))
        ticket.done.add_done_callback(lambda future: None)  # which makes it wake the executor
        self._tickets[bytes(handle.goal_id.uuid)] = ticket
        try:
            if self._closed_for:
                ticket.message = self._closed_for
            else:
                ticket.goal = self._read(handle.request)
        except Exception as error:  # whatever a message may hold: the client is told, the node lives on
            ticket.message = _words(error)
        forget_request(handle)
        if ticket.goal is None:
            self._refuse(ticket)
        else:
            self._waiting.append(ticket)
            self._next()

    def _refuse(self, ticket: _Ticket) -> None:
        self.figures.refused += 1
        self._node.report("imagine: refused", f"a goal of imagine was refused: {ticket.message}")
        ticket.done.set_result(None)
        ticket.handle.execute()

    def _next(self) -> None:
        """Begin with the next goal, unless one is worked on."""
        while self._running is None and self._waiting:
            ticket = self._waiting.popleft()
            assert ticket.goal is not None
            try:
                ticket.imagination, situation = self._begin(ticket.goal, lambda ticket=ticket: bool(ticket.stopped))
            except Exception as error:  # also of kinds that nobody thought of: the goals after it go on
                ticket.message = _words(error)
                self._refuse(ticket)
                continue
            ticket.frame_id, ticket.goal = situation.frame_id, None
            self._running = ticket
            ticket.handle.execute()
            self._offer(partial(self._turn, ticket))

    def _on_cancel(self, handle: Any) -> CancelResponse:
        ticket = self._tickets.get(bytes(handle.goal_id.uuid))
        if ticket is None:
            return CancelResponse.REJECT
        ticket.stopped = ticket.stopped or CANCELLED
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            ticket.done.set_result(None)
            handle.execute()
        return CancelResponse.ACCEPT

    async def _execute(self, handle: Any) -> Imagine.Result:
        """Waits for the end of a goal, and says how it was."""
        ticket = self._tickets[bytes(handle.goal_id.uuid)]
        try:
            await ticket.done
            return self._conclude(ticket)
        finally:
            self._tickets.pop(bytes(handle.goal_id.uuid), None)
            self._concluded_s = time.monotonic()
            if self._running is ticket:
                self._running = None
            self._next()

    def _conclude(self, ticket: _Ticket) -> Imagine.Result:
        handle, figures = ticket.handle, self.figures
        if handle.is_cancel_requested:
            handle.canceled()
            figures.cancelled += 1
            return Imagine.Result(success=False, message=CANCELLED)
        if ticket.result is None:
            handle.abort()
            figures.failed += ticket.imagination is not None
            return Imagine.Result(success=False, message=ticket.message or ticket.stopped or self._closed_for)
        handle.succeed()
        figures.done += 1
        self._keep(ticket.result)
        return ticket.result

    def _keep(self, result: Imagine.Result) -> None:
        """Frames are large: those of the newest results alone are kept for who asks for them late, or never."""
        self._kept.append(result)
        if len(self._kept) > KEPT_RESULTS:
            old = self._kept.popleft()
            old.success, old.rollouts, old.ranking, old.costs = False, [], [], []
            old.message = f"this result was forgotten, {KEPT_RESULTS} newer ones came; ask for it when the goal is done"

    # ---- turns, on the thread that has the model ---------------------------------------------------------------------

    def _turn(self, ticket: _Ticket) -> None:
        imagination = ticket.imagination
        assert imagination is not None
        try:
            step = imagination.turn()
            if step is not None:
                self.figures.progress = step.progress
                self._show(ticket, step)
                self._offer(partial(self._turn, ticket))
                return
            assert imagination.finished is not None
            self.figures.worked(imagination.num_candidates, imagination.finished.worked_s)
            ticket.result = result_message(
                imagination.finished, model=self._model, embodiment=self._embodiment, frame_id=ticket.frame_id
            )
        except Stopped:
            pass
        except Exception as error:  # of whatever kind: the one who asked is told, and the next goal is served
            ticket.message = f"imagining failed: {_words(error)}"
            self._node.report("imagine: failed", ticket.message)
        ticket.imagination = ticket.imagination if ticket.result is None else None
        ticket.done.set_result(None)

    def _show(self, ticket: _Ticket, step: Any) -> None:
        if not self._node.count_subscribers(self._feedback_topic):
            return
        for message in feedback_messages(step, ticket.frame_id):
            ticket.handle.publish_feedback(message)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, EgowmError) else f"{type(error).__name__}: {error}"

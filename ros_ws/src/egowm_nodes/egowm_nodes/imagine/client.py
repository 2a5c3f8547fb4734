"""Asking a world model "what if" in a few lines.

    with ImagineClient("base_3dof") as client:
        answer = client.imagine(candidates, goal_image=picture)
    best = candidates[answer.ranking[0]]

Without a node it has one of its own and spins it while it waits. With a node, that node must be spun by its owner in
another thread; from a callback use :meth:`ImagineClient.start`, which returns at once. Knows rclpy and the messages; no
model.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from action_msgs.msg import GoalStatus
from egowm_msgs.action import Imagine
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from egowm_core.data.images import decode_image
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import AnswerError, EgowmError
from egowm_core.types import ActionSequence, FloatArray, ImageArray, Rollout
from egowm_nodes import conversions
from egowm_nodes.imagine.qos import FEEDBACK, REQUESTS

_SPIN_S = 0.02
_GONE_S = 3.0  # a server that isn't seen for so long won't answer any more


@dataclass(frozen=True)
class Seen:
    """A frame as it came: ``image`` (H,W,3) uint8 of frame ``frame`` (from 1) of ``candidate``; ``progress`` 0..1."""

    candidate: int
    frame: int
    image: ImageArray
    progress: float


@dataclass(frozen=True)
class Answer:
    """A rollout for each candidate; with a goal image, their ``costs`` (N,) and their ``ranking``, best first."""

    rollouts: list[Rollout]
    costs: FloatArray | None
    ranking: list[int]


class Pending:
    """A goal under way. ``done`` turns true on the thread that spins the node; then :meth:`result` has the answer.

    ``heard_s`` is the steady time at which the newest of its frames came, None before the first: an answer on its way
    shows, a world model that was killed does not.
    """

    def __init__(self, on_frame: Callable[[Seen], None] | None = None) -> None:
        self.done = False
        self.heard_s: float | None = None
        self._on_frame = on_frame
        self._seen: set[tuple[int, int]] = set()  # candidate and frame
        self._answer: Answer | None = None
        self._error: EgowmError | None = None
        self._handle: Any = None
        self._cancelled = False
        self._on_done: Callable[[Pending], None] = lambda pending: None

    @property
    def accepted(self) -> bool:
        """Whether the world model took the goal; true once it is done, too."""
        return self.done or self._handle is not None

    def result(self) -> Answer:
        """The answer. Raises AnswerError: rejected, refused, cancelled, failed, or not there yet."""
        if self._error is not None:
            raise self._error
        if self._answer is None:
            raise AnswerError("the goal is still under way; wait until it is done")
        return self._answer

    def cancel(self) -> None:
        """Ask for an early end; ``done`` still turns true when the server says so."""
        self._cancelled = True
        if self._handle is not None and not self.done:
            self._handle.cancel_goal_async()

    def _accepted(self, future: Any) -> None:
        handle = future.result()
        if not handle.accepted:
            self._end(None, AnswerError("the world model rejected the goal: others wait already; ask again later"))
            return
        self._handle = handle
        handle.get_result_async().add_done_callback(self._answered)
        if self._cancelled:
            self.cancel()

    def _answered(self, future: Any) -> None:
        response = future.result()
        result = response.result
        if not result.success:
            said = result.message
            if response.status == GoalStatus.STATUS_UNKNOWN:
                said = "it no longer knows the goal"
            self._end(None, AnswerError(f"the world model did not imagine it: {said or 'it gave no reason'}"))
            return
        try:
            costs = np.array(result.costs, np.float32) if len(result.costs) else None
            rollouts = [conversions.rollout_from_message(rollout) for rollout in result.rollouts]
            self._show_the_rest(rollouts)
            self._end(Answer(rollouts, costs, [int(index) for index in result.ranking]), None)
        except EgowmError as error:
            self._end(None, error)

    def _heard(self, message: Any) -> None:
        """A frame, as feedback."""
        self.heard_s = time.monotonic()
        if self._on_frame is None:
            return
        feedback = message.feedback
        with contextlib.suppress(EgowmError):  # a picture that is none is not worth the goal
            image = decode_image(feedback.image)
            self._seen.add((int(feedback.candidate), int(feedback.frame)))
            self._on_frame(Seen(int(feedback.candidate), int(feedback.frame), image, float(feedback.progress)))

    def _show_the_rest(self, rollouts: list[Rollout]) -> None:
        """The answer may overtake frames, which rclpy then drops; and of many the server sends a part. It has all."""
        if self._on_frame is None:
            return
        for candidate, rollout in enumerate(rollouts):
            for number, image in enumerate(rollout.frames.images, start=1):
                if (candidate, number) not in self._seen:
                    self._on_frame(Seen(candidate, number, image, 1.0))

    def _end(self, answer: Answer | None, error: EgowmError | None) -> None:
        if self.done:
            return
        self._answer, self._error = answer, error
        self.done = True
        self._on_done(self)


class ImagineClient:
    """See the module.

    Args:
        embodiment: the model's, by name, path or itself.
        node: to use; None for one of its own.
        server: name of the world model's node, relative to the namespace.
        rate_hz: of the model's ticks where it isn't the embodiment's.
    """

    def __init__(
        self,
        embodiment: str | Embodiment = "base_3dof",
        *,
        node: Node | None = None,
        server: str = "world_model",
        rate_hz: float = 0.0,
    ) -> None:
        self.embodiment = load_embodiment(embodiment) if isinstance(embodiment, str) else embodiment
        self._rate_hz = rate_hz or self.embodiment.rate_hz
        self._context: Any = None
        self._executor: Any = None
        if node is None:
            self._context = rclpy.Context()
            rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
            node = Node("imagine_client", context=self._context, start_parameter_services=False, enable_rosout=False)
            self._executor = SingleThreadedExecutor(context=self._context)
            self._executor.add_node(node)
        self._node = node
        self._client = ActionClient(
            node,
            Imagine,
            f"{server}/imagine",
            goal_service_qos_profile=REQUESTS,
            result_service_qos_profile=REQUESTS,
            cancel_service_qos_profile=REQUESTS,
            feedback_sub_qos_profile=FEEDBACK,
        )
        self.name = f"{server}/imagine"

    def __enter__(self) -> ImagineClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take down what this client made."""
        self._client.destroy()
        if self._context is not None:
            self._executor.shutdown()
            self._node.destroy_node()
            self._context.try_shutdown()

    def ready(self) -> bool:
        """Whether somebody serves it: what is asked before that gets lost."""
        return bool(self._client.server_is_ready())

    def start(
        self,
        candidates: FloatArray,
        *,
        goal_image: ImageArray | None = None,
        horizon: int = 0,
        num_denoising_steps: int = 0,
        seed: int = 0,
        on_frame: Callable[[Seen], None] | None = None,
        on_done: Callable[[Pending], None] | None = None,
    ) -> Pending:
        """Ask for ``candidates`` (N,T,D), in units, and return at once; see :meth:`imagine`."""
        robot = self.embodiment
        rate_hz = self._rate_hz
        goal = Imagine.Goal(
            candidates=[conversions.action_message(ActionSequence(rows), robot, 0) for rows in candidates],
            horizon=horizon,
            num_denoising_steps=num_denoising_steps,
            seed=seed,
        )
        for message in goal.candidates:
            message.rate_hz = rate_hz
        if goal_image is not None:
            goal.goal_image = conversions.image_message(goal_image, 0, robot.camera().optical_frame)
        pending = Pending(on_frame)
        if on_done is not None:
            pending._on_done = on_done
        self._client.send_goal_async(goal, feedback_callback=pending._heard).add_done_callback(pending._accepted)
        return pending

    def imagine(
        self,
        candidates: FloatArray,
        *,
        goal_image: ImageArray | None = None,
        horizon: int = 0,
        num_denoising_steps: int = 0,
        seed: int = 0,
        timeout_s: float = 60.0,
        on_frame: Callable[[Seen], None] | None = None,
    ) -> Answer:
        """The futures of ``candidates`` (N,T,D), in units, from what the robot sees now.

        ``goal_image`` (H,W,3) uint8: what the camera should see at the end; with it, candidates are ranked. ``horizon``
        in frames, 0 for the model's own; candidates have at least as many rows. ``on_frame`` sees frames as they come,
        and with the answer those that had not come.

        Raises:
            AnswerError: there is no such server, it rejected or refused the goal, failed, or took too long; what was
                begun is then cancelled.
        """
        end_s = time.monotonic() + timeout_s
        self._wait(self.ready, end_s, f"nobody serves {self.name}: start the world model, or name it")
        pending = self.start(
            candidates,
            goal_image=goal_image,
            horizon=horizon,
            num_denoising_steps=num_denoising_steps,
            seed=seed,
            on_frame=on_frame,
        )
        try:
            self._wait(
                lambda: pending.done,
                end_s,
                f"{self.name} did not answer in {timeout_s:g} s; give it longer",
                watch=True,
            )
        except BaseException:  # whoever gives up, Ctrl-C included, lets the model go on with something else
            pending.cancel()
            with contextlib.suppress(Exception):
                self._spin(0.2)
            raise
        return pending.result()

    def _wait(self, done: Callable[[], bool], end_s: float, late: str, *, watch: bool = False) -> None:
        seen_s = time.monotonic()
        while not done():
            now_s = time.monotonic()
            if now_s > end_s:
                raise AnswerError(late)
            if watch and self.ready():
                seen_s = now_s
            elif watch and now_s - seen_s > _GONE_S:
                raise AnswerError(f"{self.name} went away while it was asked; see its log")
            self._spin(_SPIN_S)

    def _spin(self, seconds: float) -> None:
        if self._executor is None:
            time.sleep(seconds)
        else:
            self._executor.spin_once(timeout_sec=seconds)

"""``imagine`` as the world model's node has it: its parameters, its live context, its share of the inference thread.

Joins the server with what goals are checked against and worked off with. Knows the node's parameters by their names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from egowm_core.errors import DataError
from egowm_core.faces import FaceBlur
from egowm_nodes.guards.actions import ActionGuard
from egowm_nodes.imagine.goals import ImagineGoal, Limits, read_goal
from egowm_nodes.imagine.pace import Pace
from egowm_nodes.imagine.server import ImagineServer
from egowm_nodes.imagine.status import imagine_status
from egowm_nodes.imagine.work import Imagination, Situation
from egowm_nodes.runtime.diagnostics import Level, Status

if TYPE_CHECKING:
    from egowm_core.world_model import WorldModel
    from egowm_nodes.runtime.managed_node import ManagedNode

Size = tuple[int, int]


class ImagineDesk:
    """``~/imagine`` of ``node`` with ``model``, whose horizon is ``horizon`` where a goal doesn't say.

    ``offer`` takes a turn of work and lets it be done on the thread that has the model, or drops it.

    Raises:
        ConfigError: the parameter ``blur_faces`` names no detector.
    """

    def __init__(
        self, node: ManagedNode[Any], model: WorldModel, *, horizon: int, offer: Callable[[Callable[[], None]], None]
    ) -> None:
        self._node, self._model, self._horizon = node, model, horizon
        detector = node.parameters.blur_faces
        self._blur = FaceBlur(detector) if detector else None
        self._pace: Pace | None = None
        self._situation: Callable[[], Situation | None] = lambda: None
        self._picture_size: Callable[[], Size | None] = lambda: None
        self._server = ImagineServer(
            node, model=model.name, embodiment=model.embodiment, read=self._read, begin=self._begin, offer=offer
        )

    def open(self, situation: Callable[[], Situation | None], picture_size: Callable[[], Size | None]) -> None:
        """Serve, from the live context that ``situation`` gives (None while there is none)."""
        self._situation, self._picture_size, self._pace = situation, picture_size, None
        self._server.start()

    def stop(self) -> None:
        """Serve no more; work stops before its next denoising step."""
        self._server.stop(f"{self._node.get_name()} was deactivated; activate it and ask again")

    def abandon(self) -> None:
        """After :meth:`stop`, once the thread that did the work has ended: answer who still waits."""
        self._server.abandon()

    def answering(self) -> bool:
        """Whether somebody still waits for a result."""
        return self._server.answering

    def close(self) -> None:
        """Take the action away."""
        self._server.close()

    def status(self) -> Status:
        """For the diagnostics."""
        notices = [notice for notice in self._node.notices.recent() if notice.key.startswith("imagine:")]
        return imagine_status(
            self._server.figures,
            waiting=self._server.waiting,
            running=self._server.running,
            pace={} if self._pace is None else self._pace.figures(),
            findings=[(Level.WARN, notice.text) for notice in notices],
        )

    def _read(self, message: Any) -> ImagineGoal:
        p, robot = self._node.parameters, self._model.embodiment
        limits = Limits(p.imagine_candidates, p.imagine_horizon, self._horizon)
        guard = ActionGuard(robot, p.action_guard)
        return read_goal(message, robot, limits, guard=guard, picture_size=self._picture_size())

    def _begin(self, goal: ImagineGoal, stop: Callable[[], bool]) -> tuple[Imagination, Situation]:
        situation = self._situation()
        if situation is None:
            raise DataError(
                "there is no live context yet; expected images and odometry that agree: see the diagnostics of"
                f" {self._node.get_name()}"
            )
        p = self._node.parameters
        steps = p.num_denoising_steps or self._model.num_denoising_steps
        imagination = Imagination(
            goal,
            self._model,
            situation,
            self._fitting_pace(goal.num_denoising_steps or steps),
            num_denoising_steps=steps,
            stop=stop,
            blur=self._blur,
            frame_guard=p.frame_guard,
            report=lambda text: self._node.report("imagine: memory", text),
        )
        return imagination, situation

    def _fitting_pace(self, num_denoising_steps: int) -> Pace:
        """What was learned goes on, unless it was learned with other settings."""
        p = self._node.parameters
        pace = Pace(
            batch=p.imagine_batch,
            budget_s=p.budget_ms / 1e3,
            num_denoising_steps=num_denoising_steps,
            frames=self._model.vae.temporal_factor if self._model.causal else self._model.horizon,
        )
        if self._pace is None or self._pace.key != pace.key:
            self._pace = pace
        return self._pace

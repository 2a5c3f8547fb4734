"""Candidates evaluated by a world model: the cost of where each one's imagined video ends.

Knows no robot middleware; the search is ``cem``'s, imagining is ``egowm_core.imagination``'s.
"""

from __future__ import annotations

from egowm_core.errors import RolloutError
from egowm_core.imagination import imagine_all
from egowm_core.planning.cost import GoalCost
from egowm_core.types import FloatArray, Frames
from egowm_core.world_model import WorldModel


class ImaginedCost:
    """An evaluation for :class:`egowm_core.planning.Cem`: ``look`` says where the candidates start from.

    All candidates share the noise of ``seed``, so that they differ by their actions alone; ``batch`` are imagined at a
    time.
    """

    def __init__(self, model: WorldModel, cost: GoalCost, *, seed: int = 0, batch: int = 8) -> None:
        self._model, self._cost, self._seed, self._batch = model, cost, seed, batch
        self._context: Frames | None = None
        self._state: FloatArray | None = None

    def look(self, context: Frames, state: FloatArray | None = None) -> None:
        """The newest frames, as the model sees, and the robot's state (S,) where the model wants it."""
        self._context, self._state = context, state

    def __call__(self, candidates: FloatArray) -> FloatArray:
        """(N,) costs of candidates (N,T,D) in units.

        Raises:
            RolloutError: nothing was looked at yet; otherwise as ``imagine``.
            EmbodimentError: see ``imagine``.
        """
        if self._context is None:
            raise RolloutError("there is no context to imagine from; call look() with the newest frames first")
        images = imagine_all(
            self._model, self._context, candidates, state=self._state, seed=self._seed, batch=self._batch
        )
        return self._cost(images[:, -1:])

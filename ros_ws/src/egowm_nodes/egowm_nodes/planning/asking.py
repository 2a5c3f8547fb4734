"""An evaluation of candidates by asking a world model's ``imagine``, from a thread that may wait.

Knows the client; the search is the core's.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from egowm_core.errors import AnswerError, Stopped
from egowm_core.types import FloatArray, ImageArray
from egowm_nodes.imagine.client import ImagineClient

_LOOK_S = 0.05
_ABSENT_S = 10.0  # a server that starts together with this node loads its model for about half as long
_GONE_S = 3.0  # one that has been asked and isn't seen for so long won't answer
_TAKEN_S = 10.0  # a goal that isn't taken by then got lost


class Halt(Protocol):
    """Whether to give up."""

    def is_set(self) -> bool:
        """True once and for all."""


@dataclass(frozen=True)
class AskedCost:
    """Costs of candidates as ``client`` answers them for the goal ``picture``; ``halt`` gives up half-way.

    ``timeout_s`` is for the whole answer. ``silence_s`` without one more imagined frame is the end, too: a process that
    was killed stays in the graph for a while, but sends nothing.
    """

    client: ImagineClient
    picture: ImageArray
    timeout_s: float
    seed: int
    halt: Halt
    silence_s: float = math.inf

    def __call__(self, candidates: FloatArray) -> FloatArray:
        """(N,) costs of (N,T,D).

        Raises:
            Stopped: ``halt`` was set.
            AnswerError: the world model isn't there, refused, failed, did not rank, or did not answer in time.
        """
        self._wait(self.client.ready, math.inf, "", absent_s=_ABSENT_S)
        done = threading.Event()
        pending = self.client.start(
            candidates,
            goal_image=self.picture,
            horizon=candidates.shape[1],
            seed=self.seed,
            on_done=lambda _: done.set(),
        )
        try:
            self._wait(
                lambda: pending.accepted,
                _TAKEN_S,
                f"the world model did not take the question in {_TAKEN_S:g} s; look whether its process hangs",
            )
            taken_s = time.monotonic()
            self._wait(
                done.is_set,
                self.timeout_s,
                f"the world model did not answer in {self.timeout_s:g} s; if it lives, raise imagine_timeout_s or"
                " give it more of the machine (num_threads, device)",
                heard_s=lambda: pending.heard_s or taken_s,
            )
        except (Stopped, AnswerError):
            pending.cancel()
            raise
        costs = pending.result().costs
        if costs is None or len(costs) != len(candidates):
            raise AnswerError(f"the world model did not rank {len(candidates)} candidates against the goal")
        return np.asarray(costs, np.float32)

    def _wait(
        self,
        done: Callable[[], bool],
        within_s: float,
        late: str,
        *,
        absent_s: float = _GONE_S,
        heard_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Until ``done``, while it is wanted, and somebody is there to do it and heard of."""
        began_s = seen_s = time.monotonic()
        while not done():
            if self.halt.is_set():
                raise Stopped("the plan was given up")
            now_s = time.monotonic()
            if self.client.ready():
                seen_s = now_s
            elif now_s - seen_s > absent_s:
                raise AnswerError(
                    f"nobody serves {self.client.name}: start the world model, or name it by parameter server"
                )
            if now_s - heard_s() > self.silence_s:
                raise AnswerError(
                    f"the world model took the question and has been silent for {self.silence_s:g} s; look whether it"
                    " was killed or answers others first, or raise imagine_silence_s"
                )
            if now_s - began_s > within_s:
                raise AnswerError(late)
            time.sleep(_LOOK_S)

"""An evaluation of candidates by asking a world model's ``imagine``, from a thread that may wait.

Knows the client; the search is the core's.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from egowm_core.errors import AnswerError, Stopped
from egowm_core.types import FloatArray, ImageArray
from egowm_nodes.imagine.client import ImagineClient

_LOOK_S = 0.05


class Halt(Protocol):
    """Whether to give up."""

    def is_set(self) -> bool:
        """True once and for all."""


@dataclass(frozen=True)
class AskedCost:
    """Costs of candidates as ``client`` answers them for the goal ``picture``; ``halt`` gives up half-way."""

    client: ImagineClient
    picture: ImageArray
    timeout_s: float
    seed: int
    halt: Halt

    def __call__(self, candidates: FloatArray) -> FloatArray:
        """(N,) costs of (N,T,D).

        Raises:
            Stopped: ``halt`` was set.
            AnswerError: the world model refused, failed, did not rank, or did not answer in time.
        """
        done = threading.Event()
        end_s = time.monotonic() + self.timeout_s
        pending = self.client.start(
            candidates,
            goal_image=self.picture,
            horizon=candidates.shape[1],
            seed=self.seed,
            on_done=lambda _: done.set(),
        )
        while not done.wait(_LOOK_S):
            if self.halt.is_set():
                pending.cancel()
                raise Stopped("the plan was given up")
            if time.monotonic() > end_s:
                pending.cancel()
                raise AnswerError(
                    f"the world model did not answer in {self.timeout_s:g} s; check that it is active and parameter"
                    " server names it, or raise imagine_timeout_s"
                )
        costs = pending.result().costs
        if costs is None or len(costs) != len(candidates):
            raise AnswerError(f"the world model did not rank {len(candidates)} candidates against the goal")
        return np.asarray(costs, np.float32)

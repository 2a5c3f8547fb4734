"""One goal of ``imagine`` being worked off, a turn at a time, so that live predictions can go in between.

A turn is one chunk of one batch of candidates (or one frame, of a causal model); the last turn ranks. Runs on one
thread, whichever asks for the turns. Knows models and pictures; no ROS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from egowm_core.errors import RolloutError
from egowm_core.imagination import ImaginedChunk, imagine
from egowm_core.planning.cost import goal_cost
from egowm_core.stopping import Stop
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSequence, FloatArray, Frames, ImageArray, Rollout, StampArray
from egowm_nodes.guards.frames import DROP, faults
from egowm_nodes.imagine.goals import ImagineGoal
from egowm_nodes.imagine.pace import Pace

if TYPE_CHECKING:
    from egowm_core.world_model import WorldModel


@dataclass(frozen=True)
class Situation:
    """Where imagination starts: the live context, the state (S,) at its last frame, and the camera's optical frame."""

    context: Frames
    state: FloatArray | None
    frame_id: str


@dataclass(frozen=True)
class Step:
    """What a turn brought: the next frames, their ``stamps_ns`` (t,), and the share of the goal that is done, 0..1."""

    chunk: ImaginedChunk
    stamps_ns: StampArray
    progress: float


@dataclass(frozen=True)
class Imagined:
    """One rollout per candidate; ``costs`` (N,) and ``ranking`` (N,), best first, or None without a goal picture.

    ``worked_s`` is what the turns took, without what went on between them.
    """

    rollouts: list[Rollout]
    costs: FloatArray | None
    ranking: list[int] | None
    worked_s: float


class Imagination:
    """See the module.

    Args:
        num_denoising_steps: where the goal doesn't say.
        stop: asked before every denoising step.
        blur: takes faces out of a picture (H,W,3), and counts them; None for no blurring.
        frame_guard: ``drop`` fails the goal where predicted frames are blank or repeated.
        report: says what went wrong and was got over.
    """

    def __init__(
        self,
        goal: ImagineGoal,
        model: WorldModel,
        situation: Situation,
        pace: Pace,
        *,
        num_denoising_steps: int,
        stop: Stop,
        blur: Callable[[ImageArray], tuple[ImageArray, int]] | None = None,
        frame_guard: str = DROP,
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._goal, self._model, self._situation, self._pace = goal, model, situation, pace
        self._steps = goal.num_denoising_steps or num_denoising_steps
        self._stop, self._blur, self._frame_guard, self._report = stop, blur, frame_guard, report
        count, horizon = goal.candidates.shape[:2]
        camera = model.embodiment.camera()
        self._images = np.empty((count, horizon, camera.height, camera.width, 3), np.uint8)
        period_ns = NANOSECONDS_PER_SECOND / model.embodiment.rate_hz
        self._stamps_ns = int(situation.context.stamps_ns[-1]) + np.round(period_ns * np.arange(1, horizon + 1)).astype(
            np.int64
        )
        self._first = 0  # candidate of the present batch
        self._batch = 0
        self._chunks: Iterator[ImaginedChunk] | None = None
        self._worked_s = 0.0
        self.finished: Imagined | None = None

    @property
    def num_candidates(self) -> int:
        """N."""
        return len(self._images)

    def turn(self) -> Step | None:
        """Do the next turn; None once all is ranked and ``finished``.

        Raises:
            Stopped: ``stop()`` said so.
            RolloutError: not even one candidate fits into memory, or what was predicted is no picture.
            ScoreError: the goal's picture cannot be compared.
        """
        started_s = time.perf_counter()
        try:
            chunk = self._next_chunk()
            if chunk is None:
                self._finish(started_s)
                return None
            return self._keep(chunk)
        finally:
            self._worked_s += time.perf_counter() - started_s

    def _next_chunk(self) -> ImaginedChunk | None:
        while self._first < self.num_candidates:
            if self._chunks is None:
                self._begin_batch(self._pace.choose())
            assert self._chunks is not None
            started_s = time.perf_counter()
            try:
                chunk = next(self._chunks, None)
            except torch.OutOfMemoryError as error:
                self._step_down(error)
                continue
            if chunk is None:
                self._first, self._chunks = self._first + self._batch, None
                continue
            self._pace.record(self._batch, time.perf_counter() - started_s)
            shift = self._first
            return replace(chunk, candidates=slice(chunk.candidates.start + shift, chunk.candidates.stop + shift))
        return None

    def _begin_batch(self, batch: int) -> None:
        self._batch = min(batch, self.num_candidates - self._first)
        self._chunks = imagine(
            self._model,
            self._situation.context,
            self._goal.candidates[self._first : self._first + self._batch],
            state=self._situation.state if self._model.embodiment.states else None,
            seed=self._goal.seed,
            num_denoising_steps=self._steps,
            batch=self._batch,
            stop=self._stop,
        )

    def _step_down(self, error: Exception) -> None:
        """Do the present batch again with fewer candidates at once; noise is shared, so that it makes no difference."""
        self._chunks = None
        batch = self._pace.out_of_memory()
        torch.cuda.empty_cache()
        if not batch:
            raise RolloutError(
                "the device's memory does not suffice for one candidate; free some of it, choose a shorter horizon or"
                " a smaller checkpoint"
            ) from error
        self._report(
            f"the device's memory did not suffice for {self._batch} candidates at once, going on with {batch}; lower"
            " imagine_batch"
        )
        self._begin_batch(batch)

    def _keep(self, chunk: ImaginedChunk) -> Step:
        if self._blur is not None:
            frames = chunk.images.reshape(-1, *chunk.images.shape[2:])
            blurred = np.stack([self._blur(frame)[0] for frame in frames]).reshape(chunk.images.shape)
            chunk = replace(chunk, images=blurred)
        last = chunk.first_frame + chunk.images.shape[1]
        self._images[chunk.candidates, chunk.first_frame : last] = chunk.images
        done = self._first + (chunk.candidates.stop - self._first) * last / self._images.shape[1]
        return Step(chunk, self._stamps_ns[chunk.first_frame : last], min(done / self.num_candidates, 1.0))

    def _finish(self, started_s: float) -> None:
        goal = self._goal
        if self._frame_guard == DROP:
            for index, images in enumerate(self._images):
                for text in faults(
                    images, goal.candidates[index], self._situation.context.images[-1], self._model.embodiment.scales
                ).values():
                    raise RolloutError(f"candidate {index}: {text}")
        costs = None if goal.picture is None else goal_cost(goal.picture)(self._images)
        worked_s = self._worked_s + time.perf_counter() - started_s
        self.finished = Imagined(
            rollouts=[
                Rollout(
                    frames=Frames(images, self._stamps_ns),
                    actions=ActionSequence(goal.candidates[index]),
                    context_stamp_ns=int(self._situation.context.stamps_ns[-1]),
                    num_denoising_steps=self._steps,
                    seed=goal.seed,
                    timings_s={"total": worked_s / self.num_candidates},
                )
                for index, images in enumerate(self._images)
            ],
            costs=costs,
            ranking=None if costs is None else [int(index) for index in np.argsort(costs, kind="stable")],
            worked_s=worked_s,
        )

"""A request to a published rollout, on the inference thread: the model, the guard of its frames, and its deadline.

With a budget, live predictions take the denoising steps and the horizon that are expected to keep to it. Predictions
from executed actions always have the full settings: drift is judged by them, and what is usual was learned with them.
Knows publishers by their ``publish`` alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from egowm_core.deadline import Choice, DeadlineScheduler, Option, ladder
from egowm_core.errors import NotFiniteError
from egowm_core.types import ActionSequence, Frames
from egowm_nodes import conversions
from egowm_nodes.guards.frames import FrameGuard
from egowm_nodes.prediction.outputs import PredictedOutputs
from egowm_nodes.prediction.params import WorldModelParams
from egowm_nodes.prediction.predictor import Predictor, Request
from egowm_nodes.prediction.status import Figures


class Inference:
    """Call it with one request after another.

    ``parameters`` gives the node's present ones; ``warm_up_s`` is what a prediction with the full settings took.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        parameters: Callable[[], WorldModelParams],
        frame_guard: FrameGuard,
        figures: Figures,
        rollouts: Any,
        pictures: PredictedOutputs,
        report: Callable[[str, str], None],
        warm_up_s: float,
    ) -> None:
        self._predictor, self._parameters, self._frame_guard = predictor, parameters, frame_guard
        self._figures, self._rollouts, self._pictures, self._report = figures, rollouts, pictures, report
        self._warm_up_s = warm_up_s
        self._sequence = 0
        self._settings: tuple[int, int] | None = None
        self.deadline: DeadlineScheduler | None = None

    def __call__(self, request: Request) -> None:
        p, model, figures = self._parameters(), self._predictor.model, self._figures
        live = request.observed_stamps_ns is None
        started_s = time.monotonic()
        choice = self._choose(p) if live else None
        if choice is not None:
            values = request.actions.values[: choice.horizon]
            request = replace(request, actions=ActionSequence(values, request.actions.source))
        steps = p.num_denoising_steps if choice is None else choice.num_denoising_steps
        try:
            rollout = self._predictor.predict(request, seed=p.seed, num_denoising_steps=steps)
        except torch.OutOfMemoryError as error:
            self._out_of_memory(choice, error)
            return
        predicted_s = time.monotonic()
        checked = self._frame_guard.check(rollout, request.context.images[-1])
        for kind, text in checked.found.items():
            self._report(f"guard: {kind}", text)
        if checked.fit:
            rollout = checked.rollout
            self._rollouts.publish(
                conversions.rollout_message(
                    rollout,
                    model=model.name,
                    embodiment=model.embodiment,
                    frame_id=request.frame_id,
                    sequence=self._sequence,
                )
            )
            self._sequence += 1
        published_s = time.monotonic()
        if choice is not None and self.deadline is not None:
            self.deadline.record(choice, published_s - started_s)
        if not checked.fit:
            return
        figures.model.add(predicted_s - started_s)
        if not live:
            figures.hindsight.tick()
            return
        figures.live.tick()
        if request.arrived_s is not None:
            figures.latency.add(published_s - request.arrived_s)
            figures.waiting.add(request.offered_s - request.arrived_s)
        figures.queued.add(started_s - request.offered_s)
        figures.overhead.add(published_s - predicted_s)
        self._pictures.show(
            rollout,
            Frames(checked.context[None], request.context.stamps_ns[-1:]),
            number=p.predicted_frame,
            strip_step_s=p.strip_step_s,
            frame_id=request.frame_id,
        )

    def failed(self, error: Exception) -> None:
        """A request could not be fulfilled."""
        self._figures.failures += 1
        if isinstance(error, NotFiniteError):
            self._frame_guard.not_finite()
        self._report("inference: failed", f"a prediction failed: {type(error).__name__}: {error}")

    def _choose(self, p: WorldModelParams) -> Choice | None:
        """What is expected to keep to the budget; None without one."""
        settings = (p.budget_ms, p.num_denoising_steps)
        if settings != self._settings:
            self._settings = settings
            self.deadline = self._scheduler(p) if p.budget_ms else None
        return None if self.deadline is None else self.deadline.choose()

    def _scheduler(self, p: WorldModelParams) -> DeadlineScheduler:
        model, horizon = self._predictor.model, self._predictor.horizon
        chunk = model.vae.temporal_factor if model.causal else model.horizon
        steps = p.num_denoising_steps or model.num_denoising_steps
        found = DeadlineScheduler(ladder(steps, horizon, chunk=chunk), p.budget_ms / 1e3, chunk=chunk)
        found.record(Option(model.num_denoising_steps, horizon), self._warm_up_s)
        return found

    def _out_of_memory(self, choice: Choice | None, error: Exception) -> None:
        torch.cuda.empty_cache()
        self._figures.failures += 1
        smaller = None
        if choice is not None and self.deadline is not None:
            smaller = self.deadline.out_of_memory(choice)
        then = "one is left out" if smaller is None else f"going on with {smaller.horizon} frames"
        self._report(
            "inference: memory",
            f"the device's memory did not suffice for a prediction: {then}; free some of it or choose a smaller"
            f" checkpoint ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
        )

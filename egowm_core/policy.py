"""What a policy is, and what becomes of one that acts inside a world model and sees predicted frames alone.

A policy is anything that maps a picture, and perhaps a goal picture, to an action. ``drive`` lets one act in any world
that answers actions with pictures; ``ImaginedWorlds`` is such a world made of a model's predictions, from recorded
first frames, as Vid2World evaluates policies (arXiv:2505.14357). Knows no simulator, no task and no verifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from egowm_core.data.state import integrate_state
from egowm_core.embodiment import Embodiment
from egowm_core.errors import EmbodimentError, RolloutError
from egowm_core.types import FloatArray, Frames, ImageArray
from egowm_core.world_model import WorldModel


class Policy(Protocol):
    """Decides what to do next from what it sees now; it keeps nothing between calls.

    ``frame`` and ``goal`` are (H,W,3) uint8 RGB as the model sees them, the result an action (D,) in the embodiment's
    units. Whatever is random comes from ``generator``, so that equal seeds act alike in every world.
    """

    def __call__(self, frame: ImageArray, goal: ImageArray | None, generator: np.random.Generator) -> FloatArray: ...


Actuator = Callable[[FloatArray], FloatArray]
"""What a robot makes of an action (D,) that was asked for: the action (D,) it carries out. May remember its speed."""


class Worlds(Protocol):
    """B episodes that go on together, tick by tick."""

    @property
    def frames(self) -> ImageArray:
        """What each sees now (B,H,W,3) uint8."""

    def step(self, actions: FloatArray) -> ImageArray:
        """Carry out ``actions`` (B,D), one a world; returns what is seen then (B,H,W,3) uint8."""


@dataclass(frozen=True)
class PolicyRun:
    """What a policy saw and did: ``frames`` (1+T,H,W,3), the first frame among them, and ``actions`` (T,D)."""

    frames: ImageArray
    actions: FloatArray


def drive(
    worlds: Worlds,
    policies: Sequence[Policy],
    goals: Sequence[ImageArray | None],
    *,
    ticks: int,
    seeds: Sequence[int | Sequence[int]],
    embodiment: Embodiment,
    actuators: Sequence[Actuator] | None = None,
) -> list[PolicyRun]:
    """Let the b-th policy act for ``ticks`` in the b-th world towards the b-th goal, its chance seeded by ``seeds[b]``.

    The actions of a run are those carried out: what the ``actuators`` made of the policies' wishes, where there are
    some.

    Raises:
        EmbodimentError: a policy's action does not fit the robot.
        RolloutError: not one policy, goal, seed and actuator a world, or no tick.
    """
    frames = [np.array(worlds.frames)]
    count = len(frames[0])
    given = (len(policies), len(goals), len(seeds), count if actuators is None else len(actuators))
    if any(number != count for number in given) or ticks < 1:
        raise RolloutError(
            f"{count} worlds were given {given} policies, goals, seeds and actuators for {ticks} ticks; give one each, "
            "and at least one tick"
        )
    generators = [np.random.default_rng(seed) for seed in seeds]
    done: list[FloatArray] = []
    for _ in range(ticks):
        actions = []
        for number, (policy, goal, generator) in enumerate(zip(policies, goals, generators, strict=True)):
            wanted = _checked(policy(frames[-1][number], goal, generator), embodiment)
            actions.append(wanted if actuators is None else _checked(actuators[number](wanted), embodiment))
        done.append(np.stack(actions))
        frames.append(np.array(worlds.step(done[-1])))
    seen, acted = np.stack(frames, axis=1), np.stack(done, axis=1)
    return [PolicyRun(seen[b], acted[b]) for b in range(count)]


def _checked(action: FloatArray, embodiment: Embodiment) -> FloatArray:
    values = np.asarray(action, np.float32)
    if values.shape != (embodiment.action_dim,):
        raise EmbodimentError(
            f"a policy answered an action of shape {values.shape}; {embodiment.name} takes ({embodiment.action_dim},):"
            f" {', '.join(embodiment.channel_names)}"
        )
    return np.asarray(embodiment.validate_actions(values[None])[0], np.float32)


class ImaginedWorlds:
    """B worlds that exist in a model's predictions only, from ``contexts`` (B,>=K,H,W,3) on.

    A model of whole chunks can't be asked for one frame after another. So within a chunk every tick is predicted anew
    from the chunk's true beginning, with all actions so far and standing still for the rest; the frame of that tick is
    what is seen. When a chunk is full, the next begins at its last frames. A causal model goes on from frame to frame.

    Args:
        states: (B,S) in units at the last context frame, for models that are conditioned on them.
        seed: of the predictions' noise.
        batch_size: how many worlds are predicted at once.

    Raises:
        RolloutError: contexts that do not fit the model.
    """

    def __init__(
        self,
        model: WorldModel,
        contexts: ImageArray,
        *,
        states: FloatArray | None = None,
        seed: int = 0,
        num_denoising_steps: int | None = None,
        batch_size: int = 8,
    ) -> None:
        if contexts.ndim != 5 or contexts.shape[1] < model.context_frames or not len(contexts) or batch_size < 1:
            raise RolloutError(
                f"contexts are (B,T,H,W,3) with B >= 1 and T >= {model.context_frames}, got {contexts.shape}, in "
                f"batches of at least 1, got {batch_size}"
            )
        self._model, self._seed, self._num_denoising_steps = model, seed, num_denoising_steps
        self._batch_size = batch_size
        self._contexts = np.array(contexts[:, -model.context_frames :])
        self._states = states
        self._actions: list[FloatArray] = []  # of this chunk, (B,D) each
        self._frames = self._contexts[:, -1]
        self._streams: list[_Stream] = []
        if model.causal and model.vae.temporal_factor == 1:
            self._streams = [
                _Stream(model, context, None if states is None else states[b], seed + b, num_denoising_steps)
                for b, context in enumerate(self._contexts)
            ]

    @property
    def frames(self) -> ImageArray:
        """What each world shows now (B,H,W,3)."""
        return self._frames

    def step(self, actions: FloatArray) -> ImageArray:
        """Imagine one tick on by ``actions`` (B,D) in units; returns what is then seen (B,H,W,3).

        Raises:
            RolloutError: not one action a world.
            EmbodimentError: actions that do not fit the robot.
        """
        if actions.shape != (len(self._contexts), self._model.embodiment.action_dim):
            raise RolloutError(
                f"{len(self._contexts)} worlds take actions of shape "
                f"({len(self._contexts)}, {self._model.embodiment.action_dim}), got {actions.shape}"
            )
        moves = self._model.embodiment.validate_actions(actions)
        if self._streams:
            self._frames = np.stack([stream.next(move) for stream, move in zip(self._streams, moves, strict=True)])
            return self._frames
        self._actions.append(moves)
        predicted = self._predict(np.stack(self._actions, axis=1))
        self._frames = predicted[:, -1]
        if len(self._actions) == self._model.horizon:
            self._go_on(predicted)
        return self._frames

    def _predict(self, actions: FloatArray) -> ImageArray:
        parts = []
        for start in range(0, len(actions), self._batch_size):
            part = slice(start, start + self._batch_size)
            parts.append(
                self._model.predict(
                    self._contexts[part],
                    actions[part],
                    state=None if self._states is None else self._states[part],
                    seed=self._seed + start,
                    num_denoising_steps=self._num_denoising_steps,
                ).images
            )
        return np.concatenate(parts)

    def _go_on(self, predicted: ImageArray) -> None:
        """The chunk is full: its last frames are the next one's context."""
        kept = np.concatenate([self._contexts, predicted], axis=1)
        if self._states is not None:
            self._states = integrate_state(self._states, np.stack(self._actions, axis=1), self._model.embodiment)
        self._contexts = kept[:, -self._model.context_frames :]
        self._actions = []
        self._seed += len(kept)


@dataclass
class _Stream:
    """One world of a causal model: gives each action to its stream when the frame that it leads to is asked for."""

    model: WorldModel
    context: ImageArray
    state: FloatArray | None
    seed: int
    num_denoising_steps: int | None
    _following: list[FloatArray] = field(default_factory=list)

    def __post_init__(self) -> None:
        stamps_ns = np.arange(len(self.context), dtype=np.int64) * self.model.embodiment.period_ns
        self._rollouts = self.model.stream(
            Frames(self.context, stamps_ns),
            self._source(),
            state=self.state,
            seed=self.seed,
            num_denoising_steps=self.num_denoising_steps,
            cache=self.model.denoiser.can_cache,
        )

    def _source(self) -> Iterator[FloatArray]:
        while True:
            yield self._following.pop()

    def next(self, action: FloatArray) -> ImageArray:
        self._following.append(action)
        return np.asarray(next(self._rollouts).frames.images[-1])

"""A world model's rollout as work that announces its stages: encode, denoise, decode.

What is timed is the public ``WorldModel.predict``, with all that it does (several chunks, streams, compensated
contexts): the stages are announced by wrapping, for the time of one run, the public methods of its two parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.bench.timing import Mark, Work
from egowm_core.latent_rollout import SamplingPlan
from egowm_core.types import FloatArray
from egowm_core.world_model import WorldModel

_ENTRIES = {
    "encode": ("vae", ("encode",)),
    "denoise": ("denoiser", ("denoise", "start_stream", "denoise_next", "commit")),
    "decode": ("vae", ("decode", "decode_next")),
}


@dataclass(frozen=True)
class RolloutInputs:
    """What a rollout is given; made up, since its values change no time."""

    context: NDArray[np.uint8]  # (1,K,H,W,3)
    actions: FloatArray  # (1,T,D)
    state: FloatArray | None  # (1,S)

    @classmethod
    def made_up(cls, model: WorldModel, *, horizon: int, seed: int = 0) -> RolloutInputs:
        """For ``horizon`` frames of this model: noise pictures, actions in the inner half of their limits."""
        camera = model.embodiment.camera()
        rng = np.random.default_rng(seed)
        context = rng.integers(0, 255, (1, model.context_frames, camera.height, camera.width, 3), dtype=np.uint8)
        low, high = 0.5 * model.embodiment.limits.T
        actions = rng.uniform(low, high, size=(1, horizon, model.embodiment.action_dim)).astype(np.float32)
        states = len(model.embodiment.states)
        return cls(context, actions, np.zeros((1, states), np.float32) if states else None)


def rollout_work(model: WorldModel, inputs: RolloutInputs, plan: SamplingPlan) -> Work:
    """One prediction sampled by ``plan``, its pictures copied to the CPU."""

    def work(mark: Mark) -> None:
        mark("encode")
        with announcing(model, mark):
            model.predict(inputs.context, inputs.actions, state=inputs.state, plan=plan)

    return work


@contextmanager
def announcing(model: WorldModel, mark: Mark) -> Iterator[None]:
    """Within this context, ``mark`` is called with the stage where the model's parts are entered."""
    wrapped: list[tuple[Any, str]] = []
    try:
        for stage, (part_name, methods) in _ENTRIES.items():
            part = getattr(model, part_name)
            for name in methods:
                if (method := getattr(part, name, None)) is not None:
                    setattr(part, name, _announced(method, stage, mark))
                    wrapped.append((part, name))
        yield
    finally:
        for part, name in wrapped:
            delattr(part, name)  # the class's own method shows again


def _announced(method: Callable[..., Any], stage: str, mark: Mark) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        mark(stage)
        return method(*args, **kwargs)

    return call

"""Clips of recordings that a model was not trained on, to be evaluated on. Knows no metric and no prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.normalize import normalize
from egowm_core.errors import DataError
from egowm_core.scs import choose_ids, masks_of
from egowm_core.types import FloatArray, ImageArray
from egowm_core.world_model import WorldModel
from training.dataset.reader import Dataset, Episode


@dataclass(frozen=True)
class EvaluationClip:
    """One clip: ``context`` (K,H,W,3), ``observed`` (T,H,W,3), ``actions`` (T,D) in units.

    ``masks`` (N,1+T,H,W) of the truth, and ``state`` (S,) in units at the last context frame, where there are any.
    """

    context: ImageArray
    observed: ImageArray
    actions: FloatArray
    masks: NDArray[np.bool_] | None = None
    state: FloatArray | None = None
    name: str = ""


def choose_clips(
    dataset: Path,
    model: WorldModel,
    *,
    count: int,
    horizon: int,
    min_motion: float,
    seed: int,
    context: int | None = None,
) -> list[EvaluationClip]:
    """``count`` clips drawn evenly over the episodes, each moving at least ``min_motion`` (channel scales a chunk).

    ``context`` frames come with each (the model's own number unless given).

    Raises:
        DataError: not a dataset, or fewer such clips than asked for.
        EmbodimentError: a dataset of another robot.
    """
    context = context or model.context_frames
    data = Dataset(dataset)
    data.embodiment.require_same(model.embodiment)
    rng = np.random.default_rng(seed)
    episodes = data.episodes
    pools = []
    for episode in episodes:
        moved = np.abs(normalize(episode.actions, model.embodiment)).sum(axis=1)
        starts = [
            int(start)
            for start in episode.windows(context, horizon)
            if moved[start + context - 1 :][:horizon].sum() >= min_motion * horizon / 8
        ]
        pools.append(list(rng.permutation(starts)))
    clips: list[EvaluationClip] = []
    while len(clips) < count and any(pools):
        for episode, pool in zip(episodes, pools, strict=True):
            if pool and len(clips) < count:
                clips.append(_clip(episode, int(pool.pop()), context, horizon, stateful=bool(data.embodiment.states)))
    if len(clips) < count:
        raise DataError(
            f"{dataset}: {len(clips)} clips move enough, {count} were asked for; lower --clips or record more"
        )
    return clips


def _clip(episode: Episode, start: int, context: int, horizon: int, *, stateful: bool) -> EvaluationClip:
    sample = episode.sample(start, context=context, horizon=horizon)
    now = start + context - 1
    masks = None
    if (labels := episode.labels(now, now + 1 + horizon)) is not None:
        static = {int(key) for key, value in (episode.structures or {}).items() if value.get("static", True)}
        masks = masks_of(labels, choose_ids(labels[0], allowed=static))
    state = episode.states[now] if stateful else None
    name = f"episode {episode.index} from frame {now}"
    return EvaluationClip(sample.context_images, sample.future_images, sample.actions, masks, state, name)


def of_another_room(clips: list[EvaluationClip], start: int, count: int) -> list[EvaluationClip]:
    """For the clips from ``start`` on, others whose actions are wrong for them."""
    return [clips[(start + i + len(clips) // 2) % len(clips)] for i in range(count)]

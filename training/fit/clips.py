"""Clips for training: context, actions, state and future drawn from a converted dataset.

Actions and states are held in memory, frames are decoded window by window when asked for. Knows no model and no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egowm_core.data.normalize import normalize
from egowm_core.data.state import normalize_state
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from egowm_core.types import FloatArray, ImageArray
from training.dataset.reader import Dataset, Episode


@dataclass(frozen=True)
class ClipBatch:
    """Some clips of one dataset, B of them.

    ``images`` (B,N,H,W,3) uint8, as many frames of each as were asked for; ``actions`` (B,T,D) and ``state`` (B,S) at
    the last context frame, both normalised; ``frame_index`` (B,K+T) into the frames of all episodes. ``state`` is None
    where the embodiment has none.
    """

    images: Tensor
    actions: Tensor
    state: Tensor | None
    frame_index: NDArray[np.int64]


class ClipDataset:
    """All clips of ``context`` + ``horizon`` frames in some episodes of a dataset. Picklable, for workers."""

    def __init__(self, episodes: Sequence[Episode], embodiment: Embodiment, *, context: int, horizon: int) -> None:
        """Raises DataError when no episode is long enough, EmbodimentError when its columns do not fit the robot."""
        self.embodiment = embodiment
        self.context, self.horizon = context, horizon
        self.episodes = list(episodes)
        lengths = np.array([len(episode) for episode in self.episodes], dtype=np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        starts = [episode.windows(context, horizon) for episode in self.episodes]
        self.index = np.array([(e, s) for e, items in enumerate(starts) for s in items], dtype=np.int64).reshape(-1, 2)
        if len(self.index) == 0:
            raise DataError(
                f"none of {len(self.episodes)} episodes has the {context + horizon} frames that a clip needs (the "
                f"longest has {lengths.max(initial=0)}); record longer, convert with a lower --min-length, or set a "
                "shorter denoiser.horizon"
            )
        self.actions = [normalize(episode.actions, embodiment) for episode in self.episodes]
        self.states: list[FloatArray] | None = None
        if embodiment.states:
            self.states = [normalize_state(episode.states, embodiment) for episode in self.episodes]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def num_frames(self) -> int:
        """Frames over all episodes."""
        return int(self.offsets[-1])

    def motion(self) -> NDArray[np.float64]:
        """How much each clip moves: the sum of |normalised action| over its chunk, (number of clips,)."""
        sums = [np.concatenate([[0.0], np.abs(actions).sum(axis=1).cumsum()]) for actions in self.actions]
        first = self.index[:, 1] + self.context - 1
        return np.array([sums[e][f + self.horizon] - sums[e][f] for e, f in zip(self.index[:, 0], first, strict=True)])

    def images(self, number: int, count: int | None = None) -> ImageArray:
        """The first ``count`` frames (all unless given) of clip ``number``, (count,H,W,3) uint8, decoded now."""
        episode, start = self.index[number]
        length = self.context + self.horizon if count is None else count
        frames: ImageArray = self.episodes[episode].frames(int(start), int(start) + length)
        return frames

    def batch(self, numbers: NDArray[np.int64], *, images: int | None = None) -> ClipBatch:
        """The clips ``numbers``, with the first ``images`` frames of each (all unless given; 0 decodes none)."""
        length = self.context + self.horizon
        count = length if images is None else images
        rows = self.index[numbers]
        camera = self.embodiment.camera()
        pictures = np.zeros((len(rows), count, camera.height, camera.width, 3), np.uint8)
        for row, number in enumerate(numbers if count else ()):
            pictures[row] = self.images(int(number), count)
        first = rows[:, 1] + self.context - 1
        actions = [self.actions[e][f : f + self.horizon] for e, f in zip(rows[:, 0], first, strict=True)]
        state = None
        if self.states is not None:
            state = torch.from_numpy(np.stack([self.states[e][f] for e, f in zip(rows[:, 0], first, strict=True)]))
        return ClipBatch(
            torch.from_numpy(pictures),
            torch.from_numpy(np.stack(actions)),
            state,
            (self.offsets[rows[:, 0]] + rows[:, 1])[:, None] + np.arange(length),
        )


def open_dataset(
    dataset: Dataset | Path, *, context: int, horizon: int, held_out: int
) -> tuple[ClipDataset, ClipDataset]:
    """Training and validation clips; the last ``held_out`` episodes are for validation (0: training's again).

    Raises:
        DataError: not a dataset, or too few or too short episodes.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    count = len(dataset.episodes)
    if count <= held_out:
        raise DataError(
            f"{dataset.path}: {count} episodes, of which {held_out} are held out; convert more recordings or lower "
            "validation_episodes"
        )
    clips = []
    for episodes in (dataset.episodes[: count - held_out], dataset.episodes[count - held_out :]):
        if episodes:
            try:
                clips.append(ClipDataset(episodes, dataset.embodiment, context=context, horizon=horizon))
            except DataError as error:
                raise DataError(f"{dataset.path}: {'held-out episodes: ' if clips else ''}{error}") from error
    return clips[0], clips[-1]

"""Clips for training: context, actions and future drawn from a converted dataset, by (seed, step).

Frames stay on disk (memory-mapped); which clips a step sees depends on nothing but the seed and the step number, so an
interrupted run goes on exactly where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egowm_core.data.episode import Episode, list_episodes
from egowm_core.data.normalize import normalize
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import DataError


@dataclass(frozen=True)
class ClipBatch:
    """``images`` (B,K+T,H,W,3) uint8, ``actions`` (B,T,D) normalised; ``frame_index`` (B,K+T) into the dataset."""

    images: Tensor
    actions: Tensor
    frame_index: Tensor


class ClipDataset:
    """All clips of ``context`` + ``horizon`` frames in the episodes of a dataset directory."""

    def __init__(self, episodes: list[Episode], embodiment: Embodiment, *, context: int, horizon: int) -> None:
        self.embodiment = embodiment
        self.context, self.horizon = context, horizon
        self.episodes = episodes
        lengths = np.array([len(episode) for episode in episodes], dtype=np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        starts = [np.asarray(episode.windows(context, horizon)) for episode in episodes]
        self.index = np.array([(e, s) for e, items in enumerate(starts) for s in items], dtype=np.int64).reshape(-1, 2)
        if len(self.index) == 0:
            raise DataError(
                f"no episode has the {context + horizon} frames that a clip needs; record longer or convert with a "
                "lower --min-length"
            )
        self.actions = [normalize(episode.actions, embodiment) for episode in episodes]

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

    def clip(
        self, number: int, *, images: bool = True
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        """Images (K+T,H,W,3), normalised actions (T,D) and frame indices (K+T,) of clip ``number``."""
        e, start = self.index[number]
        length = self.context + self.horizon
        first = start + self.context - 1
        end = start + length if images else start
        pictures = np.asarray(self.episodes[e].frames[start:end])
        frame_index = self.offsets[e] + np.arange(start, start + length)
        return pictures, self.actions[e][first : first + self.horizon], frame_index

    def batch(self, numbers: NDArray[np.int64], *, images: bool = True) -> ClipBatch:
        """The clips ``numbers``, stacked; without ``images`` the pictures are left on disk (their array is empty)."""
        images_of, actions, frame_index = zip(*(self.clip(int(n), images=images) for n in numbers), strict=True)
        return ClipBatch(
            torch.from_numpy(np.stack(images_of)),
            torch.from_numpy(np.stack(actions)),
            torch.from_numpy(np.stack(frame_index)),
        )

    def all_frames(self) -> list[NDArray[np.uint8]]:
        """Frames (T,H,W,3) of each episode, memory-mapped."""
        return [episode.frames for episode in self.episodes]


def open_dataset(directory: Path, *, context: int, horizon: int, held_out: int) -> tuple[ClipDataset, ClipDataset]:
    """Training and validation clips; the last ``held_out`` episodes are for validation.

    Raises:
        DataError: not a dataset, or too few episodes.
    """
    paths = list_episodes(directory)
    if len(paths) <= held_out:
        raise DataError(
            f"{directory}: {len(paths)} episodes, of which {held_out} are held out; convert more recordings"
        )
    embodiment = load_embodiment(directory / "embodiment.yaml")
    episodes = [Episode(path) for path in paths]
    split = len(episodes) - held_out
    training = ClipDataset(episodes[:split], embodiment, context=context, horizon=horizon)
    validation = ClipDataset(episodes[split:], embodiment, context=context, horizon=horizon) if held_out else training
    return training, validation

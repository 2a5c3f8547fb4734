"""The datasets of a run, each with its weight: one, or several of different robots that share a backbone.

A batch comes from one dataset, chosen by (seed, step). Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.normalize import NormStats
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from training.config import DatasetEntry
from training.dataset.reader import Dataset
from training.fit.clips import ClipDataset, open_dataset

_STILL = 0.2  # how often still clips are drawn, against 1


@dataclass(frozen=True)
class Source:
    """One dataset of a run; ``name`` is its embodiment's."""

    dataset: Dataset
    weight: float
    training: ClipDataset
    validation: ClipDataset

    @property
    def name(self) -> str:
        return self.dataset.embodiment.name

    @property
    def embodiment(self) -> Embodiment:
        return self.dataset.embodiment


@dataclass(frozen=True)
class Mixture:
    """All datasets of a run, in the order of the configuration."""

    sources: tuple[Source, ...]

    @property
    def embodiments(self) -> dict[str, Embodiment]:
        """By name, in the order of their first datasets."""
        return {name: self.of(name)[0].embodiment for name in self.names}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the embodiments, in the order of their first datasets."""
        return tuple(dict.fromkeys(source.name for source in self.sources))

    @property
    def labelled(self) -> dict[str, Source]:
        """The sources by labels for files: nothing for an only one, else its robot's name, numbered if repeated."""
        if len(self.sources) == 1:
            return {"": self.sources[0]}
        labels: dict[str, Source] = {}
        for source in self.sources:
            count = sum(other.name == source.name for other in labels.values())
            labels[f"{source.name}_{count + 1}" if count else source.name] = source
        return labels

    def of(self, name: str) -> tuple[Source, ...]:
        """The datasets of an embodiment."""
        return tuple(source for source in self.sources if source.name == name)

    @cached_property
    def likelihood(self) -> NDArray[np.float64]:
        """How likely a batch comes from each source."""
        weights = np.array([source.weight for source in self.sources], np.float64)
        return np.asarray(weights / weights.sum())

    def choose(self, key: Sequence[int]) -> int:
        """Which source a batch comes from; a function of ``key`` alone."""
        if len(self.sources) == 1:
            return 0
        return int(np.random.default_rng(list(key)).choice(len(self.sources), p=self.likelihood))

    def norm_stats(self, name: str) -> NormStats:
        """Action statistics of an embodiment, over all of its datasets."""
        sources = self.of(name)
        if len(sources) == 1:
            return sources[0].dataset.norm_stats
        actions = [episode.actions for source in sources for episode in source.dataset.episodes]
        return NormStats.from_actions(np.concatenate(actions), sources[0].embodiment.channel_names)


def open_mixture(entries: Sequence[DatasetEntry], *, context: int, horizon: int, held_out: int) -> Mixture:
    """Open the datasets of a run and see that they go together.

    Raises:
        DataError: not a dataset, or too few or too short episodes.
        ConfigError: cameras of different sizes, or two robots of one name.
    """
    sources: list[Source] = []
    for entry in entries:
        dataset = Dataset(Path(entry.path))
        training, validation = open_dataset(dataset, context=context, horizon=horizon, held_out=held_out)
        sources.append(Source(dataset, entry.weight, training, validation))
    _check_together(sources)
    return Mixture(tuple(sources))


def clip_likelihood(data: ClipDataset, min_motion: float) -> NDArray[np.float64]:
    """Clips are drawn alike, but the still ones a fifth as often."""
    weight = np.where(data.motion() < min_motion, _STILL, 1.0)
    return np.asarray(weight / weight.sum())


def _check_together(sources: Sequence[Source]) -> None:
    first = sources[0]
    for source in sources:
        if Path(source.name).name != source.name:
            raise ConfigError(f"{source.dataset.path}: a robot called {source.name!r} cannot name a file; rename it")
    size = (first.embodiment.camera().height, first.embodiment.camera().width)
    for source in sources[1:]:
        camera = source.embodiment.camera()
        if (camera.height, camera.width) != size:
            raise ConfigError(
                f"datasets: {first.dataset.path} has frames of {size[0]} x {size[1]} pixels, {source.dataset.path} of "
                f"{camera.height} x {camera.width}; one backbone takes one size, so convert them alike"
            )
        twin = next(other for other in sources if other.name == source.name)
        if differences := twin.embodiment.differences(source.embodiment):
            raise ConfigError(
                f"datasets: {twin.dataset.path} and {source.dataset.path} are both of {source.name!r}, but "
                f"{differences[0]}; convert them with one embodiment, or name the robots apart"
            )

"""Small datasets written straight from ticks, and frames that show their own number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egowm_core.data.ticks import Tick
from egowm_core.embodiment import Embodiment, load_embodiment
from training.dataset.episode_writer import EpisodeWriter
from training.dataset.layout import DATASET_VERSION, ENTRIES, SETTINGS
from training.dataset.video import VideoCodec
from training.dataset.writer import task_index, write_meta, write_recording

HEIGHT, WIDTH = 32, 48
BITS = 12
START_NS = 1_700_000_000_123_456_789
STRUCTURES = {"1": {"name": "wall", "static": True}, "2": {"name": "cart", "static": False}}


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A picture (H,W,3) of ``number`` in bars, over colours that change from frame to frame."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = (number * 37) % 200
    frame[height // 2 :, :, 1] = np.arange(width) * 5 % 256
    bar = width // BITS
    for bit in range(BITS):
        frame[: height // 2, bit * bar : (bit + 1) * bar] = 235 if number >> bit & 1 else 20
    return frame


def number_of(frame: NDArray[np.uint8]) -> int:
    """The number that a picture shows."""
    bar = frame.shape[1] // BITS
    means = [frame[: frame.shape[0] // 2, bit * bar : (bit + 1) * bar].mean() for bit in range(BITS)]
    return sum(int(mean > 128) << bit for bit, mean in enumerate(means))


@dataclass(frozen=True)
class Made:
    """What went into an episode."""

    frames: NDArray[np.uint8]
    stamps_ns: NDArray[np.int64]
    actions: NDArray[np.float32]
    states: NDArray[np.float32]
    labels: NDArray[np.uint16] | None


def robot(rate_hz: float = 4.0, name: str = "base_3dof") -> Embodiment:
    """A built-in robot with a tiny camera."""
    embodiment = load_embodiment(name)
    camera = replace(embodiment.camera(), height=HEIGHT, width=WIDTH)
    return replace(embodiment.with_rate(rate_hz), cameras=(camera,))


def make(length: int, embodiment: Embodiment, *, first: int, truth: bool = False, states: int = 3) -> Made:
    """An episode of frames that show ``first``, ``first`` + 1, ..."""
    rng = np.random.default_rng(first)
    low, high = embodiment.limits.T
    jitter = rng.integers(-20_000_000, 20_000_000, length)
    return Made(
        np.stack([numbered(first + i) for i in range(length)]),
        START_NS + first * 10**9 + np.arange(length, dtype=np.int64) * embodiment.period_ns + jitter // 100,
        rng.uniform(low, high, (length - 1, embodiment.action_dim)).astype(np.float32),
        rng.normal(size=(length, states)).astype(np.float32),
        rng.integers(0, 3, (length, HEIGHT, WIDTH)).astype(np.uint16) if truth else None,
    )


def stage(directory: Path, made: Made, embodiment: Embodiment, codec: VideoCodec) -> Path:
    """Write an episode as the converter does."""
    writer = EpisodeWriter(directory, embodiment=embodiment, codec=codec)
    for i, frame in enumerate(made.frames):
        action = made.actions[i - 1] if i else None
        labels = None if made.labels is None else made.labels[i]
        writer.add(Tick(int(made.stamps_ns[i]), frame, action, made.states[i]), labels)
    writer.finish(STRUCTURES if made.labels is not None else None)
    return directory


def build(
    root: Path,
    *,
    lengths: Sequence[Sequence[int]] = ((9, 2, 20), (17,)),
    tasks: Sequence[str] = ("drive", "turn"),
    embodiment: Embodiment | None = None,
    codec: VideoCodec | None = None,
    truth: bool = False,
    states: int = 3,
) -> list[Made]:
    """A dataset of ``lengths[recording][episode]`` frames; returns what went into its episodes."""
    embodiment, codec = embodiment or robot(), codec or VideoCodec()
    rows: list[dict[str, object]] = []
    episodes: list[Made] = []
    (root / ENTRIES).mkdir(parents=True)
    for number, (group, task) in enumerate(zip(lengths, tasks, strict=True)):
        staged = []
        for i, length in enumerate(group):
            first = sum(len(made.frames) for made in episodes)
            episodes.append(make(length, embodiment, first=first, truth=truth and number == 0, states=states))
            staged.append(stage(root / ".staging" / f"{number}_{i}", episodes[-1], embodiment, codec))
        first_frame = sum(len(made.frames) for made in episodes[: len(rows)])
        new = write_recording(
            root,
            file_index=number,
            first_episode=len(rows),
            first_frame=first_frame,
            staged=staged,
            embodiment=embodiment,
            task=task,
            task_index=task_index(task, rows),
        )
        entry = {"recording": f"drive_{number}", "episodes": len(new), "first_episode": len(rows)}
        (root / ENTRIES / f"{number:06d}.json").write_text(json.dumps(entry))
        rows += json.loads(json.dumps(new))  # as they come back from the disk
    (root / SETTINGS).write_text(json.dumps({"version": DATASET_VERSION}))
    write_meta(root, rows, embodiment=embodiment, codec=codec)
    return episodes

"""Where everything lies in a dataset directory, and what its columns are called. Names and types only, no reading.

The layout is LeRobot v3.0 (`lerobot.datasets`, Apache-2.0): one data file and one video file hold one recording, whose
number is the file's. Beside it are the embodiment, the action statistics, the simulator's truth and what the converter
reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pyarrow as pa

from egowm_core.data.state import state_names
from egowm_core.embodiment import Embodiment

CODEBASE_VERSION = "v3.0"
DATASET_VERSION = 2  # of what egowm adds
CHUNK_SIZE = 1000  # files a folder
EPISODES_PER_FILE = 10_000  # rows of a file of meta/episodes: far below the format's 100 MB

INFO, STATS, TASKS, EPISODES = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/episodes"
EMBODIMENT, NORM_STATS = "embodiment.yaml", "norm_stats.json"
SETTINGS, ENTRIES, TRUTH = "egowm/dataset.json", "egowm/recordings", "truth"

_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{_FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{_FILE}.mp4"
EPISODES_PATH = f"{EPISODES}/{_FILE}.parquet"

ACTION, STATE, STAMP, DONE = "action", "observation.state", "stamp_ns", "next.done"
INDEX_COLUMNS = ("frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class Place:
    """The number of a file: its folder and its place in there."""

    chunk: int
    file: int

    @classmethod
    def of(cls, number: int) -> Place:
        """Of the ``number``-th file of a kind."""
        return cls(number // CHUNK_SIZE, number % CHUNK_SIZE)

    def data(self) -> str:
        """Its data file, relative to the dataset."""
        return DATA_PATH.format(chunk_index=self.chunk, file_index=self.file)

    def video(self, key: str) -> str:
        """Its video file of the camera ``key``, relative to the dataset."""
        return VIDEO_PATH.format(video_key=key, chunk_index=self.chunk, file_index=self.file)

    def episodes(self) -> str:
        """Its file of meta/episodes, relative to the dataset."""
        return EPISODES_PATH.format(chunk_index=self.chunk, file_index=self.file)


def truth_path(episode: int, suffix: str) -> str:
    """Where the simulator's truth of an episode lies in the dataset: ``.npz`` the labels, ``.json`` the structures."""
    return f"{TRUTH}/episode_{episode:06d}{suffix}"


def image_key(embodiment: Embodiment) -> str:
    """The feature that holds the frames of the embodiment's first camera."""
    return f"observation.images.{embodiment.camera().name.replace('/', '_')}"


def fps(embodiment: Embodiment) -> int | float:
    """The rate as info.json holds it: an int where it is whole, as other readers expect."""
    rate = embodiment.rate_hz
    return int(rate) if rate == int(rate) else rate


def exact_rate(rate_hz: float) -> Fraction:
    """The rate as the ratio that was meant: 29.97 is 2997/100, not the float beside it.

    The ratio differs from the float by less than 1e-10, which is a frame in years.
    """
    return Fraction(rate_hz).limit_denominator(100_000) if math.isfinite(rate_hz) else Fraction(0)


def vector_type(size: int) -> pa.DataType:
    """The column type of a vector feature; the format keeps vectors of one value as plain numbers."""
    return pa.float32() if size == 1 else pa.list_(pa.float32(), size)


def data_schema(embodiment: Embodiment) -> pa.Schema:
    """Columns of a data file."""
    return pa.schema(
        [
            (ACTION, vector_type(embodiment.action_dim)),
            (STATE, vector_type(len(state_names(embodiment)))),
            (STAMP, pa.int64()),
            (DONE, pa.bool_()),
            ("timestamp", pa.float32()),
            *((name, pa.int64()) for name in INDEX_COLUMNS),
        ]
    )


def features(embodiment: Embodiment, video_info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The ``features`` of info.json, in the order of the data columns; ``video_info`` describes the video streams."""
    camera = embodiment.camera()

    def vector(names: tuple[str, ...]) -> dict[str, Any]:
        return {"dtype": "float32", "shape": [len(names)], "names": list(names)}

    def number(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [1], "names": None}

    return {
        image_key(embodiment): {
            "dtype": "video",
            "shape": [camera.height, camera.width, 3],
            "names": ["height", "width", "channels"],
            "info": video_info,
        },
        ACTION: vector(embodiment.channel_names),
        STATE: vector(state_names(embodiment)),
        STAMP: number("int64"),
        DONE: number("bool"),
        "timestamp": number("float32"),
        **{name: number("int64") for name in INDEX_COLUMNS},
    }

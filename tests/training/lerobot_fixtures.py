"""Tiny LeRobot v2.1 datasets, written by the layout alone, whose frames show the number of their row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.training.dataset_fixtures import HEIGHT, WIDTH, numbered
from training.dataset.video import VideoCodec, VideoWriter

FPS = 10
NAMES = ("shoulder", "elbow", "gripper")
CAMERA = "observation.images.head"
DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def data_file(root: Path, episode: int) -> Path:
    """Where the rows of an episode lie."""
    return root / f"data/chunk-000/episode_{episode:06d}.parquet"


def video_file(root: Path, episode: int, camera: str = CAMERA) -> Path:
    """Where its frames lie."""
    return root / f"videos/chunk-000/{camera}/episode_{episode:06d}.mp4"


def state(episode: int, row: int) -> list[float]:
    """What the robot measures there, exact in float32."""
    return [episode + row / 8, -row / 4, row / 64]


def columns(episode: int, length: int) -> dict[str, Any]:
    """The rows of an episode without pictures."""
    rows = range(length)
    return {
        "observation.state": [state(episode, row) for row in rows],
        "action": [[value + 1 for value in state(episode, row)] for row in rows],
        "timestamp": np.array([row / FPS for row in rows], np.float32),
        "frame_index": np.arange(length),
        "episode_index": np.full(length, episode),
        "index": np.arange(length),
        "task_index": np.full(length, episode % 2),
    }


def write_rows(path: Path, values: dict[str, Any]) -> None:
    """A parquet file of columns; lists are fixed in size, as the format has them."""
    arrays = {
        name: pa.array(value, pa.list_(pa.float32(), len(value[0])))
        if isinstance(value, list) and value and isinstance(value[0], list)
        else pa.array(value)
        for name, value in values.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), path)


def write_video(path: Path, numbers: Sequence[int], *, codec: str = "h264", rate_hz: float = FPS) -> None:
    """A video of frames that show these numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, rate_hz=rate_hz, height=HEIGHT, width=WIDTH, codec=VideoCodec(codec)) as writer:
        for number in numbers:
            writer.add(numbered(number))


def png(number: int) -> bytes:
    """A picture that shows its number."""
    return cv2.imencode(".png", numbered(number)[..., ::-1])[1].tobytes()


def edit_info(root: Path, **changes: Any) -> None:
    """Change what meta/info.json says."""
    path = root / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rename(root: Path, names: Any, feature: str = "observation.state") -> None:
    """Give the values of a feature other names."""
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[feature]["names"] = names
    edit_info(root, features=features)


def build_v21(
    root: Path,
    lengths: Sequence[int] = (12, 7, 9),
    *,
    absent: Sequence[int] = (),
    cameras: Sequence[str] = (CAMERA,),
    codec: str = "h264",
    names: Any = (list(NAMES),),
    stored: bool = False,
) -> Path:
    """A dataset of episodes of so many rows; frames show 100 x episode + row. ``stored``: pictures in the table."""
    image = {"dtype": "image" if stored else "video", "shape": [HEIGHT, WIDTH, 3], "names": ["h", "w", "c"]}
    vector = {"dtype": "float32", "shape": [3], "names": list(names)}
    number = {"dtype": "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": "v2.1",
        "fps": FPS,
        "chunks_size": 1000,
        "data_path": DATA,
        "video_path": VIDEO,
        "features": {
            "observation.state": vector,
            "action": vector,
            **dict.fromkeys(cameras, image),
            "timestamp": {**number, "dtype": "float32"},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), number),
        },
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    tasks = [{"task_index": index, "task": text} for index, text in enumerate(("pour", "wipe"))]
    episodes = [{"episode_index": i, "tasks": ["?"], "length": length} for i, length in enumerate(lengths)]
    for name, rows in (("tasks", tasks), ("episodes", episodes)):
        (root / f"meta/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for episode, length in enumerate(lengths):
        if episode in absent:
            continue
        shown = [100 * episode + row for row in range(length)]
        values = columns(episode, length)
        for camera in cameras:
            if stored:
                values[camera] = [{"bytes": png(number), "path": None} for number in shown]
            else:
                write_video(video_file(root, episode, camera), shown, codec=codec)
        write_rows(data_file(root, episode), values)
    return root

"""Finished episodes into a dataset: a data file and a video file per recording, and what meta/ says of all of them.

Files appear whole or not at all; in which order recordings go in, and which are in, is the caller's. Follows LeRobot
v3.0 (`lerobot.datasets`); the same episodes give the same bytes. Knows no recording format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from egowm_core.data.normalize import NormStats
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from egowm_core.files import write_text
from egowm_core.types import FloatArray
from training.dataset.columns import matrix_of, read_table
from training.dataset.episode_writer import LABELS, STRUCTURES, TABLE, VIDEO, EpisodeFacts
from training.dataset.files import beside, copy, write_table
from training.dataset.layout import (
    ACTION,
    CHUNK_SIZE,
    CODEBASE_VERSION,
    DATA_PATH,
    EMBODIMENT,
    EPISODES_PER_FILE,
    INFO,
    NORM_STATS,
    STATE,
    STATS,
    TASKS,
    VIDEO_PATH,
    Place,
    data_schema,
    exact_rate,
    features,
    fps,
    image_key,
    truth_path,
)
from training.dataset.stats import KEYS, aggregate, feature_stats
from training.dataset.video import VideoCodec, concatenate

Row = dict[str, Any]
"""One episode of meta/episodes: column name to a plain JSON value."""

_PANDAS_INDEX = {  # makes `task` the index for pandas, as other readers of the format expect
    "index_columns": ["task"],
    "column_indexes": [
        {
            "name": None,
            "field_name": None,
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": {"encoding": "UTF-8"},
        }
    ],
    "columns": [
        {
            "name": "task_index",
            "field_name": "task_index",
            "pandas_type": "int64",
            "numpy_type": "int64",
            "metadata": None,
        },
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
    ],
    "pandas_version": "2.0.0",
}


def task_index(task: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """The number of a task in a dataset of ``rows``: tasks are numbered as they first appear."""
    tasks = _tasks(rows)
    return tasks.index(task) if task in tasks else len(tasks)


def write_recording(
    dataset: Path,
    *,
    file_index: int,
    first_episode: int,
    first_frame: int,
    staged: Sequence[Path],
    embodiment: Embodiment,
    task: str,
    task_index: int,
) -> list[Row]:
    """Write the ``file_index``-th data and video file, and the truth, from finished episode directories.

    ``first_episode`` and ``first_frame`` are what the dataset holds before; ``task_index`` numbers the task. What was
    under these numbers before is replaced; the staged directories are left alone. Returns the rows of meta/episodes,
    none (and no files) for no episodes.

    Raises:
        DataError: an episode cannot be read, or its video and table disagree.
    """
    if not staged:
        return []
    place, key, rate = Place.of(file_index), image_key(embodiment), exact_rate(embodiment.rate_hz)
    facts = [EpisodeFacts.load(directory) for directory in staged]
    video = dataset / place.video(key)
    video.parent.mkdir(parents=True, exist_ok=True)
    for directory, known, frames in zip(
        staged, facts, concatenate([directory / VIDEO for directory in staged], video), strict=True
    ):
        if frames != known.length:
            raise DataError(f"{directory / VIDEO} has {frames} frames, expected {known.length}; convert again")
    rows: list[Row] = []
    schema, in_file = data_schema(embodiment), 0
    with beside(dataset / place.data()) as partial, pq.ParquetWriter(partial, schema, compression="snappy") as writer:
        for number, (directory, known) in enumerate(zip(staged, facts, strict=True), first_episode):
            frame = first_frame + in_file
            numbers = {
                "episode_index": np.full(known.length, number, np.int64),
                "index": np.arange(frame, frame + known.length, dtype=np.int64),
                "task_index": np.full(known.length, task_index, np.int64),
            }
            table = read_table(directory / TABLE)
            for name, values in numbers.items():
                table = table.append_column(name, pa.array(values))
            # one row group an episode, which is how a reader finds it
            writer.write_table(table.select(schema.names).cast(schema), row_group_size=known.length)
            stats = known.stats | {name: feature_stats(values) for name, values in numbers.items()}
            rows.append(
                {
                    "episode_index": number,
                    "tasks": [task],
                    "length": known.length,
                    "data/chunk_index": place.chunk,
                    "data/file_index": place.file,
                    "dataset_from_index": frame,
                    "dataset_to_index": frame + known.length,
                    f"videos/{key}/chunk_index": place.chunk,
                    f"videos/{key}/file_index": place.file,
                    f"videos/{key}/from_timestamp": float(in_file / rate),
                    f"videos/{key}/to_timestamp": float((in_file + known.length) / rate),
                    **{f"stats/{name}/{stat}": stats[name][stat] for name in _stats_order(embodiment) for stat in KEYS},
                }
            )
            in_file += known.length
            _write_truth(dataset, number, directory, known)
    return rows


def write_meta(dataset: Path, rows: Sequence[Mapping[str, Any]], *, embodiment: Embodiment, codec: VideoCodec) -> None:
    """Write meta/, the embodiment and the action statistics of a dataset of these episodes, info.json last.

    Reads all actions and states (in memory: 4 bytes a number), so call it when recordings are in, not after each.

    Raises:
        DataError: no rows, rows out of order, or a data file that does not hold them.
    """
    if not rows:
        raise DataError(f"{dataset} would be a dataset of no episodes; convert a recording that gives some")
    frames = 0
    for number, row in enumerate(rows):
        if row["episode_index"] != number or row["dataset_from_index"] != frames:
            raise DataError(
                f"{dataset}: row {number} is episode {row['episode_index']} from frame {row['dataset_from_index']},"
                f" expected {number} from {frames}; convert the recordings again"
            )
        frames = row["dataset_to_index"]
    actions, states = _read_motion(dataset, rows)
    last = np.array([row["dataset_to_index"] - 1 for row in rows])
    known = np.delete(actions, last, axis=0)  # what follows an episode's last frame is not known
    stats = {
        name: aggregate([{key: row[f"stats/{name}/{key}"] for key in KEYS} for row in rows])
        for name in _stats_order(embodiment)
        if name not in (ACTION, STATE)
    }
    stats |= {ACTION: feature_stats(actions), STATE: feature_stats(states)}
    (dataset / STATS).parent.mkdir(parents=True, exist_ok=True)
    write_text(dataset / STATS, _json(stats))
    tasks = _tasks(rows)
    _write_tasks(dataset / TASKS, tasks)
    _write_episodes(dataset, rows, embodiment)
    write_text(dataset / EMBODIMENT, embodiment.to_yaml())
    write_text(dataset / NORM_STATS, NormStats.from_actions(known, embodiment.channel_names).to_json())
    camera = embodiment.camera()
    info = {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": embodiment.name,
        "total_episodes": len(rows),
        "total_frames": frames,
        "total_tasks": len(tasks),
        "chunks_size": CHUNK_SIZE,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps(embodiment),
        "splits": {"train": f"0:{len(rows)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features(embodiment, codec.info(camera.height, camera.width, fps(embodiment))),
    }
    write_text(dataset / INFO, _json(info))


def _stats_order(embodiment: Embodiment) -> list[str]:
    return [image_key(embodiment), *data_schema(embodiment).names]


def _tasks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(task for row in rows for task in row["tasks"]))


def _write_truth(dataset: Path, number: int, directory: Path, facts: EpisodeFacts) -> None:
    for name, suffix in ((LABELS, ".npz"), (STRUCTURES, ".json")):
        target = dataset / truth_path(number, suffix)
        if facts.has_truth:
            copy(directory / name, target)
        else:
            target.unlink(missing_ok=True)


def _write_tasks(path: Path, tasks: Sequence[str]) -> None:
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    write_table(path, table.replace_schema_metadata({"pandas": json.dumps(_PANDAS_INDEX)}))


def _write_episodes(dataset: Path, rows: Sequence[Mapping[str, Any]], embodiment: Embodiment) -> None:
    key = image_key(embodiment)
    stats = [(name, stat) for name in _stats_order(embodiment) for stat in KEYS]
    schema = pa.schema(
        [
            ("episode_index", pa.int64()),
            ("tasks", pa.list_(pa.string())),
            *((name, pa.int64()) for name in ("length", "data/chunk_index", "data/file_index")),
            *((name, pa.int64()) for name in ("dataset_from_index", "dataset_to_index")),
            *((f"videos/{key}/{name}", pa.int64()) for name in ("chunk_index", "file_index")),
            *((f"videos/{key}/{name}", pa.float64()) for name in ("from_timestamp", "to_timestamp")),
            *((f"stats/{name}/{stat}", _stat_type(name == key, stat)) for name, stat in stats),
            *((f"meta/episodes/{name}", pa.int64()) for name in ("chunk_index", "file_index")),
        ]
    )
    for number, start in enumerate(range(0, len(rows), EPISODES_PER_FILE)):
        place = Place.of(number)
        here = {"meta/episodes/chunk_index": place.chunk, "meta/episodes/file_index": place.file}
        part = [{**row, **here} for row in rows[start : start + EPISODES_PER_FILE]]
        write_table(dataset / place.episodes(), pa.Table.from_pylist(part, schema=schema))


def _stat_type(image: bool, stat: str) -> pa.DataType:
    if stat == "count":
        return pa.list_(pa.int64())
    return pa.list_(pa.list_(pa.list_(pa.float64()))) if image else pa.list_(pa.float64())


def _read_motion(dataset: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[FloatArray, FloatArray]:
    """All actions (N,D) and states (N,S), in the order of ``rows``."""
    lengths: dict[Place, int] = {}
    for row in rows:
        place = Place(row["data/chunk_index"], row["data/file_index"])
        lengths[place] = lengths.get(place, 0) + row["length"]
    parts: dict[str, list[FloatArray]] = {ACTION: [], STATE: []}
    for place, length in lengths.items():
        path = dataset / place.data()
        table = read_table(path, [ACTION, STATE])
        if table.num_rows != length:
            raise DataError(f"{path} has {table.num_rows} rows, expected {length}; convert the recordings again")
        for name, found in parts.items():
            found.append(matrix_of(table[name]))
    return np.concatenate(parts[ACTION]), np.concatenate(parts[STATE])


def _json(values: Any) -> str:
    return json.dumps(values, indent=4, ensure_ascii=False)

"""LeRobot v3.0 datasets by the layout alone, with pandas and PyAV: nothing of egowm, so no shared mistakes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pandas as pd

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


@dataclass
class Loaded:
    """A dataset as another program sees it."""

    root: Path
    info: dict
    stats: dict
    tasks: pd.DataFrame
    episodes: pd.DataFrame
    data: pd.DataFrame  # all rows, files in order of name

    @property
    def video_key(self) -> str:
        (key,) = [name for name, feature in self.info["features"].items() if feature["dtype"] == "video"]
        return key

    def rows(self, episode: int) -> pd.DataFrame:
        """The rows of an episode."""
        row = self.episodes.iloc[episode]
        return self.data.iloc[row["dataset_from_index"] : row["dataset_to_index"]]

    def video(self, episode: int) -> Path:
        """The file that holds an episode's frames."""
        row, key = self.episodes.iloc[episode], self.video_key
        return self.root / self.info["video_path"].format(
            video_key=key, chunk_index=row[f"videos/{key}/chunk_index"], file_index=row[f"videos/{key}/file_index"]
        )

    def frames(self, episode: int) -> tuple[list[float], np.ndarray]:
        """Times in the file and pictures of an episode: whatever lies in from_timestamp..to_timestamp."""
        row, key = self.episodes.iloc[episode], self.video_key
        start, stop = row[f"videos/{key}/from_timestamp"], row[f"videos/{key}/to_timestamp"]
        times, pictures = [], []
        with av.open(str(self.video(episode))) as container:
            for frame in container.decode(video=0):
                if start - 1e-6 <= frame.time < stop - 1e-6:
                    times.append(frame.time)
                    pictures.append(frame.to_ndarray(format="rgb24"))
        return times, np.stack(pictures)


def load(root: Path) -> Loaded:
    """Everything but the pictures."""
    return Loaded(
        root,
        json.loads((root / "meta/info.json").read_text()),
        json.loads((root / "meta/stats.json").read_text()),
        pd.read_parquet(root / "meta/tasks.parquet"),
        pd.concat([pd.read_parquet(f) for f in sorted(root.glob("meta/episodes/*/*.parquet"))], ignore_index=True),
        pd.concat([pd.read_parquet(f) for f in sorted(root.glob("data/*/*.parquet"))], ignore_index=True),
    )


def column(rows: pd.DataFrame, name: str) -> np.ndarray:
    """A column as (T,D) float64 or, of plain numbers, (T,1)."""
    return np.array(rows[name].tolist(), np.float64).reshape(len(rows), -1)


def check(root: Path) -> Loaded:
    """Assert what any reader of the format may rely on; returns the dataset."""
    it = load(root)
    info, episodes, data = it.info, it.episodes, it.data
    assert info["codebase_version"] == "v3.0"
    assert (len(episodes), len(data)) == (info["total_episodes"], info["total_frames"])
    assert info["splits"] == {"train": f"0:{len(episodes)}"}
    assert it.tasks.index.name == "task" and it.tasks["task_index"].tolist() == list(range(info["total_tasks"]))
    assert data["index"].tolist() == list(range(len(data)))
    assert sorted(data.columns) == sorted(name for name in info["features"] if name != it.video_key)
    for name, feature in info["features"].items():
        if name != it.video_key and feature["shape"] == [1]:
            assert data[name].dtype == feature["dtype"]
        elif name != it.video_key:
            assert {(len(value), value.dtype) for value in data[name]} == {(feature["shape"][0], np.dtype(np.float32))}
            assert len(feature["names"]) == feature["shape"][0]
    assert episodes["episode_index"].tolist() == list(range(len(episodes)))
    assert episodes["dataset_from_index"].tolist() == [0, *episodes["dataset_to_index"].tolist()[:-1]]
    for number, row in episodes.iterrows():
        _check_episode(it, number, row)
    _check_stats(it)
    return it


def _check_episode(it: Loaded, number: int, row: pd.Series) -> None:
    rows, fps, length = it.rows(number), it.info["fps"], row["length"]
    assert len(rows) == length
    file = it.root / it.info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
    in_file = pd.read_parquet(file)
    assert (in_file["episode_index"] == number).sum() == length
    assert set(rows["episode_index"]) == {number}
    assert rows["frame_index"].tolist() == list(range(length))
    assert np.array_equal(rows["timestamp"].to_numpy(), np.array([i / fps for i in range(length)], np.float32))
    assert rows["next.done"].tolist() == [False] * (length - 1) + [True]
    assert [it.tasks.index[i] for i in rows["task_index"].unique()] == list(row["tasks"])
    times, pictures = it.frames(number)
    expected = row[f"videos/{it.video_key}/from_timestamp"] + rows["timestamp"].to_numpy(np.float64)
    assert len(times) == length and np.abs(np.array(times) - expected).max() < 1e-4  # what LeRobot tolerates
    assert list(pictures.shape[1:]) == it.info["features"][it.video_key]["shape"]
    for name in it.info["features"]:
        kept = {key: row[f"stats/{name}/{key}"] for key in ("min", "max", "mean", "std", "count", *QUANTILES)}
        if name == it.video_key:
            shapes = {np.shape([[list(y) for y in x] for x in value]) for key, value in kept.items() if key != "count"}
            assert shapes == {(3, 1, 1)} and list(kept["count"]) == [length]
            continue
        _same(kept, column(rows, name), quantiles=True)


def _check_stats(it: Loaded) -> None:
    stream = it.info["features"][it.video_key]["info"]
    with av.open(str(it.video(0))) as container:
        video = container.streams.video[0]
        assert (stream["video.codec"], stream["video.pix_fmt"]) == (video.codec.canonical_name, video.pix_fmt)
        assert (stream["video.height"], stream["video.width"]) == (video.height, video.width)
        assert abs(float(video.average_rate) - it.info["fps"]) < 1e-9
    assert stream["has_audio"] is False and stream["is_depth_map"] is False
    assert set(it.stats) == set(it.info["features"])
    for name, kept in it.stats.items():
        if name == it.video_key:
            assert all(np.shape(value) == (3, 1, 1) for key, value in kept.items() if key != "count")
            assert kept["count"] == [len(it.data)]
        else:
            _same(kept, column(it.data, name), quantiles=name in ("action", "observation.state"))


def _same(kept: dict, values: np.ndarray, *, quantiles: bool) -> None:
    found = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    scale = np.maximum(np.abs(values).max(), 1e-9)
    assert list(kept["count"]) == [len(values)]
    for key, value in found.items():
        np.testing.assert_allclose(np.array(kept[key].tolist() if hasattr(kept[key], "tolist") else kept[key]), value,
                                   rtol=1e-9, atol=1e-9 * scale)  # fmt: skip
    for key, q in QUANTILES.items() if quantiles else ():
        np.testing.assert_allclose(np.array(list(kept[key])), np.quantile(values, q, axis=0), rtol=1e-9)

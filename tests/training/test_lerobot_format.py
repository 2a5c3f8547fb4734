"""Datasets read the way other programs read LeRobot v3.0: with pandas and PyAV, see ``lerobot_reader``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training import lerobot_reader
from tests.training.dataset_fixtures import build, number_of, robot
from training.dataset.video import VideoCodec


@pytest.mark.parametrize(
    ("rate_hz", "codec"), [(4.0, "h264"), (3.33, "h264"), (29.97, "h264"), (30.0, "av1"), (10.0, "lossless")]
)
def test_another_reader_finds_what_went_in(rate_hz: float, codec: str, tmp_path: Path) -> None:
    root = tmp_path / "it"
    episodes = build(root, embodiment=robot(rate_hz), codec=VideoCodec(codec), truth=True)
    it = lerobot_reader.check(root)
    assert it.info["fps"] == rate_hz and isinstance(it.info["fps"], int) == rate_hz.is_integer()
    assert it.tasks.index.tolist() == ["drive", "turn"]
    for number, made in enumerate(episodes):
        rows = it.rows(number)
        assert np.array_equal(np.stack(rows["action"])[:-1], made.actions)
        assert np.stack(rows["action"]).dtype == np.float32 and not np.stack(rows["action"])[-1].any()
        assert np.array_equal(np.stack(rows["observation.state"]), made.states)
        assert rows["stamp_ns"].tolist() == made.stamps_ns.tolist()
        _, pictures = it.frames(number)
        assert [number_of(picture) for picture in pictures] == [number_of(frame) for frame in made.frames]


def test_picture_statistics_are_those_of_the_pixels(tmp_path: Path) -> None:
    episodes = build(tmp_path / "it")
    it = lerobot_reader.load(tmp_path / "it")
    pixels = np.concatenate([made.frames for made in episodes]) / 255.0
    kept = it.stats["observation.images.front"]
    for key, value in (("mean", pixels.mean((0, 1, 2))), ("std", pixels.std((0, 1, 2)))):
        np.testing.assert_allclose(np.array(kept[key]).reshape(3), value, rtol=1e-9)
    own = episodes[2].frames / 255.0
    for key, q in lerobot_reader.QUANTILES.items():
        found = it.episodes.iloc[2][f"stats/observation.images.front/{key}"]
        found = [value[0][0] for value in found.tolist()]
        np.testing.assert_allclose(found, np.quantile(own, q, axis=(0, 1, 2)), rtol=1e-9, atol=1e-12)


def test_large_pictures_are_counted_sparsely_as_others_do() -> None:
    from training.dataset.stats import ImageStats

    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    stats = ImageStats()
    stats.add(frame)
    expected = frame[::4, ::4].reshape(-1, 3) / 255.0  # 640 // 150
    np.testing.assert_allclose(np.ravel(stats.stats()["mean"]), expected.mean(0), rtol=1e-9)


def test_columns_have_the_types_that_others_write(tmp_path: Path) -> None:
    """As `datasets` stores LeRobot's features: vectors of fixed size, one row group an episode, snappy."""
    build(tmp_path / "it")
    file = pq.ParquetFile(tmp_path / "it/data/chunk-000/file-000.parquet")
    types = {field.name: field.type for field in file.schema_arrow}
    assert types["action"] == pa.list_(pa.float32(), 3) == types["observation.state"]
    assert (types["timestamp"], types["next.done"], types["stamp_ns"]) == (pa.float32(), pa.bool_(), pa.int64())
    assert {types[name] for name in ("frame_index", "episode_index", "index", "task_index")} == {pa.int64()}
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [9, 2, 20]
    episodes = pq.read_schema(tmp_path / "it/meta/episodes/chunk-000/file-000.parquet")
    assert episodes.field("tasks").type == pa.list_(pa.string())
    assert episodes.field("stats/action/mean").type == pa.list_(pa.float64())
    assert episodes.field("stats/observation.images.front/mean").type == pa.list_(pa.list_(pa.list_(pa.float64())))
    assert {"meta/episodes/chunk_index", "meta/episodes/file_index"} <= set(episodes.names)


def test_info_says_what_lerobot_asks_for(tmp_path: Path) -> None:
    build(tmp_path / "it")
    info = json.loads((tmp_path / "it/meta/info.json").read_text())
    keys = {"codebase_version", "robot_type", "total_episodes", "total_frames", "total_tasks", "chunks_size", "fps"}
    keys |= {"data_files_size_in_mb", "video_files_size_in_mb", "splits", "data_path", "video_path", "features"}
    assert set(info) == keys
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    picture = info["features"]["observation.images.front"]
    assert (picture["shape"], picture["names"]) == ([32, 48, 3], ["height", "width", "channels"])
    assert info["features"]["timestamp"] == {"dtype": "float32", "shape": [1], "names": None}
    assert not any("/" in name for name in info["features"])


def test_nothing_tells_of_the_time_or_the_machine(tmp_path: Path) -> None:
    build(tmp_path / "it")
    for file in (tmp_path / "it").rglob("*"):
        if file.is_file():
            assert str(tmp_path).encode() not in file.read_bytes(), file

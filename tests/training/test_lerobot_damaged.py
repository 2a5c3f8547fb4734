"""Damaged and foreign LeRobot datasets: one line with the file and a remedy, never a picture at the wrong time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from egowm_core.errors import DataError
from tests.training import lerobot_fixtures as sets
from tests.training.dataset_fixtures import build
from tests.training.mutations import mutate
from tests.training.test_lerobot_source import CAMERA, ROBOT_CAMERA, STATE, numbers, values
from training.sources.find import find_sources
from training.sources.lerobot import LeRobotEpisode


def _rows(**changes: object) -> Callable[[Path], None]:
    """Write the rows of episode 0 anew, with other columns; a column of None is left out."""

    def change(root: Path) -> None:
        rows = {name: value for name, value in {**sets.columns(0, 12), **changes}.items() if value is not None}
        sets.write_rows(sets.data_file(root, 0), rows)

    return change


def _lines(name: str, text: str) -> Callable[[Path], None]:
    return lambda root: (root / "meta" / name).write_text(text) and None


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


TIMES = np.array([row / sets.FPS for row in range(12)], np.float32)
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "parquet missing": (lambda r: sets.data_file(r, 0).unlink(), r"episode_000000\.parquet is missing; restore"),
    "parquet cut": (lambda r: _halve(sets.data_file(r, 0)), r"cannot read .*episode_000000\.parquet"),
    "parquet is a pointer": (
        lambda r: sets.data_file(r, 0).write_text("version https://git-lfs.github.com/spec/v1\n"),
        r"Git LFS pointer, .*git lfs pull",
    ),
    "video cut": (lambda r: _halve(sets.video_file(r, 0)), r"cannot read .*episode_000000\.mp4"),
    "video is text": (lambda r: sets.video_file(r, 0).write_text("no video"), r"cannot read .*episode_000000\.mp4"),
    "video too short": (
        lambda r: sets.write_video(sets.video_file(r, 0), range(11)),
        r"episode_000000\.mp4 has 11 frames for 12 rows",
    ),
    "video too long": (lambda r: sets.write_video(sets.video_file(r, 0), range(13)), "13 frames for 12 rows"),
    "video of another rate": (
        lambda r: sets.write_video(sets.video_file(r, 0), range(12), rate_hz=20),
        r"frame at 0\.050000 s belongs to no row; row 1 is at 0\.1",
    ),
    "video of a lower rate": (
        lambda r: sets.write_video(sets.video_file(r, 0), range(12), rate_hz=5),
        r"frame at 0\.200000 s comes next, but row 1 is at 0\.1",
    ),
    "no timestamps": (_rows(timestamp=None), r"no column 'timestamp'"),
    "times that stand still": (_rows(timestamp=np.zeros(12, np.float32)), "timestamp of row 1 of episode 0 is 0.0"),
    "times that are none": (_rows(timestamp=np.where(TIMES[3] == TIMES, np.nan, TIMES)), "timestamp of row 3"),
    "times with holes": (_rows(timestamp=[None, *TIMES[1:].tolist()]), "timestamp has empty values"),
    "rows of another episode": (_rows(episode_index=np.full(12, 7)), "has 0 rows of episode 0, meta/ says 12"),
    "values of another size": (_rows(action=[[1.0, 2.0]] * 12), "action has 24 values in 12 rows"),
    "values that are text": (_rows(action=["left"] * 12), "action is string, expected 3 numbers"),
    "an old version": (lambda r: sets.edit_info(r, codebase_version="v1.6"), "codebase_version 'v1.6', expected v2.0"),
    "no version": (lambda r: sets.edit_info(r, codebase_version=None), "codebase_version None"),
    "no JSON": (_lines("info.json", "{"), r"cannot read .*info\.json"),
    "a list": (_lines("info.json", "[]"), "codebase_version None"),
    "no rate": (lambda r: sets.edit_info(r, fps=0), r"info\.json: fps is '0\.0', expected"),
    "features as text": (lambda r: sets.edit_info(r, features="all"), "features is 'str', expected"),
    "out of the dataset": (
        lambda r: sets.edit_info(r, data_path="a/../../other/{episode_index}.parquet"),
        "expected a path inside the dataset",
    ),
    "a template with code": (
        lambda r: sets.edit_info(r, data_path="{episode_index.__class__}.parquet"),
        "expected a path inside",
    ),
    "a huge template": (lambda r: sets.edit_info(r, data_path="{episode_index:0999999999d}"), "expected a path inside"),
    "episodes of text": (_lines("episodes.jsonl", "episode 0\n"), r"episodes\.jsonl: line 1"),
    "episodes without length": (_lines("episodes.jsonl", '{"episode_index": 0}\n'), "length is None, expected"),
    "no such episode": (_lines("episodes.jsonl", '{"episode_index": 4, "length": 3}\n'), "no episode 0; meta/ lists 4"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_is_told_in_one_line_with_the_file(tmp_path, name):
    root = sets.build_v21(tmp_path / "arm", (12,))
    damage, message = DAMAGE[name]
    damage(root)
    with pytest.raises(DataError, match=message) as caught, LeRobotEpisode(root, 0) as recording:
        list(recording.read([STATE, "action", CAMERA]))
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_damaged_datasets_are_read_or_refused_in_one_line(tmp_path):
    rng = np.random.default_rng(4)
    originals = [sets.build_v21(tmp_path / "arm", (12, 5)), sets.build_v21(tmp_path / "stored", (6,), stored=True)]
    originals.append(tmp_path / "room")
    build(tmp_path / "room", lengths=((9, 12),), tasks=("drive",))
    outcomes = []
    for number in range(120):
        original, copy = originals[number % 3], tmp_path / "damaged"
        shutil.copytree(original, copy)
        files = sorted(file for file in original.rglob("*") if file.is_file())
        file = files[int(rng.integers(len(files)))]
        mutate(file, copy / file.relative_to(original), rng)
        try:
            for source in find_sources([copy]):
                with source.open() as recording:
                    numbers(list(recording.read(list(recording.topics))))
            outcomes.append("read")
        except DataError as error:
            assert "\n" not in str(error)
            outcomes.append("refused")
        shutil.rmtree(copy)
    assert min(outcomes.count("read"), outcomes.count("refused")) > 20


def test_a_v3_dataset_whose_meta_lacks_a_column_is_refused(tmp_path):
    build(tmp_path / "room")
    (file,) = (tmp_path / "room/meta/episodes").glob("*/*.parquet")
    pq.write_table(pq.read_table(file).drop_columns([f"videos/{ROBOT_CAMERA}/from_timestamp"]), file)
    with (
        pytest.raises(DataError, match=r"has no column .videos/.*from_timestamp"),
        LeRobotEpisode(tmp_path / "room", 0),
    ):
        pass


def test_a_v3_episode_that_claims_more_of_the_video_than_it_has_rows_is_refused(tmp_path):
    build(tmp_path / "room")
    (file,) = (tmp_path / "room/meta/episodes").glob("*/*.parquet")
    table, name = pq.read_table(file), f"videos/{ROBOT_CAMERA}/to_timestamp"
    later = pa.array([value + 1.0 for value in table[name].to_pylist()])
    pq.write_table(table.set_column(table.schema.names.index(name), name, later), file)
    with pytest.raises(DataError, match="comes after the last of 9 rows"):
        values(tmp_path / "room", 0, [ROBOT_CAMERA])

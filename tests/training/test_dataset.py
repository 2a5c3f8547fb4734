"""A dataset holds what went in, gives it out window by window, and says what is wrong when something is."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from egowm_core.data.normalize import NormStats
from egowm_core.data.ticks import Tick
from egowm_core.data.window import take_sample
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError
from tests.training.dataset_fixtures import START_NS, STRUCTURES, build, make, number_of, numbered, robot, stage
from tests.training.trees import tree
from training.dataset.episode_writer import EpisodeWriter
from training.dataset.layout import ENTRIES, EPISODES_PER_FILE, INFO, SETTINGS, Place
from training.dataset.reader import Dataset
from training.dataset.video import VideoCodec
from training.dataset.writer import task_index, write_meta, write_recording


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("dataset") / "it"
    return root, build(root, codec=VideoCodec("lossless"), truth=True)


@pytest.fixture
def copied(made, tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_what_went_in_comes_out(made) -> None:
    root, episodes = made
    dataset = Dataset(root)
    assert [len(episode) for episode in dataset.episodes] == [9, 2, 20, 17]
    assert [episode.recording for episode in dataset.episodes] == ["drive_0"] * 3 + ["drive_1"]
    assert [episode.task for episode in dataset.episodes] == ["drive"] * 3 + ["turn"]
    assert (dataset.num_frames, dataset.rate_hz, dataset.info["total_tasks"]) == (48, 4.0, 2)
    dataset.embodiment.require_same(robot())
    for episode, expected in zip(dataset.episodes, episodes, strict=True):
        assert np.array_equal(episode.frames(), expected.frames)
        assert np.array_equal(episode.actions, expected.actions)
        assert np.array_equal(episode.states, expected.states)
        assert np.array_equal(episode.stamps_ns, expected.stamps_ns)
        assert {episode.actions.dtype, episode.states.dtype} == {np.dtype(np.float32)}
    dataset.check()


def test_truth_comes_whole_or_by_window(made) -> None:
    root, episodes = made
    first, *_, last = Dataset(root).episodes
    assert first.segmentation is not None and first.segmentation.dtype == np.uint16
    assert np.array_equal(first.segmentation, episodes[0].labels)
    assert np.array_equal(first.labels(3, 7), episodes[0].labels[3:7])
    assert first.structures == STRUCTURES
    assert last.segmentation is None and last.structures is None
    with np.load(root / "truth/episode_000000.npz", allow_pickle=False) as file:  # an ordinary one
        assert np.array_equal(file["segmentation"], episodes[0].labels)


def test_samples_are_those_of_the_whole_episode(made) -> None:
    root, episodes = made
    episode, expected = Dataset(root).episodes[2], episodes[2]
    starts = episode.windows(3, 5, 4)
    assert starts.tolist() == [0, 4, 8, 12]
    for start in starts:
        sample = episode.sample(int(start), context=3, horizon=5)
        whole = take_sample(
            expected.frames, expected.stamps_ns, expected.actions, start=int(start), context=3, horizon=5
        )
        for name in type(sample).__dataclass_fields__:
            assert np.array_equal(getattr(sample, name), getattr(whole, name))
    with pytest.raises(DataError, match=r"13\.\.21 do not fit into the 20"):
        episode.sample(13, context=3, horizon=5)
    with pytest.raises(DataError, match="do not fit"):
        episode.frames(-1, 3)


def test_action_statistics_leave_out_what_is_not_known(made) -> None:
    root, episodes = made
    actions = np.concatenate([episode.actions for episode in episodes])
    assert Dataset(root).norm_stats == NormStats.from_actions(actions, robot().channel_names)
    table = pq.read_table(root / Place.of(0).data())
    assert table["action"].to_pylist()[8] == [0.0, 0.0, 0.0]  # deltas: nothing known moves beyond the last frame


def test_settings_are_held_after_the_last_frame(tmp_path: Path) -> None:
    channels = tuple(replace(c, kind="absolute" if c.name == "dy" else "delta") for c in robot().channels)
    embodiment = replace(robot(), integrate="sum", channels=channels)
    (made,) = build(tmp_path / "it", lengths=[[5]], tasks=["x"], embodiment=embodiment)
    last = pq.read_table(tmp_path / "it" / Place.of(0).data())["action"].to_pylist()[-1]
    assert last == [0.0, float(made.actions[-1, 1]), 0.0]


def test_one_channel_and_one_state(tmp_path: Path) -> None:
    channel = replace(robot().channels[0], kind="velocity")
    embodiment = replace(robot(), integrate="sum", channels=(channel,))
    (made,) = build(tmp_path / "it", lengths=[[6]], tasks=["x"], embodiment=embodiment, states=1)
    episode = Dataset(tmp_path / "it").episodes[0]
    assert np.array_equal(episode.actions, made.actions) and episode.actions.shape == (5, 1)
    assert np.array_equal(episode.states, made.states) and episode.states.shape == (6, 1)


def test_same_input_same_bytes_and_fingerprint(made, tmp_path: Path) -> None:
    root, _ = made
    build(tmp_path / "again", codec=VideoCodec("lossless"), truth=True)
    assert tree(tmp_path / "again") == tree(root)
    assert Dataset(tmp_path / "again").fingerprint() == Dataset(root).fingerprint()
    build(tmp_path / "other", lengths=((9, 2, 20), (18,)), codec=VideoCodec("lossless"), truth=True)
    assert Dataset(tmp_path / "other").fingerprint() != Dataset(root).fingerprint()


def test_datasets_travel_to_workers(made) -> None:
    dataset = Dataset(made[0])
    dataset.episodes[3].frames(0, 3)
    there = pickle.loads(pickle.dumps(dataset))
    assert number_of(there.episodes[3].frames(5, 6)[0]) == 31 + 5
    assert there.fingerprint() == dataset.fingerprint()


def test_a_recording_of_no_episodes_takes_a_number_and_no_file(tmp_path: Path) -> None:
    episodes = build(tmp_path / "it", lengths=((5,), (), (6,)), tasks=("a", "b", "c"))
    dataset = Dataset(tmp_path / "it")
    assert [episode.recording for episode in dataset.episodes] == ["drive_0", "drive_2"]
    assert dataset.episodes[1].data_path.name == "file-002.parquet"
    assert np.array_equal(dataset.episodes[1].actions, episodes[1].actions)


def test_files_go_by_thousands() -> None:
    assert Place.of(2345).data() == "data/chunk-002/file-345.parquet"
    assert Place.of(999).video("observation.images.front").endswith("chunk-000/file-999.mp4")


def test_many_episodes_are_described_in_several_files(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.dataset.writer.EPISODES_PER_FILE", 3)
    build(tmp_path / "it", codec=VideoCodec("lossless"), truth=True)
    assert len(list((tmp_path / "it/meta/episodes").rglob("*.parquet"))) == 2
    assert [len(episode) for episode in Dataset(tmp_path / "it").episodes] == [9, 2, 20, 17]
    assert EPISODES_PER_FILE > 1000


def test_task_numbers_are_those_of_first_appearance() -> None:
    rows = [{"tasks": ["b"]}, {"tasks": ["a"]}, {"tasks": ["b"]}]
    assert [task_index(task, rows) for task in ("b", "a", "new")] == [0, 1, 2]


def test_others_datasets_are_refused_with_the_remedy(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; make one with egowm-convert"):
        Dataset(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is not a dataset"):
        Dataset(tmp_path / "empty")
    (tmp_path / "empty" / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="older egowm-convert"):
        Dataset(tmp_path / "empty")
    (copied / SETTINGS).write_text('{"version": 3}')
    with pytest.raises(DataError, match="version 3, expected 2"):
        Dataset(copied)
    (copied / SETTINGS).unlink()
    with pytest.raises(DataError, match="another program's LeRobot dataset; bring it over with egowm-convert"):
        Dataset(copied)


def test_unfinished_datasets_are_refused(copied: Path) -> None:
    entry = {"recording": "drive_2", "episodes": 1, "first_episode": 4}
    (copied / ENTRIES / "000002.json").write_text(json.dumps(entry))
    with pytest.raises(DataError, match="unfinished: 5 episodes converted, 4 in meta/episodes"):
        Dataset(copied)
    (copied / INFO).unlink()
    with pytest.raises(DataError, match="unfinished"):
        Dataset(copied)


def test_other_versions_of_the_format_are_refused(copied: Path) -> None:
    info = json.loads((copied / INFO).read_text())
    (copied / INFO).write_text(json.dumps(info | {"codebase_version": "v2.1"}))
    with pytest.raises(DataError, match=r"'v2.1', expected 'v3.0'; bring it over"):
        Dataset(copied)


def test_missing_and_broken_files_are_named(copied: Path) -> None:
    dataset = Dataset(copied)
    data, video = dataset.episodes[3].data_path, dataset.episodes[3].video_path
    content = data.read_bytes()
    data.write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"cannot read .*file-001\.parquet"):
        Dataset(copied).episodes[3].actions  # noqa: B018
    data.write_bytes((copied / Place.of(0).data()).read_bytes())  # another recording's
    with pytest.raises(DataError, match=r"has 9 rows of episode \[0\], meta/episodes says 17 of episode 3"):
        Dataset(copied).episodes[3].actions  # noqa: B018
    with pytest.raises(DataError, match="has 31 rows, meta/episodes says 17"):
        dataset.check()
    data.write_bytes(content)
    video.write_bytes((copied / Place.of(0).video("observation.images.front")).read_bytes())
    with pytest.raises(DataError, match="has 31 frames, meta/episodes says 17"):
        dataset.check()
    video.unlink()
    with pytest.raises(DataError, match=r"file-001\.mp4 is missing"):
        Dataset(copied)


def test_damaged_descriptions_are_an_error_in_a_line(copied: Path) -> None:
    entry = copied / ENTRIES / "000001.json"
    for content in ("[]", "{}", '{"episodes": 1}', '{"episodes": "x", "recording": "a"}', "not JSON"):
        entry.write_text(content)
        with pytest.raises(DataError):
            Dataset(copied)
    (copied / INFO).write_text("3")
    with pytest.raises(DataError, match="no JSON object"):
        Dataset(copied)


def test_damaged_truth_is_named(copied: Path) -> None:
    dataset = Dataset(copied)
    (copied / "truth/episode_000000.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"episode_000000\.npz"):
        dataset.episodes[0].labels(0, 2)
    shutil.copy(copied / "truth/episode_000001.npz", copied / "truth/episode_000000.npz")
    with pytest.raises(DataError, match="expected 9 frames"):
        dataset.episodes[0].labels(0, 2)


def writer_at(path: Path, embodiment: Embodiment | None = None) -> EpisodeWriter:
    return EpisodeWriter(path, embodiment=embodiment or robot(), codec=VideoCodec())


def tick(number: int, *, action: bool = True) -> Tick:
    moved = np.full(3, 0.01, np.float32) if action else None
    return Tick(START_NS + number * 250_000_000, numbered(number), moved, np.zeros(3, np.float32))


def test_an_episode_is_whole_or_absent(tmp_path: Path) -> None:
    writer = writer_at(tmp_path / "x")
    writer.add(tick(0), np.zeros((32, 48), np.uint16))
    assert not (tmp_path / "x").exists()
    writer.discard()
    assert list(tmp_path.iterdir()) == []
    writer = writer_at(tmp_path / "x")
    writer.add(tick(0))
    with pytest.raises(DataError, match="2 or more frames, got 1"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []
    writer_at(tmp_path / "x").add(tick(0))  # killed here
    stage(tmp_path / "x", make(4, robot(), first=0), robot(), VideoCodec())
    assert sorted(item.name for item in (tmp_path / "x").iterdir()) == ["episode.json", "table.parquet", "video.mp4"]
    with pytest.raises(DataError, match="exists already"):
        writer_at(tmp_path / "x")


def test_episodes_take_unbroken_ticks_only(tmp_path: Path) -> None:
    writer = writer_at(tmp_path / "x")
    writer.add(tick(0, action=False))
    with pytest.raises(DataError, match="starts a segment"):
        writer.add(tick(1, action=False))
    with pytest.raises(DataError, match="is not after"):
        writer.add(tick(0))
    with pytest.raises(DataError, match="takes frames"):
        writer.add(replace(tick(1), frame=np.zeros((48, 48, 3), np.uint8)))
    with pytest.raises(DataError, match=r"state .* expected 3 finite"):
        writer.add(replace(tick(1), state=np.zeros(2, np.float32)))
    with pytest.raises(DataError, match=r"action .* expected 3 finite"):
        writer.add(replace(tick(1), action_from_previous=np.array([0, np.nan, 0], np.float32)))
    writer.add(tick(1))
    assert writer.finish().length == 2


def test_truth_with_a_hole_is_left_out(tmp_path: Path) -> None:
    labels = np.ones((32, 48), np.uint16)
    for number, given in enumerate([(labels, None, labels), (None, labels, labels)]):
        writer = writer_at(tmp_path / f"{number}")
        for i, item in enumerate(given):
            writer.add(tick(i), item)
        assert not writer.finish(STRUCTURES).has_truth
        assert not list((tmp_path / f"{number}").glob("truth*"))


def test_rows_must_follow_each_other(tmp_path: Path) -> None:
    staged = stage(tmp_path / "x", make(4, robot(), first=0), robot(), VideoCodec())
    rows = write_recording(
        tmp_path / "it", file_index=0, first_episode=1, first_frame=0, staged=[staged], embodiment=robot(),
        task="", task_index=0,
    )  # fmt: skip
    with pytest.raises(DataError, match="row 0 is episode 1"):
        write_meta(tmp_path / "it", rows, embodiment=robot(), codec=VideoCodec())
    with pytest.raises(DataError, match="no episodes"):
        write_meta(tmp_path / "it", [], embodiment=robot(), codec=VideoCodec())


def test_writing_again_replaces_and_leaves_no_traces(made, copied: Path) -> None:
    """What a killed run had written is written again by the next one, to the same bytes."""
    root, _ = made
    before = tree(copied)
    staged = sorted((copied / ".staging").glob("1_*"))
    video = copied / Place.of(1).video("observation.images.front")
    video.write_bytes(b"half")
    video.with_name(video.name + ".partial").write_bytes(b"half of the next")
    write_recording(
        copied, file_index=1, first_episode=3, first_frame=31, staged=staged, embodiment=robot(), task="turn",
        task_index=1,
    )  # fmt: skip
    assert tree(copied) == before == tree(root)

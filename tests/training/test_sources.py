"""Which recordings lie below a path, what they are called, and how they are told from others."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import DataError
from tests.training import bag_fixtures as bags
from tests.training import lerobot_fixtures as sets
from tests.training.dataset_fixtures import build
from training.convert.options import ConvertOptions
from training.convert.run import convert
from training.curation.config import load_curation
from training.dataset.reader import Dataset
from training.dataset.video import VideoCodec
from training.sources.find import Source, find_sources, unique_names


def names(*inputs: Path, **options: Path) -> list[str]:
    return [source.name for source in find_sources(inputs, **options)]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.name.encode())
    return path


def test_bags_files_and_episodes_below_a_folder_are_found_by_name(tmp_path):
    bags.drive(tmp_path / "in/monday/run", seconds=1)
    touch(tmp_path / "in/tuesday.bag")
    touch(tmp_path / "in/notes.txt")
    touch(tmp_path / "in/.trash/old.bag")
    sets.build_v21(tmp_path / "in/arm", (3, 3))
    assert names(tmp_path / "in") == ["arm__episode_000000", "arm__episode_000001", "run", "tuesday"]
    assert names(tmp_path / "in/tuesday.bag", tmp_path / "in/arm") == [*names(tmp_path / "in")[:2], "tuesday"]
    assert names(tmp_path / "in", tmp_path / "in/monday") == names(tmp_path / "in")  # each only once


def test_every_source_opens_as_what_it_is(tmp_path):
    bags.drive(tmp_path / "in/run", seconds=1)
    sets.build_v21(tmp_path / "in/arm", (3, 3))
    _, arm, run = find_sources([tmp_path / "in"])
    assert pickle.loads(pickle.dumps(arm)) == arm == Source(arm.name, (tmp_path / "in/arm").resolve(), 1)
    with arm.open() as recording:
        assert (recording.name, sets.CAMERA in recording.topics) == (arm.name, True)
    with run.open() as recording:
        assert (recording.name, "/odom" in recording.topics) == ("run", True)


def test_equal_names_get_the_folders_above_and_others_stay(tmp_path):
    for day in ("monday", "tuesday"):
        sets.build_v21(tmp_path / day / "arm", (3,))
        touch(tmp_path / day / "run.bag")
    touch(tmp_path / "monday/other.bag")
    found = find_sources([tmp_path])
    assert [source.name for source in found] == [
        "monday__arm__episode_000000",
        "monday__run",
        "other",
        "tuesday__arm__episode_000000",
        "tuesday__run",
    ]
    assert find_sources([tmp_path / "tuesday", tmp_path / "monday"]) == found


def test_equal_names_in_one_folder_keep_their_suffixes(tmp_path):
    for name in ("run.bag", "run.mcap", "run/metadata.yaml", "stop.bag"):
        touch(tmp_path / "in" / name)
    assert names(tmp_path / "in") == ["run", "run.bag", "run.mcap", "stop"]


def test_names_that_folders_do_not_tell_apart_are_refused():
    places = [(Path(path), None) for path in ("/a/b/run", "/a__b/run", "/c/b/run")]
    with pytest.raises(DataError, match="/a/b/run and /a__b/run would get the same name 'a__b__run'; rename one"):
        unique_names(places)
    assert unique_names(places[1:]) == {places[1]: "a__b__run", places[2]: "b__run"}


def test_absent_episodes_are_no_sources_and_are_told_once(tmp_path):
    root = sets.build_v21(tmp_path / "arm", (3, 4, 5, 3, 3, 3), absent=(0, 2))
    sets.video_file(root, 3).unlink()  # rows without any picture
    sets.data_file(root, 5).unlink()  # pictures without rows
    found = find_sources([root])
    assert [source.episode for source in found] == [1, 4]
    told = []
    for source in found:
        with source.open() as recording:
            told.append(list(recording.notes))
    assert told == [["4 of the 6 episodes that meta/ of arm lists are not here: the others are read"], []]


def test_a_dataset_that_cannot_be_read_does_not_stop_the_others(tmp_path):
    (tmp_path / "in/broken/meta").mkdir(parents=True)
    (tmp_path / "in/broken/meta/info.json").write_text("{")
    sets.build_v21(tmp_path / "in/empty", (3, 4), absent=(0, 1))
    touch(tmp_path / "in/run.bag")
    broken, empty, run = find_sources([tmp_path / "in"])
    assert (broken.name, empty.name, run.name) == ("broken", "empty", "run")
    with pytest.raises(DataError, match=r"broken/meta/info\.json"):
        broken.open()
    with pytest.raises(DataError, match=r"meta/ of 2 episodes, .*such as data/chunk-000/episode_000000\.parquet"):
        empty.open()
    assert all(len(source.fingerprint()) == 64 and source.size_bytes() > 0 for source in (broken, empty, run))
    result = convert([tmp_path / "in"], tmp_path / "out", ConvertOptions(embodiment=load_embodiment("base_3dof")))
    assert sorted(result["failed"]) == ["broken", "empty", "run"]


def test_the_directory_to_be_written_is_no_source(tmp_path):
    touch(tmp_path / "in/run.bag")
    build(tmp_path / "in/out")
    assert len(names(tmp_path / "in")) == 5
    assert names(tmp_path / "in", besides=tmp_path / "in/out") == ["run"]
    with pytest.raises(DataError, match="holds no recording"):
        find_sources([tmp_path / "in/out"], besides=tmp_path / "in/../in/out")


def test_links_are_followed_and_do_not_lead_in_circles(tmp_path):
    touch(tmp_path / "disk/deep/run.bag")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/disk").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/deep/back").symlink_to(tmp_path / "in")
    assert names(tmp_path / "in") == ["run"]


def test_what_is_no_recording_is_refused(tmp_path):
    with pytest.raises(DataError, match="absent does not exist; give a bag"):
        find_sources([tmp_path / "absent"])
    with pytest.raises(DataError, match=r"holds no recording; expected metadata\.yaml"):
        find_sources([touch(tmp_path / "notes.txt")])
    with pytest.raises(DataError, match="holds no recording"):
        find_sources([tmp_path])


def test_a_fingerprint_tells_a_recording_and_not_its_place(tmp_path):
    root = sets.build_v21(tmp_path / "arm", (12, 7))
    first, second = find_sources([root])
    before = first.fingerprint()
    assert before != second.fingerprint()
    shutil.copytree(root, tmp_path / "copy")
    assert find_sources([tmp_path / "copy"])[0].fingerprint() == before
    sets.write_video(sets.video_file(root, 1), range(7))
    assert first.fingerprint() == before  # another episode's frames
    sets.write_video(sets.video_file(root, 0), range(12, 24))
    changed = first.fingerprint()
    assert changed != before
    sets.edit_info(root, robot_type="another")
    assert first.fingerprint() not in (before, changed)


def test_the_tail_of_a_long_file_tells_it_apart(tmp_path):
    long = tmp_path / "run.bag"
    long.write_bytes(bytes(300_000) + b"a")
    (source,) = find_sources([long])
    before = source.fingerprint()
    long.write_bytes(bytes(300_000) + b"b")
    assert source.fingerprint() != before
    long.write_bytes(bytes(1000))
    assert source.fingerprint() != before


def test_episodes_that_share_files_share_their_size(tmp_path):
    build(tmp_path / "room", lengths=((9, 2, 20), (17,)))
    sources = find_sources([tmp_path / "room"])
    files = [file for kind in ("data", "videos") for file in (tmp_path / "room" / kind).rglob("file-000.*")]
    sizes = [source.size_bytes() for source in sources]
    assert len({source.fingerprint() for source in sources}) == 4
    assert sum(sizes[:3]) == pytest.approx(sum(file.stat().st_size for file in files), abs=3)
    assert sizes[0] / sizes[1] == pytest.approx(9 / 2, rel=0.01)


def test_our_own_dataset_converts_to_the_same_episodes_again(tmp_path):
    bags.moving_bag(tmp_path / "in/a", length=60)
    bags.moving_bag(tmp_path / "in/b", length=40, seed=1)
    options = ConvertOptions(
        embodiment=load_embodiment("base_3dof"), curation=load_curation("none"), codec=VideoCodec("lossless")
    )
    assert not convert([tmp_path / "in"], tmp_path / "one", options)["failed"]
    again = convert([tmp_path / "one"], tmp_path / "two", options)
    assert again["failed"] == {}
    assert {row["motion_topic"] for row in again["rows"].values()} == {"odom"}
    one, two = Dataset(tmp_path / "one").episodes, Dataset(tmp_path / "two").episodes
    assert [len(episode) for episode in two] == [30, 20]
    for before, after in zip(one, two, strict=True):
        np.testing.assert_array_equal(after.stamps_ns, before.stamps_ns)
        np.testing.assert_array_equal(after.frames(), before.frames())
        np.testing.assert_allclose(after.actions, before.actions, atol=1e-6)
        np.testing.assert_array_equal(after.states, before.states)

"""Corners of reading bags: empty ones, no definitions, one chunk, many bad messages, cut files, names of topics."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from egowm_core.data.bag import Bag, base_name, candidates
from egowm_core.data.values import IMAGE_TYPES, ODOMETRY, TWIST_TYPES, Topic
from egowm_core.errors import DataError
from tests.training import bag_fixtures as bags


def storage(path: Path) -> Path:
    (found,) = [file for file in path.iterdir() if file.suffix in (".mcap", ".db3")]
    return found


def poses_of(path: Path) -> np.ndarray:
    with Bag(path) as bag:
        return np.array([item.value.pose for item in bag.read(["/odom"])])


def ros1_bag(path: Path, count: int = 400) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    vector = store.types["geometry_msgs/msg/Vector3"]
    writer = Ros1Writer(path)
    with writer:
        connection = writer.add_connection("/cmd_vel", TWIST_TYPES[1], typestore=store)
        for i in range(count):
            linear, angular = vector(x=float(i), y=0.0, z=0.0), vector(x=0.0, y=0.0, z=0.5)
            message = store.types[TWIST_TYPES[1]](linear=linear, angular=angular)
            writer.write(connection, 10**9 + i, store.serialize_ros1(message, TWIST_TYPES[1]))
    return path


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_an_empty_bag_has_no_topics_and_no_duration(tmp_path, plugin):
    with Writer(tmp_path / "empty", version=9, storage_plugin=plugin):
        pass
    with Bag(tmp_path / "empty") as bag:
        assert bag.topics == {} and bag.duration_s == 0 and list(bag.read([])) == []
        with pytest.raises(DataError, match="no topic '/odom'; it has none"):
            list(bag.read(["/odom"]))


def test_a_topic_without_messages_is_listed_and_never_a_candidate(tmp_path):
    with Writer(tmp_path / "quiet", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/odom", ODOMETRY, typestore=bags.STORE)
    with Bag(tmp_path / "quiet") as bag:
        assert bag.topics == {"/odom": Topic("/odom", ODOMETRY, 0)}
        assert candidates(bag.topics, (ODOMETRY,)) == [] and list(bag.read(["/odom"])) == []


def test_the_name_is_the_directorys_or_the_files(tmp_path):
    path = bags.drive(tmp_path / "run.v2", seconds=1)
    with Bag(path) as whole, Bag(storage(path)) as bare:
        assert (whole.name, bare.name) == ("run.v2", storage(path).stem)


def test_bags_without_definitions_are_read_by_the_names_of_their_types(tmp_path):
    """As sqlite3 bags were before Iron: their files know the types' names only."""
    path = bags.drive(tmp_path / "run", seconds=1, storage="sqlite3")
    expected = poses_of(path)
    with sqlite3.connect(storage(path)) as database:
        database.execute("DELETE FROM message_definitions")
        database.execute("UPDATE topics SET type = 'vendor_msgs/msg/Odd' WHERE name = '/cmd_vel'")
    database.close()
    np.testing.assert_array_equal(poses_of(storage(path)), expected)
    assert len(expected) == 42
    with Bag(storage(path)) as bag:
        assert any("/cmd_vel: it carries no definition of vendor_msgs/msg/Odd" in note for note in bag.notes)
        with pytest.raises(DataError, match=r"'/cmd_vel' .* has type vendor_msgs/msg/Odd; readable are"):
            list(bag.read(["/cmd_vel"]))


def test_a_small_mcap_of_one_chunk_is_salvaged_too(tmp_path):
    path = storage(bags.drive(tmp_path / "run", seconds=1))
    expected = poses_of(path)
    path.write_bytes(path.read_bytes()[:-20])  # the recorder died before it had written the footer
    np.testing.assert_array_equal(poses_of(path), expected)


def test_damage_of_many_messages_is_counted_whole_and_told_in_part(tmp_path):
    path = tmp_path / "bad"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/odom", ODOMETRY, typestore=bags.STORE)
        good = bytes(bags.STORE.serialize_cdr(bags.odometry(0, (1, 0, 0)), ODOMETRY))
        for i in range(300):
            writer.write(connection, i, good[:40] if i % 3 == 0 else good)
    with Bag(path) as bag:
        assert len(list(bag.read(["/odom"]))) == 200
        assert bag.skipped["/odom"] == 100
        assert 1 <= len(bag.damage) <= 64
        assert all("bad" in line and "/odom" in line and "\n" not in line for line in bag.damage)


def test_a_picture_whose_sizes_disagree_is_refused_when_decoded(tmp_path):
    message = bags.image(bags.START_NS, bags.scene(0))
    message.height += 1
    path = bags.write_bag(tmp_path / "run", [(1, "/image", message), (2, "/image", bags.image(5, bags.scene(1)))])
    with Bag(path) as bag:
        wrong, right = bag.read(["/image"])
        with pytest.raises(DataError, match="expected height 61"):
            wrong.value.decode()
        np.testing.assert_array_equal(right.value.decode(), bags.scene(1))


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.95])
def test_cut_ros1_and_sqlite_bags_end_in_values_or_in_one_line(tmp_path, kept):
    for path, topic in [
        (ros1_bag(tmp_path / "old.bag"), "/cmd_vel"),
        (storage(bags.drive(tmp_path / "run", seconds=10, storage="sqlite3")), "/odom"),
    ]:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept)])
        try:
            with Bag(path) as bag:
                read = list(bag.read([topic]))
                assert len(read) < 402 and bag.damage
        except DataError as error:
            assert path.name in str(error) and "\n" not in str(error) and ";" in str(error)


def test_a_whole_ros1_bag_gives_all_of_its_messages(tmp_path):
    with Bag(ros1_bag(tmp_path / "old.bag")) as bag:
        assert [item.value.twist[0] for item in bag.read(["/cmd_vel"])] == list(range(400))
        assert not bag.damage and bag.duration_s == pytest.approx(399e-9)


def test_transports_are_no_part_of_a_topics_name_and_twins_count_once():
    assert base_name("/front/image_raw/compressed") == "/front/image_raw"
    assert base_name("/front/image_raw") == "/front/image_raw"
    names = ["/a/image", "/a/image/compressed", "/b/image/compressed", "/truth/x", "/front/depth/image_raw"]
    topics = {name: Topic(name, IMAGE_TYPES[name.endswith("compressed")], 3) for name in names}
    assert [topic.name for topic in candidates(topics, IMAGE_TYPES)] == ["/a/image", "/b/image/compressed"]

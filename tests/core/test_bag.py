"""Bags of every container and compression, and custom types: read, or refused in words."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from egowm_core.data.bag import Bag, choose_topic
from egowm_core.data.values import IMAGE_TYPES, JOINT_STATE, ODOMETRY, POSE_STAMPED, TWIST_TYPES, Topic
from egowm_core.errors import DataError
from tests.core.made_bags import (
    POSES,
    overwrite,
    poses_of,
    serialized,
    storage,
    write_raw,
    xs_of,
)
from tests.training import bag_fixtures as bags

CUSTOM = {
    "vendor_msgs/msg/Blob": "uint8[] payload\nvendor_msgs/Nested[] parts\n",
    "vendor_msgs/msg/Nested": "string what\nfloat32[3] values\n",
    "vendor_msgs/msg/MotorState": "uint8 mode\nstd_msgs/Header header\nstring[] name\n"
    "float32[] position\nfloat32[] current\n",
    "vendor_msgs/msg/BareImage": "uint32 width\nuint32 height\nstring encoding\nuint8[] data\n",
    "vendor_msgs/msg/Drive": "std_msgs/Header header\ngeometry_msgs/Vector3 linear\n"
    "geometry_msgs/Vector3 angular\nbool brake\n",
    "vendor_msgs/msg/AccelCommand": "geometry_msgs/Vector3 linear\ngeometry_msgs/Vector3 angular\n",
    "vendor_msgs/msg/ToolPose": "std_msgs/Header header\ngeometry_msgs/Pose pose\nfloat64 grip\n",
}


# Containers


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
@pytest.mark.parametrize("mode", [None, CompressionMode.MESSAGE, CompressionMode.FILE, CompressionMode.STORAGE])
def test_ros2_bags_of_every_compression(tmp_path, kind, mode):
    if kind == "sqlite3" and mode == CompressionMode.STORAGE:
        pytest.skip("sqlite3 has no chunks to compress")
    plain = bags.drive(tmp_path / "plain", seconds=2, storage=kind)
    packed = tmp_path / "packed"
    plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
    writer = Writer(packed, version=9, storage_plugin=plugin)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/odom", ODOMETRY, typestore=bags.STORE)
        for i, pose in enumerate(POSES):
            stamp = bags.START_NS + i * 25_000_000
            writer.write(connection, stamp + 1, serialized(bags.odometry(stamp, pose)))
    np.testing.assert_allclose(poses_of(packed), POSES, atol=1e-9)
    np.testing.assert_array_equal(poses_of(plain), poses_of(packed))
    with Bag(packed) as bag:
        assert bag.name == "packed"
        assert bag.topics == {"/odom": Topic("/odom", ODOMETRY, 82)}
        assert bag.duration_s == pytest.approx(81 / 40)
        assert [item.stamp_ns for item in bag.read(["/odom"])][:2] == [bags.START_NS, bags.START_NS + 25_000_000]
        assert not bag.notes and not bag.damage and bag.skipped == {"/odom": 0}
    if mode is None:
        np.testing.assert_array_equal(poses_of(storage(packed)), poses_of(packed))


@pytest.mark.parametrize("compression", [None, Ros1Writer.CompressionFormat.BZ2, Ros1Writer.CompressionFormat.LZ4])
def test_ros1_bags_carry_their_own_definitions(tmp_path, compression):
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg(CUSTOM["vendor_msgs/msg/MotorState"], "vendor_msgs/msg/MotorState"))
    types = store.types
    path = tmp_path / "old.bag"
    writer = Ros1Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        twist = writer.add_connection("/cmd_vel", TWIST_TYPES[1], typestore=store)
        motors = writer.add_connection("/motors", "vendor_msgs/msg/MotorState", typestore=store)
        for i in range(5):
            vector = types["geometry_msgs/msg/Vector3"]
            message = types[TWIST_TYPES[1]](linear=vector(x=0.1 * i, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=0.5))
            writer.write(twist, 1_000_000_000 + i, store.serialize_ros1(message, TWIST_TYPES[1]))
            header = types["std_msgs/msg/Header"](
                seq=i, stamp=types["builtin_interfaces/msg/Time"](sec=7, nanosec=i), frame_id=""
            )
            state = types["vendor_msgs/msg/MotorState"](
                mode=1,
                header=header,
                name=["a"],
                position=np.array([0.5 * i], np.float32),
                current=np.zeros(1, np.float32),
            )
            writer.write(motors, 1_000_000_000 + i, store.serialize_ros1(state, "vendor_msgs/msg/MotorState"))
    with Bag(path) as bag:
        assert bag.name == "old"
        assert [i.stamp_ns for i in bag.read(["/cmd_vel"])] == [1_000_000_000 + i for i in range(5)]
        assert [i.value.twist[0] for i in bag.read(["/cmd_vel"])] == pytest.approx([0.1 * i for i in range(5)])
        assert bag.topics["/motors"] == Topic("/motors", JOINT_STATE, 5, "vendor_msgs/msg/MotorState")
        read = list(bag.read(["/motors"]))
        assert [(i.stamp_ns, i.value.positions["a"]) for i in read] == [(7_000_000_000 + i, 0.5 * i) for i in range(5)]


def split_bag(path: Path) -> Path:
    """Twelve files of ten poses, so that names sorted as text would come in the wrong order."""
    path.mkdir()
    information = None
    for part in range(12):
        one = tmp = path.parent / f"part{part}"
        messages = [
            (bags.START_NS + i * 25_000_000, "/odom", bags.odometry(bags.START_NS + i * 25_000_000, (i, 0, 0)))
            for i in range(10 * part, 10 * part + 10)
        ]
        bags.write_bag(one, messages)
        metadata = yaml.safe_load((one / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        shutil.move(storage(tmp), path / f"run_{part}.mcap")
        information = information or {**metadata, "files": [], "relative_file_paths": []}
        information["relative_file_paths"].append(f"run_{part}.mcap")
    information["message_count"] = information["topics_with_message_count"][0]["message_count"] = 120
    information["duration"] = {"nanoseconds": 119 * 25_000_000}
    (path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))
    return path


def test_split_bags_are_read_in_order(tmp_path):
    path = split_bag(tmp_path / "run")
    assert xs_of(path) == (list(range(120)), [])
    (path / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 9")
    xs, notes = xs_of(path)
    assert xs == list(range(120))
    assert any("read file by file" in note for note in notes)
    (path / "run_7.mcap").unlink()
    xs, _ = xs_of(path)
    assert xs == [*range(70), *range(80, 120)]


def test_a_split_file_missing_from_a_sound_bag_costs_only_itself(tmp_path):
    path = split_bag(tmp_path / "run")
    (path / "run_3.mcap").unlink()
    xs, notes = xs_of(path)
    assert xs == [*range(30), *range(40, 120)]
    assert any("missing" in note for note in notes)


# Types


def custom_bag(tmp_path: Path) -> Path:
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in CUSTOM.items():
        store.register(get_types_from_msg(definition, name)) if name != "vendor_msgs/msg/Blob" else None
    store.register(get_types_from_msg(CUSTOM["vendor_msgs/msg/Blob"], "vendor_msgs/msg/Blob"))
    types, header = store.types, bags.header(bags.START_NS)
    make = {name.split("/")[-1]: types[name] for name in CUSTOM}
    vector = types["geometry_msgs/msg/Vector3"]
    linear, angular = vector(x=0.4, y=0.0, z=0.0), vector(x=0.0, y=0.0, z=0.3)
    pose = types["geometry_msgs/msg/Pose"](
        position=types["geometry_msgs/msg/Point"](x=1.0, y=2.0, z=3.0),
        orientation=types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=float(np.sin(0.2)), w=float(np.cos(0.2))),
    )
    nested = make["Nested"](what="x", values=np.ones(3, np.float32))
    messages = {
        "/blob": make["Blob"](payload=np.arange(9, dtype=np.uint8), parts=[nested]),
        "/motors": make["MotorState"](
            mode=2, header=header, name=["hip", "knee"], position=np.array([0.5, -0.25], np.float32),
            current=np.zeros(2, np.float32),
        ),
        "/picture": make["BareImage"](width=4, height=2, encoding="rgb8", data=np.arange(24, dtype=np.uint8)),
        "/drive": make["Drive"](header=header, linear=linear, angular=angular, brake=True),
        "/accel": make["AccelCommand"](linear=linear, angular=angular),
        "/tool": make["ToolPose"](header=header, pose=pose, grip=0.5),
        "/odom": bags.odometry(bags.START_NS, (1, 2, 0)),
    }  # fmt: skip
    rows = [
        (bags.START_NS + 5, topic, message.__msgtype__, serialized(message, store))
        for topic, message in messages.items()
    ]
    return write_raw(tmp_path / "custom", rows, store=store)


def test_custom_types_are_read_by_their_fields_and_strangers_do_no_harm(tmp_path):
    with Bag(custom_bag(tmp_path)) as bag:
        read_as = {name: topic.type for name, topic in bag.topics.items() if topic.custom}
        assert read_as == {
            "/motors": JOINT_STATE, "/picture": IMAGE_TYPES[0], "/drive": TWIST_TYPES[1], "/tool": POSE_STAMPED,
        }  # fmt: skip
        found = {item.topic: item for item in bag.read(["/odom", *read_as])}
        assert found["/motors"].value.positions == {"hip": 0.5, "knee": -0.25}
        np.testing.assert_array_equal(found["/picture"].value.decode().reshape(-1), np.arange(24))
        np.testing.assert_allclose(found["/drive"].value.twist, [0.4, 0, 0.3])
        np.testing.assert_allclose(found["/tool"].value.pose6, [1, 2, 3, 0, 0, 0.4], atol=1e-12)
        np.testing.assert_allclose(found["/odom"].value.pose, [1, 2, 0])
        # a header's stamp where there is one, else the record time, with a note
        assert found["/drive"].stamp_ns == bags.START_NS and found["/picture"].stamp_ns == bags.START_NS + 5
        notes = "\n".join(bag.notes)
        assert "/motors is a vendor_msgs/msg/MotorState, read as sensor_msgs/msg/JointState" in notes
        assert "/picture has no header" in notes
        for stranger in ("/blob", "/accel"):
            with pytest.raises(DataError, match=rf"'{stranger}' of .*custom has type vendor_msgs.*readable are"):
                list(bag.read([stranger]))


def test_a_custom_type_never_takes_the_place_of_the_real_one(tmp_path):
    with Bag(custom_bag(tmp_path)) as bag:
        topics = {**bag.topics, "/joints": Topic("/joints", JOINT_STATE, 7)}
        assert choose_topic(topics, "joint_states", (JOINT_STATE,)).name == "/joints"
        assert choose_topic(topics, "motors", (JOINT_STATE,)).name == "/motors"
        assert choose_topic(bag.topics, "joint_states", (JOINT_STATE,)).name == "/motors"


def test_a_broken_definition_of_a_standard_type_does_no_harm_that_of_a_custom_one_is_told(tmp_path):
    path = custom_bag(tmp_path)

    def damage(data: bytearray) -> None:
        for text in (b"float32[] position", b"string child_frame_id"):
            at = data.index(text)
            data[at : at + len(text)] = b"?" * len(text)
            while (at := data.find(text)) >= 0:
                data[at : at + len(text)] = b"?" * len(text)

    overwrite(storage(path), damage)
    with Bag(path) as bag:
        assert [item.value.pose[1] for item in bag.read(["/odom"])] == [2.0]
        assert any("definition of vendor_msgs/msg/MotorState is broken" in note for note in bag.notes)
        with pytest.raises(DataError, match="readable are"):
            list(bag.read(["/motors"]))


def test_an_array_of_absurd_length_in_a_definition_is_no_trap(tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("geometry_msgs/Point[8000] points\n", "vendor_msgs/msg/Many"))
    path = tmp_path / "trap"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/many", "vendor_msgs/msg/Many", typestore=store)
    overwrite(storage(path), lambda data: data.__setitem__(slice(None), data.replace(b"[8000]", b"[9999]")))
    with Bag(path) as bag:
        assert any("absurdly large" in note for note in (*bag.notes, *bag.damage))


def test_one_topic_of_two_types_is_read_as_the_more_frequent_one(tmp_path):
    rows = [(i, "/x", ODOMETRY, serialized(bags.odometry(i, (i, 0, 0)))) for i in range(5)]
    rows += [(9, "/x", "std_msgs/msg/String", serialized(bags.text("no pose")))]
    with Bag(write_raw(tmp_path / "mixed", rows)) as bag:
        assert bag.topics["/x"] == Topic("/x", ODOMETRY, 5)
        assert [item.value.pose[0] for item in bag.read(["/x"])] == [0, 1, 2, 3, 4]
        assert any("several types" in note and "1 std_msgs/msg/String are not" in note for note in bag.notes)


def test_what_is_asked_for_wrongly_is_said_with_what_there_is(tmp_path):
    path = bags.drive(tmp_path / "run", seconds=1)
    with Bag(path) as bag, pytest.raises(DataError, match=r"no topic '/odm'; did you mean '/odom'\?.*it has /cmd_vel"):
        list(bag.read(["/odm"]))
    with pytest.raises(DataError, match="is not open; use"):
        list(Bag(path).read(["/odom"]))
    with pytest.raises(DataError, match="does not exist"), Bag(tmp_path / "nowhere"):
        pass


def test_choose_topic_of_several():
    def topic(name: str, kind: str = IMAGE_TYPES[1], count: int = 5) -> tuple[str, Topic]:
        return name, Topic(name, kind, count)

    topics = dict([topic("/a/image"), topic("/b/image"), topic("/depth/image"), topic("/image_raw/compressed")])
    assert choose_topic(topics, "a/image", IMAGE_TYPES).name == "/a/image"
    with pytest.raises(DataError, match=r"several topics could be 'x'.*choose one with --image-topic"):
        choose_topic(topics, "x", IMAGE_TYPES, option="--image-topic")
    assert SimpleNamespace(**choose_topic(topics, "image_raw", IMAGE_TYPES).__dict__).name == "/image_raw/compressed"

"""Bags of every container and compression, custom types, bad messages, damage: read, skipped or refused in words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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
from tests.training import bag_fixtures as bags

POSES = np.array([bags.known_pose(i / 40) for i in range(82)])  # of a two-second drive
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


def poses_of(path: Path, topic: str = "/odom") -> np.ndarray:
    with Bag(path) as bag:
        return np.array([item.value.pose for item in bag.read([topic])])


def storage(path: Path) -> Path:
    (found,) = [file for file in path.iterdir() if file.suffix in (".mcap", ".db3")]
    return found


def overwrite(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def write_raw(
    path: Path, messages: list[tuple[int, str, str, bytes]], *, store=bags.STORE, plugin=StoragePlugin.MCAP
) -> Path:
    """Messages as (record time, topic, type, payload), whatever the payload is."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections = {}
        for log_ns, topic, kind, payload in messages:
            if (topic, kind) not in connections:
                connections[topic, kind] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic, kind], log_ns, payload)
    return path


def serialized(message: object, store=bags.STORE) -> bytes:
    return bytes(store.serialize_cdr(message, message.__msgtype__))


def chunked(path: Path, *, count: int = 400, chunk: int = 40, compress: bool = True, backwards: bool = False) -> Path:
    """``count`` poses at 40 Hz in an mcap of several chunks; ``backwards`` reverses the record times in each chunk."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    if compress:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/odom", ODOMETRY, typestore=bags.STORE)
        for i in range(count):
            stamp = bags.START_NS + i * 25_000_000
            at = stamp - (i % chunk) * 30_000_000 if backwards else stamp
            writer.write(connection, at, serialized(bags.odometry(stamp, (i, 0, 0))))
            if i % chunk == chunk - 1:
                writer.storage.close_chunk()
    return path


def xs_of(path: Path) -> tuple[list[int], list[str]]:
    """Which of the poses of ``chunked`` are read, and what the bag notes."""
    with Bag(path) as bag:
        return [round(item.value.pose[0]) for item in bag.read(["/odom"])], bag.damage


def second_chunk(data: bytes) -> int:
    """Where the second chunk record starts, by the walk that the format prescribes."""
    at, chunks = 8, 0
    while True:
        if data[at] == 0x06:
            chunks += 1
            if chunks == 2:
                return at
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")


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


# Bad messages in a good bag


def bad_messages(bad: int, good: int) -> list[tuple[int, str, str, bytes]]:
    payload = serialized(bags.odometry(bags.START_NS, (1, 0, 0)))
    huge = payload[:12] + (0xFFFFFF00).to_bytes(4, "little") + payload[16:]  # a string of 4 GiB
    broken = [payload[:50], b"", huge, b"\x00\x01", serialized(bags.text("x")), payload + bytes(64)]
    rows = [(i, "/odom", ODOMETRY, broken[i % len(broken)]) for i in range(bad)]
    rows += [(bad + i, "/odom", ODOMETRY, payload) for i in range(good)]
    return [*rows, (99, "/cmd_vel", TWIST_TYPES[1], serialized(bags.twist((1, 0, 0))))]


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_bad_messages_are_skipped_counted_and_the_first_told(tmp_path, plugin):
    with Bag(write_raw(tmp_path / "bad", bad_messages(6, 6), plugin=plugin)) as bag:
        for _ in range(2):  # the counts are those of the last reading, not their sum
            assert [item.topic for item in bag.read(["/odom", "/cmd_vel"])] == ["/odom"] * 6 + ["/cmd_vel"]
            assert bag.skipped == {"/odom": 6, "/cmd_vel": 0}
        assert any("topic /odom message 3 at record time 0.000000002 s was skipped: " in note for note in bag.damage)


def test_a_topic_of_mostly_bad_messages_is_given_up_alone(tmp_path):
    with Bag(write_raw(tmp_path / "worse", bad_messages(7, 6))) as bag:
        with pytest.raises(DataError, match=r"worse, topic /odom message 7 .* 7 of its 13 messages.*record it again"):
            list(bag.read(["/odom"]))
        assert len(list(bag.read(["/cmd_vel"]))) == 1


# Damaged containers


@pytest.mark.parametrize("compress", [True, False])
def test_a_cut_mcap_is_read_up_to_the_cut(tmp_path, compress):
    path = storage(chunked(tmp_path / "run", compress=compress))
    overwrite(path, lambda data: data.__delitem__(slice(len(data) * 2 // 3, None)))
    xs, notes = xs_of(path)
    assert xs == list(range(len(xs))) and 160 <= len(xs) < 400  # whole messages of the cut chunk, too
    assert any("is cut short by the end of the file" in note and "byte " in note for note in notes)


def test_a_damaged_chunk_costs_only_itself(tmp_path):
    path = storage(chunked(tmp_path / "run"))

    def damage(data: bytearray) -> None:
        at = second_chunk(data) + 300
        data[at : at + 8] = bytes(8)

    overwrite(path, damage)
    xs, notes = xs_of(path)
    assert {*range(40), *range(80, 400)} <= set(xs) < {*range(400)}
    assert any(f"{400 - len(xs)} of 400 messages are missing" in note for note in notes)


@pytest.mark.parametrize("where", ["footer", "summary", "first byte"])
def test_an_mcap_without_its_index_is_read_all_the_same(tmp_path, where):
    path = storage(chunked(tmp_path / "run"))
    at = {"footer": slice(-30, -20), "summary": slice(-400, -200), "first byte": slice(0, 1)}[where]
    overwrite(path, lambda data: data.__setitem__(at, b"\xee" * len(data[at])))
    assert xs_of(path)[0] == list(range(400))


def test_record_times_may_run_backwards(tmp_path):
    path = chunked(tmp_path / "run", backwards=True)
    assert sorted(xs_of(path)[0]) == list(range(400))
    overwrite(storage(path), lambda data: data.__delitem__(slice(-100, None)))
    assert xs_of(path)[0] == list(range(400))  # without the index: in the order of the file


@pytest.mark.parametrize("claim", [2**32, 2**40, 2**63, 2**64 - 1])
@pytest.mark.parametrize("field", ["record", "unpacked", "packed"])
def test_a_flipped_length_allocates_nothing_and_ends_in_words(tmp_path, claim, field):
    path = storage(chunked(tmp_path / "run"))

    def damage(data: bytearray) -> None:
        chunk = second_chunk(data)
        at = chunk + {"record": 1, "unpacked": 25, "packed": 41}[field]
        data[at : at + 8] = claim.to_bytes(8, "little")
        del data[-60:]  # and no index to go by

    overwrite(path, damage)
    xs, notes = xs_of(path)
    assert xs == ([*range(80)] if field == "record" else [*range(40), *range(80, 400)])
    assert notes


def test_what_holds_nothing_is_refused_in_one_line(tmp_path):
    for name, content in [
        ("empty.mcap", b""),
        ("noise.mcap", bytes(range(256)) * 20),
        ("empty.db3", b""),
        ("noise.db3", bytes(range(256)) * 20),
        ("empty.bag", b""),
        ("noise.bag", bytes(range(256)) * 20),
        ("cut.bag", b"#ROSBAG V2.0\n"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        words = rf"bag .*{name} cannot be read: .+; .*(restore|record it again)"
        with pytest.raises(DataError, match=words) as caught, Bag(path):
            pass
        assert "\n" not in str(caught.value)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "metadata.yaml").write_text("")
    with pytest.raises(DataError, match="metadata"), Bag(folder):
        pass


def test_a_sqlite_bag_with_broken_pages_ends_in_words(tmp_path):
    path = storage(bags.drive(tmp_path / "run", seconds=20, storage="sqlite3"))

    def damage(data: bytearray) -> None:
        data[len(data) // 2 : len(data) // 2 + 3 * 4096] = b"\xff" * (3 * 4096)

    overwrite(path, damage)
    try:
        with Bag(path) as bag:
            items = list(bag.read(["/odom"]))
            assert len(items) <= 802
    except DataError as error:
        assert "run.db3" in str(error) and "\n" not in str(error)


def test_flips_anywhere_end_in_values_or_in_one_line(tmp_path):
    """Every byte that is read may be wrong: nothing but DataError comes out, nothing hangs, nothing is allocated."""
    rng = np.random.default_rng(0)
    originals = [
        storage(chunked(tmp_path / "zstd", count=80)),
        storage(chunked(tmp_path / "plain", count=80, compress=False)),
        storage(bags.drive(tmp_path / "sqlite", seconds=0.5, storage="sqlite3")),
    ]
    ended = {"read": 0, "refused": 0}
    for number in range(150):
        source = originals[number % len(originals)]
        data = bytearray(source.read_bytes())
        if number % 2:  # the frame of the container matters more than its filling
            at = rng.integers(0, 2000, 4) if rng.random() < 0.5 else len(data) - 1 - rng.integers(0, 2000, 4)
        else:
            at = rng.integers(0, len(data), 12)
        for position in at:
            data[position % len(data)] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"flipped{number}{source.suffix}"
        path.write_bytes(data)
        try:
            with Bag(path) as bag:
                for _ in bag.read([name for name, topic in bag.topics.items() if topic.type == ODOMETRY]):
                    pass
            ended["read"] += 1
        except DataError as error:
            assert "\n" not in str(error) and len(str(error)) < 900
            ended["refused"] += 1
    assert min(ended.values()) > 10, ended


def test_closing_leaves_what_was_damaged(tmp_path):
    path = storage(chunked(tmp_path / "run"))
    overwrite(path, lambda data: data.__delitem__(slice(len(data) // 2, None)))
    with Bag(path) as bag:
        list(bag.read(["/odom"]))
        before = bag.damage
    assert before and bag.damage == before


def test_choose_topic_of_several():
    def topic(name: str, kind: str = IMAGE_TYPES[1], count: int = 5) -> tuple[str, Topic]:
        return name, Topic(name, kind, count)

    topics = dict([topic("/a/image"), topic("/b/image"), topic("/depth/image"), topic("/image_raw/compressed")])
    assert choose_topic(topics, "a/image", IMAGE_TYPES).name == "/a/image"
    with pytest.raises(DataError, match=r"several topics could be 'x'.*choose one with --image-topic"):
        choose_topic(topics, "x", IMAGE_TYPES, option="--image-topic")
    assert SimpleNamespace(**choose_topic(topics, "image_raw", IMAGE_TYPES).__dict__).name == "/image_raw/compressed"

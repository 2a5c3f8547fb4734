"""Episodes of LeRobot datasets as recordings: right values at right stamps, of both layouts, and clear refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from egowm_core.data.bag import choose_topic
from egowm_core.data.values import IMAGE_TYPES, JOINT_STATE, ODOMETRY, POSE_STAMPED, ImageValue, Stamped, TwistValue
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import DataError
from tests.training import lerobot_fixtures as sets
from tests.training.dataset_fixtures import build, number_of, robot
from training.dataset.video import VideoCodec
from training.sources.find import find_sources
from training.sources.lerobot import LeRobotEpisode
from training.sources.lerobot_meta import Feature
from training.sources.lerobot_vectors import vectors

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "g1_inspire"
STATE, CAMERA, ROBOT_CAMERA = "observation.state", sets.CAMERA, "observation.images.front"


def values(root: Path, episode: int, topics: list[str]) -> list[Stamped]:
    with LeRobotEpisode(root, episode) as recording:
        return list(recording.read(topics))


def numbers(items: list[Stamped]) -> list[int]:
    return [number_of(item.value.decode()) for item in items if isinstance(item.value, ImageValue)]


def notes(root: Path, episode: int = 0) -> str:
    with LeRobotEpisode(root, episode) as recording:
        list(recording.read(list(recording.topics)))
        return "\n".join(recording.notes)


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_an_episode_of_v21_gives_every_row_its_stamp_and_its_frame(tmp_path, codec):
    root = sets.build_v21(tmp_path / "arm", codec=codec)
    with LeRobotEpisode(root, 1) as recording:
        assert (recording.name, recording.task, list(recording.notes)) == ("arm__episode_000001", "wipe", [])
        assert recording.duration_s == pytest.approx(0.6)
        assert {name: (topic.type, topic.count) for name, topic in recording.topics.items()} == {
            "action": (JOINT_STATE, 7),
            CAMERA: (IMAGE_TYPES[1], 7),
            STATE: (JOINT_STATE, 7),
        }
        items = list(recording.read([CAMERA, STATE]))
        again = list(recording.read([STATE, CAMERA]))
    assert [item.topic for item in items] == [STATE, CAMERA] * 7
    assert [item.topic for item in again] == [STATE, CAMERA] * 7
    stamps = [1_000_000_000 + round(float(np.float32(row / 10)) * 1e9) for row in range(7)]
    assert [item.stamp_ns for item in items] == [item.stamp_ns for item in again] == np.repeat(stamps, 2).tolist()
    assert [item.value.positions for item in items[::2]] == [
        dict(zip(sets.NAMES, sets.state(1, row), strict=True)) for row in range(7)
    ]
    assert numbers(items) == numbers(again) == list(range(100, 107))
    assert items[1].value.decode().dtype == np.uint8
    assert items[1].value.message.format == codec


def test_reading_may_stop_early_and_start_anew(tmp_path):
    with LeRobotEpisode(sets.build_v21(tmp_path / "arm"), 2) as recording:
        reading = recording.read([CAMERA])
        first = [next(reading), next(reading)]
        assert numbers(list(recording.read([CAMERA]))) == list(range(200, 209))
        assert numbers([*first, *reading]) == list(range(200, 209))


def test_episodes_of_v3_share_files_and_keep_their_own_frames(tmp_path):
    made = build(tmp_path / "room", codec=VideoCodec("lossless"))
    for index, episode in enumerate(made):
        items = values(tmp_path / "room", index, [ROBOT_CAMERA, STATE, "odom"])
        pictures = [item for item in items if isinstance(item.value, ImageValue)]
        assert [item.stamp_ns for item in pictures] == episode.stamps_ns.tolist()  # stamp_ns, as we wrote it
        np.testing.assert_array_equal([item.value.decode() for item in pictures], episode.frames)
        poses = [item.value for item in items if item.topic == "odom"]
        np.testing.assert_array_equal(np.array([pose.pose for pose in poses], np.float32), episode.states)
        assert np.isnan(poses[0].twist).all() and poses[0].pose6 is None
    with LeRobotEpisode(tmp_path / "room", 3) as recording:
        assert (recording.task, recording.topics["odom"].type) == ("turn", ODOMETRY)


def test_another_programs_v3_dataset_is_stamped_by_its_timestamps(tmp_path):
    build(tmp_path / "room")
    shutil.rmtree(tmp_path / "room/egowm")
    items = values(tmp_path / "room", 2, [ROBOT_CAMERA])
    assert [item.stamp_ns for item in items] == [1_000_000_000 + i * 250_000_000 for i in range(20)]
    assert numbers(items) == list(range(11, 31))


@pytest.mark.parametrize(("codec", "pixels"), [("libx264", "yuv444p"), ("mpeg4", "yuv420p")])
def test_frames_stored_out_of_order_are_found_in_the_middle_of_a_file(tmp_path, codec, pixels):
    """Two episodes in a file of other encoders' kind: B-frames, and keyframes where seeking may go past the start."""
    build(tmp_path / "room", lengths=((11, 20), (5,)))
    (file,) = (tmp_path / "room/videos").glob("*/chunk-000/file-000.mp4")
    with av.open(str(file)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=4, options={"bf": "2", "g": "10"})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pixels
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    assert numbers(values(tmp_path / "room", 1, [ROBOT_CAMERA])) == list(range(11, 31))
    assert numbers(values(tmp_path / "room", 0, [ROBOT_CAMERA])) == list(range(11))


def test_only_the_episodes_own_part_of_a_file_is_decoded(tmp_path):
    """What comes before it in the file is destroyed, and nobody notices."""
    build(tmp_path / "room", codec=VideoCodec("lossless"))
    (file,) = (tmp_path / "room/videos").glob("*/chunk-000/file-000.mp4")
    with av.open(str(file)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos is not None]
    data = bytearray(file.read_bytes())
    for packet in packets[:11]:  # of episodes 0 and 1
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    file.write_bytes(data)
    assert numbers(values(tmp_path / "room", 2, [ROBOT_CAMERA])) == list(range(11, 31))
    with pytest.raises(DataError):
        numbers(values(tmp_path / "room", 0, [ROBOT_CAMERA]))


def test_the_state_is_chosen_and_not_the_action(tmp_path):
    with LeRobotEpisode(sets.build_v21(tmp_path / "arm"), 0) as recording:
        for wanted in ("joint_states", "arm/joints"):
            assert choose_topic(recording.topics, wanted, (JOINT_STATE,)).name == STATE
        assert choose_topic(recording.topics, "camera/head/image_raw", IMAGE_TYPES).name == CAMERA


def test_of_several_cameras_one_is_asked_for(tmp_path):
    cameras = ["observation.images.left", "observation.images.right"]
    root = sets.build_v21(tmp_path / "arm", cameras=cameras)
    with LeRobotEpisode(root, 0) as recording:
        with pytest.raises(DataError, match=r"observation.images.left .*choose one with --image-topic"):
            choose_topic(recording.topics, "camera/image", IMAGE_TYPES, option="--image-topic")
        assert [item.topic for item in recording.read(cameras)][:4] == cameras * 2
    sets.video_file(root, 0, cameras[1]).unlink()
    with LeRobotEpisode(root, 0) as recording:
        assert choose_topic(recording.topics, "camera/image", IMAGE_TYPES).name == cameras[0]
        missing = f"videos/chunk-000/{cameras[1]}/episode_000000.mp4"
        assert recording.notes == [f"{cameras[1]} is not offered: {missing} is missing"]
    assert find_sources([root])[0].episode == 0


@pytest.mark.parametrize(
    "names", [["a", "b", "c"], [["a"], ["b", "c"]], {"motors": ["a", "b", "c"]}, {"c": 2, "a": 0, "b": 1}]
)
def test_names_are_understood_however_they_are_nested(tmp_path, names):
    root = sets.build_v21(tmp_path / "arm", (3,))
    sets.rename(root, names)
    assert list(values(root, 0, [STATE])[0].value.positions) == ["a", "b", "c"]


@pytest.mark.parametrize(("names", "told"), [(None, "no names for 3 values"), (["a", "b"], "2 names for 3 values")])
def test_values_without_names_are_numbered_and_that_is_told(tmp_path, names, told):
    root = sets.build_v21(tmp_path / "arm", (3,))
    sets.rename(root, names)
    assert list(values(root, 0, [STATE])[0].value.positions) == ["state_0", "state_1", "state_2"]
    assert told in notes(root)


def test_a_repeated_name_counts_where_its_values_agree():
    feature = Feature(STATE, "float32", (3,), ("a", "b", "a"), depth=False)
    ((vector,), told) = vectors([feature], 1)
    assert told == []
    assert vector.build(np.array([1.0, 2.0, 1.0])).positions == {"a": 1.0, "b": 2.0}
    differing = vector.build(np.array([1.0, 2.0, 3.0]))
    assert (differing.positions, differing.repeated) == ({"b": 2.0}, ("a",))


def test_poses_and_twists_are_made_of_the_fields_that_are_there():
    names = ("z", "x", "y", "roll", "pitch", "yaw", "linear.x", "angular.z")
    found, _ = vectors([Feature(STATE, "float64", (8,), names, depth=False)], 5)
    row = np.arange(8.0)
    made = {vector.topic.name: vector.build(row) for vector in found}
    assert {vector.topic.name: vector.topic.count for vector in found} == dict.fromkeys(
        (STATE, "odom", "pose", "twist"), 5
    )
    assert made["odom"].pose.tolist() == [1, 2, 5]
    assert made["odom"].pose6.tolist() == made["pose"].pose6.tolist() == [1, 2, 0, 3, 4, 5]
    np.testing.assert_array_equal(made["odom"].twist, [6, np.nan, 7])
    assert isinstance(made["twist"], TwistValue) and made["twist"].twist.tolist() == [6, 0, 7]
    assert {topic.type for topic in (vector.topic for vector in found)} >= {ODOMETRY, POSE_STAMPED}


def test_our_own_joints_go_by_the_names_that_the_robot_gave_them(tmp_path):
    embodiment = robot(5.0, "unitree_g1_26")
    made = build(tmp_path / "g1", lengths=((4,),), tasks=("wave",), embodiment=embodiment, states=26)
    items = values(tmp_path / "g1", 0, [STATE])
    assert tuple(items[0].value.positions) == tuple(state.source for state in load_embodiment("unitree_g1_26").states)
    np.testing.assert_array_equal(list(items[3].value.positions.values()), made[0].states[3].astype(float))


def test_pictures_in_the_table_or_beside_it_are_read_too(tmp_path):
    root = sets.build_v21(tmp_path / "arm", (4,), stored=True)
    assert numbers(values(root, 0, [CAMERA])) == [0, 1, 2, 3]
    (root / "images").mkdir()
    (root / "images/2.png").write_bytes(sets.png(2))
    (tmp_path / "outside.png").write_bytes(sets.png(3))
    paths = ["images/2.png", "images/absent.png", "../outside.png", str(tmp_path / "outside.png")]
    rows = {**sets.columns(0, 4), CAMERA: [{"bytes": None, "path": path} for path in paths]}
    sets.write_rows(sets.data_file(root, 0), rows)
    with LeRobotEpisode(root, 0) as recording:
        items = list(recording.read([CAMERA]))
        assert recording.skipped[CAMERA] == 3
    assert (numbers(items), [item.stamp_ns for item in items]) == ([2], [1_000_000_000])


def test_a_cut_video_gives_what_comes_before_the_cut(tmp_path):
    """Frames come one by one: were they all decoded first, none would come."""
    build(tmp_path / "room", lengths=((60,),), tasks=("drive",), codec=VideoCodec("lossless"))
    (file,) = (tmp_path / "room/videos").glob("*/chunk-000/file-000.mp4")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    seen: list[Stamped] = []
    with LeRobotEpisode(tmp_path / "room", 0) as recording, pytest.raises(DataError, match=r"file-000\.mp4"):
        seen.extend(recording.read([ROBOT_CAMERA]))
    # extend keeps what came before the error
    assert 10 < len(seen) < 60
    assert numbers(seen[:5]) == [0, 1, 2, 3, 4]


def test_an_unknown_topic_and_a_closed_episode_say_so(tmp_path):
    root = sets.build_v21(tmp_path / "arm")
    with pytest.raises(DataError, match=r"no topic 'observation.stat'; did you mean 'observation.state'"):
        values(root, 0, ["observation.stat"])
    with pytest.raises(DataError, match="is not open"):
        list(LeRobotEpisode(root, 0).read([STATE]))
    with pytest.raises(DataError, match=r"no episode 3; meta/ lists 0 to 2"), LeRobotEpisode(root, 3):
        pass


def test_depth_maps_and_several_tasks_are_told(tmp_path):
    root = sets.build_v21(tmp_path / "arm", cameras=(CAMERA, "observation.images.far"))
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["observation.images.far"]["info"] = {"video.is_depth_map": True}
    sets.edit_info(root, features=features)
    sets.write_rows(sets.data_file(root, 0), {**sets.columns(0, 12), "task_index": [1] * 6 + [0] * 6})
    with LeRobotEpisode(root, 0) as recording:
        assert "observation.images.far" not in recording.topics
        assert recording.task == "wipe"
        assert len(recording.notes) == 2
    assert "depth map" in notes(root) and "2 tasks, 'wipe', 'pour'" in notes(root)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared recordings are not here")
def test_a_real_humanoids_episode_is_read():
    with LeRobotEpisode(SHARED, 1) as recording:
        image = choose_topic(recording.topics, "camera/head/image_raw", IMAGE_TYPES)
        joints = choose_topic(recording.topics, "joint_states", (JOINT_STATE,))
        assert (joints.name, recording.task) == (STATE, "Pick up the yellow bottle on the table.")
        items = list(recording.read([image.name, joints.name]))
        assert "76 of the 100 episodes" in recording.notes[0]
    table = pq.read_table(SHARED / "data/chunk-000/episode_000001.parquet")
    seconds = np.array([item.stamp_ns for item in items[::2]]) * 1e-9 - 1.0
    np.testing.assert_allclose(seconds, table["timestamp"].to_numpy(), atol=1e-9)
    measured = [list(item.value.positions.values()) for item in items[::2]]
    np.testing.assert_array_equal(np.array(measured, np.float32), np.array(table[STATE].to_pylist(), np.float32))
    assert list(items[0].value.positions)[3] == "kLeftElbow"
    assert len(items) == 2 * 393
    picture = items[-1].value.decode()
    assert picture.shape == (480, 640, 3) and picture.std() > 10

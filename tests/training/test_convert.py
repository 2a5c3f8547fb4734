"""egowm-convert on real bags with known motion: exact actions, the live path's arrays, failures and resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader

from egowm_core.data.images import decode_image
from egowm_core.data.messages import odometry_pose, stamp_ns
from egowm_core.data.preprocess import Preprocess
from egowm_core.data.sync import TickSynchronizer
from egowm_core.data.window import ContextBuffer
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError, EmbodimentError
from egowm_core.geometry import se2_delta
from tests.training import bag_fixtures as bags
from tests.training.trees import tree
from training.convert.cli import main
from training.convert.options import ConvertOptions
from training.convert.run import convert
from training.curation.config import load_curation
from training.dataset.reader import Dataset, Episode
from training.dataset.video import VideoCodec
from training.sources.find import find_sources

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bags"
BASE = load_embodiment("base_3dof")
ALL = load_curation("none")  # the pictures of these bags jump from each to the next
OPTIONS = ConvertOptions(embodiment=BASE, curation=ALL, codec=VideoCodec("lossless"))
CIRCLE = [0.4 / 0.3 * np.sin(0.075), 0.4 / 0.3 * (1 - np.cos(0.075)), 0.075]  # a tick of known_pose

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real recordings are not here")


def options(**changes: object) -> ConvertOptions:
    return replace(OPTIONS, **changes)


def episodes_of(dataset: Path) -> list[Episode]:
    return Dataset(dataset).episodes


@pytest.mark.parametrize(("storage", "raw"), [("mcap", False), ("mcap", True), ("sqlite3", False)])
def test_known_motion_gives_exact_actions_and_frames(tmp_path, storage, raw):
    bag = bags.drive(tmp_path / "run", storage=storage, raw=raw)
    result = convert([bag], tmp_path / "out", OPTIONS)
    (episode,) = episodes_of(tmp_path / "out")
    assert len(episode) == 24
    np.testing.assert_allclose(episode.actions, np.tile(CIRCLE, (23, 1)), atol=1e-6)
    assert np.diff(episode.stamps_ns).tolist() == [250_000_000] * 23
    assert episode.stamps_ns[0] == bags.START_NS
    if raw:
        expected = np.stack([Preprocess(96, 128)(bags.scene(i)) for i in range(0, 48, 2)])
        np.testing.assert_array_equal(episode.frames(), expected)
    row = result["rows"]["run"]
    assert (row["frames_in"], row["ticks"], row["kept"], row["dropped"], row["reasons"]) == (48, 24, 24, 0, {})
    assert (row["segments"], row["episodes"], row["tick_rate_hz"]) == (1, 1, 4.0)


def test_the_dataset_describes_itself(tmp_path):
    bags.drive(tmp_path / "in" / "a")
    bags.drive(tmp_path / "in" / "b", seconds=8)
    convert([tmp_path / "in"], tmp_path / "out", options(task="drive in a circle"))
    dataset = Dataset(tmp_path / "out")
    dataset.check()
    assert (len(dataset.episodes), dataset.num_frames, dataset.rate_hz) == (2, 56, 4.0)
    assert [entry["recording"] for entry in dataset.entries] == ["a", "b"]
    assert [episode.task for episode in dataset.episodes] == ["drive in a circle"] * 2
    assert dataset.embodiment == BASE
    assert dataset.norm_stats.count == 23 + 31
    assert dataset.norm_stats.channels["dyaw"].mean == pytest.approx(0.075, abs=1e-6)
    texts = [f.read_text() for f in (tmp_path / "out").rglob("*") if f.suffix in (".json", ".yaml", ".html")]
    assert len(texts) > 6
    assert not any(str(tmp_path) in text for text in texts)


def test_the_converter_and_the_live_path_give_equal_arrays(tmp_path):
    """Contract: one preprocess, one window. The second path is what a node does, one message at a time."""
    bag = bags.drive(tmp_path / "run", seconds=8, image_hz=9.0, odom_hz=33.0)
    convert([bag], tmp_path / "out", options(embodiment=BASE, lag=0.1))
    (episode,) = episodes_of(tmp_path / "out")
    context, horizon = 2, 4

    sync = TickSynchronizer.for_embodiment(BASE, image_lag_s=0.1)
    preprocess, buffer = Preprocess.for_camera(BASE.camera()), ContextBuffer(context, horizon)
    live = []
    with AnyReader([bag]) as reader:
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            ticks = []
            if connection.topic == "/image/compressed":
                ticks = sync.add_image(stamp_ns(message), lambda m=message: preprocess(decode_image(m)))
            elif connection.topic == "/odom":
                ticks = sync.add_pose(stamp_ns(message), odometry_pose(message))
            for tick in ticks:
                buffer.push(tick)
                if (sample := buffer.hindsight()) is not None:
                    live.append(sample)

    starts = episode.windows(context, horizon)
    assert len(live) == len(starts) > 10
    for start, sample in zip(starts, live, strict=True):
        stored = episode.sample(int(start), context=context, horizon=horizon)
        for name in stored.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(sample, name), getattr(stored, name))
            assert getattr(sample, name).dtype == getattr(stored, name).dtype


def test_truth_travels_with_its_frames(tmp_path):
    bag = bags.drive(tmp_path / "run", truth=True)
    convert([bag], tmp_path / "out", OPTIONS)
    (episode,) = episodes_of(tmp_path / "out")
    assert episode.segmentation is not None
    assert episode.structures == {"1": {"name": "left", "static": True}}
    assert episode.segmentation.shape == (24, 96, 128)
    shares = (episode.segmentation == 1).mean(axis=(1, 2))
    np.testing.assert_allclose(shares, [(1 + 2 * i) / 80 for i in range(24)], atol=0.01)
    assert not convert([bag], tmp_path / "out", OPTIONS)["failed"]


def test_a_broken_truth_image_costs_the_truth_and_not_the_frames(tmp_path):
    messages = []
    for i in range(48):
        stamp = bags.START_NS + i * 125_000_000
        label = bags.png16(stamp, np.ones((60, 80), np.uint16))
        if i == 20:
            label.data = label.data[:50]
        messages.append((stamp, "/image/compressed", bags.jpeg(stamp, bags.scene(i))))
        messages.append((stamp, "/truth/segmentation/compressed", label))
        messages.append((stamp, "/odom", bags.odometry(stamp, bags.known_pose(i / 8))))
    messages.append((bags.START_NS, "/truth/structures", bags.text({"1": {"name": "left", "static": True}})))
    bag = bags.write_bag(tmp_path / "run", messages)
    row = convert([bag], tmp_path / "out", OPTIONS)["rows"]["run"]
    assert (row["kept"], row["has_truth"], row["reasons"]) == (24, False, {"truth undecodable": 1})


def test_a_bad_bag_stops_nothing_and_is_named(tmp_path, capsys):
    for name in ("a", "c"):
        bags.drive(tmp_path / "in" / name)
    bad = bags.drive(tmp_path / "in" / "b")
    (storage,) = bad.glob("*.mcap")
    storage.write_bytes(storage.read_bytes()[:-5000])
    broken = tmp_path / "in" / "d.mcap"
    broken.write_bytes(b"not a recording")
    status = main(
        [
            str(tmp_path / "in"),
            str(tmp_path / "out"),
            "--workers",
            "1",
            "--curate",
            "none",
            "--json",
            str(tmp_path / "f.json"),
        ]
    )
    captured = capsys.readouterr()
    assert status == 1
    figures = json.loads((tmp_path / "f.json").read_text())
    assert sorted(figures["rows"]) == ["a", "b", "c"]  # the readable part of b
    assert sorted(figures["failed"]) == ["d"]
    (failure,) = [line for line in captured.out.splitlines() if line.startswith("FAILED")]
    warnings = [line for line in captured.out.splitlines() if line.startswith("warning: b:")]
    assert warnings and all("bag b is damaged" in line for line in warnings)
    assert all("mcap recover" in line for line in (failure, *warnings))
    assert [bool(figures["rows"][name]["damage"]) for name in "abc"] == [False, True, False]
    assert len(episodes_of(tmp_path / "out")) == 3
    assert not (tmp_path / "out" / ".staging").exists()
    for word in ("recording", "frames in", "ticks", "kept", "drops"):
        assert word in captured.out


def test_a_bag_that_breaks_half_way_leaves_no_episode(tmp_path):
    good = bags.drive(tmp_path / "good")
    bad = bags.drive(tmp_path / "bad", seconds=30)
    (storage,) = bad.glob("*.mcap")
    content = bytearray(storage.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    storage.write_bytes(content)
    result = convert([good, bad], tmp_path / "out", OPTIONS)
    assert set(result["failed"]) | set(result["rows"]) == {"good", "bad"}
    assert "good" in result["rows"]
    recordings = {episode.recording for episode in episodes_of(tmp_path / "out")}
    assert recordings == set(result["rows"])


def test_running_again_resumes_and_equals_one_run(tmp_path):
    for name in "abcd":
        bags.drive(tmp_path / "in" / name, seconds=3 + ord(name) % 3)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    convert([tmp_path / "in"], whole, OPTIONS)
    convert([tmp_path / "in" / "a", tmp_path / "in" / "b"], parts, OPTIONS)
    video = next(parts.glob("videos/*/chunk-000/file-000.mp4"))
    before = video.stat().st_mtime_ns
    result = convert([tmp_path / "in"], parts, OPTIONS)
    assert result["skipped"] == ["a", "b"]
    assert sorted(result["rows"]) == list("abcd")
    assert video.stat().st_mtime_ns == before
    assert tree(whole) == tree(parts)
    assert convert([tmp_path / "in"], parts, OPTIONS)["skipped"] == list("abcd")
    assert tree(whole) == tree(parts)


def test_another_recording_of_the_same_name_is_not_taken_for_the_first(tmp_path):
    bags.drive(tmp_path / "monday" / "run")
    bags.drive(tmp_path / "tuesday" / "run", seconds=8)
    convert([tmp_path / "monday"], tmp_path / "out", OPTIONS)
    result = convert([tmp_path / "tuesday"], tmp_path / "out", OPTIONS)
    assert "another recording" in result["failed"]["run"]
    assert result["totals"]["frames"] == 24


def test_workers_change_nothing(tmp_path):
    for name in "abc":
        bags.drive(tmp_path / "in" / name, seconds=4)
    convert([tmp_path / "in"], tmp_path / "one", OPTIONS)
    convert([tmp_path / "in"], tmp_path / "two", OPTIONS, workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_dataset_made_otherwise_is_refused(tmp_path, capsys):
    bag = bags.drive(tmp_path / "run")
    convert([bag], tmp_path / "out", OPTIONS)
    with pytest.raises(EmbodimentError, match=r"rate: expected 4 Hz, got 2 Hz|rate: expected 2 Hz, got 4 Hz"):
        convert([bag], tmp_path / "out", options(embodiment=BASE.with_rate(2.0)))
    with pytest.raises(ConfigError, match="min_length 9, now it is 5"):
        convert([bag], tmp_path / "out", options(embodiment=BASE, min_length=5))
    assert main([str(bag), str(tmp_path / "out"), "--rate-hz", "2", "--curate", "none"]) == 2
    assert "rate" in capsys.readouterr().err


def test_segments_are_cut_and_short_ones_dropped(tmp_path):
    messages = []
    for start_s, count in ((0, 40), (20, 12), (40, 60)):  # images at 8 Hz: 20, 6 and 30 ticks
        for i in range(count):
            stamp = bags.START_NS + round((start_s + i / 8) * 1e9)
            messages.append((stamp, "/image/compressed", bags.jpeg(stamp, bags.scene(i))))
    for i in range(50 * 20):
        stamp = bags.START_NS + i * 50_000_000
        messages.append((stamp, "/odom", bags.odometry(stamp, bags.known_pose(i / 20))))
    bag = bags.write_bag(tmp_path / "run", sorted(messages, key=lambda m: m[0]))
    row = convert([bag], tmp_path / "out", OPTIONS)["rows"]["run"]
    assert [len(episode) for episode in episodes_of(tmp_path / "out")] == [20, 30]
    assert (row["segments"], row["episodes"], row["ticks"], row["kept"], row["dropped"]) == (3, 2, 56, 50, 6)
    assert row["reasons"] == {"image gap (break)": 2, "segment too short": 6}


def test_long_segments_are_split_with_nothing_lost(tmp_path):
    bag = bags.drive(tmp_path / "run", seconds=8, truth=True)
    result = convert([bag], tmp_path / "out", options(embodiment=BASE, min_length=2, max_length=10))
    episodes = episodes_of(tmp_path / "out")
    assert [len(e) for e in episodes] == [10, 10, 10, 2]
    assert all(e.segmentation is not None for e in episodes)
    stamps = np.concatenate([e.stamps_ns for e in episodes])
    assert np.diff(stamps).tolist() == [250_000_000] * 31
    assert result["rows"]["run"]["segments"] == 1


def test_topics_are_found_whatever_the_namespace(tmp_path):
    bag = bags.drive(tmp_path / "run", prefix="/robot_3/front")
    row = convert([bag], tmp_path / "out", OPTIONS)["rows"]["run"]
    assert (row["image_topic"], row["motion_topic"]) == ("/robot_3/front/image/compressed", "/robot_3/front/odom")


def two_cameras(path: Path) -> Path:
    messages = []
    for i in range(40):
        stamp = bags.START_NS + i * 125_000_000
        for topic in ("/left/camera", "/right/camera"):
            messages.append((stamp, topic, bags.image(stamp, bags.scene(i))))
        messages.append((stamp, "/odom", bags.odometry(stamp, bags.known_pose(i / 8))))
    return bags.write_bag(path, messages)


def test_several_cameras_must_be_chosen_from(tmp_path):
    bag = two_cameras(tmp_path / "run")
    message = convert([bag], tmp_path / "out", OPTIONS)["failed"]["run"]
    assert "/left/camera" in message
    assert "/right/camera" in message
    assert "--image-topic" in message
    chosen = options(embodiment=BASE, image_topic="left/camera")
    assert convert([bag], tmp_path / "out", chosen)["rows"]["run"]["image_topic"] == "/left/camera"
    wrong = options(embodiment=BASE, image_topic="/left/camra")
    assert "did you mean '/left/camera'" in convert([bag], tmp_path / "out2", wrong)["failed"]["run"]


def test_commands_alone_are_integrated_only_when_named(tmp_path):
    messages = []
    for i in range(100):
        stamp = bags.START_NS + i * 50_000_000
        messages.append((stamp, "/image/compressed", bags.jpeg(stamp, bags.scene(i))))
        messages.append((stamp, "/cmd_vel", bags.twist((0.4, 0, 0.3))))
    bag = bags.write_bag(tmp_path / "run", messages)
    message = convert([bag], tmp_path / "out", OPTIONS)["failed"]["run"]
    assert "--motion-topic /cmd_vel" in message
    convert([bag], tmp_path / "out", options(embodiment=BASE, motion_topic="cmd_vel"))
    (episode,) = episodes_of(tmp_path / "out")
    np.testing.assert_allclose(episode.actions, np.tile(CIRCLE, (len(episode) - 1, 1)), atol=1e-4)


def turning_bag(path: Path, *, late_frames: int) -> Path:
    """A camera that pans over a texture as the robot swings, its picture ``late_frames`` old."""
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 256, (12, 120), np.uint8), np.ones((5, 5), np.uint8))
    texture = np.dstack([texture] * 3)
    yaws = [0.8 * np.sin(i / 5) + 0.3 * np.sin(i / 1.7) for i in range(160)]
    messages = []
    for i, yaw in enumerate(yaws):
        stamp = bags.START_NS + i * 250_000_000
        at = 250 - round(80 * yaws[max(0, i - late_frames)])  # turning left shows what is further left
        messages.append((stamp, "/image/compressed", bags.jpeg(stamp, texture[:, at : at + 80])))
        messages.append((stamp, "/odom", bags.odometry(stamp, (0.1 * i, 0, yaw))))
    return bags.write_bag(path, messages)


@pytest.mark.parametrize("late_frames", [0, 2])
def test_a_late_camera_is_found_told_and_on_request_corrected(tmp_path, late_frames):
    bag = turning_bag(tmp_path / "run", late_frames=late_frames)
    row = convert([bag], tmp_path / "out", OPTIONS)["rows"]["run"]
    lag = row["lag"]
    assert (lag["frames"], lag["corrected_s"]) == (late_frames, 0.0)
    assert lag["confidence"] > 0.7
    assert any("LAG NOT CORRECTED" in warning for warning in row["warnings"]) == bool(late_frames)

    lag = convert([bag], tmp_path / "fixed", options(lag="correct"))["rows"]["run"]["lag"]
    assert lag["corrected_s"] == pytest.approx(0.25 * late_frames)
    assert lag["correlation_after"] >= lag["correlation_before"] + (0.2 if late_frames else 0)


def test_the_actions_of_a_late_camera_are_those_of_its_pictures(tmp_path):
    wide = load_embodiment("base_3dof").to_dict()
    wide["channels"][2]["limits"] = [-1.0, 1.0]
    robot = type(BASE).from_dict(wide)
    datasets = []
    for late in (0, 2):
        bag = turning_bag(tmp_path / f"late{late}", late_frames=late)
        convert([bag], tmp_path / f"out{late}", options(embodiment=robot, lag="correct"))
        (episode,) = episodes_of(tmp_path / f"out{late}")
        datasets.append(episode)
    np.testing.assert_allclose(datasets[1].actions, datasets[0].actions[: len(datasets[1].actions)], atol=1e-6)


def test_joints_are_converted_as_differences(tmp_path):
    joint_state = bags.T["sensor_msgs/msg/JointState"]
    messages = []
    for i in range(60):
        stamp = bags.START_NS + i * 50_000_000
        state = joint_state(
            header=bags.header(stamp),
            name=["wrist", "elbow"],
            position=np.array([0.02 * i, -0.01 * i]),
            velocity=np.zeros(0),
            effort=np.zeros(0),
        )
        messages.append((stamp, "/joint_states", state))
        messages.append((stamp, "/head/image", bags.image(stamp, bags.scene(i))))
    bag = bags.write_bag(tmp_path / "run", messages)
    arm = BASE.to_dict()
    channel = {"unit": "rad", "kind": "delta", "limits": [-0.5, 0.5], "scale": 0.1}
    arm.update(
        name="arm",
        integrate="sum",
        action_source={"topic": "joint_states", "type": "sensor_msgs/msg/JointState"},
        channels=[{"name": "ELBOW", "source": "elbow", **channel}, {"name": "wrist", **channel}],
    )
    (tmp_path / "arm.yaml").write_text(yaml.safe_dump(arm))
    assert main([str(bag), str(tmp_path / "out"), "--embodiment", str(tmp_path / "arm.yaml"), "--curate", "none"]) == 0
    (episode,) = episodes_of(tmp_path / "out")
    np.testing.assert_allclose(episode.actions, np.tile([-0.05, 0.1], (len(episode) - 1, 1)), atol=1e-6)
    arm["channels"][0]["source"] = "elbo"
    robot = type(BASE).from_dict(arm)
    message = convert([bag], tmp_path / "out2", options(embodiment=robot))["failed"]["run"]
    assert "joint 'elbo'" in message
    assert "did you mean 'elbow'" in message


def test_unusable_recordings_say_why(tmp_path):
    still = bags.drive(tmp_path / "short", seconds=1)
    message = convert([still], tmp_path / "out", OPTIONS)["failed"]["short"]
    assert "no episode of 9 frames" in message
    assert "8 images gave 4 ticks" in message
    slow = bags.drive(tmp_path / "slow", seconds=20, image_hz=1.0)
    assert "image gap" in convert([slow], tmp_path / "out", OPTIONS)["failed"]["slow"]
    fast = bags.write_bag(
        tmp_path / "fast",
        [
            m
            for i in range(60)
            for s in [bags.START_NS + i * 125_000_000]
            for m in ((s, "/image", bags.image(s, bags.scene(i))), (s, "/odom", bags.odometry(s, (0.5 * i, 0, 0))))
        ],
    )
    message = convert([fast], tmp_path / "out", OPTIONS)["failed"]["fast"]
    assert "dx up to 1 m (limit 0.2)" in message


def test_another_rate_is_stretched(tmp_path):
    bag = bags.drive(tmp_path / "run", seconds=12)
    assert main([str(bag), str(tmp_path / "out"), "--rate-hz", "2", "--curate", "none"]) == 0
    (episode,) = episodes_of(tmp_path / "out")
    assert Dataset(tmp_path / "out").rate_hz == 2.0
    np.testing.assert_allclose(episode.actions[:, 2], 0.15, atol=1e-6)
    assert load_embodiment(tmp_path / "out" / "embodiment.yaml").scales[0] == pytest.approx(0.3)


def test_equal_names_are_told_apart(tmp_path):
    for parent in ("monday", "tuesday"):
        bags.drive(tmp_path / parent / "run")
    bags.drive(tmp_path / "other")
    assert [source.name for source in find_sources([tmp_path])] == ["monday__run", "other", "tuesday__run"]


def test_bare_files_and_folders_without_metadata_are_recordings(tmp_path):
    bag = bags.drive(tmp_path / "in" / "run")
    (bag / "metadata.yaml").unlink()
    (storage,) = bag.glob("*.mcap")
    for path in (storage, tmp_path / "in"):
        assert [source.name for source in find_sources([path])] == [storage.stem]
    assert convert([storage], tmp_path / "out", OPTIONS)["totals"]["frames"] == 24


def test_the_command_line_refuses_nonsense(tmp_path, capsys):
    bag = bags.drive(tmp_path / "run", seconds=3)
    for arguments, message in [
        ([str(tmp_path / "absent"), str(tmp_path / "out")], "does not exist"),
        ([str(bag), str(tmp_path / "out"), "--embodiment", "base_3dov"], "did you mean 'base_3dof'"),
        ([str(bag), str(tmp_path / "out"), "--lag", "late"], "none of report, correct and a number"),
        ([str(bag), str(tmp_path / "out"), "--min-length", "1"], "min_length 1"),
    ]:
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(bag)])
    assert not (tmp_path / "out").exists()


@needs_shared
@pytest.mark.parametrize("name", ["gostanford_no1vc_7_1", "gostanford_no1vc_9_1"])
def test_a_real_robot_converts_and_its_lag_is_found(tmp_path, name):
    robot = BASE.with_rate(3.0)
    row = convert([SHARED / name], tmp_path / "out", ConvertOptions(embodiment=robot, lag="correct"))["rows"][name]
    lag = row["lag"]
    assert lag["frames"] == 2
    assert lag["correlation_before"] < 0.5
    assert lag["correlation_after"] > 0.9
    assert row["kept"] > 0.9 * row["frames_in"]
    assert row["tick_rate_hz"] == pytest.approx(3.0, abs=0.01)
    for episode in episodes_of(tmp_path / "out"):
        robot.validate_actions(episode.actions)
        assert episode.frames().std() > 10


@needs_shared
def test_a_real_recording_without_odometry_says_what_to_do(tmp_path):
    message = convert([SHARED / "donkeycar_tub"], tmp_path / "out", OPTIONS)["failed"]["donkeycar_tub"]
    assert "nav_msgs/msg/Odometry" in message
    assert "--motion-topic /cmd_vel" in message


def test_known_pose_is_what_the_tests_say():
    poses = np.array([bags.known_pose(i / 4) for i in range(5)])
    np.testing.assert_allclose(se2_delta(poses[:-1], poses[1:]), np.tile(CIRCLE, (4, 1)), atol=1e-12)

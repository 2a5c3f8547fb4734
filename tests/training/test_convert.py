"""egowm-convert on bags with known motion: exact actions, the live path's arrays, and running it again."""

from __future__ import annotations

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
from tests.training.convert_fixtures import BASE, CIRCLE, OPTIONS, episodes_of, options
from tests.training.trees import tree
from training.convert.cli import main
from training.convert.run import convert
from training.dataset.reader import Dataset


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


def test_another_rate_is_stretched(tmp_path):
    bag = bags.drive(tmp_path / "run", seconds=12)
    assert main([str(bag), str(tmp_path / "out"), "--rate-hz", "2", "--curate", "none"]) == 0
    (episode,) = episodes_of(tmp_path / "out")
    assert Dataset(tmp_path / "out").rate_hz == 2.0
    np.testing.assert_allclose(episode.actions[:, 2], 0.15, atol=1e-6)
    assert load_embodiment(tmp_path / "out" / "embodiment.yaml").scales[0] == pytest.approx(0.3)


def test_known_pose_is_what_the_tests_say():
    poses = np.array([bags.known_pose(i / 4) for i in range(5)])
    np.testing.assert_allclose(se2_delta(poses[:-1], poses[1:]), np.tile(CIRCLE, (4, 1)), atol=1e-12)

"""The recipes for public data sets: their embodiments hold what was published, and their scripts write whole bags."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from egowm_core.data.normalize import normalize
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import DataError
from training.recipes import one_x_to_bags, recon_to_bags
from training.recipes.bags import START_NS, new_bag
from training.recipes.one_x_to_bags import write_shard
from training.recipes.recon_to_bags import write_trajectory

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
EMBODIMENTS = sorted(path.stem for path in RECIPES.glob("*.yaml"))
PUBLISHED = {  # waypoint spacing in m, ticks per second, forward and sideways channel
    "recon": (0.25, 4 / 5, "dx", "dy"),
    "scand": (0.38, 4.0, "dx", "dy"),
    "tartandrive": (0.72, 4.0, "dy", "dx"),
}
FORWARD, SIDEWAYS = (-2.5, 5.0), (-4.0, 4.0)  # what the published code min-max scales, in waypoint spacings


def read(path: Path) -> list[tuple[str, int, Any]]:
    with AnyReader([path]) as reader:
        return [(c.topic, stamp, reader.deserialize(raw, c.msgtype)) for c, stamp, raw in reader.messages()]


def stamp_of(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def test_each_recipe_has_an_embodiment_a_document_and_a_line_in_the_overview() -> None:
    assert EMBODIMENTS == ["one_x", "recon", "scand", "tartandrive"]
    overview = (RECIPES / "README.md").read_text()
    for name in EMBODIMENTS:
        document = (RECIPES / f"{name}.md").read_text()
        assert f"({name}.md)" in overview
        assert "untried" in document.lower() and "https://" in document and "licence" in document.lower()
        assert f"--embodiment training/recipes/{name}.yaml" in document and "egowm-train" in document
        for linked in re.findall(r"\]\((?!https://)([^)#]+)\)", document):
            assert (RECIPES / linked).exists(), linked


@pytest.mark.parametrize("name", EMBODIMENTS)
def test_embodiments_load_and_their_scales_fit_their_limits(name: str) -> None:
    robot = load_embodiment(RECIPES / f"{name}.yaml")
    assert robot.name == name
    low, high = robot.limits.T
    assert (low < 0).all() and (high > 0).all()
    assert (np.maximum(-low, high) / robot.scales <= 4).all()
    assert robot.action_source.topic.startswith("/") and robot.camera().topic.startswith("/")


@pytest.mark.parametrize("name", PUBLISHED)
def test_bases_are_scaled_as_published(name: str) -> None:
    spacing, rate_hz, forward, sideways = PUBLISHED[name]
    robot = load_embodiment(RECIPES / f"{name}.yaml")
    assert robot.rate_hz == rate_hz and robot.integrate == "se2"
    for channel, (low, high) in ((forward, FORWARD), (sideways, SIDEWAYS)):
        ends = robot.pack({c: [low * spacing, high * spacing] if c == channel else [0, 0] for c in robot.channel_names})
        scaled = normalize(ends, robot)[:, robot.channel_names.index(channel)]
        assert scaled[1] - scaled[0] == pytest.approx(2.0)  # from -1 to 1, but for the offset


def test_one_x_takes_all_25_states_by_differences_in_their_order() -> None:
    robot, built_in = load_embodiment(RECIPES / "one_x.yaml"), load_embodiment("humanoid_25dof")
    assert [c.source for c in robot.channels] == [c.source for c in built_in.channels]
    assert [s.source for s in robot.states] == [c.source for c in robot.channels]
    assert {c.kind for c in robot.channels} == {"delta"} and robot.rate_hz == 5.0


def test_recon_becomes_a_bag_that_keeps_pictures_poses_and_order(tmp_path: Path) -> None:
    pictures = [cv2.imencode(".jpg", np.full((24, 32, 3), 9 * i, np.uint8))[1].reshape(-1) for i in range(6)]
    position = np.stack([np.arange(6) * 0.25, np.zeros(6), np.ones(6)], axis=1)
    yaw = np.linspace(0, 0.5, 6)[:, None]
    trajectory = {"jackal": {"position": position, "yaw": yaw}, "images": {"rgb_left": pictures}}
    assert write_trajectory(trajectory, tmp_path / "run_1", rate_hz=4.0) == 6
    messages = read(tmp_path / "run_1")
    assert [path.name for path in tmp_path.iterdir()] == ["run_1"]
    images = [m for topic, _, m in messages if topic == recon_to_bags.IMAGE]
    poses = [m for topic, _, m in messages if topic == recon_to_bags.ODOM]
    assert [bytes(m.data) for m in images] == [p.tobytes() for p in pictures]
    assert [stamp_of(m) for m in images] == [START_NS + i * 250_000_000 for i in range(6)]
    assert [m.pose.pose.position.x for m in poses] == pytest.approx(position[:, 0].tolist())
    turned = [2 * np.arctan2(m.pose.pose.orientation.z, m.pose.pose.orientation.w) for m in poses]
    assert turned == pytest.approx(yaw[:, 0].tolist())
    robot = load_embodiment(RECIPES / "recon.yaml")
    assert {topic for topic, _, _ in messages} == {robot.camera().topic, robot.action_source.topic}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"jackal": {"position": np.zeros((3, 3))}}, "'yaw'"),
        ({"images": {"rgb_left": [b"x"] * 4}}, "4 images"),
        ({"jackal": {"position": np.full((3, 3), np.nan), "yaw": np.zeros(3)}}, "not finite"),
    ],
)
def test_an_odd_recon_file_is_refused_and_leaves_nothing(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    good = {"jackal": {"position": np.zeros((3, 3)), "yaw": np.zeros(3)}, "images": {"rgb_left": [b"x"] * 3}}
    with pytest.raises(DataError, match=said):
        write_trajectory({**good, **change}, tmp_path / "run", rate_hz=4.0)
    assert not list(tmp_path.iterdir())


def make_shard(folder: Path, *, frames: int = 30, first: int = 18) -> Path:
    """One shard of two segments, laid out as the training split is; each frame's brightness tells its number."""
    for name in ("videos", "robot_states", "segment_indices"):
        (folder / name).mkdir(parents=True)
    with av.open(str(folder / "videos" / "video_0.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(frames):
            pixels = np.full((64, 64, 3), 20 + 7 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    states = np.arange(30 * 25, dtype=np.float32).reshape(30, 25)
    states.tofile(folder / "robot_states" / "states_0.bin")
    np.repeat([4, 7], [first, 30 - first]).astype(np.int32).tofile(folder / "segment_indices" / "segment_idx_0.bin")
    return folder / "videos" / "video_0.mp4"


def test_one_x_segments_become_bags(tmp_path: Path) -> None:
    video = make_shard(tmp_path / "raw")
    assert write_shard(video, tmp_path / "bags", keep_every=6) == 2
    assert sorted(path.name for path in (tmp_path / "bags").iterdir()) == ["000_000004", "000_000007"]
    messages = read(tmp_path / "bags" / "000_000007")
    joints = [m for topic, _, m in messages if topic == one_x_to_bags.JOINTS]
    images = [m for topic, _, m in messages if topic == one_x_to_bags.IMAGE]
    assert len(joints) == 12 and len(images) == 2
    robot = load_embodiment(RECIPES / "one_x.yaml")
    assert list(joints[0].name) == [channel.source for channel in robot.channels]
    assert joints[1].position.tolist() == list(range(19 * 25, 20 * 25))
    assert [stamp_of(m) for m in images] == [START_NS, START_NS + 200_000_000]
    brightness = [int(np.median(cv2.imdecode(m.data, cv2.IMREAD_COLOR))) for m in images]
    assert brightness == pytest.approx([20 + 7 * 18, 20 + 7 * 24], abs=3)
    assert write_shard(video, tmp_path / "bags", keep_every=6) == 0  # both are there
    assert {topic for topic, _, _ in messages} == {robot.camera().topic, robot.action_source.topic}


def test_a_shard_that_is_cut_short_is_refused_and_leaves_whole_bags_only(tmp_path: Path) -> None:
    video = make_shard(tmp_path / "raw", frames=24)
    with pytest.raises(DataError, match=r"video_0.mp4 ends at frame 24; 30 were expected"):
        write_shard(video, tmp_path / "bags", keep_every=6)
    assert [path.name for path in (tmp_path / "bags").iterdir()] == ["000_000004"]
    (tmp_path / "raw" / "robot_states" / "states_0.bin").unlink()
    with pytest.raises(DataError, match=r"no states_0.bin beside it"):
        write_shard(video, tmp_path / "bags", keep_every=6)


def test_the_scripts_end_in_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recon_to_bags.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert one_x_to_bags.main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["recon_to_bags", "one_x_to_bags"]
    make_shard(tmp_path / "raw", frames=24)
    assert one_x_to_bags.main([str(tmp_path / "raw"), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("FAILED video_0.mp4: ")


def test_a_bag_that_fails_half_way_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_bag(tmp_path / "bag") as bag:
        bag.odometry("/odom", START_NS, 0, 0, 0)
        raise KeyError("lost")
    assert not list(tmp_path.iterdir())

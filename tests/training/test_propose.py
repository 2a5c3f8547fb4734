"""Proposed embodiments: what is chosen and measured, and that they convert the recording they were proposed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egowm_core.data.bag import Bag
from egowm_core.data.motion import Motion
from egowm_core.data.sync import Drop, TickSynchronizer
from egowm_core.data.values import ImageValue
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import DataError
from tests.training import bag_fixtures as bags
from training.convert.options import ConvertOptions
from training.convert.recording import choose_topics
from training.sources.propose import Proposal, propose_embodiment

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bags"
Message = tuple[int, str, object]


def proposed(path: Path, name: str | None = None) -> Proposal:
    with Bag(path) as bag:
        return propose_embodiment(bag, name=name)


def share_outside(path: Path, embodiment: Embodiment) -> float:
    """Of all ticks of a recording, those at which the limits break a segment; read as the converter reads it."""
    sync, ticks = TickSynchronizer.for_embodiment(embodiment), 0
    motion = Motion(embodiment, sync)
    with Bag(path) as bag:
        image, motions = choose_topics(bag, ConvertOptions(embodiment=embodiment))
        for item in bag.read([image.name, *(topic.name for topic in motions)]):
            if isinstance(item.value, ImageValue):
                ticks += len(sync.add_image(item.stamp_ns, item.value.decode))
            else:
                ticks += len(motion.add(item.stamp_ns, item.value, topic=item.topic))
    assert ticks > 8
    assert sync.drops[Drop.IMAGE_GAP] == 0
    return sync.drops[Drop.OUTSIDE_LIMITS] / ticks


def reread(proposal: Proposal, folder: Path) -> Embodiment:
    (folder / "proposed.yaml").write_text(proposal.to_yaml())
    return load_embodiment(folder / "proposed.yaml")


def joint_state(stamp_ns: int, positions: dict[str, float]) -> object:
    return bags.T["sensor_msgs/msg/JointState"](
        header=bags.header(stamp_ns),
        name=list(positions),
        position=np.array(list(positions.values())),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )


def record(
    path: Path, motion: dict[str, Callable[[int, float], object]], *, seconds: float = 20.0, image_hz: float = 30.0,
    motion_hz: float = 50.0, cameras: tuple[str, ...] = ("/camera/head/image_raw/compressed",),
) -> Path:  # fmt: skip
    """Small pictures, and messages made from stamp and seconds."""
    picture = bags.scene(0, (24, 32))
    messages: list[Message] = []
    for i in range(int(seconds * image_hz)):
        stamp = bags.START_NS + round(i * 1e9 / image_hz)
        messages += [(stamp, camera, bags.jpeg(stamp, picture)) for camera in cameras]
    for i in range(int(seconds * motion_hz) + 1):
        stamp = bags.START_NS + round(i * 1e9 / motion_hz)
        messages += [(stamp, topic, make(stamp, i / motion_hz)) for topic, make in motion.items()]
    return bags.write_bag(path, sorted(messages, key=lambda message: message[0]))


def arm(stamp: int, seconds: float) -> object:
    swing = float(np.sin(seconds))
    return joint_state(stamp, {"shoulder": swing, "elbow": 0.5 * swing, "wrist": 0.3, "gripper": 0.5 + 0.5 * swing})


def turn(stamp: int, seconds: float) -> object:
    return bags.odometry(stamp, (0.2 * seconds, 0.0, 0.5 * np.sin(seconds)))


def test_a_driving_base_is_planar_and_fitted_to_its_motion(tmp_path):
    bag = bags.drive(tmp_path / "Test Run-1", seconds=12, image_hz=15)
    proposal = proposed(bag)
    robot = proposal.embodiment
    assert (robot.name, robot.integrate, robot.rate_hz) == ("test_run_1", "se2", 5.0)
    assert (robot.action_source.topic, robot.action_source.type) == ("odom", "nav_msgs/msg/Odometry")
    forward = 0.4 / 0.3 * np.sin(0.06)  # of a tick of known_pose
    assert robot.scales[0] == pytest.approx(forward, rel=0.03)
    assert robot.scales[2] == pytest.approx(0.06, rel=1e-6)
    np.testing.assert_allclose(robot.limits[:, 1], 3 * robot.scales, rtol=1e-2)
    np.testing.assert_array_equal(robot.limits[:, 0], -robot.limits[:, 1])
    assert robot.scales[1] == robot.scales[0]  # it never moves sideways: what is left is noise
    assert any("hardly moved" in note and note.endswith("dy") for note in proposal.notes)
    assert any(note.startswith("check: other topics tell of motion: /cmd_vel") for note in proposal.notes)
    assert proposal.ticks == 59
    assert proposal.outside == 0


def test_the_yaml_loads_and_says_what_was_measured_and_assumed(tmp_path):
    proposal = proposed(bags.drive(tmp_path / "run"), "my_robot")
    assert reread(proposal, tmp_path) == proposal.embodiment
    text = proposal.to_yaml()
    assert "name: my_robot" in text
    assert "# check: the name of the robot's own frame is assumed\nbase_frame: base_link" in text
    assert "99 % within 0.0999, largest 0.0999" in text  # 0.4 m/s at 4 Hz, beside dx
    assert "60x80 pixels" in text
    assert all(len(line) <= 120 for line in text.splitlines() if line.startswith("#"))


@pytest.mark.parametrize("make", [bags.drive, bags.moving_bag], ids=["drive", "moving_bag"])
def test_a_proposal_converts_its_recording(tmp_path, make):
    bag = make(tmp_path / "run")
    assert share_outside(bag, reread(proposed(bag), tmp_path)) <= 0.02


@pytest.mark.skipif(not SHARED.is_dir(), reason="real recordings are not here")
@pytest.mark.parametrize("name", ["gostanford_no1vc_7_1", "gostanford_no1vc_9_1", "donkeycar_tub", "g1_inspire_ep001"])
def test_real_recordings_convert_by_their_proposals(tmp_path, name):
    proposal = proposed(SHARED / name)
    share = share_outside(SHARED / name, reread(proposal, tmp_path))
    assert share == pytest.approx(proposal.outside, abs=0.005)
    assert share <= 0.02
    expected = {"donkeycar_tub": (5, "sum", 2, 0), "g1_inspire_ep001": (5, "sum", 26, 26)}.get(name, (3, "se2", 3, 0))
    robot = proposal.embodiment
    assert (robot.rate_hz, robot.integrate, robot.action_dim, len(robot.states)) == expected


def test_joints_get_states_units_and_a_scale_where_they_rest(tmp_path):
    bag = record(tmp_path / "arm", {"/joint_states": arm, "/joint_commands": arm})
    proposal = proposed(bag)
    robot = proposal.embodiment
    assert (robot.rate_hz, robot.integrate, robot.action_source.topic) == (5.0, "sum", "joint_states")
    assert robot.channel_names == ("shoulder", "elbow", "wrist", "gripper")
    assert [channel.unit for channel in robot.channels] == ["rad", "rad", "rad", "1"]
    assert [state.name for state in robot.states] == list(robot.channel_names)
    assert [state.scale for state in robot.states] == [1.0, 0.5, 0.3, 1.0]
    assert robot.scales[0] == pytest.approx(0.2, rel=0.05)  # 1 rad/s at 5 Hz
    assert robot.scales[2] == pytest.approx(np.median(robot.scales[:2]), rel=0.05)
    assert any("hardly moved" in note and note.endswith("wrist") for note in proposal.notes)
    assert share_outside(bag, reread(proposal, tmp_path)) == 0
    camera = robot.camera()
    assert (camera.name, camera.topic, camera.height, camera.width) == ("head", "camera/head/image_raw", 96, 128)


def test_joints_that_come_seldom_or_never_finite_are_left_out(tmp_path):
    def partial(stamp: int, seconds: float) -> object:
        joints = {"lift": float(np.sin(seconds)), "broken": float("nan")}
        return joint_state(stamp, joints | ({"battery_door": 0.1} if seconds == int(seconds) else {}))

    bag = record(tmp_path / "run", {"/joint_states": partial})
    proposal = proposed(bag)
    assert proposal.embodiment.channel_names == ("lift",)
    assert any("too seldom: battery_door" in note for note in proposal.notes)
    assert share_outside(bag, proposal.embodiment) == 0


def test_what_stands_still_is_passed_over(tmp_path):
    def parked(stamp: int, seconds: float) -> object:
        return bags.odometry(stamp, (1.0, 2.0, 0.5))

    proposal = proposed(record(tmp_path / "run", {"/odom": parked, "/joint_states": arm}))
    assert proposal.embodiment.action_source.topic == "joint_states"
    assert any("nothing moves: /odom" in note for note in proposal.notes)
    proposal = proposed(record(tmp_path / "parked", {"/odom": parked}))
    assert proposal.embodiment.scales.tolist() == [0.15, 0.15, 0.15]
    assert any("the scales are assumed" in note for note in proposal.notes)


def test_measurements_come_before_commands_and_truth(tmp_path):
    motion = {"/goal/odom": turn, "/ground_truth/gt/odom": turn, "/base/odom": turn, "/truth/odom": turn}
    assert proposed(record(tmp_path / "run", motion)).embodiment.action_source.topic == "base/odom"


def test_commands_keep_the_fields_they_use_and_a_unit_that_can_be_known(tmp_path):
    def slow(stamp: int, seconds: float) -> object:
        return bags.twist((0.5 + 0.4 * np.sin(seconds), 0.0, 0.9 * np.sin(2 * seconds)))

    def fast(stamp: int, seconds: float) -> object:
        return bags.twist((2.5 * np.sin(seconds), 0.0, 1.0))

    bag = record(tmp_path / "slow", {"/cmd_vel": slow})
    proposal = proposed(bag)
    robot = proposal.embodiment
    assert [(c.source, c.unit, c.kind) for c in robot.channels] == [
        ("linear.x", "1", "velocity"),
        ("angular.z", "1", "velocity"),
    ]
    assert robot.limits[:, 1].min() >= 1.0
    assert any("check:" in note and "throttle" in note for note in proposal.notes)
    assert any("always 0: linear.y" in note for note in proposal.notes)
    assert share_outside(bag, reread(proposal, tmp_path)) == 0
    robot = proposed(record(tmp_path / "fast", {"/cmd_vel": fast})).embodiment
    assert [channel.unit for channel in robot.channels] == ["m/s", "rad/s"]
    assert robot.scales[0] == pytest.approx(2.5, rel=0.05)


def test_free_motion_is_told_from_a_bases(tmp_path):
    def fly(stamp: int, seconds: float) -> object:
        message = bags.odometry(stamp, (seconds, 0.0, 0.1 * seconds))
        return replace(message, pose=replace(message.pose, pose=replace(message.pose.pose, position=climb(seconds))))

    def climb(seconds: float) -> object:
        return bags.T["geometry_msgs/msg/Point"](x=seconds, y=0.0, z=0.3 * seconds)

    proposal = proposed(record(tmp_path / "run", {"/odom": fly}))
    robot = proposal.embodiment
    assert (robot.integrate, robot.action_dim) == ("se3", 6)
    assert any("it climbs 6 m" in note for note in proposal.notes)
    assert proposal.outside == 0


def test_another_unit_is_suspected_where_the_speed_is_absurd(tmp_path):
    def millimetres(stamp: int, seconds: float) -> object:
        return bags.odometry(stamp, (400.0 * seconds, 0.0, 0.1 * seconds))

    notes = proposed(record(tmp_path / "run", {"/odom": millimetres})).notes
    assert any("dx reaches 400 m/s: is it in metres?" in note for note in notes)


@pytest.mark.parametrize(
    ("image_hz", "motion_hz", "rate_hz"),
    [(30, 50, 5.0), (15, 50, 5.0), (10, 50, 5.0), (8, 50, 4.0), (3, 50, 3.0), (24, 50, 4.8), (30, 2, 2.0)],
)
def test_the_rate_divides_the_images(tmp_path, image_hz, motion_hz, rate_hz):
    bag = record(tmp_path / "run", {"/odom": turn}, image_hz=image_hz, motion_hz=motion_hz)
    proposal = proposed(bag)
    assert proposal.embodiment.rate_hz == pytest.approx(rate_hz, rel=1e-3)
    assert any("4 to 6 Hz is usual" in note for note in proposal.notes) == (rate_hz < 4)
    assert share_outside(bag, proposal.embodiment) <= 0.02


def test_a_front_camera_is_preferred_and_the_others_are_named(tmp_path):
    cameras = ("/wrist/image_raw/compressed", "/front/image_raw/compressed", "/depth/image/compressed")
    bag = record(tmp_path / "run", {"/odom": turn}, cameras=cameras, seconds=5)
    proposal = proposed(bag)
    assert proposal.embodiment.camera().topic == "front/image_raw"
    assert any("other cameras: /wrist/image_raw/compressed" in note for note in proposal.notes)
    assert not any("depth" in note for note in proposal.notes)


def test_a_camera_that_cannot_be_decoded_is_passed_over(tmp_path):
    def infrared(stamp: int, seconds: float) -> object:
        return bags.image(stamp, np.zeros((8, 8, 2), np.uint8), "16UC1")

    bag = record(tmp_path / "run", {"/odom": turn, "/front/image": infrared}, seconds=5)
    assert proposed(bag).embodiment.camera().topic == "camera/head/image_raw"


def test_only_the_beginning_of_a_long_recording_is_read(tmp_path, monkeypatch):
    import training.sources.propose as module

    monkeypatch.setattr(module, "_MAX_MESSAGES", 400)
    proposal = proposed(record(tmp_path / "run", {"/odom": turn}))
    assert proposal.ticks == 24
    assert "check: of 20 s only the first 5 s were read" in proposal.notes


def test_hostile_names_stay_names(tmp_path):
    evil = "evil\nname: other # \u2028\x07: {"

    def joints(stamp: int, seconds: float) -> object:
        return joint_state(stamp, {evil: float(np.sin(seconds)), "y": 0.0})

    proposal = proposed(record(tmp_path / "run", {"/joint_states": joints}))
    robot = reread(proposal, tmp_path)
    assert robot == proposal.embodiment
    assert robot.channel_names == (evil, "y")


def test_without_a_picture_or_motion_the_error_says_what_there_is(tmp_path):
    stamp = bags.START_NS
    only_motion = bags.write_bag(tmp_path / "motion", [(stamp, "/odom", bags.odometry(stamp, (0, 0, 0)))])
    with pytest.raises(DataError, match=r"no camera .*it has /odom"):
        proposed(only_motion)
    only_pictures = record(tmp_path / "pictures", {}, seconds=2)
    with pytest.raises(DataError, match=r"no motion .*it has /camera/head"):
        proposed(only_pictures)
    idle = record(tmp_path / "idle", {"/cmd_vel": lambda stamp, seconds: bags.twist((0, 0, 0))}, seconds=2)
    with pytest.raises(DataError, match=r"/cmd_vel: all of its velocities are 0"):
        proposed(idle)
    apart = record(tmp_path / "apart", {"/odom": lambda stamp, s: turn(stamp + 10**12, s)}, seconds=2)
    with pytest.raises(DataError, match=r"/odom: it measures nothing between two of 60 pictures"):
        proposed(apart)

"""The replay node on real rclpy, with bags recorded by the simulator and real ones: order, stamps, rate and its end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry as OdometryMsg  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from rosbags.rosbag2 import StoragePlugin, Writer  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from egowm_core.data.images import decode_image  # noqa: E402
from egowm_core.data.messages import odometry_pose, stamp_ns  # noqa: E402
from egowm_core.errors import ConfigError, DataError  # noqa: E402
from egowm_nodes.replay.playback import look, timetable  # noqa: E402
from egowm_sim.bag import RobotBag  # noqa: E402
from egowm_sim.robot import Odometry  # noqa: E402
from tests.fixtures.tiny_checkpoint import made_up_picture  # noqa: E402

DOMAIN = str(1 + os.getpid() % 100)
FIRST_NS = 1_600_000_000_000_000_000
STEP_NS = 250_000_000
LIMIT_S = 60.0
SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "bags"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures at 4 Hz with odometry beside each, as the simulator records them."""
    path = tmp_path_factory.mktemp("bags") / "room"
    with RobotBag(path, height=48, width=64, truth=False) as writer:
        for number in range(8):
            at_ns = FIRST_NS + number * STEP_NS
            pose = {"x": 0.1 * number, "y": 0.0, "yaw": 0.05 * number}
            writer.odometry(Odometry(stamp_ns=at_ns, **pose, v=0.4, w=0.2))
            writer.image(at_ns, made_up_picture(48, 64, seed=number))
    return path


class Listener:
    """Keeps what it hears on image, image/compressed and odom below a namespace."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=int(DOMAIN))
        self.node = Node("listener", context=self.context, namespace="robot")
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {"image": [], "image/compressed": [], "odom": []}
        kinds = {"image": Image, "image/compressed": CompressedImage, "odom": OdometryMsg}
        for topic, kind in kinds.items():
            # as sensor data is, but a busy machine that falls behind must not lose the oldest of them
            quality = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
            self.node.create_subscription(kind, topic, self.heard[topic].append, quality)

    def run(self, *parameters: str) -> tuple[int, str]:
        """Run the replay node to its end; exit status and what it said."""
        arguments = [word for parameter in parameters for word in ("-p", parameter)]
        command = [sys.executable, "-m", "egowm_nodes.replay_node", "--ros-args", "-r", "__ns:=/robot", *arguments]
        environment = {**os.environ, "ROS_DOMAIN_ID": DOMAIN}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        end = time.monotonic() + LIMIT_S
        while process.poll() is None:
            assert time.monotonic() < end
            self.executor.spin_once(timeout_sec=0.05)
        for _ in range(20):
            self.executor.spin_once(timeout_sec=0.02)
        return process.returncode, process.communicate()[0]

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    made = Listener()
    yield made
    made.close()


def test_it_plays_in_order_shifted_to_now_and_ends(listener: Listener, bag: Path) -> None:
    before_ns = time.time_ns()
    status, said = listener.run(f"bag:={bag}", "rate:=4.0", "wait_s:=30.0")
    assert status == 0, said
    assert "finished: 8 of /image/compressed, 8 of /odom" in said
    images, odometry = listener.heard["image/compressed"], listener.heard["odom"]
    assert len(images) == len(odometry) == 8
    stamps = np.array([stamp_ns(message) for message in images])
    assert (np.diff(stamps) == STEP_NS).all()  # one constant shift, whatever the rate
    assert before_ns < stamps[0] < time.time_ns()
    assert [stamp_ns(message) for message in odometry] == stamps.tolist()
    np.testing.assert_allclose([odometry_pose(message)[0] for message in odometry], 0.1 * np.arange(8))
    np.testing.assert_allclose(odometry_pose(odometry[3])[2], 0.15, atol=1e-9)
    assert odometry[3].twist.twist.angular.z == pytest.approx(0.2)
    picture = decode_image(images[5]).astype(int)
    assert np.abs(picture - made_up_picture(48, 64, seed=5)).mean() < 12.0


def test_stamps_are_kept_on_request(listener: Listener, bag: Path) -> None:
    status, said = listener.run(f"bag:={bag}", "rate:=4.0", "restamp:=false", "wait_s:=30.0")
    assert status == 0, said
    assert stamp_ns(listener.heard["odom"][0]) == FIRST_NS


def test_raw_images_and_no_odometry(listener: Listener, tmp_path: Path) -> None:
    path = tmp_path / "raw"
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection("/cam/image_raw", "sensor_msgs/msg/Image", typestore=store)
        for number in range(3):
            at_ns = FIRST_NS + number * STEP_NS
            time_message = types["builtin_interfaces/msg/Time"](sec=at_ns // 10**9, nanosec=at_ns % 10**9)
            pixels = made_up_picture(24, 32, seed=number)
            message = types["sensor_msgs/msg/Image"](
                header=types["std_msgs/msg/Header"](stamp=time_message, frame_id="eye"),
                height=24, width=32, encoding="rgb8", is_bigendian=0, step=96, data=pixels.reshape(-1),
            )  # fmt: skip
            writer.write(connection, at_ns, store.serialize_cdr(message, "sensor_msgs/msg/Image"))
    status, said = listener.run(f"bag:={path}", "rate:=10.0", "wait_s:=30.0")
    assert status == 0, said
    assert len(listener.heard["image"]) == 3
    assert listener.heard["image"][2].header.frame_id == "eye"
    np.testing.assert_array_equal(decode_image(listener.heard["image"][2]), made_up_picture(24, 32, seed=2))


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (("bag:=/nowhere",), "does not exist"),
        ((), "parameter bag is empty"),
        (("bag:={bag}", "image_topic:=imag"), "no topic 'imag'; recorded are"),
        (("bag:={bag}", "rate:=0.0"), "out of range"),
    ],
)
def test_what_cannot_be_played_ends_it_with_1(
    listener: Listener, bag: Path, parameters: tuple[str, ...], told: str
) -> None:
    status, said = listener.run(*(parameter.format(bag=bag) for parameter in parameters))
    assert status == 1
    assert told in said
    assert "Traceback" not in said


def test_timetable_follows_header_stamps(bag: Path) -> None:
    recording = look(bag)
    assert recording.image_rate_hz == pytest.approx(4.0)
    dues = list(timetable(recording, rate=2.0))
    assert len(dues) == 16
    assert [due.after_s for due in dues[:4]] == pytest.approx([0.0, 0.0, 0.125, 0.125])
    assert dues[-1].after_s == pytest.approx(7 * 0.125)


def test_look_refuses_an_empty_path_and_a_bag_without_images(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="parameter bag"):
        look("")
    path = tmp_path / "empty"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP):
        pass
    with pytest.raises(DataError, match="image"):
        look(path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared recordings")
def test_real_recordings_are_understood() -> None:
    office = look(SHARED / "gostanford_no1vc_9_1")
    assert (office.image.name, office.motion.name if office.motion else None) == (
        "/camera/image_raw/compressed",
        "/odom",
    )
    assert office.image_rate_hz == pytest.approx(3.0, rel=0.01)
    car = look(SHARED / "donkeycar_tub")
    assert car.motion is not None and car.motion.name == "/cmd_vel"
    assert car.image_rate_hz == pytest.approx(20.0, rel=0.01)

"""The plain parts against what nobody honest sends: texts, pictures, buffers, errors in telling, orphaned memory."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

import rclpy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from egowm_core.data.images import MAX_PIXELS, MAX_SCANS, decode_compressed, decode_image
from egowm_core.data.joints import JointAssembler
from egowm_core.errors import DataError
from egowm_nodes.drift.frame_buffer import FrameBuffer
from egowm_nodes.runtime import shared_memory
from egowm_nodes.runtime.notices import LONGEST_TEXT, MOST_KINDS, Notices, harmless
from egowm_nodes.runtime.steady_executor import SteadyExecutor
from egowm_nodes.runtime.worker import LatestWorker
from tests.nodes.rig import DOMAIN
from tests.nodes.streams import plain_jpeg

PICTURE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
LIMIT_S = 20.0


def test_a_text_from_a_topic_can_neither_fill_nor_steer_a_log() -> None:
    said = Notices(lambda: 0.0).report("plan", "channels ['" + "x" * 1_000_000 + "\x1b[2J\x00\u202e']")
    assert said is not None and len(said) < LONGEST_TEXT + 100
    assert said.startswith("channels ['xxx") and "\x1b" not in said and "\x00" not in said and "\u202e" not in said
    assert harmless("two\n\tlines") == "two\n\tlines"


def test_kinds_of_trouble_are_bounded() -> None:
    notices = Notices(lambda: 0.0)
    for number in range(10 * MOST_KINDS):
        notices.report(f"kind {number}", "text")
    counts = notices.counts()
    assert len(counts) <= MOST_KINDS + 1 and sum(counts.values()) == 10 * MOST_KINDS


def test_a_few_bytes_that_claim_a_huge_picture_are_refused_before_they_are_decoded() -> None:
    jpeg = bytearray(cv2.imencode(".jpg", PICTURE)[1].tobytes())
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 8000, 8000)
    assert MAX_PIXELS < 8000 * 8000
    with pytest.raises(DataError, match=f"expected at most {MAX_PIXELS}"):
        decode_compressed(bytes(jpeg))


def test_a_picture_of_endless_scans_is_refused() -> None:
    progressive = cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert decode_compressed(progressive).shape == PICTURE.shape
    scan = progressive[progressive.find(b"\xff\xda") : -2]
    with pytest.raises(DataError, match="keep readers busy"):
        decode_compressed(progressive[:-2] + scan * (MAX_SCANS + 1) + b"\xff\xd9")
    huge = bytearray(progressive)
    at = huge.find(b"\xff\xc2")
    huge[at + 5 : at + 9] = struct.pack(">HH", 4096, 8192)  # the same ten scans are too many of a picture that large
    with pytest.raises(DataError, match="expected at most 4"):
        decode_compressed(bytes(huge))


def test_a_png_whose_chunks_claim_more_than_there_is_is_refused_before_it_is_decoded() -> None:
    png = cv2.imencode(".png", PICTURE)[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(png), PICTURE[..., ::-1])
    at = png.find(b"IDAT") - 4
    with pytest.raises(DataError, match="claims 2751471616"):
        decode_compressed(png[:at] + (2751471616).to_bytes(4, "big") + png[at + 4 :])
    with pytest.raises(DataError, match="no end chunk"):
        decode_compressed(png[: png.find(b"IEND") - 4])


@pytest.mark.parametrize("height, width, step", [(2**32 - 1, 2**32 - 1, 2**32 - 1), (0, 0, 0), (8192, 8192, 3 * 8192)])
def test_absurd_sizes_are_refused_without_an_allocation(height: int, width: int, step: int) -> None:
    message = SimpleNamespace(encoding="rgb8", height=height, width=width, step=step, data=b"")
    with pytest.raises(DataError, match="image size"):
        decode_image(message)


def test_names_beside_the_wanted_ones_are_remembered_shortened() -> None:
    joints = JointAssembler(["wrist"], max_age_s=0.5)
    joints.add(1_000_000_000, {"w" * 5_000_000: 1.0})
    assert max(map(len, joints.problems())) < 1000  # told with the nearest name, and soon: difflib is quadratic


def test_a_flood_of_tiny_pictures_counts_against_the_buffer() -> None:
    buffer = FrameBuffer(keep_s=60.0, max_bytes=1 << 20)
    dot = cv2.imencode(".jpg", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
    for number in range(1500):
        tiny = plain_jpeg(number * 1e-3, PICTURE[:1, :1])
        tiny.data = dot
        buffer.add(tiny)
    assert len(buffer) < 600 and buffer.bytes <= 1 << 20


def test_what_is_no_picture_takes_no_good_ones_place() -> None:
    buffer = FrameBuffer(keep_s=60.0, max_bytes=1 << 20)
    buffer.add(plain_jpeg(0.0, PICTURE))
    for number in range(1, 9):
        junk = plain_jpeg(number, PICTURE)
        junk.data = bytes(1 << 19)
        with pytest.raises(DataError, match="neither JPEG nor PNG"):
            buffer.add(junk)
    assert len(buffer) == 1


def test_a_picture_larger_than_the_buffer_is_refused_and_the_others_stay() -> None:
    buffer = FrameBuffer(keep_s=60.0, max_bytes=1 << 16)
    buffer.add(plain_jpeg(0.0, PICTURE))
    huge = plain_jpeg(1.0, PICTURE)
    huge.data = huge.data[:2] + b"\xff\xfe\xff\xff" + bytes(65533) + huge.data[2:]  # a comment as long as they go
    with pytest.raises(DataError, match="buffer_mb"):
        buffer.add(huge)
    assert len(buffer) == 1


def test_a_worker_outlives_an_error_in_telling_of_an_error() -> None:
    def broken(_: object) -> None:
        raise ValueError

    done = threading.Event()
    worker = LatestWorker(lambda item: done.set() if item else broken(item), slots=("a",), on_error=broken, name="test")
    worker.offer("a", 0)
    while not worker.idle:
        threading.Event().wait(0.001)
    worker.offer("a", 1)
    assert done.wait(LIMIT_S) and worker.close()


def test_orphaned_shared_memory_is_given_back_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orphan, owned, bare = (tmp_path / f"fastrtps_{number:016x}" for number in range(3))
    stranger = tmp_path / "fastrtps_port7411"
    for path in (orphan, owned, bare, stranger):
        path.write_bytes(bytes(1000))
    locks = [path.with_name(path.name + "_el") for path in (orphan, owned)]
    for lock in locks:
        lock.touch()
    assert shared_memory.sweep(tmp_path) == (0, 0)  # so young that their owners may not have locked them yet
    monkeypatch.setattr(shared_memory, "_YOUNG_S", 0.0)
    held = os.open(locks[1], os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert shared_memory.sweep(tmp_path) == (1, 1000)
    finally:
        os.close(held)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [owned.name, locks[1].name, bare.name, stranger.name]
    )
    assert shared_memory.sweep(tmp_path / "none") == (0, 0)


def test_large_blocks_are_given_back_whatever_came_before() -> None:
    code = """
import ctypes, sys
from egowm_nodes.runtime import heap
from egowm_nodes.runtime.process_figures import footprint
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def block(size):
    at = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(at, 1, size)
    return at
assert not eval(sys.argv[1]) or heap.return_large_blocks()
libc.free(block(30 << 20))  # from here on glibc would take such blocks from the heap
blocks = [block(24 << 20) for _ in range(4)]
behind = block(100_000)
before = footprint().rss
for one in blocks:
    libc.free(one)
print((before - footprint().rss) >> 20)
"""
    given_back = [int(subprocess.check_output([sys.executable, "-c", code, wanted])) for wanted in ("False", "True")]
    assert given_back[1] > 90, given_back


class _Graph:
    """A node on a steady executor, and what the executor told."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("steady", context=self.context)
        self.told: list[tuple[str, Exception]] = []
        self.executor = SteadyExecutor(
            on_error=lambda name, error: self.told.append((name, error)), context=self.context
        )
        self.executor.add_node(self.node)

    def spin_until(self, condition: object) -> None:
        for _ in range(round(LIMIT_S / 0.02)):
            if condition():  # type: ignore[operator]
                return
            self.executor.spin_once(timeout_sec=0.02)
        raise AssertionError(self.told)


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Graph]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    made = _Graph()
    yield made
    made.executor.shutdown()
    made.node.destroy_node()
    made.context.try_shutdown()


def test_a_message_that_cannot_be_taken_does_not_silence_its_node(graph: _Graph) -> None:
    heard: list[Empty] = []
    subscription = graph.node.create_subscription(Empty, "sound", heard.append, 10)
    publisher = graph.node.create_publisher(Empty, "sound", 10)
    kind = subscription.msg_type
    subscription.msg_type = None  # taking raises, as it does where there is no memory
    graph.spin_until(publisher.get_subscription_count)
    publisher.publish(Empty())
    graph.spin_until(lambda: graph.told)
    assert graph.told[0][0].endswith("sound") and not heard
    subscription.msg_type = kind
    publisher.publish(Empty())
    graph.spin_until(lambda: heard)


def test_a_request_that_raises_is_answered_all_the_same(graph: _Graph) -> None:
    def broken(_: object, __: object) -> object:
        raise ValueError("no")

    graph.node.create_service(Trigger, "broken", broken)
    client = graph.node.create_client(Trigger, "broken")
    graph.spin_until(client.service_is_ready)
    future = client.call_async(Trigger.Request())
    graph.spin_until(future.done)
    assert future.result().success is False and graph.told[0][0].endswith("broken")


def test_a_parameter_of_an_unknown_type_gets_an_answer(graph: _Graph) -> None:
    client = graph.node.create_client(SetParameters, "steady/set_parameters")
    graph.spin_until(client.service_is_ready)
    strange = Parameter(name="use_sim_time", value=ParameterValue(type=200))
    future = client.call_async(SetParameters.Request(parameters=[strange]))
    graph.spin_until(future.done)
    assert not future.result().results and graph.told
    fine = Parameter(name="use_sim_time", value=ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=False))
    future = client.call_async(SetParameters.Request(parameters=[fine]))
    graph.spin_until(future.done)
    assert future.result().results[0].successful

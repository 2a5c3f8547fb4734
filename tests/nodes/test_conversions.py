"""Messages to values and back, against real message classes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from egowm_msgs.msg import ActionSequence as ActionSequenceMsg
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo

from egowm_core.data.images import decode_image
from egowm_core.data.preprocess import Preprocess
from egowm_core.drift import Cause, DriftReport, DriftState
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import DataError
from egowm_core.types import ActionSequence, ActionSource, Frames, Rollout
from egowm_nodes import conversions
from egowm_nodes.drift.messages import drift_message
from egowm_nodes.plans.messages import plan_from_message
from egowm_nodes.runtime.diagnostics import Level, Status
from egowm_nodes.runtime.status_messages import diagnostics_message

ROBOT = load_embodiment("base_3dof")
START = 1_700_000_000_250_000_000


def rollout() -> Rollout:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 96, 128, 3), dtype=np.uint8)
    stamps = START + 250_000_000 * np.arange(1, 9)
    values = rng.uniform(-0.1, 0.1, (8, 3)).astype(np.float32)
    actions = ActionSequence(values, ActionSource.EXECUTED)
    return Rollout(Frames(images, stamps), actions, START, 4, 7, {"total": 0.5})


def test_a_rollout_survives_the_wire():
    sent = rollout()
    message = conversions.rollout_message(sent, model="m", embodiment=ROBOT, frame_id="optical", sequence=3)
    message = deserialize_message(serialize_message(message), type(message))
    back = conversions.rollout_from_message(message)
    np.testing.assert_array_equal(back.frames.images, sent.frames.images)
    np.testing.assert_array_equal(back.frames.stamps_ns, sent.frames.stamps_ns)
    np.testing.assert_allclose(back.actions.values, sent.actions.values)
    assert back.actions.source is ActionSource.EXECUTED and back.context_stamp_ns == START and back.seed == 7
    assert message.frames[0].header.stamp == message.stamps[0] and message.frames[0].header.frame_id == "optical"
    assert message.actions.header.frame_id == "base_link" and list(message.actions.channels) == ["dx", "dy", "dyaw"]
    assert message.inference_s == pytest.approx(0.5) and message.sequence == 3


def test_a_broken_rollout_is_refused():
    message = conversions.rollout_message(rollout(), model="m", embodiment=ROBOT, frame_id="", sequence=0)
    message.frames = message.frames[:5]
    with pytest.raises(DataError, match="5 frames and 8 stamps"):
        conversions.rollout_from_message(message)
    message = conversions.rollout_message(rollout(), model="m", embodiment=ROBOT, frame_id="", sequence=0)
    message.stamps = message.stamps[::-1]
    with pytest.raises(DataError, match="increase"):
        conversions.rollout_from_message(message)
    message.frames[2].height = 48
    with pytest.raises(DataError, match="one size"):
        conversions.rollout_from_message(message)


def test_a_plan_keeps_its_rows_and_a_ragged_one_is_refused():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    message = conversions.action_message(ActionSequence(values, ActionSource.HELD), ROBOT, START)
    plan = plan_from_message(message)
    np.testing.assert_array_equal(plan.values, values)
    assert plan.source is ActionSource.HELD and plan.start_ns == START and plan.rate_hz == 4.0
    with pytest.raises(DataError, match="5 values for 3 channels"):
        plan_from_message(ActionSequenceMsg(channels=["dx", "dy", "dyaw"], data=[0.0] * 5))
    with pytest.raises(DataError, match="source 9"):
        plan_from_message(ActionSequenceMsg(channels=["dx"], data=[0.0], source=9))


def test_images_survive_raw_and_nearly_compressed():
    image = Preprocess(96, 128)(np.full((240, 320, 3), (200, 100, 50), np.uint8))
    raw = conversions.image_message(image, START, "optical")
    np.testing.assert_array_equal(decode_image(raw), image)
    assert (raw.header.stamp.sec, raw.header.stamp.nanosec, raw.header.frame_id) == (
        1_700_000_000,
        250_000_000,
        "optical",
    )
    jpeg = conversions.compressed_message(image, START, "optical")
    np.testing.assert_allclose(decode_image(jpeg), image, atol=4)


def test_camera_info_follows_crop_and_scale():
    info = CameraInfo(height=480, width=848, distortion_model="plumb_bob", d=[0.1] * 5)
    info.k = [420.0, 0.0, 423.5, 0.0, 420.0, 239.5, 0.0, 0.0, 1.0]
    info.p = [420.0, 0.0, 423.5, 0.0, 0.0, 420.0, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    scaled = conversions.scaled_camera_info(info, Preprocess(96, 128))
    assert (scaled.height, scaled.width) == (96, 128)
    np.testing.assert_allclose(scaled.k, [84, 0, 63.5, 0, 84, 47.5, 0, 0, 1])
    np.testing.assert_allclose(scaled.p, [84, 0, 63.5, 0, 0, 84, 47.5, 0, 0, 0, 1, 0])
    with pytest.raises(DataError, match="0x0"):
        conversions.scaled_camera_info(CameraInfo(), Preprocess(96, 128))
    known = conversions.camera_info_of(ROBOT.camera())
    np.testing.assert_allclose(known.k, [64, 0, 63.5, 0, 64, 47.5, 0, 0, 1])


def test_drift_and_diagnostics_messages():
    report = DriftReport(
        DriftState.WARN, "why", cause=Cause.CAMERA_MOVED, alarm=1.25, channels={"motion": 0.5, "jump": 1.25}
    )
    drift = drift_message(
        report,
        stamp_ns=START,
        frame_id="optical",
        source=ActionSource.EXECUTED,
        context_stamp_ns=START - 2 * 10**9,
        scs={8: 50.0, 2: 90.0},
        baseline_scs={8: 70.0, 16: 60.0},
        num_structures={8: 3, 2: 4},
        psnr={8: 20.0, 2: float("nan")},
    )
    assert (drift.cause, drift.alarm, list(drift.channels)) == ("camera moved", 1.25, ["motion", "jump"])
    assert list(drift.strengths) == [0.5, 1.25] and np.isnan(drift.lag_s)
    np.testing.assert_array_equal(drift.baseline_scs, [np.nan, 70.0])  # of the horizons judged, none more
    assert list(drift.horizons) == [2, 8] and list(drift.scs) == [90.0, 50.0] and list(drift.structures) == [4, 3]
    assert drift.state == drift.WARN and drift.reason == "why" and drift.context_stamp.sec == 1_699_999_998
    statuses = [Status("inputs", Level.STALE, "no image", {"images_hz": "0.0"})]
    message = diagnostics_message(statuses, node="a/world_model", hardware_id="tiny", stamp_ns=START)
    (status,) = message.status
    assert (status.level, status.name, status.hardware_id) == (b"\x03", "a/world_model: inputs", "tiny")
    assert (status.values[0].key, status.values[0].value) == ("images_hz", "0.0")

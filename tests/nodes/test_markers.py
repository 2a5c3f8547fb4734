"""What operators are shown of the future: moments ahead and come true, and the path in the colours of drift."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("egowm_msgs", reason="pip install ./ros_ws/src/egowm_msgs")

from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import Marker

from egowm_core.data.preprocess import Preprocess
from egowm_core.drift import Cause, DriftReport, DriftState
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError
from egowm_core.types import ActionSequence, ActionSource, Frames, Rollout
from egowm_nodes import conversions
from egowm_nodes.drift import markers
from egowm_nodes.pictures import STATE_COLORS
from egowm_nodes.prediction.ahead import ComingTrue, frame_ahead, moment_name, require_shown_ahead
from egowm_nodes.prediction.outputs import PredictedOutputs
from tests.nodes.streams import START_NS, at

BASE, HUMANOID = load_embodiment("base_3dof"), load_embodiment("humanoid_25dof")
OK = DriftReport(DriftState.OK, "", scs={2: 90.0, 4: 80.0, 8: 50.0}, baseline_scs={2: 90.0, 4: 90.0, 8: 90.0})


def made_rollout(values: Any, *, rate_hz: float = 4.0, start_s: float = 0.0, height: int = 6) -> Rollout:
    """A rollout of these actions; frame i (from 1) is a picture of value i, plus 100 where it starts later."""
    values = np.asarray(values, np.float32)
    count = len(values)
    shade = 100 * (start_s > 0) + np.arange(1, count + 1, dtype=np.uint8)
    images = np.broadcast_to(shade[:, None, None, None], (count, height, 8, 3)).astype(np.uint8)
    stamps = np.array([at(start_s + (i + 1) / rate_hz) for i in range(count)], np.int64)
    actions = ActionSequence(values, ActionSource.PLANNED)
    return Rollout(Frames(images, stamps), actions, at(start_s), num_denoising_steps=1, seed=0)


STRAIGHT = made_rollout([[0.1, 0.0, 0.0]] * 8)


class Published:
    """Publishers that keep what they are given; ``heard`` says whether anybody listens."""

    def __init__(self, *, heard: bool = True) -> None:
        self.by_topic: dict[str, list[Any]] = {}
        self._heard = heard

    def create(self, kind: type, topic: str, qos: Any) -> Any:
        kept = self.by_topic[topic] = []
        return SimpleNamespace(get_subscription_count=lambda: int(self._heard), publish=kept.append)


# ---- the path ---------------------------------------------------------------------------------------------------


def test_a_quarter_turn_in_ten_steps_leads_forward_and_left_as_rep_103_has_it():
    step = math.pi / 20
    chord = 2 * 1.0 * math.sin(step / 2)
    values = [[chord * math.cos(step / 2), chord * math.sin(step / 2), step]] * 10
    path = markers.base_path(made_rollout(values), BASE)
    assert path is not None and path.shape == (11, 3)
    np.testing.assert_allclose(path[[0, -1]], [[0, 0, 0], [1, 1, 0]], atol=1e-6)


def test_a_humanoids_base_velocities_make_the_same_arc_and_its_arms_none():
    values = np.zeros((10, 25))
    values[:, -2], values[:, -1] = math.pi / 2 / 2.0, math.pi / 2 / 2.0  # a quarter of a circle of 1 m in 2 s
    path = markers.base_path(made_rollout(values, rate_hz=5.0), HUMANOID)
    assert path is not None
    np.testing.assert_allclose(path[-1], [1, 1, 0], atol=1e-6)
    assert np.allclose(np.linalg.norm(path - [0, 1, 0], axis=1), 1.0, atol=1e-6)  # every point lies on the circle
    arms = load_embodiment("unitree_g1_26")
    assert markers.base_path(made_rollout(np.zeros((4, arms.action_dim))), arms) is None


def test_a_spatial_path_turns_with_the_body_before_it_goes_on():
    row = [1.0, 0, 0, 0, -math.pi / 2, 0]  # forward, then nose up (a turn about y, left)
    path = markers.base_path(made_rollout([row, row]), load_embodiment("camera_6dof"))
    assert path is not None
    np.testing.assert_allclose(path, [[0, 0, 0], [1, 0, 0], [1, 0, 1]], atol=1e-6)


def test_the_path_stands_in_the_base_frame_at_the_context_and_vanishes_by_itself():
    line, dots = markers.path_markers(STRAIGHT, BASE, OK, frame_id="r1/base_link", lifetime_s=1.5).markers
    assert (line.type, dots.type, line.ns, dots.ns) == (Marker.LINE_STRIP, Marker.SPHERE_LIST, "path", "frames")
    assert (len(line.points), len(line.colors), len(dots.points), len(dots.colors)) == (9, 9, 8, 8)
    for marker in (line, dots):
        assert conversions.time_ns(marker.header.stamp) == START_NS and marker.header.frame_id == "r1/base_link"
        assert (marker.lifetime.sec, marker.lifetime.nanosec) == (1, 500_000_000)
        assert marker.pose.orientation.w == 1.0 and marker.scale.x > 0 and marker.action == Marker.ADD
    assert line.points[8].x == pytest.approx(0.8) and line.points[8].y == 0 and line.points[8].z > 0
    empty = markers.path_markers(made_rollout([[np.nan, 0, 0]]), BASE, OK, frame_id="base_link", lifetime_s=1.0)
    assert not empty.markers


def rgb(color: Any) -> tuple[int, int, int]:
    return round(255 * color.r), round(255 * color.g), round(255 * color.b)


def test_while_all_is_well_the_path_goes_from_green_to_red_as_predictions_get_worse():
    shares = markers.trust(OK, 8)
    assert shares[1] == 1.0 and shares[7] == pytest.approx(50 / 90) and shares[5] == pytest.approx(65 / 90)
    dots = markers.path_markers(STRAIGHT, BASE, OK, frame_id="base_link", lifetime_s=1.0).markers[1]
    assert rgb(dots.colors[0]) == STATE_COLORS["OK"] and rgb(dots.colors[7]) == STATE_COLORS["ERROR"]
    assert dots.colors[0].g > dots.colors[4].g > dots.colors[7].g
    without_usual = DriftReport(DriftState.UNDEFINED, "", scs={8: 97.0})
    assert rgb(markers.color_of(float(markers.trust(without_usual, 8)[0]), DriftState.UNDEFINED)) == STATE_COLORS["OK"]


@pytest.mark.parametrize("state", [DriftState.WARN, DriftState.ERROR, DriftState.STALE])
def test_trouble_colours_the_whole_path(state):
    report = DriftReport(state, "why", scs=OK.scs, baseline_scs=OK.baseline_scs)
    dots = markers.path_markers(STRAIGHT, BASE, report, frame_id="base_link", lifetime_s=1.0).markers[1]
    assert {rgb(color) for color in dots.colors} == {STATE_COLORS[state.value]}


def test_where_nothing_is_scored_the_path_is_grey():
    report = DriftReport(DriftState.UNDEFINED, "learning", scs={2: math.nan})
    dots = markers.path_markers(STRAIGHT, BASE, report, frame_id="base_link", lifetime_s=1.0).markers[1]
    assert {rgb(color) for color in dots.colors} == {STATE_COLORS["UNDEFINED"]}


def test_the_text_says_state_cause_and_reason_above_the_camera():
    report = DriftReport(DriftState.WARN, "x" * 400, cause=Cause.OCCLUDED, scs={8: 41.0, 4: math.nan})
    text = markers.state_marker(BASE, report, stamp_ns=START_NS, frame_id="base_link", lifetime_s=2.0)
    state, scores, reason = text.text.split("\n")
    assert (text.type, state, scores) == (Marker.TEXT_VIEW_FACING, "WARN, occluded", "SCS 41 at 8")
    assert reason.startswith("xxx") and len(reason) <= 160
    assert text.pose.position.z == pytest.approx(0.95) and text.scale.z > 0 and rgb(text.color) == STATE_COLORS["WARN"]
    fine = markers.state_marker(HUMANOID, OK, stamp_ns=START_NS, frame_id="base_link", lifetime_s=2.0)
    assert fine.text.startswith("OK\nSCS 90 at 2, 80 at 4") and rgb(fine.color) == STATE_COLORS["OK"]


# ---- moments ahead ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "fine"),
    [((0.0, 1.0, 2.0), True), ((), True), ((0.25, 0.5), True), ((-1.0,), False), ((math.nan,), False),
     ((1.0, 1.0), False), ((61.0,), False), ((0.0, 1, 2, 3, 4, 5, 6), False)],
)  # fmt: skip
def test_moments_that_make_no_topic_are_refused(values, fine):
    if fine:
        require_shown_ahead(values)
    else:
        with pytest.raises(ConfigError, match=r"shown_ahead_s is .* expected at most 6 different times"):
            require_shown_ahead(values)


def test_moments_are_named_and_found_by_time():
    names = {0.0: "now", 1.0: "plus_1s", 2.0: "plus_2s", 0.5: "plus_0_5s", 1.25: "plus_1_25s"}
    assert {ahead_s: moment_name(ahead_s) for ahead_s in names} == names
    found = {ahead_s: frame_ahead(STRAIGHT.frames, START_NS, ahead_s) for ahead_s in (0.25, 1.0, 2.0, 2.1, 2.5)}
    assert found == {0.25: (0, True), 1.0: (3, True), 2.0: (7, True), 2.1: (7, True), 2.5: (7, False)}


def test_what_was_predicted_first_for_a_moment_is_what_comes_true():
    waiting, period_ns = ComingTrue(), 250_000_000
    waiting.keep(STRAIGHT.frames, 7)
    waiting.keep(made_rollout([[0.1, 0, 0]] * 8, start_s=1.01).frames, 7)
    assert waiting.due(at(0.2), period_ns=period_ns)[0, 0, 0] == 1  # within half a period
    assert waiting.due(at(2.0), period_ns=period_ns)[0, 0, 0] == 8  # not the later prediction of nearly that moment
    assert waiting.due(at(2.25), period_ns=period_ns)[0, 0, 0] == 105
    assert waiting.due(at(1.5), period_ns=period_ns) is None  # the clock went back: all that is forgotten
    assert waiting.due(at(2.5), period_ns=period_ns) is None


def test_each_moment_has_its_picture_and_intrinsics_of_its_size():
    out, said = Published(), []
    pictures = PredictedOutputs(
        BASE, out.create, lambda key, text: said.append((key, text)), shown_ahead_s=(0.0, 1.0, 3.0)
    )
    context = Frames(np.zeros((1, 6, 8, 3), np.uint8), np.array([START_NS]))
    for _ in range(2):
        pictures.show(STRAIGHT, context, number=0, strip_step_s=0.5, frame_id="optical")
    shown, info = (out.by_topic[f"~/predicted/plus_1s/{name}"][0] for name in ("image_raw", "camera_info"))
    assert shown.data[0] == 4 and conversions.time_ns(shown.header.stamp) == at(1.0)
    assert info.header == shown.header and info.header.frame_id == "optical"
    assert (info.height, info.width) == (shown.height, shown.width) == (6, 8)  # not the 96x128 of the embodiment
    assert info.k[0] == pytest.approx(4.0)  # 90 degrees over 8 pixels
    assert out.by_topic["~/predicted/plus_3s/image_raw"][0].data[0] == 8
    assert len(said) == 1 and "shown_ahead_s has 3, predictions reach 2 s" in said[0][1]  # once
    assert not out.by_topic["~/predicted/now/image_raw"]
    pictures.due(at(1.05), "optical")
    (now,) = out.by_topic["~/predicted/now/image_raw"]
    assert now.data[0] == 4 and conversions.time_ns(now.header.stamp) == at(1.05)  # stamped as what the camera saw
    pictures.camera_info = CameraInfo(height=480, width=640, k=[320.0, 0, 319.5, 0, 320.0, 239.5, 0, 0, 1])
    pictures.show(STRAIGHT, context, number=0, strip_step_s=0.5, frame_id="optical")
    info = out.by_topic["~/predicted/plus_1s/camera_info"][-1]
    expected = conversions.scaled_camera_info(pictures.camera_info, Preprocess(6, 8))
    assert (info.height, info.width) == (6, 8) and list(info.k) == list(expected.k)


def test_nothing_is_drawn_while_nobody_listens():
    out = Published(heard=False)
    pictures = PredictedOutputs(BASE, out.create, lambda *_: None, shown_ahead_s=(0.0, 1.0))
    context = Frames(np.zeros((1, 6, 8, 3), np.uint8), np.array([START_NS]))
    pictures.show(STRAIGHT, context, number=0, strip_step_s=0.5, frame_id="optical")
    pictures.due(at(1.0), "optical")
    assert len(out.by_topic) == 8 and not any(out.by_topic.values())

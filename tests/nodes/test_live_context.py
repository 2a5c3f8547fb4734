"""Live messages to contexts: ticks, hindsight, and a sentence for everything that is skipped."""

from __future__ import annotations

import numpy as np

from egowm_core.data.preprocess import Preprocess
from egowm_core.embodiment import load_embodiment
from egowm_nodes.prediction.live_context import LiveContext, Skip
from tests.nodes.streams import at, picture_at, plain_image, plain_jpeg, plain_odometry

ROBOT = load_embodiment("base_3dof")


def live(horizon: int = 4) -> LiveContext:
    return LiveContext(ROBOT, context_frames=1, horizon=horizon)


def feed(context: LiveContext, start: float, seconds: float, *, image_hz=12.0, odom_hz=20.0) -> tuple[int, list[Skip]]:
    """Images and odometry in the order of their stamps; returns ticks and skips."""
    images = [(start + i / image_hz, "image") for i in range(round(seconds * image_hz))]
    poses = [(start + i / odom_hz + 1e-3, "odom") for i in range(round(seconds * odom_hz))]
    ticks, skips = 0, []
    for when, kind in sorted(images + poses):
        if kind == "image":
            progress = context.add_image(plain_image(when, picture_at(when)), arrived_s=when)
        else:
            progress = context.add_odometry(plain_odometry(when, x=0.4 * when))
        ticks += progress.ticks
        skips += progress.skips
    return ticks, skips


def test_a_clean_stream_gives_contexts_and_hindsight_without_a_word():
    context = live()
    ticks, skips = feed(context, 0.0, 3.0)
    assert not skips and 11 <= ticks <= 12
    frames = context.context()
    newest_s = (frames.stamps_ns[-1] - at(0)) * 1e-9
    np.testing.assert_array_equal(frames.images[-1], Preprocess(96, 128)(picture_at(newest_s)))
    assert context.newest_arrived_s == newest_s
    np.testing.assert_allclose(context.last_action, [0.1, 0, 0], atol=1e-5)
    sample = context.hindsight()
    assert sample.actions.shape == (4, 3) and sample.future_stamps[-1] == frames.stamps_ns[-1]
    np.testing.assert_allclose(np.diff([sample.context_stamps[-1], *sample.future_stamps]) * 1e-9, 0.25, atol=1e-6)


def test_pictures_from_before_the_first_odometry_are_no_trouble():
    context = live()
    for i in range(4):
        assert not context.add_image(plain_image(i / 12, picture_at(0)), arrived_s=0.0).skips
    ticks, skips = feed(context, 0.5, 1.0)
    assert ticks >= 3 and not skips


def one(skips: list[Skip], key: str) -> str:
    found = [skip.text for skip in skips if skip.key == key]
    assert found, f"no {key!r} in {skips}"
    return found[0]


def test_a_corrupt_jpeg_is_skipped_and_the_next_picture_takes_its_place():
    context = live()
    feed(context, 0.0, 1.0)
    broken = plain_jpeg(1.0, picture_at(1.0))
    broken.data = broken.data[:500]
    assert "cut short" in one(context.add_image(broken, arrived_s=0.0).skips, "image undecodable")
    context.add_image(plain_jpeg(1.05, picture_at(1.05)), arrived_s=0.0)
    assert context.add_odometry(plain_odometry(1.06, x=0.4 * 1.06)).ticks == 1
    assert context.newest_ns == at(1.05) and context.last_action is not None


def test_a_wrong_encoding_is_skipped_with_the_remedy():
    context = live()
    feed(context, 0.0, 1.0)
    depth = plain_image(1.0, picture_at(1.0), encoding="16UC1")
    text = one(context.add_image(depth, arrived_s=0.0).skips, "image undecodable")
    assert "16UC1" in text and "depth" in text


def test_another_resolution_of_the_same_aspect_is_accepted_another_aspect_refused():
    context = live()
    feed(context, 0.0, 1.0)
    assert not context.add_image(plain_image(1.0, picture_at(1.0, height=480, width=640)), arrived_s=0.0).skips
    wide = plain_image(1.25, picture_at(1.25, height=240, width=426))
    text = one(context.add_image(wide, arrived_s=0.0).skips, "image undecodable")
    assert "240x426" in text and "240x320" in text and "activate" in text


def test_stamps_backwards_twice_and_zero_are_skipped():
    context = live()
    feed(context, 0.0, 1.0)
    newest = 11 / 12
    for stamp, key, words in [
        (newest - 0.5, "image stamp backwards", "0.500 s before"),
        (newest, "image duplicate stamp", "twice"),
    ]:
        message = plain_image(stamp, picture_at(1))
        assert words in one(context.add_image(message, arrived_s=0.0).skips, key)
    zero = plain_image(0, picture_at(0))
    zero.header.stamp.sec = zero.header.stamp.nanosec = 0
    assert "stamp 0" in one(context.add_image(zero, arrived_s=0.0).skips, "image unstamped")
    ticks, skips = feed(context, 1.0, 1.0)
    assert ticks >= 3 and not skips


def test_stamps_far_apart_and_a_reset_clock_start_over():
    context = live()
    feed(context, 0.0, 2.0)
    ticks, skips = feed(context, 4.0, 2.0)
    assert "apart" in one(skips, "image gap (break)") and ticks >= 7
    assert context.hindsight() is not None
    context.add_image(plain_image(-100.0, picture_at(0)), arrived_s=0.0)
    assert context.drops["clock reset (break)"] == 1


def test_odometry_that_is_not_finite_is_skipped_and_the_rest_goes_on():
    context = live()
    feed(context, 0.0, 1.0)
    progress = context.add_odometry(plain_odometry(1.0, x=float("nan")))
    assert "not finite" in one(progress.skips, "odom not finite")
    ticks, skips = feed(context, 1.0, 1.0)
    assert ticks >= 3 and not skips


def test_motion_beyond_the_limits_names_the_channel():
    context = live()
    feed(context, 0.0, 1.0)
    for i in range(1, 21):
        context.add_image(plain_image(1 + i / 20, picture_at(1)), arrived_s=0.0)
        for skip in context.add_odometry(plain_odometry(1 + i / 20 + 1e-3, x=0.4 + 4.0 * i / 20)).skips:
            assert skip.key == "outside limits (break)"
            assert "dx" in skip.text and "-0.2..0.2" in skip.text
    assert context.drops["outside limits (break)"] >= 2

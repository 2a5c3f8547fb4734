"""Pictures by stamp, and one comparison of a rollout with them."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.data.preprocess import Preprocess
from egowm_core.errors import DataError
from egowm_core.scs import DenseFlowTracker
from egowm_core.types import ActionSequence, ActionSource, Frames, Rollout
from egowm_nodes.frame_buffer import FrameBuffer
from egowm_nodes.judging import compare, due_ns, judge_comparison, tolerance_ns
from tests.nodes.streams import at, picture_at, plain_image, plain_jpeg

SMALL = Preprocess(96, 128)


def buffer(**changes) -> FrameBuffer:
    kept = FrameBuffer(**({"keep_s": 10.0, "max_bytes": 100 << 20} | changes))
    kept.fit(96, 128)
    return kept


def rollout(start: float, *, frozen: bool = False) -> Rollout:
    """A prediction of 8 frames that is right, or (``frozen``) that nothing moves."""
    times = start + np.arange(1, 9) / 4
    images = np.stack([SMALL(picture_at(start if frozen else when)) for when in times])
    stamps = np.array([at(when) for when in times], np.int64)
    actions = ActionSequence(np.zeros((8, 3), np.float32), ActionSource.EXECUTED)
    return Rollout(Frames(images, stamps), actions, at(start), 1, 0)


def test_the_nearest_picture_within_the_tolerance_is_found_and_decoded_once():
    kept = buffer()
    for i in range(12):
        kept.add(plain_jpeg(i / 12, picture_at(i / 12)))
    stamp, frame = kept.frame(at(0.26), 125_000_000)
    assert stamp == at(3 / 12) and frame.shape == (96, 128, 3)
    assert kept.frame(at(0.25), 125_000_000)[1] is frame
    assert kept.frame(at(5.0), 125_000_000) is None


@pytest.mark.parametrize("make", [plain_image, plain_jpeg])
def test_memory_is_bounded_by_time_and_by_bytes(make):
    kept = buffer(keep_s=1.0)
    for i in range(40):
        kept.add(make(i / 10, picture_at(0)))
    assert len(kept) == 11 and kept.first_ns == at(0)
    size = kept.bytes // 11
    small = buffer(max_bytes=5 * size + 1000)
    for i in range(40):
        small.add(make(i / 10, picture_at(0)))
    assert len(small) == 5
    small.clear()
    assert small.bytes == 0 and small.newest_ns is None


def test_raw_pictures_shrink_once_the_size_is_known():
    kept = FrameBuffer(keep_s=10.0, max_bytes=100 << 20)
    kept.add(plain_image(0.0, picture_at(0)))
    with pytest.raises(DataError, match="size of frames"):
        kept.frame(at(0), 0)
    kept.fit(96, 128)
    kept.add(plain_image(0.1, picture_at(0)))
    assert kept.bytes == 240 * 320 * 3 + 96 * 128 * 3
    assert kept.frame(at(0), 0)[1].shape == (96, 128, 3)
    kept.fit(48, 64)
    assert len(kept) == 0


def test_stamps_backwards_are_skipped_and_a_reset_clock_starts_over():
    kept = buffer()
    kept.add(plain_jpeg(10.0, picture_at(0)))
    assert kept.add(plain_jpeg(9.5, picture_at(0))) is False and kept.backwards == 1
    assert kept.add(plain_jpeg(1.0, picture_at(0))) is True
    assert len(kept) == 1 and kept.newest_ns == at(1.0)


def test_a_corrupt_picture_is_reported_once_and_the_next_nearest_taken():
    kept = buffer()
    kept.add(plain_jpeg(0.0, picture_at(0)))
    broken = plain_jpeg(0.05, picture_at(0))
    broken.data = broken.data[:300]
    kept.add(broken)
    with pytest.raises(DataError, match="cut short"):
        kept.frame(at(0.05), 125_000_000)
    assert kept.frame(at(0.05), 125_000_000)[0] == at(0.0)


def filled() -> FrameBuffer:
    kept = buffer()
    for i in range(61):
        kept.add(plain_image(i / 12, picture_at(i / 12)))
    return kept


def test_a_right_prediction_scores_high_and_a_frozen_one_low():
    kept = filled()
    judged = {}
    for frozen in (False, True):
        comparison = compare(rollout(1.0, frozen=frozen), (2, 4, 8), kept.frame)
        assert comparison.newest_stamp_ns == at(3.0) and comparison.observed.shape == (8, 96, 128, 3)
        judged[frozen] = judge_comparison(comparison, (2, 4, 8, 16), max_structures=6, tracker=DenseFlowTracker())
    right, wrong = judged[False], judged[True]
    assert right.num_structures[8] >= 2
    assert right.scs[8] > 99 and right.psnr[8] == 100.0
    assert wrong.scs[8] < right.scs[8] - 15 and wrong.psnr[8] < 40
    assert np.isnan(right.scs[16]) and np.isnan(right.psnr[16])
    assert right.predicted_masks.shape == right.observed_masks.shape == (len(right.predicted_masks), 96, 128)


def test_only_the_frames_that_the_horizons_need_are_looked_for():
    task = rollout(3.5)
    assert due_ns(task, (2, 4)) == at(4.5) and due_ns(task, (2, 16)) == at(5.5)
    assert tolerance_ns(task) == 125_000_000
    assert compare(task, (2, 4), filled().frame).predicted.shape[0] == 4
    with pytest.raises(DataError, match="frame 7"):
        compare(task, (2, 4, 8), filled().frame)

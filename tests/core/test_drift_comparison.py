"""One comparison of a rollout with what was observed: frames found by stamp, evidence of a right and a wrong one."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.drift import compare, due_ns, judge_comparison, tolerance_ns
from egowm_core.errors import DataError
from egowm_core.scs import DenseFlowTracker
from egowm_core.types import ActionSequence, ActionSource, Frames, ImageArray, Rollout
from tests.fixtures.tiny_checkpoint import made_up_picture

START_NS = 1_700_000_000_000_000_000
WALL = made_up_picture(96, 400, seed=5)


def at(seconds: float) -> int:
    return START_NS + round(seconds * 1e9)


def picture_at(seconds: float) -> ImageArray:
    """What a camera sees that swings to and fro before a wall."""
    left = round(136 + 40 * np.sin(0.8 * seconds))
    return np.ascontiguousarray(WALL[:, left : left + 128])


SEEN = {at(i / 12): picture_at(i / 12) for i in range(61)}


def find(stamp_ns: int, tolerance: int) -> tuple[int, ImageArray] | None:
    nearest = min(SEEN, key=lambda seen: abs(seen - stamp_ns))
    return (nearest, SEEN[nearest]) if abs(nearest - stamp_ns) <= tolerance else None


def rollout(start: float, *, frozen: bool = False) -> Rollout:
    """A prediction of 8 frames that is right, or (``frozen``) that nothing moves."""
    times = start + np.arange(1, 9) / 4
    images = np.stack([picture_at(start if frozen else when) for when in times])
    stamps = np.array([at(when) for when in times], np.int64)
    turns = np.stack([np.zeros(8), np.zeros(8), np.arange(8) / 100], axis=1).astype(np.float32)
    return Rollout(Frames(images, stamps), ActionSequence(turns, ActionSource.EXECUTED), at(start), 1, 0)


def test_a_right_prediction_scores_high_and_a_frozen_one_low():
    judged = {}
    for frozen in (False, True):
        comparison = compare(rollout(1.0, frozen=frozen), (2, 4, 8), find)
        assert comparison.newest_stamp_ns == at(3.0) and comparison.observed.shape == (8, 96, 128, 3)
        judged[frozen] = judge_comparison(comparison, (2, 4, 8, 16), max_structures=6, tracker=DenseFlowTracker())
    right, wrong = (judged[frozen].evidence for frozen in (False, True))
    assert right.num_structures[8] >= 2
    assert right.scs[8] > 99 and right.psnr[8] == 100.0
    assert wrong.scs[8] < right.scs[8] - 15 and wrong.psnr[8] < 40
    assert np.isnan(right.scs[16]) and np.isnan(right.psnr[16])
    assert right.source is ActionSource.EXECUTED and right.context_stamp_ns == at(1.0)
    masks = judged[False].predicted_masks
    assert masks.shape == judged[False].observed_masks.shape == (len(masks), 96, 128)
    np.testing.assert_array_equal(judged[False].newest, picture_at(3.0))


def test_a_comparison_keeps_its_actions_and_the_stamps_of_the_observed_frames():
    task = rollout(1.02)  # no picture of exactly that moment
    comparison = compare(task, (2, 4), find)
    assert comparison.actions.shape == (4, 3)
    np.testing.assert_array_equal(comparison.actions, task.actions.values[:4])
    assert comparison.stamps_ns.tolist() == [at(1 + i / 4) for i in range(1, 5)]
    np.testing.assert_array_equal(comparison.context, picture_at(1.0))


def test_only_the_frames_that_the_horizons_need_are_looked_for():
    task = rollout(3.5)
    assert due_ns(task, (2, 4)) == at(4.5) and due_ns(task, (2, 16)) == at(5.5)
    assert tolerance_ns(task) == 125_000_000
    assert compare(task, (2, 4), find).predicted.shape[0] == 4
    with pytest.raises(DataError, match="frame 7"):
        compare(task, (2, 4, 8), find)

"""Physics-IQ's four: on squares that move by known amounts, and against the published definition step by step."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.metrics import motion_masks, mse, physics_iq

HORIZONS = (1, 4, 8)


def square(left: int, *, top: int = 20, size: int = 16) -> np.ndarray:
    frame = np.full((64, 96, 3), 40, np.uint8)
    frame[top : top + size, left : left + size] = 220
    return frame


def moving(speed: int, *, top: int = 20, frames: int = 8) -> np.ndarray:
    return np.stack([square(8 + speed * t, top=top) for t in range(1, frames + 1)])


def test_a_video_agrees_with_itself():
    video = moving(4)
    found = physics_iq(video, video, context=square(8), horizons=HORIZONS)
    for h in HORIZONS:
        assert found.spatial_iou[h] == found.spatiotemporal_iou[h] == found.weighted_spatial_iou[h] == 1.0
        assert found.mse[h] == 0.0


def test_motion_elsewhere_shares_nothing():
    found = physics_iq(moving(4, top=44), moving(4, top=4), context=np.full((64, 96, 3), 40, np.uint8), horizons=(8,))
    assert found.spatial_iou[8] == found.spatiotemporal_iou[8] == found.weighted_spatial_iou[8] == 0.0
    assert found.mse[8] > 0.01


def test_the_same_way_at_another_time_costs_only_the_spatiotemporal_iou():
    there = moving(6)
    back = there[::-1].copy()
    blank = np.full((64, 96, 3), 40, np.uint8)
    found = physics_iq(back, there, context=blank, horizons=(8,))
    assert found.spatial_iou[8] > 0.75
    assert found.spatiotemporal_iou[8] < 0.5 * found.spatial_iou[8]


def test_how_much_is_more_than_where():
    """A square that stays longer in one place has the same union, but other weights."""
    steady = np.stack([square(8), square(24), square(40), square(56)])
    lingering = np.stack([square(8), square(8), square(8), square(56)])
    found = physics_iq(lingering, steady, context=np.full((64, 96, 3), 40, np.uint8), horizons=(4,))
    masks = [motion_masks(v, context=np.full((64, 96, 3), 40, np.uint8)).mean(axis=0) for v in (lingering, steady)]
    assert found.weighted_spatial_iou[4] == pytest.approx(np.minimum(*masks).sum() / np.maximum(*masks).sum())
    assert found.weighted_spatial_iou[4] < found.spatial_iou[4]


def test_nothing_that_moves_agrees_with_nothing_that_moves():
    still = np.repeat(square(8)[None], 4, axis=0)
    found = physics_iq(still, still, context=square(8), horizons=(4, 9))
    assert found.spatial_iou[4] == found.spatiotemporal_iou[4] == found.weighted_spatial_iou[4] == 1.0
    assert np.isnan(
        [found.spatial_iou[9], found.spatiotemporal_iou[9], found.weighted_spatial_iou[9], found.mse[9]]
    ).all()
    moved = physics_iq(still, moving(4, frames=4), context=square(8), horizons=(4,))
    assert moved.spatial_iou[4] == moved.weighted_spatial_iou[4] == 0.0


def test_masks_are_differences_from_the_running_mean():
    video, context = moving(5), square(8)
    masks = motion_masks(video, context=context)

    def gray(frame):
        return cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (5, 5), 0).astype(float)

    mean = gray(context)
    kernel = np.ones((5, 5), np.uint8)
    for frame, mask in zip(video, masks, strict=True):
        mean = 0.7 * mean + 0.3 * gray(frame)
        expected = (np.abs(gray(frame) - np.rint(mean)) > 10).astype(np.uint8)
        for operation in (cv2.MORPH_OPEN, cv2.MORPH_CLOSE):
            expected = cv2.morphologyEx(expected, operation, kernel)
        np.testing.assert_array_equal(mask, expected.astype(bool))
    assert masks.any()


def test_mse_is_the_mean_over_the_frames_of_the_horizon():
    a, b = moving(4), moving(3)
    found = physics_iq(a, b, context=square(8), horizons=HORIZONS)
    for h in HORIZONS:
        assert found.mse[h] == pytest.approx(mse(a, b)[:h].mean(), rel=1e-5)


def test_what_does_not_fit_is_refused():
    video = moving(4)
    with pytest.raises(ScoreError, match="differ"):
        physics_iq(video[:3], video, context=square(8), horizons=(1,))
    with pytest.raises(ScoreError, match="from 1"):
        physics_iq(video, video, context=square(8), horizons=(0,))
    with pytest.raises(ScoreError, match="context"):
        physics_iq(video, video, context=square(8)[:32], horizons=(1,))

"""Tracked masks follow known motion."""

import cv2
import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.scs import DenseFlowTracker, Tracker
from egowm_core.scs.score import masks_iou

CANVAS = (400, 400)


def canvas(seed=0):
    """A texture (400,400,3) with detail at several scales."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*CANVAS, 3), np.float32)
    for sigma in (2, 5, 12):
        noise = cv2.GaussianBlur(rng.normal(size=(*CANVAS, 3)).astype(np.float32), (0, 0), sigma)
        total += noise / noise.std()
    return np.clip(128 + 30 * total, 0, 255).astype(np.uint8)


def view(image, x, y, height=96, width=128):
    return image[y : y + height, x : x + width]


def moving(steps, *, start=(130, 150), seed=0, height=96, width=128):
    """A camera sliding over the canvas by whole pixels; images (T+1,H,W,3) and two true masks (2,T+1,H,W)."""
    image = canvas(seed)
    marks = np.zeros((2, *CANVAS), bool)
    x, y = start
    marks[0, y + 20 : y + 50, x + 30 : x + 65] = True
    marks[1, y + 50 : y + 80, x + 75 : x + 100] = True
    places = np.cumsum(np.vstack([[start], steps]), axis=0)
    images = np.stack([view(image, px, py, height, width) for px, py in places])
    masks = np.stack([[view(mark, px, py, height, width) for px, py in places] for mark in marks])
    return images, masks


@pytest.mark.parametrize("step", [(3, 0), (-7, 2), (0, 4), (10, 0)])
def test_translation_is_followed(step):
    images, masks = moving([step] * 4)
    tracked = DenseFlowTracker().track(masks[:, 0], images)
    assert tracked.shape == masks[:, 1:].shape and tracked.dtype == np.bool_
    assert np.nanmin(masks_iou(tracked, masks[:, 1:])) > 0.85


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_every_preset_follows_eight_frames(preset):
    images, masks = moving([(3, 1)] * 8)
    iou = masks_iou(DenseFlowTracker(preset=preset).track(masks[:, 0], images), masks[:, 1:])
    assert np.nanmin(iou) > 0.85


def test_large_images_are_tracked_at_their_own_size():
    images, masks = moving([(6, 2)] * 4, start=(60, 80), height=240, width=300)
    assert np.nanmin(masks_iou(DenseFlowTracker().track(masks[:, 0], images), masks[:, 1:])) > 0.85


def test_scaling_is_followed():
    """The camera approaches: masks grow."""
    image = canvas()
    mask = np.zeros(CANVAS, np.uint8)
    mask[185:215, 180:225] = 1
    images, masks = [], []
    for t in range(7):
        zoom = 1.05**t
        affine = np.asarray([[zoom, 0, 64 - 200 * zoom], [0, zoom, 48 - 200 * zoom]])
        images.append(cv2.warpAffine(image, affine, (128, 96)))
        masks.append(cv2.warpAffine(mask, affine, (128, 96), flags=cv2.INTER_NEAREST) > 0)
    tracked = DenseFlowTracker().track(masks[0][None], np.stack(images))
    assert masks_iou(tracked[0], np.stack(masks[1:])).min() > 0.85


def test_a_still_video_keeps_its_masks_exactly():
    images, masks = moving([(0, 0)] * 3)
    tracked = DenseFlowTracker().track(masks[:, 0], images)
    assert np.array_equal(tracked, np.repeat(masks[:, :1], 3, axis=1))


def test_what_leaves_the_view_does_not_come_back_at_the_border():
    images, masks = moving([(12, 0)] * 8, start=(30, 150))
    tracked = DenseFlowTracker().track(masks[:, 0], images)
    assert masks[0, -1].sum() == 0  # truly gone
    assert tracked[0, -1].sum() < 0.05 * masks[0, 0].sum()


def test_coordinates_say_what_is_out_of_view():
    images, _ = moving([(8, 0)] * 3)
    maps, inside = DenseFlowTracker().coordinates(images)
    assert maps.shape == (3, 96, 128, 2) and inside.shape == (3, 96, 128)
    assert abs(np.median(maps[2, 20:-20, 20:90, 0] - np.arange(20, 90)) - 24) < 0.5
    assert inside[2, :, :90].mean() > 0.95 and inside[2, :, 112:].mean() < 0.3


def test_it_is_deterministic_and_answers_the_protocol():
    images, masks = moving([(4, 1)] * 3)
    tracker = DenseFlowTracker()
    assert isinstance(tracker, Tracker)
    assert np.array_equal(tracker.track(masks[:, 0], images), tracker.track(masks[:, 0], images))


def test_no_structures_are_no_work():
    images, _ = moving([(1, 0)])
    assert DenseFlowTracker().track(np.zeros((0, 96, 128), bool), images).shape == (0, 1, 96, 128)


def test_bad_input_is_named():
    images, masks = moving([(1, 0)])
    with pytest.raises(ScoreError, match="context frame first"):
        DenseFlowTracker().track(masks[:, 0], images[:1])
    with pytest.raises(ScoreError, match="48x64"):
        DenseFlowTracker().track(np.zeros((1, 48, 64), bool), images)
    with pytest.raises(ScoreError, match="uint8"):
        DenseFlowTracker().track(masks[:, 0].astype(np.uint8), images)
    with pytest.raises(ScoreError, match="medum"):
        DenseFlowTracker(preset="medum")
    with pytest.raises(ScoreError, match="too small"):
        DenseFlowTracker(min_height=8).track(np.ones((1, 8, 8), bool), np.zeros((2, 8, 8, 3), np.uint8))

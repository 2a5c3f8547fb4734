"""Points are followed, lost points are known to be lost, and what has left the picture is known to be out."""

import cv2
import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.scs import CallablePoints, DenseFlowPoints, LucasKanadePoints, PointTracker, PointTracks
from egowm_core.scs.points import grid_points

TRACKERS = [LucasKanadePoints(), DenseFlowPoints()]


def sliding(step, count=5, height=96, width=128, seed=0):
    """A camera over a texture with detail at several scales."""
    rng = np.random.default_rng(seed)
    image = np.zeros((300, 400, 3), np.float32)
    for sigma in (1.5, 4, 10):
        noise = cv2.GaussianBlur(rng.normal(size=image.shape).astype(np.float32), (0, 0), sigma)
        image += 30 * noise / noise.std()
    image = np.clip(image + 128, 0, 255).astype(np.uint8)
    x, y = 150, 100
    return np.stack([image[y + t * step[1] :, x + t * step[0] :][:height, :width] for t in range(count)])


def points_in(height=96, width=128):
    y, x = np.mgrid[16 : height - 16 : 12, 16 : width - 16 : 12]
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)


@pytest.mark.parametrize("tracker", TRACKERS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("step", [(2, 1), (-5, 3), (9, 0)])
def test_translation_is_followed(tracker, step):
    images, points = sliding(step), points_in()
    tracks = tracker.track(points, images)
    assert isinstance(tracker, PointTracker)
    assert tracks.positions.dtype == np.float32 and tracks.visible.dtype == np.bool_
    true = points[:, None] - np.arange(1, 5)[None, :, None] * np.asarray(step)
    inside = (true >= 6).all(axis=-1) & (true <= [121, 89]).all(axis=-1)
    assert tracks.visible[inside].mean() > 0.8
    error = np.linalg.norm(tracks.positions - true, axis=-1)
    assert np.median(error[tracks.visible]) < 0.2 and np.quantile(error[tracks.visible], 0.95) < 1


@pytest.mark.parametrize("tracker", TRACKERS, ids=lambda t: type(t).__name__)
def test_what_leaves_the_picture_is_out_and_stays_out(tracker):
    images, points = sliding((9, 0), count=7), points_in()
    tracks = tracker.track(points, images)
    true = points[:, None] - np.arange(1, 7)[None, :, None] * np.asarray((9, 0))
    out = true[..., 0] < -3
    assert out.any() and not tracks.visible[out].any()
    assert tracks.in_view(96, 128)[out].mean() < 0.1
    assert tracks.in_view(96, 128)[true[..., 0] > 3].all()
    assert not (~tracks.visible[:, :-1] & tracks.visible[:, 1:]).any()  # once lost, lost


def test_a_point_that_something_covers_is_lost_but_carried_on():
    images = sliding((3, 0)).copy()
    images[2:, 30:60, 40:80] = np.random.default_rng(1).integers(0, 255, (30, 40, 3))
    points = points_in()
    tracks = LucasKanadePoints().track(points, images)
    true = points[:, None] - np.arange(1, 5)[None, :, None] * np.asarray((3, 0))
    x, y = true[:, 1, 0], true[:, 1, 1]
    covered = (x > 48) & (x < 72) & (y > 36) & (y < 54)
    assert covered.sum() >= 2 and tracks.visible[covered, 0].all() and not tracks.visible[covered, 1:].any()
    assert np.abs(tracks.positions[covered, 1] - true[covered, 1]).max() < 1.5  # by its neighbours
    assert np.isfinite(tracks.positions).all()


def test_a_plain_wall_has_nothing_to_follow_and_a_black_video_does_not_break():
    black = np.zeros((4, 96, 128, 3), np.uint8)
    for tracker in TRACKERS:
        tracks = tracker.track(points_in(), black)
        assert np.isfinite(tracks.positions).all()
        assert np.abs(tracks.positions - points_in()[:, None]).max() < 1
    assert LucasKanadePoints().track(np.zeros((0, 2), np.float32), black).visible.shape == (0, 3)


def test_a_learned_tracker_comes_in_as_a_function():
    images, points = sliding((2, 0)), points_in()
    asked = []

    def model(given, video):
        asked.append((given.shape, video.shape))
        return (given[:, None] + np.zeros((1, len(video) - 1, 1))).tolist(), np.ones((len(given), len(video) - 1))

    tracks = CallablePoints(model).track(points, images)
    assert asked == [(points.shape, images.shape)] and tracks.visible.all()
    np.testing.assert_array_equal(tracks.positions[:, 2], points)
    with pytest.raises(ScoreError, match="expected finite ones"):
        CallablePoints(lambda p, v: (np.zeros((1, 4, 2)), np.ones((1, 4), bool))).track(points, images)
    with pytest.raises(ScoreError, match="visible is"):
        CallablePoints(lambda p, v: (np.zeros((1, 4, 2)), np.ones((2, 4), bool))).track(points, images)


def test_grid_points_belong_to_their_masks():
    masks = np.zeros((4, 60, 80), bool)
    masks[0, 10:40, 10:50] = True
    masks[1, 50:52, 70:72] = True  # between the grid's lines
    masks[3] = True
    points, owners = grid_points(masks, spacing_px=8, max_points=20)
    counts = np.bincount(owners, minlength=4)
    assert counts[1] == 1 and counts[2] == 0 and counts[3] == 20 and 12 <= counts[0] <= 20
    columns, rows = points.astype(int).T
    assert masks[owners, rows, columns].all()


def test_bad_input_is_named():
    images = sliding((1, 0))
    with pytest.raises(ScoreError, match="inside the first image"):
        LucasKanadePoints().track(np.asarray([[200.0, 5.0]], np.float32), images)
    with pytest.raises(ScoreError, match="inside the first image"):
        LucasKanadePoints().track(np.asarray([[np.nan, 5.0]], np.float32), images)
    with pytest.raises(ScoreError, match=r"\(P,2\)"):
        DenseFlowPoints().track(np.zeros((3, 3), np.float32), images)
    with pytest.raises(ScoreError, match="context frame first"):
        LucasKanadePoints().track(points_in(), images[:1])
    with pytest.raises(ScoreError, match="positions are"):
        PointTracks(np.zeros((2, 3), np.float32), np.zeros((2, 3), bool))

"""When a structure is judged no longer, by areas and by points."""

import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.scs import LucasKanadePoints, left_view, left_view_by_points, track_and_score, trimmed
from egowm_core.scs.trimming import trimmed_by_points
from tests.core.test_scs_score import scene


def masks_over(present):
    """A structure of 100 px in a 20x20 picture, there or not at each frame: (1,20,20), (1,T,20,20)."""
    structure = np.zeros((1, 20, 20), bool)
    structure[0, 5:15, 5:15] = True
    return structure, structure[:, None] & np.asarray(present, bool)[None, :, None, None]


def test_both_views_must_have_lost_it():
    structure, predicted = masks_over([1, 0, 0, 0, 1])
    _, observed = masks_over([1, 1, 1, 0, 1])
    assert trimmed(structure, predicted, observed).tolist() == [[False, False, False, True, True]]
    assert trimmed(structure, observed, predicted).tolist() == [[False, False, False, True, True]]
    assert trimmed(structure, predicted, observed, trim="observed").tolist() == [[False, False, False, True, True]]
    assert trimmed(structure, observed, predicted, trim="observed").tolist() == [[False, True, True, True, True]]
    with pytest.raises(ScoreError, match="one of both, observed"):
        trimmed(structure, predicted, observed, trim="either")


def test_a_sliver_has_left():
    structure, masks = masks_over([1, 1])
    masks[0, 1, 6:] = False  # ten of a hundred pixels
    assert left_view(structure, masks).tolist() == [[False, True]]
    masks[0, 1, 6, 5:11] = True  # sixteen
    assert left_view(structure, masks).tolist() == [[False, False]]


def test_all_points_must_have_left_and_then_it_stays_so():
    owners = np.asarray([0, 0, 2])
    in_view = np.asarray([[1, 1, 0, 1], [1, 0, 0, 0], [1, 0, 1, 1]], bool)
    assert left_view_by_points(owners, in_view).tolist() == [
        [False, False, True, True],
        [False] * 4,  # has no point: it cannot be told
        [False, True, True, True],
    ]
    assert left_view_by_points(owners, in_view, count=4).shape == (4, 4)
    always = np.ones_like(in_view)
    assert not trimmed_by_points(owners, always, in_view).any()
    assert trimmed_by_points(owners, always, in_view, trim="observed").sum() == 5
    with pytest.raises(ScoreError, match=r"0\.\.1"):
        left_view_by_points(owners, in_view, count=2)
    with pytest.raises(ScoreError, match=r"\(P,T\)"):
        left_view_by_points(owners, in_view[:2])
    assert left_view_by_points(owners[:0], in_view[:0]).shape == (0, 4)


def test_the_score_can_be_trimmed_by_points():
    images, masks = scene(9)
    given = {"context": images[0], "structures": masks[:, 0]}
    by_area = track_and_score(images[1:], images[1:], **given).scores.iou
    by_points = track_and_score(images[1:], images[1:], points=LucasKanadePoints(), **given).scores.iou
    first = [int(np.argmax(np.isnan(iou[0]))) for iou in (by_area, by_points)]
    assert first[0] > 0 and abs(first[0] - first[1]) <= 1  # the last point leaves about when the last sliver does
    copied = np.repeat(images[:1], 8, axis=0)
    kept = track_and_score(copied, images[1:], points=LucasKanadePoints(), **given).scores.iou
    assert np.isfinite(kept).all() and kept[0, -1] < 0.05


def test_a_frame_is_out_once_the_whole_picture_has_been_replaced():
    images, masks = scene(-18)  # 144 px: all of the first picture's 128 columns have left
    central = masks[:1, 0]
    scores = track_and_score(
        images[1:], images[1:], context=images[0], structures=central, points=LucasKanadePoints(), trim="observed"
    )
    assert np.isnan(scores.scores.iou[:, -1]).all() and np.isfinite(scores.scores.iou[:, 0]).all()

"""Which structures are chosen, and which are not."""

import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.scs import choose_ids, masks_of, propose_structures, structures_from_masks


def room(height=96, width=128):
    """A segmentation: 1 fits, 2 is a speck, 3 a wall, 4 is half cut off by the border, 5 fits and is smaller."""
    segmentation = np.zeros((height, width), np.uint16)
    segmentation[: int(0.45 * height)] = 3
    segmentation[50:70, 20:40] = 1
    segmentation[80:84, 60:64] = 2
    segmentation[60:90, 122:128] = 4
    segmentation[60:75, 80:95] = 5
    return segmentation


def test_ids_by_size_and_place_largest_first():
    assert choose_ids(room()) == [1, 5]


def test_ids_can_be_restricted_and_bounded():
    assert choose_ids(room(), allowed={5, 3}) == [5]
    assert choose_ids(room(), max_structures=1) == [1]
    assert choose_ids(room(), max_area=0.6, max_border=1.0) == [3, 1, 5, 4]
    assert choose_ids(np.zeros((96, 128), np.uint16)) == []


def test_masks_follow_ids_through_a_video():
    video = np.stack([room(), np.roll(room(), 3, axis=1)])
    masks = masks_of(video, [1, 5])
    assert masks.shape == (2, 2, 96, 128) and masks.dtype == np.bool_
    assert np.array_equal(masks[0, 1], np.roll(masks[0, 0], 3, axis=1))
    assert np.array_equal(masks[:, 0], structures_from_masks(room()))
    assert masks_of(video, []).shape == (0, 2, 96, 128)


def test_segmentation_must_be_ids():
    with pytest.raises(ScoreError, match="float32"):
        choose_ids(np.zeros((4, 4), np.float32))


def textured(height, width, seed=0):
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 90, np.uint8)
    for index, (row, column) in enumerate([(0.2, 0.2), (0.2, 0.6), (0.6, 0.3), (0.6, 0.7)]):
        top, left = int(row * height), int(column * width)
        patch = image[top : top + height // 5, left : left + width // 6]
        patch[:] = (40 + 50 * index, 200 - 45 * index, 60 + 30 * index)
        patch[:] = np.clip(patch.astype(int) + rng.integers(-12, 12, patch.shape), 0, 255)
    return image


@pytest.mark.parametrize(("height", "width"), [(96, 128), (240, 320)])
def test_proposals_find_the_patches(height, width):
    image = textured(height, width)
    masks = propose_structures(image)
    assert masks.dtype == np.bool_ and masks.shape[1:] == (height, width)
    assert 4 <= len(masks) <= 8
    assert masks.sum(axis=0).max() == 1  # disjoint
    for row, column in [(0.2, 0.2), (0.2, 0.6), (0.6, 0.3), (0.6, 0.7)]:
        true = np.zeros((height, width), bool)
        true[int(row * height) : int(row * height) + height // 5, int(column * width) :][:, : width // 6] = True
        assert max((mask & true).sum() / (mask | true).sum() for mask in masks) > 0.75


def test_proposals_are_bounded_and_repeat():
    image = textured(96, 128)
    assert len(propose_structures(image, max_structures=2)) == 2
    assert np.array_equal(propose_structures(image), propose_structures(image))


def test_nothing_is_proposed_where_there_is_nothing_to_hold():
    assert propose_structures(np.full((96, 128, 3), 128, np.uint8)).shape == (0, 96, 128)
    noise = np.random.default_rng(0).integers(0, 6, (96, 128, 3)).astype(np.uint8)  # a covered lens
    assert len(propose_structures(noise)) == 0


def test_proposals_refuse_other_arrays():
    with pytest.raises(ScoreError, match=r"\(H,W,3\) uint8"):
        propose_structures(np.zeros((96, 128), np.uint8))

"""What the score must hold for any video: identity, symmetry, colours do not count, and every edge is defined."""

import cv2
import numpy as np
import pytest
from skimage import data

from egowm_core.errors import ScoreError
from egowm_core.scs import DenseFlowTracker, LucasKanadePoints, propose_structures, score, track_and_score
from tests.core.simulated import simulated_clips

TRACKERS = [DenseFlowTracker(), DenseFlowTracker(preset="fast"), DenseFlowTracker(preset="ultrafast")]


def panned(name, step, count=7, height=96, width=128):
    """A camera sliding over one of scikit-image's photographs, (T+1,H,W,3)."""
    picture = cv2.resize(getattr(data, name)(), (256, 192), interpolation=cv2.INTER_AREA)
    places = [(40 + step[0] * t, 40 + step[1] * t) for t in range(count)]
    return np.stack([picture[y : y + height, x : x + width] for x, y in places])


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_a_photograph_against_itself_is_100_and_the_score_is_symmetric(name):
    images, other = panned(name, (3, 1)), panned(name, (-3, 2))
    for tracker in TRACKERS:
        result = track_and_score(images[1:], images[1:], context=images[0], horizons=[2, 6], tracker=tracker)
        assert len(result.structures) >= 1 and result.scores.scs == {2: 100.0, 6: 100.0}
        given = {"context": images[0], "structures": result.structures, "horizons": [1, 2, 6], "tracker": tracker}
        one, two = score(images[1:], other[1:], **given), score(other[1:], images[1:], **given)
        np.testing.assert_array_equal(one.iou, two.iou)
        assert one.scs == two.scs and one.num_structures == two.num_structures
        assert one.scs[6] < 80  # and the two videos do differ


def test_symmetry_holds_with_points_and_where_structures_leave():
    images, other = panned("astronaut", (9, 0)), panned("astronaut", (-6, 0))
    structures = propose_structures(images[0])
    for points in (None, LucasKanadePoints()):
        given = {"context": images[0], "structures": structures, "horizons": [6], "points": points}
        one, two = score(images[1:], other[1:], **given), score(other[1:], images[1:], **given)
        np.testing.assert_array_equal(one.iou, two.iou)


def jittered(images, kind):
    """The same pictures, all in other colours."""
    if kind.startswith("hue") or kind.startswith("saturation"):
        out = []
        for image in images:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
            hsv[..., 0] = (hsv[..., 0] + {"hue+": 12, "hue-": -12}.get(kind, 0)) % 180
            hsv[..., 1] = np.clip(hsv[..., 1] * (1.3 if kind == "saturation" else 1), 0, 255)
            out.append(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB))
        return np.stack(out)
    values = images.astype(np.float32)
    changed = {
        "brighter": lambda: values + 25,
        "darker": lambda: values - 25,
        "harder": lambda: (values - 128) * 1.2 + 128,
        "softer": lambda: (values - 128) * 0.7 + 128,
        "gamma 0.8": lambda: 255 * (values / 255) ** 0.8,
        "gamma 1.25": lambda: 255 * (values / 255) ** 1.25,
    }[kind]()
    return np.clip(changed, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    "kind", ["brighter", "darker", "harder", "softer", "gamma 0.8", "gamma 1.25", "hue+", "hue-", "saturation"]
)
def test_other_colours_cost_less_than_three_points(kind):
    scores = [colour_score(clip, kind) for clip in simulated_clips(range(9100, 9104), clips=2)[::2]]
    assert np.nanmean(scores) > 97


def test_light_is_evened():
    """Without it the same change of light costs half as much again, and more."""
    clips = simulated_clips(range(9100, 9104), clips=2)[::2]
    for kind in ("darker", "softer"):
        even, uneven = (
            np.nanmean([colour_score(clip, kind, tracker=DenseFlowTracker(even_light=light)) for clip in clips])
            for light in (True, False)
        )
        assert 100 - even < (100 - uneven) / 1.5


def test_a_copied_frame_in_the_right_colours_costs_far_more():
    clips = simulated_clips(range(9100, 9104), clips=2)[::2]
    copied = [score(np.repeat(c.images[:1], 8, axis=0), c.images[1:], context=c.images[0]).scs[8] for c in clips]
    assert np.nanmean(copied) < 80


def colour_score(clip, kind, **given):
    images = clip.images
    scores = score(
        jittered(images[1:], kind), images[1:], context=images[0], structures=clip.masks, horizons=[8], **given
    )
    return scores.scs[8]


def test_no_structures_is_nan_never_zero():
    images = panned("coffee", (2, 0))
    scores = score(images[1:], images[1:], context=images[0], structures=np.zeros((0, 96, 128), bool))
    assert scores.iou.shape == (0, 6) and all(np.isnan(value) for value in scores.scs.values())
    assert set(scores.num_structures.values()) == {0}


@pytest.mark.parametrize("gray", [0, 128, 255])
def test_a_plain_video_proposes_nothing_and_is_nan(gray):
    plain = np.full((5, 96, 128, 3), gray, np.uint8)
    scores = score(plain[1:], plain[1:], context=plain[0], horizons=[2, 4])
    assert scores.iou.shape == (0, 4) and np.isnan(scores.scs[2]) and np.isnan(scores.scs[4])


def test_a_black_prediction_of_a_real_video_is_judged_and_does_not_break():
    images = panned("coffee", (4, 0))
    black = np.zeros_like(images[1:])
    scores = score(black, images[1:], context=images[0], horizons=[6])
    assert 0 <= scores.scs[6] < 90
    reverse = score(images[1:], black, context=images[0], horizons=[6], passive=True)
    assert np.isnan(reverse.scs[6]) or 0 <= reverse.scs[6] < 90


def test_all_left_is_nan_from_there_on():
    images = panned("astronaut", (14, 0), count=7)
    mask = np.zeros((1, 96, 128), bool)
    mask[0, 30:60, 4:24] = True
    scores = score(images[1:], images[1:], context=images[0], structures=mask, horizons=[1, 6])
    assert np.isnan(scores.iou[0, 3:]).all()
    within = scores.iou[np.isfinite(scores.iou)]
    assert scores.scs[6] == 100 * within.mean() and (within > 0).all()
    gone = score(
        images[1:], images[1:], context=images[0], structures=mask, observed_masks=np.zeros((1, 6, 96, 128), bool),
        trim="observed", horizons=[6],
    )  # fmt: skip
    assert np.isnan(gone.scs[6]) and gone.num_structures[6] == 0


def test_beyond_the_end_is_nan():
    images = panned("coffee", (2, 0), count=4)
    scores = score(images[1:], images[1:], context=images[0], horizons=[3, 4])
    assert scores.scs[3] == 100 and np.isnan(scores.scs[4]) and scores.num_structures[4] == 0


def test_other_sizes_and_lengths_are_refused_with_a_remedy():
    images = panned("coffee", (2, 0))
    half = np.stack([cv2.resize(image, (64, 48)) for image in images])
    with pytest.raises(ScoreError, match="48x64 but observed ones 96x128; preprocess both to one resolution"):
        score(half[1:], images[1:], context=images[0])
    with pytest.raises(ScoreError, match="4 predicted frames against 6 observed ones; pair them by stamp and cut"):
        score(images[1:5], images[1:], context=images[0])
    with pytest.raises(ScoreError, match="structures are 48x64 but images 96x128"):
        score(images[1:], images[1:], context=images[0], structures=np.ones((1, 48, 64), bool))
    with pytest.raises(ScoreError, match="context frame is"):
        score(images[1:], images[1:], context=half[0])
    with pytest.raises(ScoreError, match="T >= 1"):
        score(images[:0], images[:0], context=images[0])

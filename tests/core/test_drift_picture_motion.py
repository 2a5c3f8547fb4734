"""Four numbers of a flow field: what is put in comes out, whatever else moves."""

import cv2
import numpy as np
import pytest
from skimage import data

from egowm_core.drift.picture_motion import MOTION_NAMES, similarity_flow, similarity_motion
from egowm_core.scs import DenseFlowTracker

HEIGHT, WIDTH = 96, 128
ALL = np.ones((HEIGHT, WIDTH), bool)
MOTIONS = ([4, -1, 0, 0], [0, 0, 3, 0], [0, 0, -2, 0], [0, 0, 0, 2.5], [-12, 3, 1.5, -2], [0, 0, 0, 0])


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_similarity_is_recovered_exactly(motion):
    flow = similarity_flow(np.asarray(motion, np.float32), HEIGHT, WIDTH)
    assert flow.shape == (HEIGHT, WIDTH, 2) and flow.dtype == np.float32
    fitted = similarity_motion(flow, ALL)
    assert fitted.shape == (len(MOTION_NAMES),) and fitted.dtype == np.float32
    assert fitted == pytest.approx(motion, abs=1e-3)


def test_the_components_mean_what_their_names_say():
    flow = similarity_flow(np.array([1, 2, 0, 0], np.float32), HEIGHT, WIDTH)
    assert np.allclose(flow, [1, 2])  # right and down are positive
    growth = similarity_flow(np.array([0, 0, 2, 0], np.float32), HEIGHT, WIDTH)
    assert growth[HEIGHT // 2, -1, 0] == pytest.approx(2, abs=0.05)  # at the side edge, outwards
    assert growth[HEIGHT // 2, 0, 0] == pytest.approx(-2, abs=0.05)
    turn = similarity_flow(np.array([0, 0, 0, 2], np.float32), HEIGHT, WIDTH)
    assert turn[HEIGHT // 2, -1, 1] == pytest.approx(2, abs=0.05)  # clockwise: the right edge goes down


@pytest.mark.parametrize(("left", "right"), [(0.0, 0.15), (0.85, 1.0), (0.35, 0.65)])
def test_what_moves_by_itself_does_not_count(left, right):
    flow = similarity_flow(np.array([5, 0, 1, 0], np.float32), HEIGHT, WIDTH)
    flow[:, int(left * WIDTH) : int(right * WIDTH)] += (-15, 4)
    assert similarity_motion(flow, ALL) == pytest.approx([5, 0, 1, 0], abs=0.3)


def test_noise_averages_out():
    flow = similarity_flow(np.array([3, 1, -1, 0.5], np.float32), HEIGHT, WIDTH)
    flow += np.random.default_rng(0).normal(0, 1, flow.shape).astype(np.float32)
    assert similarity_motion(flow, ALL) == pytest.approx([3, 1, -1, 0.5], abs=0.2)


def test_only_what_is_seen_counts():
    flow = similarity_flow(np.array([6, 0, 0, 0], np.float32), HEIGHT, WIDTH)
    seen = ALL.copy()
    seen[:, :40] = False
    flow[~seen] = 1e6
    assert similarity_motion(flow, seen) == pytest.approx([6, 0, 0, 0], abs=1e-3)


def test_too_little_seen_is_unknown_not_zero():
    seen = np.zeros_like(ALL)
    assert np.all(np.isnan(similarity_motion(np.zeros((HEIGHT, WIDTH, 2), np.float32), seen)))
    seen[:8, :8] = True
    assert np.all(np.isnan(similarity_motion(np.zeros((HEIGHT, WIDTH, 2), np.float32), seen)))


@pytest.mark.parametrize(("shift", "zoom", "degrees"), [((5, -2), 1.0, 0), ((0, 0), 1.04, 0), ((-3, 1), 0.97, 1.5)])
def test_a_real_picture_moved_by_a_known_similarity(shift, zoom, degrees):
    picture = cv2.resize(data.coffee(), (300, 200), interpolation=cv2.INTER_AREA)
    centre = (149.5, 99.5)
    affine = cv2.getRotationMatrix2D(centre, -degrees, zoom)  # OpenCV turns anticlockwise
    affine[:, 2] += shift
    after = cv2.warpAffine(picture, affine, (300, 200), flags=cv2.INTER_CUBIC)
    cut = np.s_[52:148, 86:214]  # shares the centre; the warp's own edges stay outside
    followed = DenseFlowTracker().follow(np.stack([picture[cut], after[cut]]))
    fitted = similarity_motion(followed.steps[0], followed.step_seen[0])
    half = WIDTH / 2
    wanted = [*shift, (zoom - 1) * half, np.radians(degrees) * half]
    assert fitted == pytest.approx(wanted, abs=0.4)

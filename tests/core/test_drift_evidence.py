"""Evidence of a real photograph slid, zoomed, frozen, covered, lit and torn in known ways."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage import data

from egowm_core.drift import Comparison, judge_comparison
from egowm_core.drift.evidence import BLOCK
from egowm_core.errors import ScoreError
from egowm_core.scs import DenseFlowTracker
from egowm_core.types import ActionSource
from tests.core.drift_world import TICK_NS

HEIGHT, WIDTH, COUNT = 96, 128, 4
HORIZONS = (2, 4)
STEP = 4  # px a tick that the picture slides to the left


def clip(step: float = STEP, *, zoom: float = 1.0, noise: float = 1.0) -> np.ndarray:
    """(T+1,H,W,3): a camera that turns right by ``step`` px a tick over a photograph, or approaches it by ``zoom``."""
    picture = cv2.resize(data.coffee(), (300, 200), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)
    images = []
    for t in range(COUNT + 1):
        scale = zoom**t
        affine = np.array([[scale, 0, 64 - 140 * scale - step * t], [0, scale, 48 - 110 * scale]])
        image = cv2.warpAffine(picture, affine, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        images.append(np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8))
    return np.stack(images)


def judged(observed: np.ndarray, predicted: np.ndarray | None = None, *, horizons=HORIZONS):
    """The judgement of a video against a prediction, or against itself."""
    predicted = observed if predicted is None else predicted
    comparison = Comparison(
        source=ActionSource.EXECUTED,
        context_stamp_ns=TICK_NS,
        stamps_ns=np.arange(2, COUNT + 2, dtype=np.int64) * TICK_NS,
        context=observed[0],
        predicted=predicted[1:],
        observed=observed[1:],
        actions=np.zeros((COUNT, 2), np.float32),
    )
    return judge_comparison(comparison, horizons, max_structures=8, tracker=DenseFlowTracker())


@pytest.fixture(scope="module")
def sliding():
    """Evidence of an undisturbed video, foretold exactly."""
    return judged(clip()).evidence


def test_all_is_well(sliding):
    assert sliding.scs == {2: 100.0, 4: 100.0} and sliding.latest_scs == 100.0
    assert sliding.psnr == {2: 100.0, 4: 100.0}  # not infinite: JSON and plots take it
    assert min(sliding.num_structures.values()) >= 3
    assert sliding.motion[:, 0] == pytest.approx(-STEP, abs=0.3)
    assert np.abs(sliding.motion[:, 1:]).max() < 0.4
    assert np.array_equal(sliding.motion, sliding.predicted_motion)
    assert sliding.surprise.max() < 0.05 and np.abs(sliding.gain).max() < 0.03
    assert sliding.fixed.max() < 0.03
    assert sliding.texture.min() > 0.3


def test_rows_have_one_figure_a_tick_and_plain_figures_are_what_they_say(sliding):
    images = clip()
    gray = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]).astype(float)
    for name in ("frame_scs", "change", "surprise", "gain", "fixed", "brightness", "texture", "torn"):
        assert getattr(sliding, name).shape == (COUNT,) and getattr(sliding, name).dtype == np.float32
    assert sliding.motion.shape == (COUNT, 4)
    assert sliding.brightness == pytest.approx(gray[1:].mean((1, 2)), abs=0.01)
    assert sliding.change == pytest.approx(np.abs(np.diff(gray, axis=0)).mean((1, 2)), abs=0.01)
    assert sliding.stamps_ns[-1] == (COUNT + 1) * TICK_NS and sliding.context_stamp_ns == TICK_NS


def test_the_judgement_carries_the_newest_picture_and_masks():
    images = clip()
    judgement = judged(images)
    assert np.array_equal(judgement.newest, images[-1])
    assert judgement.predicted_masks.shape == judgement.observed_masks.shape
    assert judgement.observed_masks.shape[1:] == (HEIGHT, WIDTH) and judgement.observed_masks.any()


def test_approaching_is_growth():
    evidence = judged(clip(0, zoom=1.03)).evidence
    assert evidence.motion[:, 2] == pytest.approx(0.03 * WIDTH / 2, abs=0.4)
    assert np.abs(evidence.motion[:, [0, 1, 3]]).max() < 0.4


def test_a_prediction_that_stands_still_is_told_by_score_and_motion(sliding):
    images = clip()
    evidence = judged(images, np.repeat(images[:1], COUNT + 1, axis=0)).evidence
    assert np.abs(evidence.predicted_motion).max() < 0.05
    assert evidence.motion == pytest.approx(sliding.motion)
    assert evidence.scs[4] < evidence.scs[2] < 90 and evidence.latest_scs < evidence.scs[2]
    assert evidence.psnr[4] < 30


def test_a_frozen_picture_changes_not_at_all():
    images = clip()
    images[3:] = images[2]
    evidence = judged(images, clip()).evidence
    assert evidence.change[0] > 1 and np.all(evidence.change[2:] == 0)
    assert np.abs(evidence.motion[2:]).max() < 0.01 and evidence.motion[0, 0] == pytest.approx(-STEP, abs=0.3)


def test_a_cameras_own_noise_is_a_change():
    assert judged(clip(0, noise=1.5)).evidence.change.min() > 0.3


@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_a_gain_is_measured_once_and_where_it_happens(factor):
    images = (clip().astype(np.float32) * 0.5).astype(np.uint8)
    images[3:] = np.clip(images[3:].astype(np.float32) * factor, 0, 255).astype(np.uint8)
    evidence = judged(images).evidence
    assert evidence.gain[2] == pytest.approx(math.log(factor), abs=0.1)
    assert np.abs(np.delete(evidence.gain, 2)).max() < 0.05
    assert evidence.torn[2] < 15  # a gain is no moving thing


def covered(images: np.ndarray, rows: int, *, since: int) -> np.ndarray:
    """A textured thing over the lowest ``rows``, fixed in the picture, from a frame on."""
    out = images.copy()
    patch = cv2.resize(data.brick()[:200, :260], (WIDTH, rows), interpolation=cv2.INTER_AREA)
    out[since:, HEIGHT - rows :] = patch[..., None]
    return out


def test_what_covers_the_lens_stays_fixed_while_the_rest_should_move():
    evidence = judged(covered(clip(), 48, since=2), clip()).evidence
    assert evidence.fixed[0] < 0.03
    assert 0.3 < evidence.fixed[3] < 0.8  # half the picture, of the textured blocks
    assert evidence.surprise[1] > 5 * max(evidence.surprise[0], 0.02)


def test_nothing_counts_as_fixed_while_the_robot_stands():
    still = clip(0)
    assert judged(covered(still, 48, since=0)).evidence.fixed.max() == 0


def test_a_thing_that_moves_by_itself_tears_the_picture_but_does_not_bend_its_motion(sliding):
    images = clip()
    for t in range(COUNT + 1):
        images[t, 30:80, 100 - 22 * t : 118 - 22 * t] = (20, 220, 60)
    evidence = judged(images, clip()).evidence
    assert evidence.torn.min() > 5 * sliding.torn.max()
    assert evidence.motion[:, 0] == pytest.approx(-STEP, abs=0.6)


def test_without_light_there_is_neither_brightness_nor_texture_and_nothing_breaks():
    images = clip()
    images[2:] = 0
    evidence = judged(images, clip()).evidence
    assert np.all(evidence.brightness[1:] == 0) and np.all(evidence.texture[1:] == 0)
    assert evidence.gain[1] < -1.5
    for name in ("change", "surprise", "gain", "fixed", "torn"):
        assert np.all(np.isfinite(getattr(evidence, name))), name


def test_a_black_video_is_unjudged_not_zero():
    evidence = judged(np.zeros((COUNT + 1, HEIGHT, WIDTH, 3), np.uint8)).evidence
    assert all(math.isnan(value) for value in evidence.scs.values()) and math.isnan(evidence.latest_scs)
    assert set(evidence.num_structures.values()) == {0}
    assert np.all(evidence.surprise == 0) and np.all(evidence.change == 0)


def test_a_horizon_beyond_the_video_is_unknown():
    evidence = judged(clip(), horizons=(2, 8)).evidence
    assert evidence.scs[2] == 100 and math.isnan(evidence.scs[8]) and math.isnan(evidence.psnr[8])


def test_the_latest_score_is_of_the_last_frames_and_ignores_the_unjudged(sliding):
    row = np.array([0, 60, 70, math.nan], np.float32)
    assert replace(sliding, frame_scs=row).latest_scs == pytest.approx(65)
    assert math.isnan(replace(sliding, frame_scs=np.full(4, np.nan, np.float32)).latest_scs)


def test_a_picture_that_was_seen_before_is_known_again(sliding):
    assert np.all(sliding.echo == 0)
    images = clip(6)
    images[4] = images[1]  # three ticks ago
    assert judged(images, clip(6)).evidence.echo.tolist() == [0, 0, 0, 3]
    still = clip(0)
    assert np.all(judged(still).evidence.echo == 0)  # a robot that stands sees the same all the time


@pytest.mark.parametrize(("height", "width"), [(90, 130), (101, 125)])
def test_sizes_that_are_no_whole_blocks_are_fine(height, width):
    assert height % BLOCK or width % BLOCK
    images = np.stack([cv2.resize(image, (width, height)) for image in clip()])
    assert np.all(np.isfinite(judged(images).evidence.fixed))


def test_videos_that_do_not_fit_together_are_refused():
    images = clip()
    with pytest.raises(ScoreError):
        judged(images, images[:, ::2, ::2])


def test_the_same_pictures_give_the_same_figures(sliding):
    again = judged(clip()).evidence
    for name in ("motion", "surprise", "gain", "fixed", "torn", "frame_scs"):
        assert np.array_equal(getattr(again, name), getattr(sliding, name)), name

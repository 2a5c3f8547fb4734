"""The score itself: identity, order, NaN, trimming, refusals."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.scs import (
    DenseFlowTracker,
    frame_scs,
    horizon_scs,
    left_view,
    masks_iou,
    propose_structures,
    score,
    scs_at,
    track_and_score,
)
from egowm_core.types import Frames

BAGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bags"


def scene(step, num_frames=8, seed=0):
    """A camera sliding over a texture with two patches: images (T+1,96,128,3), true masks (2,T+1,96,128)."""
    rng = np.random.default_rng(seed)
    image = np.zeros((300, 400, 3), np.float32)
    for sigma in (2, 6):
        noise = cv2.GaussianBlur(rng.normal(size=image.shape).astype(np.float32), (0, 0), sigma)
        image += 30 * noise / noise.std()
    image = np.clip(image + 128, 0, 255).astype(np.uint8)
    marks = np.zeros((2, 300, 400), bool)
    marks[0, 120:150, 180:215] = True
    marks[1, 150:175, 220:250] = True
    places = [(150 + step * t, 100) for t in range(num_frames + 1)]
    images = np.stack([image[y : y + 96, x : x + 128] for x, y in places])
    masks = np.stack([[mark[y : y + 96, x : x + 128] for x, y in places] for mark in marks])
    return images, masks


def test_a_video_against_itself_is_100():
    images, masks = scene(3)
    scores = score(images[1:], images[1:], context=images[0], structures=masks[:, 0])
    assert scores.scs == {2: 100.0, 4: 100.0, 8: 100.0}
    assert scores.num_structures == {2: 2, 4: 2, 8: 2}
    assert scores.iou.shape == (2, 8) and scores.iou.dtype == np.float32
    assert scs_at(scores, 8) == 100.0


def test_the_right_motion_beats_a_copied_frame_and_the_wrong_motion():
    images, masks = scene(3)
    opposite = scene(-3)[0]
    soft = np.stack([cv2.GaussianBlur(image, (0, 0), 1.5) for image in images[1:]])
    copied = np.repeat(images[:1], 8, axis=0)

    def scs(predicted, **given):
        return score(predicted, images[1:], context=images[0], structures=masks[:, 0], **given).scs

    for given in ({}, {"observed_masks": masks[:, 1:]}):
        right, wrong, still = scs(soft, **given), scs(opposite[1:], **given), scs(copied, **given)
        assert right[8] > 85  # soft, but moving right
        assert right[8] > still[8] + 20 > wrong[8] + 20
        assert still[2] > still[4] > still[8]


def test_given_observed_masks_are_used():
    images, masks = scene(2)
    result = track_and_score(
        images[1:], images[1:], context=images[0], structures=masks[:, 0], observed_masks=masks[:, 1:]
    )
    assert np.array_equal(result.observed, masks[:, 1:])
    assert np.array_equal(result.structures, masks[:, 0])
    assert result.predicted.shape == masks[:, 1:].shape
    assert result.scores.scs[8] > 90  # the tracker's own ceiling


def test_tracked_scores_are_symmetric():
    images, masks = scene(2)
    other = scene(3)[0]
    one = score(images[1:], other[1:], context=images[0], structures=masks[:, 0])
    two = score(other[1:], images[1:], context=images[0], structures=masks[:, 0])
    assert one.scs == pytest.approx(two.scs)


def test_structures_are_proposed_when_not_given():
    images, _ = scene(2)
    image = images.copy()
    image[:, 30:60, 40:80] = (250, 20, 20)  # the same place in each frame
    result = track_and_score(image[1:], image[1:], context=image[0])
    assert np.array_equal(result.structures, propose_structures(image[0]))
    assert len(result.structures) > 0 and result.scores.scs[8] == 100.0


def test_nothing_to_judge_is_nan():
    grey = np.full((9, 96, 128, 3), 128, np.uint8)
    scores = score(grey[1:], grey[1:], context=grey[0])
    assert scores.iou.shape == (0, 8)
    assert all(np.isnan(value) for value in scores.scs.values())
    assert set(scores.num_structures.values()) == {0}
    assert np.isnan(frame_scs(scores.iou)).all() and np.isnan(scs_at(scores, 2))


def test_what_neither_video_shows_is_trimmed_not_zero():
    images, masks = scene(9)
    scores = score(
        images[1:], images[1:], context=images[0], structures=masks[:, 0], observed_masks=masks[:, 1:]
    )  # fmt: skip
    gone = int(np.argmax(np.isnan(scores.iou[0])))
    assert 4 < gone < 8 and np.isnan(scores.iou[0, gone:]).all()
    assert masks[0, gone + 1].sum() < 0.15 * masks[0, 0].sum()  # gone is a column, frame gone + 1
    assert scores.num_structures[8] == 2
    assert scores.scs[8] == pytest.approx(100 * np.nanmean(scores.iou[:, :8]))


def test_what_one_video_alone_still_shows_counts_against_it():
    images, masks = scene(9)
    copied = np.repeat(images[:1], 8, axis=0)

    def iou(predicted, observed, **given):
        return score(predicted, observed, context=images[0], structures=masks[:, 0], **given).iou[0]

    kept = iou(copied, images[1:])  # the prediction keeps what reality lost
    assert np.isfinite(kept).all() and kept[-1] < 0.05
    np.testing.assert_array_equal(kept, iou(images[1:], copied))  # and loses what reality keeps
    forgiven = iou(copied, images[1:], trim="observed")
    assert np.isnan(forgiven[-1]) and np.isfinite(forgiven[:4]).all()
    assert np.isfinite(iou(images[1:], copied, trim="observed")).all()
    with pytest.raises(ScoreError, match="'predicted'"):
        iou(copied, images[1:], trim="predicted")


def test_a_structure_lost_by_the_prediction_alone_is_zero():
    structures = np.zeros((1, 20, 20), bool)
    structures[0, 5:10, 5:10] = True
    observed = np.repeat(structures[:, None], 3, axis=1)
    predicted = observed.copy()
    predicted[0, 2] = False
    assert masks_iou(predicted, observed).tolist() == [[1, 1, 0]]
    assert not left_view(structures, observed).any()


def test_once_left_it_stays_left():
    structures = np.zeros((1, 20, 20), bool)
    structures[0, 5:15, 5:15] = True
    observed = np.repeat(structures[:, None], 4, axis=1)
    observed[0, 1] = False
    assert left_view(structures, observed).tolist() == [[False, True, True, True]]


def test_horizons_average_over_frames_and_frames_stand_alone():
    iou = np.asarray([[1.0, 0.5, np.nan, np.nan], [0.5, 0.5, 0.25, np.nan]], np.float32)
    scs, counts = horizon_scs(iou, (1, 2, 3, 4, 5))
    assert scs[1] == 75 and scs[2] == pytest.approx(62.5) and scs[3] == scs[4] == pytest.approx(55)
    assert counts == {1: 2, 2: 2, 3: 2, 4: 2, 5: 0}
    assert np.isnan(scs[5])  # beyond the videos
    np.testing.assert_allclose(frame_scs(iou), [75, 50, 25, np.nan])
    with pytest.raises(ScoreError, match="from 1"):
        horizon_scs(iou, (0,))


def test_frames_are_accepted():
    images, masks = scene(2, num_frames=2)
    video = Frames(images[1:], np.asarray([1, 2], np.int64))
    scores = score(video, video, context=images[0], structures=masks[:, 0], horizons=[1, 2])
    assert scores.scs == {1: 100.0, 2: 100.0}


def test_what_does_not_fit_is_refused():
    images, masks = scene(2, num_frames=4)
    predicted, observed, context = images[1:], images[1:], images[0]
    with pytest.raises(ScoreError, match="48x128"):
        score(predicted[:, :48], observed, context=context)
    with pytest.raises(ScoreError, match="3 predicted frames against 4"):
        score(predicted[:3], observed, context=context)
    with pytest.raises(ScoreError, match="context"):
        score(predicted, observed, context=context[:48])
    with pytest.raises(ScoreError, match="float64"):
        score(predicted / 255.0, observed, context=context)
    with pytest.raises(ScoreError, match="T >= 1"):
        score(predicted[:0], observed[:0], context=context)
    with pytest.raises(ScoreError, match="pass both"):
        score(predicted, observed, context=context, observed_masks=masks[:, 1:])
    with pytest.raises(ScoreError, match="observed_masks"):
        score(predicted, observed, context=context, structures=masks[:, 0], observed_masks=masks[:1, 1:])


def recorded_frames(name, start, count):
    """Frames (count,96,128,3) of a recording."""
    from rosbags.highlevel import AnyReader

    images = []
    with AnyReader([BAGS / name]) as reader:
        connections = [c for c in reader.connections if c.msgtype == "sensor_msgs/msg/CompressedImage"]
        for index, (connection, _, raw) in enumerate(reader.messages(connections)):
            if index >= start + count:
                break
            if index >= start:
                data = reader.deserialize(raw, connection.msgtype).data
                image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                images.append(
                    cv2.cvtColor(cv2.resize(image, (128, 96), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
                )
    return np.stack(images)


@pytest.mark.skipif(not BAGS.exists(), reason="shared recordings are not here")
@pytest.mark.parametrize("name", ["gostanford_no1vc_7_1", "gostanford_no1vc_9_1"])
def test_on_a_real_recording(name):
    images = recorded_frames(name, 10, 9)
    result = track_and_score(images[1:], images[1:], context=images[0])
    assert len(result.structures) >= 2
    assert all(value == 100.0 for value in result.scores.scs.values())
    copied = score(np.repeat(images[:1], 8, axis=0), images[1:], context=images[0], structures=result.structures)
    assert copied.scs[8] < 90
    noisy = np.clip(images[1:] + np.random.default_rng(0).normal(0, 4, images[1:].shape), 0, 255).astype(np.uint8)
    soft = score(
        noisy, images[1:], context=images[0], structures=result.structures, tracker=DenseFlowTracker(preset="fast")
    )
    assert soft.scs[8] > copied.scs[8]

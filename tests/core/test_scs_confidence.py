"""Bootstrap intervals: what they rest on, that they cover, and that pairing counts."""

import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.scs import bootstrap_difference, bootstrap_mean, bootstrap_scs, horizon_scs


def clips(count, seed=0, *, between=0.1, within=0.05, mean=0.6, structures=4, length=8):
    """IoUs whose clips differ by ``between`` and whose frames by ``within``."""
    rng = np.random.default_rng(seed)
    level = mean + between * rng.normal(size=count)
    return [
        np.clip(centre + within * rng.normal(size=(structures, length)), 0, 1).astype(np.float32) for centre in level
    ]


def test_the_mean_is_over_all_structures_and_frames():
    ious = [np.asarray([[1.0, 0.5]], np.float32), np.asarray([[0.0, np.nan], [0.5, 0.5]], np.float32)]
    found = bootstrap_scs(ious, [1, 2])
    assert found[1].mean == pytest.approx(50) and found[2].mean == pytest.approx(50)
    assert (found[2].clips, found[2].structures) == (2, 3)
    assert found[2].low <= found[2].mean <= found[2].high
    assert found[2].mean == pytest.approx(100 * np.nanmean(np.concatenate([iou.ravel() for iou in ious])))
    one = bootstrap_scs(ious[:1], [2])[2]
    assert one.mean == pytest.approx(horizon_scs(ious[0], [2])[0][2]) and np.isnan(one.low) and one.clips == 1


def test_nothing_to_judge_is_nan_never_zero():
    nothing = [np.zeros((0, 8), np.float32), np.full((2, 8), np.nan, np.float32), np.ones((1, 3), np.float32)]
    found = bootstrap_scs(nothing, [8])[8]
    assert np.isnan([found.mean, found.low, found.high]).all() and found.clips == found.structures == 0
    assert bootstrap_scs(nothing, [3])[3].mean == 100  # the short clip counts where it reaches
    assert np.isnan(bootstrap_scs([], [1])[1].mean)
    assert np.isnan(bootstrap_difference(nothing, nothing, [8])[8].mean)


def test_clips_and_not_frames_are_what_one_has_many_of():
    """As wide as the spread of the clips' own means says, not as the many frames would have it."""
    ious = clips(40, between=0.1, within=0.05)
    found = bootstrap_scs(ious, [8], resamples=4000)[8]
    expected = 100 * np.std([iou.mean() for iou in ious]) / np.sqrt(40)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(expected, rel=0.1)
    every = 100 * np.std(np.concatenate(ious)) / np.sqrt(40 * 32)
    assert expected > 3 * every


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    hits = 0
    for seed in range(100):
        found = bootstrap_scs(clips(30, seed), [8], resamples=300, level=0.9, seed=seed)[8]
        hits += found.low <= 60 <= found.high
    assert 80 <= hits <= 98


def test_more_clips_and_lower_levels_are_narrower():
    def width(**given):
        found = bootstrap_scs(clips(given.pop("count", 20)), [8], **given)[8]
        return found.high - found.low

    assert width(count=200) < 0.6 * width() and width(level=0.5) < width()


def test_a_seed_repeats_and_another_differs():
    ious = clips(10)
    assert bootstrap_scs(ious, [8], seed=1) == bootstrap_scs(ious, [8], seed=1)
    assert bootstrap_scs(ious, [8], seed=1)[8].low != bootstrap_scs(ious, [8], seed=2)[8].low


def test_a_small_difference_shows_when_clips_are_paired():
    ious = clips(30, between=0.2)
    better = [np.clip(iou + 0.02, 0, 1) for iou in ious]
    paired = bootstrap_difference(better, ious, [8])[8]
    assert 0 < paired.low < 2 < paired.high + 0.5 and paired.clips == 30 and paired.structures == 120
    alone = bootstrap_scs(ious, [8])[8]
    assert alone.high - alone.low > 5 * (paired.high - paired.low)
    swapped = bootstrap_difference(ious, better, [8])[8]
    assert swapped.mean == pytest.approx(-paired.mean) and swapped.high < 0
    same = bootstrap_difference(ious, ious, [8])[8]
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_a_clip_that_one_row_cannot_judge_is_left_out_of_the_difference():
    ious = clips(4)
    blind = [np.full_like(ious[0], np.nan), *ious[1:]]
    found = bootstrap_difference(ious, blind, [8])[8]
    assert found.clips == 3 and found.mean == 0


def test_plain_values_have_a_mean_too():
    found = bootstrap_mean([20.0, 22.0, float("nan"), 24.0])
    assert found.mean == 22 and found.clips == 3 and found.structures == 0 and 20 <= found.low < 22 < found.high <= 24
    with pytest.raises(ScoreError, match="infinite"):
        bootstrap_mean([20.0, float("inf")])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ScoreError, match="clip 1"):
        bootstrap_scs([np.ones((1, 2), np.float32), np.ones(2, np.float32)], [1])
    with pytest.raises(ScoreError, match="from 1"):
        bootstrap_scs(clips(2), [0])
    with pytest.raises(ScoreError, match="3 and 2"):
        bootstrap_difference(clips(3), clips(2), [1])
    for given in ({"resamples": 0}, {"level": 1.0}):
        with pytest.raises(ScoreError, match="level"):
            bootstrap_scs(clips(2), [1], **given)

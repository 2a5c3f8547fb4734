"""State transitions of the drift detector."""

import math

import numpy as np
import pytest

from egowm_core.errors import ScoreError
from egowm_core.scs import Baseline, DriftDetector, DriftLimits, DriftState

TICK_NS = 250_000_000
LIMITS = DriftLimits(learn=10, window=3)


class Feed:
    """Scores at 4 Hz into a detector."""

    def __init__(self, limits=LIMITS, **given):
        self.detector = DriftDetector(limits, **given)
        self.stamp_ns = 0
        self.rng = np.random.default_rng(0)

    def put(self, scs, times=1, noise=2.0):
        report = None
        for _ in range(times):
            self.stamp_ns += TICK_NS
            values = {h: float(np.clip(v + self.rng.normal(0, noise), 0, 100)) for h, v in scs.items()}
            report = self.detector.update(values, self.stamp_ns)
        return report


GOOD = {2: 80.0, 4: 70.0, 8: 60.0}


def test_it_learns_then_is_ok():
    feed = Feed()
    assert feed.detector.report.state is DriftState.UNDEFINED
    report = feed.put(GOOD)
    assert report.state is DriftState.UNDEFINED and "1 of 10" in report.reason
    feed.put(GOOD, 9)
    report = feed.put(GOOD)
    assert report.state is DriftState.OK
    assert feed.detector.baseline[8].median == pytest.approx(60, abs=3)
    assert report.scs.keys() == report.drop.keys() == GOOD.keys()


def test_no_alarm_in_a_steady_stream():
    feed = Feed()
    feed.put(GOOD, 10)
    assert {feed.put(GOOD, noise=3.0).state for _ in range(200)} == {DriftState.OK}


def test_a_fall_warns_then_errs_and_recovers():
    feed = Feed()
    feed.put(GOOD, 12)
    report = feed.put({2: 79.0, 4: 68.0, 8: 45.0}, 3)
    assert report.state is DriftState.WARN and report.horizon == 8
    assert "8 frames" in report.reason and "below its baseline" in report.reason
    report = feed.put({2: 50.0, 4: 30.0, 8: 10.0}, 3)
    assert report.state is DriftState.ERROR and report.drop[8] > 40
    assert feed.put(GOOD, 3).state is DriftState.OK


def test_one_outlier_is_smoothed_away():
    feed = Feed()
    feed.put(GOOD, 12)
    assert feed.put({2: 5.0, 4: 5.0, 8: 5.0}).state is DriftState.OK
    assert feed.put(GOOD).state is DriftState.OK


def test_a_noisy_baseline_is_tolerant():
    feed = Feed()
    feed.put(GOOD, 10, noise=12.0)
    assert feed.put({2: 68.0, 4: 58.0, 8: 48.0}, 3, noise=0).state is DriftState.OK


def test_absolute_limits_hold_from_the_first_score():
    feed = Feed(DriftLimits(learn=10, error_below=20, warn_below=40))
    report = feed.put({8: 10.0})
    assert report.state is DriftState.ERROR and "limit of 20" in report.reason
    feed.detector.reset()
    assert feed.put({8: 30.0}).state is DriftState.WARN


def test_a_given_baseline_skips_learning_and_outlives_reset():
    feed = Feed(baseline={8: Baseline(60.0, 2.0)})
    assert feed.put({8: 60.0}).state is DriftState.OK
    feed.put({8: 20.0}, 3)
    assert feed.detector.report.state is DriftState.ERROR
    feed.detector.reset()
    assert feed.detector.report.state is DriftState.UNDEFINED
    assert feed.put({8: 60.0}).state is DriftState.OK


def test_nothing_judged_is_undefined_not_bad():
    feed = Feed()
    feed.put(GOOD, 12)
    report = feed.detector.update({2: math.nan, 8: math.nan}, feed.stamp_ns + 1)
    assert report.state is DriftState.UNDEFINED and "no structure" in report.reason
    assert feed.detector.update({}, feed.stamp_ns + 2).state is DriftState.UNDEFINED
    report = feed.put({2: 80.0, 4: math.nan, 8: math.nan})
    assert report.state is DriftState.OK and list(report.scs) == [2]


def test_silence_is_stale_and_a_score_ends_it():
    feed = Feed()
    assert feed.detector.check(0).state is DriftState.UNDEFINED
    assert feed.detector.check(4_000_000_000).state is DriftState.STALE  # not one score since the start
    feed.detector.reset()
    feed.stamp_ns = 0
    feed.put(GOOD, 12)
    assert feed.detector.check(feed.stamp_ns + 2_900_000_000).state is DriftState.OK
    report = feed.detector.check(feed.stamp_ns + 3_500_000_000)
    assert report.state is DriftState.STALE and "3.5 s" in report.reason
    feed.stamp_ns += 4_000_000_000
    assert feed.put(GOOD).state is DriftState.OK


def test_bad_scores_and_clocks_are_refused_without_harm():
    feed = Feed()
    feed.put(GOOD, 12)
    before = feed.detector.report
    with pytest.raises(ScoreError, match=r"0\.\.100"):
        feed.detector.update({8: 120.0}, feed.stamp_ns + 1)
    with pytest.raises(ScoreError, match="reset"):
        feed.detector.update(GOOD, feed.stamp_ns - 1)
    assert feed.detector.report is before


@pytest.mark.parametrize(
    "given",
    [{"learn": 2}, {"warn_drop": 30}, {"stale_after_s": 0}, {"warn_below": 10, "error_below": 20}, {"window": 0}],
)
def test_limits_must_make_sense(given):
    with pytest.raises(ScoreError):
        DriftLimits(**given)

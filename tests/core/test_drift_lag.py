"""Pictures older than their stamps: found as they go back, found by offset, and not invented."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.drift import Cause
from egowm_core.drift.causes import lag_ticks
from tests.core.drift_faults import COUNT, ONSET, late, split, spoiled
from tests.core.drift_world import TICK_S, Drive, by_law, detector, learned, sign, watch


@pytest.fixture(scope="module")
def usual():
    return learned()


@pytest.mark.parametrize("ticks", [2, 3, 5])
def test_pictures_that_went_back_say_by_how_long(usual, ticks):
    hits = 0
    for seed in range(1, 6):
        _, after = split(usual, spoiled(late, seed, ticks=ticks))
        lags = [report.lag_s for report in after if report.cause is Cause.LAG]
        assert all(lag is not None for lag in lags)
        hits += bool(lags) and abs(np.median(lags) - ticks * TICK_S) <= TICK_S / 2
        assert all(report.lag_s is None for report in after if report.cause is not Cause.LAG)
    assert hits >= 4


def test_a_picture_seen_before_says_by_how_long_it_went_back(usual):
    drive = spoiled(late, ticks=3)
    drive.motion[ONSET] += (9, 0, 0, 0)  # flow is at a loss there
    drive.echo[ONSET] = 3
    _, after = split(usual, drive)
    assert after[0].cause is after[1].cause is Cause.LAG and after[1].lag_s == pytest.approx(3 * TICK_S)


@pytest.mark.parametrize("lag", [-2, -1, 1, 2, 3, 6])
def test_a_lag_from_the_start_is_found_by_its_offset(lag):
    drive = Drive(60, seed=3)
    expected = by_law(drive.actions)
    history = [sign(t, expected=expected[t], observed=expected[t - lag]) for t in range(max(0, lag), min(60, 60 + lag))]
    assert lag_ticks(history[-32:]) == pytest.approx(lag, abs=0.3)


@pytest.mark.parametrize("lag", [1.5, 2.4])
def test_a_lag_between_ticks_is_found_between_ticks(lag):
    time = np.arange(60)
    expected = 8 * np.sin(time * 0.55) + 4 * np.sin(time * 0.21 + 1)
    observed = 8 * np.sin((time - lag) * 0.55) + 4 * np.sin((time - lag) * 0.21 + 1)
    history = [sign(t, expected=(expected[t], 0, 0, 0), observed=(observed[t], 0, 0, 0)) for t in range(60)]
    assert lag_ticks(history[-32:]) == pytest.approx(lag, abs=0.25)


def test_no_lag_is_invented():
    drive, rng = Drive(40, seed=3), np.random.default_rng(0)
    expected = by_law(drive.actions)
    noisy = expected + rng.normal(0, 0.3, expected.shape)
    assert lag_ticks([sign(t, expected=expected[t], observed=noisy[t]) for t in range(32)]) is None  # in time
    assert lag_ticks([sign(t, expected=expected[t], observed=0 * expected[t]) for t in range(32)]) is None  # still
    assert lag_ticks([sign(t, expected=(6, 0, 0, 0), observed=(9, 0, 0, 0)) for t in range(32)]) is None  # no change
    unrelated = rng.normal(0, 6, (32, 4))
    assert lag_ticks([sign(t, expected=expected[t], observed=unrelated[t]) for t in range(32)]) is None
    unknown = np.full(4, np.nan)
    assert lag_ticks([sign(t, expected=expected[t], observed=unknown) for t in range(32)]) is None
    for few in range(12):
        assert lag_ticks([sign(t, expected=expected[t], observed=expected[t]) for t in range(few)]) is None


def test_a_lag_in_reports_is_in_seconds_and_older_is_positive(usual):
    drive = Drive(COUNT, seed=2)
    drive.motion[3:] = drive.motion[:-3].copy()
    drive.drop[:] = 25
    reports = [report for report in watch(detector(usual), drive) if report.cause is Cause.LAG]
    assert np.median([report.lag_s for report in reports]) == pytest.approx(0.75, abs=0.1)
    assert all("older" in report.reason for report in reports)

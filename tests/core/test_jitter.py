"""Intervals and gaps of a source in fixed memory."""

from __future__ import annotations

import numpy as np
import pytest

from egowm_core.data.jitter import LogHistogram, SourceStats

MS = 1_000_000


def test_quantiles_are_those_of_numpy_within_three_percent():
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(17, 2, 5000)).astype(np.int64)
    histogram = LogHistogram()
    for value in values:
        histogram.add(int(value))
    for fraction in (0.01, 0.5, 0.9, 0.99, 1.0):
        expected = np.quantile(values, fraction, method="inverted_cdf")
        assert histogram.quantile(fraction) == pytest.approx(expected, rel=0.032)
    assert histogram.largest == values.max()


def test_equal_and_tiny_numbers_are_exact():
    histogram = LogHistogram()
    assert histogram.quantile(0.5) == 0
    for value in (0, 0, 1, 33_333_333, 33_333_333, 33_333_333, 33_333_333):
        histogram.add(value)
    assert histogram.quantile(0.1) == 0
    assert histogram.quantile(0.99) == 33_333_333


def test_memory_is_bounded_whatever_comes():
    histogram = LogHistogram()
    for exponent in range(64):
        for step in range(100):
            histogram.add((1 << exponent) * (100 + step) // 100)
    assert len(histogram._bins) <= 65 * 32


def test_a_steady_source_with_one_gap():
    stats = SourceStats(150 * MS)
    for i in range(100):
        stats.add(i * 50 * MS + (2000 * MS if i >= 60 else 0))
    assert stats.gaps == [(59 * 50 * MS, 60 * 50 * MS + 2000 * MS)]
    found = stats.summary()
    assert (found["count"], found["gaps"], found["backwards"], found["duplicates"]) == (100, 1, 0, 0)
    assert found["median_ms"] == 50.0
    assert found["longest_gap_ms"] == 2050.0
    assert found["rate_hz"] == pytest.approx(99 / (99 * 0.05 + 2), rel=1e-4)
    assert stats.interval_s(0.5) == pytest.approx(0.05)


def test_jitter_shows_in_the_99th_percentile():
    rng = np.random.default_rng(1)
    stamps = np.cumsum(rng.uniform(40, 60, 2000) * MS).astype(np.int64)
    stats = SourceStats(150 * MS)
    for stamp in stamps:
        stats.add(int(stamp))
    expected = np.quantile(np.diff(stamps), [0.5, 0.99]) / MS
    found = stats.summary()
    np.testing.assert_allclose([found["median_ms"], found["p99_ms"]], expected, rtol=0.032)
    assert not stats.gaps


def test_repeated_backward_and_reset_stamps_give_no_interval():
    stats = SourceStats(150 * MS)
    for stamp in (1000, 1050, 1050, 1020, 1100):
        stats.add(stamp * 10 * MS)
    assert (stats.num_duplicates, stats.num_backwards) == (1, 1)
    assert stats.longest_ns == 500 * MS
    for stamp in (0, 5, 10):  # a clock that starts anew
        stats.add(stamp * 10 * MS + MS)
    assert stats.num_backwards == 2
    assert stats.longest_ns == 500 * MS
    assert stats.last_ns == 101 * MS


def test_the_list_of_gaps_is_bounded_and_the_count_is_not():
    stats = SourceStats(MS, max_gaps=4)
    for i in range(100):
        stats.add(i * 10 * MS)
    assert len(stats.gaps) == 4
    assert stats.num_gaps == 99


def test_nothing_known_is_none():
    assert SourceStats(MS).summary()["rate_hz"] is None
    assert SourceStats(MS).summary()["median_ms"] is None

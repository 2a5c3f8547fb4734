"""Page's sum: silent over ordinary noise, sure after a change, bounded both ways; at the constants that ship."""

import math

import numpy as np
import pytest

from egowm_core.drift.channels import LIMITS
from egowm_core.drift.cusum import Cusum, CusumLimits
from egowm_core.errors import ScoreError

SHIPPED = pytest.mark.parametrize("name", LIMITS)


def values(limits, z):
    total = Cusum(limits)
    return np.array([total.add(one) for one in z])


@SHIPPED
def test_seven_hours_of_ordinary_noise_is_no_alarm(name):
    noise = np.random.default_rng(1).normal(size=100_000)
    assert values(LIMITS[name], noise).max() < 1


@SHIPPED
def test_one_outlier_is_no_alarm(name):
    z = np.zeros(40)
    z[10] = 1e9
    assert values(LIMITS[name], z).max() < 1


@SHIPPED
def test_a_gross_change_alarms_within_the_ticks_that_the_constants_promise(name):
    limits = LIMITS[name]
    promised = math.ceil(limits.threshold / (limits.most - limits.drift))
    z = np.concatenate([np.random.default_rng(2).normal(size=400), np.full(promised, 50.0)])
    alarms = np.flatnonzero(values(limits, z) >= 1)
    assert 400 <= alarms[0] < 400 + promised
    assert promised <= 8  # two seconds at 4 Hz, once evidence is overwhelming


@SHIPPED
def test_a_slight_lasting_change_is_found_too(name):
    limits = LIMITS[name]
    above = min(limits.drift + 0.5, limits.most)
    z = np.random.default_rng(3).normal(above, 0.3, 200)
    assert values(limits, z)[-1] >= 1


@SHIPPED
def test_it_recovers_from_any_length_of_fault_in_bounded_time(name):
    limits = LIMITS[name]
    z = np.concatenate([np.full(10_000, 50.0), np.zeros(math.ceil(limits.ceiling * limits.threshold / limits.drift))])
    run = values(limits, z)
    assert run.max() == pytest.approx(limits.ceiling) and run[-1] == pytest.approx(0, abs=1e-9)


def test_the_sum_is_pages():
    limits = CusumLimits(drift=1.0, threshold=4.0, most=3.0, ceiling=2.0)
    assert values(limits, [2, 0.5, -9, 100, 1, 100, 100, 100]) == pytest.approx([0.25, 0.125, 0, 0.5, 0.5, 1, 1.5, 2])


def test_more_evidence_is_never_a_weaker_alarm():
    rng = np.random.default_rng(4)
    z = rng.normal(1, 2, 500)
    more = z + rng.uniform(0, 1, 500)
    limits = CusumLimits()
    assert np.all(values(limits, more) >= values(limits, z))


def test_unknown_changes_nothing_and_infinite_is_an_outlier():
    total = Cusum(CusumLimits(drift=1.0, threshold=4.0, most=3.0))
    assert total.add(3.0) == 0.5
    assert total.add(math.nan) == 0.5
    assert total.add(math.inf) == 1.0
    assert total.add(-math.inf) == 0.0
    total.add(3.0)
    total.reset()
    assert total.value == 0.0


@pytest.mark.parametrize(
    "wrong", [{"drift": 0.0}, {"drift": 4.0, "most": 4.0}, {"threshold": 0.0}, {"ceiling": 0.5}, {"drift": math.nan}]
)
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ScoreError, match="drift"):
        CusumLimits(**wrong)

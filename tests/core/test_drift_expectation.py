"""From actions to picture motion: a known law is recovered, with its bounds, noise and what it can't foretell."""

import json

import numpy as np
import pytest

from egowm_core.drift.expectation import LEAST_TICKS, MotionExpectation, fit_expectation
from egowm_core.drift.signs import SIGNS, tick_signs
from egowm_core.errors import ScoreError
from tests.core.drift_world import LAW, NOISE_PX, SCALES, Drive, by_law, exact_law

RIGHT, DOWN, GROWTH, TURN = range(4)


def fitted(drive: Drive) -> MotionExpectation:
    return fit_expectation(drive.actions, drive.motion.astype(np.float32), SCALES)


def test_the_weights_of_the_law_are_recovered():
    law = fitted(Drive(400))
    assert law.weights == pytest.approx(LAW, abs=0.6)  # ridge takes some 4 %
    drive = Drive(50, seed=1)
    assert law.expected(drive.actions) == pytest.approx(by_law(drive.actions), abs=0.6)


def test_a_robot_that_uses_a_tenth_of_its_scale_has_the_same_law():
    drive = Drive(400)
    drive.actions *= 0.2  # 0.1 of the scale, root mean square; still up to 2.4 px a tick
    drive.motion = by_law(drive.actions) + np.random.default_rng(1).normal(0, NOISE_PX, (400, 4))
    assert fitted(drive).weights[RIGHT, 1] == pytest.approx(LAW[RIGHT, 1], rel=0.15)


def test_a_constant_motion_is_learned_as_such():
    drive = Drive(400)
    drive.motion += (0, -2, 0, 0)  # a floor that streams by, say
    assert fitted(drive).weights[DOWN, -1] == pytest.approx(-2, abs=0.1)


def test_any_units_and_any_number_of_channels():
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(300, 25)).astype(np.float32) * 1e-3
    true = rng.normal(size=(4, 25)) * 3
    motion = (actions / 1e-3 @ true.T).astype(np.float32)
    law = fit_expectation(actions, motion, np.full(25, 1e-3, np.float32))
    assert np.corrcoef(law.expected(actions).ravel(), motion.ravel())[0, 1] > 0.999


def test_outliers_do_not_bend_the_law():
    drive = Drive(400)
    drive.motion[::12] += (40, -30, 10, 5)
    assert fitted(drive).weights == pytest.approx(LAW, abs=0.6)


def test_what_is_foretold_says_which_components_the_actions_explain():
    drive = Drive(400)
    drive.motion[:, DOWN] = np.random.default_rng(3).normal(0, 3, 400)
    foretold = fitted(drive).foretold
    assert foretold[RIGHT] > 0.95 and foretold[GROWTH] > 0.8
    assert foretold[DOWN] < 0.1 and foretold[TURN] < 0.1


def test_nearness_widens_the_bounds_of_what_depends_on_it_alone():
    drive = Drive(1500, nearness=0.4)
    drive.motion[:, GROWTH] *= 2  # large enough for its factor to mean something
    law = fitted(drive)
    assert law.low[GROWTH] < 0.7 and law.high[GROWTH] > 1.4
    assert 0.8 < law.low[RIGHT] <= 1 <= law.high[RIGHT] < 1.2


def test_within_the_bounds_nothing_is_off_and_beyond_them_the_rest_is():
    law = exact_law(low=np.array([1, 1, 0.5, 1.0]), high=np.array([1, 1, 2, 1.0]))
    for sign in (1.0, -1.0):
        expected = np.array([[0, 0, sign * 4, 0]])
        for seen, off in ((2, 0), (4, 0), (8, 0), (9, 1), (1, -1), (-1, -3)):
            motion = np.array([[0, 0, sign * seen, 0.0]])
            assert law.beyond(expected, motion)[0, GROWTH] == pytest.approx(sign * off)
    assert np.isnan(law.beyond(expected, np.full((1, 4), np.nan))).all()


def test_the_noise_is_measured_and_never_taken_for_nothing():
    quiet, loud = Drive(600), Drive(600)
    quiet.motion = by_law(quiet.actions)
    loud.motion += np.random.default_rng(5).normal(0, 1.5, loud.motion.shape)
    assert np.all(fitted(quiet).sigma0 >= 0.15)
    sigma = fitted(loud).sigma(np.zeros((1, 4)))[0]
    assert sigma[[DOWN, TURN]] == pytest.approx(1.5, rel=0.2)
    assert np.all(sigma > fitted(quiet).sigma0)


def test_noise_that_grows_with_the_other_components_is_told():
    drive = Drive(1500)
    forward = np.abs(by_law(drive.actions)[:, GROWTH])
    drive.motion[:, RIGHT] += np.random.default_rng(6).normal(0, 1, 1500) * 1.5 * forward  # walls on one side
    law = fitted(drive)
    standing, driving = law.sigma(np.array([[0, 0, 0, 0], [0, 0, 4.0, 0]]))[:, RIGHT]
    assert driving > 1.5 * standing
    assert standing == pytest.approx(law.sigma0[RIGHT])


def test_ticks_of_unknown_motion_are_left_out_and_too_few_are_refused():
    drive = Drive(2 * LEAST_TICKS)
    drive.motion[::2] = np.nan
    assert np.all(np.isfinite(fitted(drive).weights))
    drive.motion[1] = np.nan
    with pytest.raises(ScoreError, match=f"{LEAST_TICKS - 1} ticks.*at least {LEAST_TICKS}"):
        fitted(drive)


def test_a_robot_that_stood_still_all_the_time_foretells_nothing_but_does_not_fail():
    law = fit_expectation(np.zeros((60, 2), np.float32), np.zeros((60, 4), np.float32), SCALES)
    assert np.all(np.isfinite(law.weights)) and np.all(law.foretold <= 1)
    assert np.abs(law.expected(np.zeros((3, 2), np.float32))).max() < 1e-6


def test_through_json_and_back():
    law = fitted(Drive(200, nearness=0.3))
    again = MotionExpectation.from_json(json.loads(json.dumps(law.to_json())))
    for name in ("weights", "scales", "low", "high", "sigma0", "sigma1", "foretold"):
        assert getattr(again, name) == pytest.approx(getattr(law, name), abs=1e-5), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", None),
        ("weights", "px"),
        ("weights", [[1, 2, 3]] * 3),
        ("weights", [[1, 2], [3]]),
        ("weights", [[1, 2, float("nan")]] * 4),
        ("sigma0", [0.2, 0.2, 0.0, 0.2]),
        ("sigma0", [0.2] * 3),
        ("low", [1.0, 1.0, float("-inf"), 1.0]),
        ("scales", [0.5]),
        ("foretold", {}),
    ],
)
def test_damaged_json_is_refused(name, value):
    with pytest.raises(ScoreError, match="anew"):
        MotionExpectation.from_json({**exact_law().to_json(), name: value})


@pytest.mark.parametrize("data", [None, [], "law", {}, 3])
def test_anything_else_is_refused(data):
    with pytest.raises(ScoreError, match="anew"):
        MotionExpectation.from_json(data)


@pytest.mark.parametrize(
    ("name", "value"), [("scales", [0.5, 0.0]), ("sigma1", [-9.0] * 4), ("low", [3.0] * 4), ("scales", [-1.0, 1.0])]
)
def test_impossible_numbers_are_refused(name, value):
    with pytest.raises(ScoreError, match="anew"):
        MotionExpectation.from_json({**exact_law().to_json(), name: value})


# Signs: evidence against the law, tick by tick


def test_signs_are_of_the_new_ticks_only_oldest_first():
    drive = Drive(40)
    evidence = drive.evidence(40)
    stamps = evidence.stamps_ns.tolist()
    assert [sign.stamp_ns for sign in tick_signs(evidence, exact_law())] == stamps
    assert [sign.stamp_ns for sign in tick_signs(evidence, exact_law(), after_ns=stamps[-3])] == stamps[-2:]
    assert tick_signs(evidence, exact_law(), after_ns=stamps[-1]) == []


def test_off_counts_sigmas_between_law_and_picture():
    drive = Drive(40)
    drive.motion[39] = by_law(drive.actions[39:40])[0] + (5, 0, 0, 0)
    drive.predicted[:] = 1e3
    last = tick_signs(drive.evidence(40), exact_law())[-1]
    assert last.expected == pytest.approx(by_law(drive.actions[39:40])[0], abs=1e-4)
    assert last.off[RIGHT] == pytest.approx(5 / 0.25, rel=0.01) and np.abs(last.off[1:]).max() < 0.1
    assert last.trust == 1


def test_where_the_prediction_explains_the_motion_nothing_is_off():
    drive = Drive(40)
    drive.motion[39] += (0, 0, 6, 0)  # nose at a wall: the model knows, the law does not
    drive.predicted[39] = drive.motion[39]
    assert np.abs(tick_signs(drive.evidence(40), exact_law())[-1].off).max() < 0.01
    drive.predicted[39] = np.nan
    assert tick_signs(drive.evidence(40), exact_law())[-1].off[GROWTH] > 20


@pytest.mark.parametrize("spoiled", ["down", "bare", "unknown"])
def test_motion_that_no_base_makes_or_that_is_hardly_seen_is_trusted_less(spoiled):
    drive = Drive(40)
    drive.predicted[:] = 1e3
    if spoiled == "down":
        drive.motion[39, DOWN] += 3
    elif spoiled == "bare":
        drive.texture[39] = 0.05
    else:
        drive.motion[39] = np.nan
    before, last = tick_signs(drive.evidence(40), exact_law())[-2:]
    assert last.trust < 0.4 < before.trust
    assert (last.trust == 0) == (spoiled == "unknown")


def test_signs_are_larger_the_odder_they_are():
    drive = Drive(40)
    drive.gain[38:] = (-0.7, 0.7)
    drive.brightness[38:] = (20, 240)
    drive.texture[38:] = (0.1, 0.9)
    *_, dark, bright = tick_signs(drive.evidence(40), exact_law())
    assert dark.value("gain", 120, 0.7) == bright.value("gain", 120, 0.7) == pytest.approx(0.7)
    assert dark.value("dim", 120, 0.7) > 1.5 and bright.value("dim", 120, 0.7) == 0
    assert dark.value("bare", 120, 0.7) == pytest.approx(0.6) and bright.value("bare", 120, 0.7) == 0
    assert all(np.isfinite(dark.value(name, 120, 0.7)) for name in SIGNS)
    assert dark.value("torn", 120, 0.7) == pytest.approx(float(drive.torn[38]))

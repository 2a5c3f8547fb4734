"""Channels add up what lasts, hold what happened, and ask the prediction before motion alone raises an alarm."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from egowm_core.drift import channels as shipped
from egowm_core.drift.channels import CHANNELS, FROZEN_CHANGE, FROZEN_TICKS, LIMITS, UNCONFIRMED, Channels
from egowm_core.drift.plans import PlanBook
from tests.core.drift_world import LENGTH, SCALES, Drive, learned, sign


@pytest.fixture(scope="module")
def usual():
    return learned()


@pytest.fixture
def channels(usual):
    made = Channels(usual, hold_ticks=6)
    for t in range(4):
        made.add_tick(sign(t))
    return made


def fed(channels: Channels, count: int, *, start: int = 4, **changes) -> Channels:
    for t in range(start, start + count):
        channels.add_tick(sign(t, **changes))
    return channels


def scored(channels: Channels, score: float, times: int = 1) -> Channels:
    """Comparisons in which every frame scored so much."""
    evidence = Drive(LENGTH).evidence(LENGTH)
    row = np.full(LENGTH, score, np.float32)
    for _ in range(times):
        channels.add_scores(replace(evidence, frame_scs=row, scs=dict.fromkeys(evidence.scs, score)))
    return channels


def test_quiet_ticks_raise_nothing(channels):
    fed(channels, 200)
    scored(channels, 90, 50)
    assert channels.values.keys() == set(CHANNELS)
    assert all(value < 0.2 for value in channels.values.values()), channels.values


@pytest.mark.parametrize(("name", "value"), [("fixed", 0.6), ("torn", 80.0), ("brightness", 8.0)])
def test_what_lasts_is_added_up_then_forgotten(channels, name, value):
    channel = "dim" if name == "brightness" else name
    limits = LIMITS[channel]
    fed(channels, 1, **{name: value})
    assert 0 < channels.values[channel] < 1
    fed(channels, math.ceil(limits.threshold / (limits.most - limits.drift)), **{name: value})
    assert channels.values[channel] >= 1
    fed(channels, math.ceil(limits.ceiling * limits.threshold / limits.drift) + 10)
    assert channels.values[channel] < 0.1


def test_scores_below_the_usual_add_up(channels):
    before = scored(channels, 90, 5).values["scs"]
    assert before < 0.2
    assert scored(channels, 10, 30).values["scs"] >= 1


def test_unknown_scores_neither_raise_nor_clear(channels):
    value = scored(channels, 10, 5).values["scs"]
    assert value > 0 and scored(channels, math.nan, 20).values["scs"] == value


@pytest.mark.parametrize("off", [5.0, -5.0])
def test_motion_counts_in_both_directions_but_only_where_the_actions_foretell_it(channels, off):
    fed(channels, 40, expected=(0, 0, 0, 0), observed=(0, off, 0, off))
    assert scored(channels, 10).values["motion"] < 0.1  # down and turn: nobody foretold them
    fed(channels, 40, start=44, observed=(off, 0, 0, 0))
    assert scored(channels, 10).values["motion"] >= 1


def test_motion_that_alternates_about_the_expected_is_noise(channels):
    for t in range(4, 104):
        channels.add_tick(sign(t, observed=((1 if t % 2 else -1) * 0.5, 0, 0, 0)))
    assert scored(channels, 10).values["motion"] < 1


def test_motion_alone_gets_no_further_while_the_prediction_agrees(channels):
    fed(channels, 60, observed=(5, 0, 0, 0))
    assert scored(channels, 92, 5).values["motion"] == pytest.approx(UNCONFIRMED)
    assert scored(channels, 20).values["motion"] >= 1
    scored(channels, 92, 5)
    assert scored(channels, math.nan).values["motion"] >= 1  # nothing judged is no agreement


def test_motion_that_is_not_to_be_trusted_or_unknown_does_not_count(channels):
    fed(channels, 60, observed=(5, 0, 0, 0), trust=0.0)
    assert scored(channels, 10).values["motion"] == 0
    fed(channels, 60, start=64, observed=(np.nan,) * 4)
    assert scored(channels, 10).values["motion"] == 0 and np.isfinite(channels.values["jump"])


def test_frozen_takes_a_few_ticks_of_no_change_while_the_robot_moves(channels):
    fed(channels, FROZEN_TICKS - 1, expected=(8, 0, 0, 0), observed=(0, 0, 0, 0), change=0.0)
    assert channels.values["frozen"] < 1
    fed(channels, 1, expected=(8, 0, 0, 0), observed=(0, 0, 0, 0), change=FROZEN_CHANGE / 2)
    assert channels.values["frozen"] >= 1 and channels.frozen_ticks == FROZEN_TICKS
    fed(channels, 1, expected=(8, 0, 0, 0), change=0.5)  # a camera's own noise
    assert channels.values["frozen"] == 0


def test_a_robot_that_rests_sees_no_change_and_is_not_frozen(channels):
    assert fed(channels, 50, change=0.0).values["frozen"] == 0


def test_a_knock_is_one_tick_long_and_held_for_a_while(channels):
    fed(channels, 1, observed=(20, -6, 0, 0))
    assert channels.values["jump"] < 1  # who knows what comes next
    fed(channels, 1, start=5)
    assert channels.values["jump"] >= 1
    assert channels.jump == pytest.approx([20, -6, 0, 0]) and channels.jump_at.stamp_ns == sign(4).stamp_ns
    raised = 1
    for t in range(6, 20):
        raised += fed(channels, 1, start=t).values["jump"] >= 1
    assert raised == 6  # hold_ticks


def test_motion_that_is_off_for_longer_is_no_knock(channels):
    fed(channels, 10, observed=(20, 0, 0, 0))
    assert channels.values["jump"] < 1


@pytest.mark.parametrize("gain", [math.log(2), -math.log(2)])
def test_a_change_of_exposure_is_an_event_either_way(channels, gain):
    fed(channels, 1, gain=gain)
    assert channels.values["gain"] >= 1 and channels.gain == pytest.approx(gain)
    fed(channels, 5, start=5)
    assert channels.values["gain"] >= 1
    fed(channels, 1, start=10)
    assert channels.values["gain"] < 1


def test_the_time_since_the_picture_was_cut(channels):
    assert channels.since_cut == math.inf
    fed(channels, 1, surprise=0.9)
    assert channels.since_cut == 0
    assert fed(channels, 7, start=5).since_cut == 7


def test_history_is_bounded(channels):
    fed(channels, 500)
    assert len(channels.history) <= 64


def test_every_sum_of_the_channels_ships_with_limits():
    assert set(LIMITS) | {"frozen", "jump", "gain"} == set(CHANNELS) and len(set(CHANNELS)) == len(CHANNELS)
    assert 0 < UNCONFIRMED < 1 and 0 < shipped.FORETOLD < 1


# Plans


def test_the_first_action_of_a_plan_is_held_against_what_was_done_then():
    drive = Drive(20)
    book = PlanBook(SCALES)
    evidence = drive.evidence(20)
    assert np.isnan(book.gaps(evidence)).all()
    for t in range(12, 20):
        book.add(drive.stamp(t - 1), np.stack([drive.actions[t], [9.0, 9.0]]))
    assert book.gaps(evidence) == pytest.approx(np.zeros(8), abs=1e-6)
    book.add(drive.stamp(14), drive.actions[15:16] + np.array([0.25, -0.2], np.float32))
    gaps = book.gaps(evidence)
    assert gaps[3] == pytest.approx(0.5)  # in scales, of the worse channel: 0.25 of 0.5 m/s
    assert np.delete(gaps, 3) == pytest.approx(np.zeros(7), abs=1e-6)
    book.clear()
    assert np.isnan(book.gaps(evidence)).all()


def test_the_first_tick_is_planned_at_the_context_frame():
    drive = Drive(20)
    evidence = drive.evidence(20)
    book = PlanBook(SCALES)
    book.add(evidence.context_stamp_ns, drive.actions[12:13])
    gaps = book.gaps(evidence)
    assert gaps[0] == pytest.approx(0, abs=1e-6) and np.isnan(gaps[1:]).all()


def test_plans_of_another_width_are_not_compared():
    drive = Drive(20)
    book = PlanBook(SCALES)
    book.add(drive.stamp(14), np.zeros((8, 5), np.float32))
    assert np.isnan(book.gaps(drive.evidence(20))).all()


def test_old_plans_are_dropped():
    book, drive = PlanBook(SCALES), Drive(20)
    for t in range(-1, 5000):
        book.add(drive.stamp(t), np.zeros((1, 2), np.float32))
    assert np.isnan(book.gaps(drive.evidence(20))).all()
    assert len(book._plans) <= 1000


def test_the_last_executed_action_held_is_no_plan():
    drive = Drive(20)
    evidence = drive.evidence(20)
    book = PlanBook(SCALES)
    for t in range(13, 20):
        book.add(drive.stamp(t - 1), drive.actions[t - 1 : t])
    assert np.isnan(book.gaps(evidence)).all()

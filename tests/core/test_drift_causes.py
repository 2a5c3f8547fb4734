"""Each cause by a drive that is spoiled in just that way, watched with the baseline of one that was not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from egowm_core.drift import Cause, DriftDetector, DriftState
from egowm_core.drift.causes import explain
from egowm_core.drift.channels import Channels
from tests.core.drift_faults import (
    COUNT,
    FAULTS,
    LONG,
    ONSET,
    SEEDS,
    slipping,
    split,
    spoiled,
    thawed,
    wholly_covered,
)
from tests.core.drift_world import SCALES, TICK_NS, TICK_S, Drive, detector, learned, sign, watch


@pytest.fixture(scope="module")
def usual():
    return learned()


EVERY_FAULT = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)


@EVERY_FAULT
def test_each_fault_is_found_soon_and_mostly_by_its_name(usual, fault):
    cause, _, _ = FAULTS[fault]
    named: list[Cause] = []
    for seed in SEEDS:
        before, after = split(usual, spoiled(fault, seed))
        assert {(report.state, report.cause) for report in before} == {(DriftState.OK, Cause.NONE)}
        found = [number for number, report in enumerate(after) if report.cause is cause]
        assert found and found[0] * 2 * TICK_S <= 6, (seed, [report.cause.name for report in after])
        named += [report.cause for report in after if report.cause is not Cause.NONE]
    assert named.count(cause) > 0.5 * len(named), [one.name for one in named]


@EVERY_FAULT
def test_words_and_states(usual, fault):
    cause, words, worst = FAULTS[fault]
    _, after = split(usual, spoiled(fault))
    reports = [report for report in after if report.cause is cause]
    assert any(words in report.reason for report in reports), {report.reason for report in reports}
    assert any(report.state is worst for report in reports)
    if worst is DriftState.WARN:  # people and light are nothing to stop for
        assert all(report.state is not DriftState.ERROR for report in reports)
    for report in reports:
        assert "nan" not in report.reason and report.reason[0] != " " and "\n" not in report.reason
        assert report.alarm == max(report.channels.values()) >= 1


def test_ten_minutes_without_fault_are_no_alarm(usual):
    reports = watch(detector(usual), Drive(2400, seed=9))
    assert len(reports) > 1000
    assert {(report.state, report.cause) for report in reports} == {(DriftState.OK, Cause.NONE)}


def test_near_things_are_no_fault():
    """Parallax makes the picture grow more or less than usual; a baseline that met it forgives it."""
    reports = watch(detector(learned(480, nearness=0.4)), Drive(1200, seed=4, nearness=0.4))
    assert {report.cause for report in reports} == {Cause.NONE}


def test_what_the_robot_does_is_held_against_its_plan(usual):
    drive = Drive(COUNT, seed=1)
    watcher = detector(usual)
    for t in range(COUNT):
        planned = drive.actions[t] + (np.array([0.9, -0.9]) * SCALES if t >= ONSET else 0)
        watcher.plan(drive.stamp(t - 1), np.repeat(planned[None], 8, axis=0).astype(np.float32))
    reports = watch(watcher, drive)
    early = [report for report in reports if report.stamp_ns < drive.stamp(ONSET)]
    assert {report.cause for report in early} == {Cause.NONE}
    assert reports[-1].cause is Cause.NOT_FOLLOWING and "planned" in reports[-1].reason
    assert reports[-1].channels["plan"] >= 1


def test_without_a_plan_nobody_disobeys(usual):
    assert all(report.channels["plan"] == 0 for report in watch(detector(usual), Drive(COUNT, seed=1)))


# What is raised decides which rule may speak


def channels_with(usual, history, **raised: float) -> Channels:
    channels = Channels(usual)
    channels.history.extend(history)
    channels.values.update(raised)
    return channels


def test_nothing_raised_has_no_cause(usual):
    channels = channels_with(usual, [sign(0)], motion=0.99, scs=0.99)
    assert explain(channels, tick_s=TICK_S) is None


@pytest.mark.parametrize(
    ("left", "word"), [(6.0, "left"), (-6.0, "right")]
)  # a camera that turns to the left sees everything move to the right
def test_the_side_to_which_odometry_errs(usual, left, word):
    history = [sign(t, expected=(4, 0, 0, 0), observed=(4 + left, 0, 0, 0)) for t in range(32)]
    if left < 0:
        history = [replace(one, expected=-one.expected, observed=-one.expected - 6) for one in history]
    found = explain(channels_with(usual, history, motion=1.2), tick_s=TICK_S)
    assert found.cause is Cause.ODOMETRY and f"6.0 px a tick more to the {word}" in found.words


def test_what_pictures_prove_comes_before_what_motion_suggests(usual):
    history = [sign(t, expected=(9, 0, 0, 0), observed=(0, 0, 0, 0)) for t in range(32)]
    assert explain(channels_with(usual, history, motion=2.0), tick_s=TICK_S).cause is Cause.SLIP
    assert explain(channels_with(usual, history, motion=2.0, frozen=1.0), tick_s=TICK_S).cause is Cause.FROZEN
    black = [replace(one, brightness=3.0) for one in history]
    assert explain(channels_with(usual, black, motion=2.0, dim=1.0), tick_s=TICK_S).cause is Cause.DARK


def test_a_change_of_light_that_leaves_something_to_see_is_no_darkness(usual):
    dimmer = [sign(t, brightness=70.0) for t in range(8)]
    channels = channels_with(usual, dimmer, gain=1.5)
    channels.gain = math.log(70 / 120)
    assert explain(channels, tick_s=TICK_S).cause is Cause.EXPOSURE


def test_a_tick_of_unknown_motion_does_not_spoil_the_words(usual):
    history = [sign(t, expected=(4, 0, 0, 0), observed=(10, 0, 0, 0)) for t in range(32)]
    history[-3] = sign(29, expected=(4, 0, 0, 0), observed=(np.nan,) * 4)
    found = explain(channels_with(usual, history, motion=1.2), tick_s=TICK_S)
    assert found.cause is Cause.ODOMETRY and "nan" not in found.words


def test_a_tick_of_unknown_motion_does_not_hide_a_push(usual):
    history = [sign(t, observed=(9, 0, 0, 0)) for t in range(32)]
    history[-3] = sign(29, observed=(np.nan,) * 4)
    assert explain(channels_with(usual, history, motion=1.2), tick_s=TICK_S).cause is Cause.PUSHED


def test_a_frozen_camera_says_for_how_long_and_is_free_as_soon_as_pictures_change(usual):
    drive = spoiled(thawed, count=LONG)
    reports = watch(detector(usual), drive)
    during = [r for r in reports if drive.stamp(ONSET + 12) <= r.stamp_ns < drive.stamp(ONSET + 24)]
    assert all(report.cause is Cause.FROZEN and " s while the robot moves" in report.reason for report in during)
    assert all(r.channels["frozen"] == 0 for r in reports if r.stamp_ns >= drive.stamp(ONSET + 24))
    assert reports[-1].cause is Cause.NONE


# Known shortcomings: found by these tests, kept here until they pass


def test_a_camera_that_thaws_was_not_knocked(usual):
    for seed in SEEDS:
        _, after = split(usual, spoiled(thawed, seed, count=LONG))
        assert Cause.CAMERA_MOVED not in {report.cause for report in after}


def test_a_lens_that_stays_covered_keeps_its_cause(usual):
    for seed in SEEDS:
        _, after = split(usual, spoiled(wholly_covered, seed, count=LONG))
        assert after[-1].cause is Cause.OCCLUDED


def test_slipping_while_commands_change_from_tick_to_tick_is_no_knock():
    baseline = learned(lively=True)
    for seed in SEEDS:
        _, after = split(baseline, spoiled(slipping, seed, count=LONG, lively=True))
        assert Cause.CAMERA_MOVED not in {report.cause for report in after}


def test_reports_carry_everything_that_a_message_needs(usual):
    watcher: DriftDetector = detector(usual)
    report = watch(watcher, Drive(20))[-1]
    assert report is watcher.report
    assert report.stamp_ns == 20 * TICK_NS
    assert report.scs.keys() == report.baseline_scs.keys() == {2, 4, 8}
    assert set(report.channels) == {"motion", "scs", "fixed", "torn", "dim", "plan", "frozen", "jump", "gain"}

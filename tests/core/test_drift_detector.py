"""The detector's life: learning or given what is usual, judging, going stale, being reset; and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from egowm_core.drift import Cause, DriftLimits, DriftState, load_baseline
from egowm_core.errors import ScoreError
from tests.core.drift_world import EVERY, LENGTH, TICK_NS, Drive, detector, learned, watch

LEARN = DriftLimits(learn_ticks=120)
SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def usual():
    return learned()


def scored(evidence, *scores):
    """The same comparison with such scores for the horizons 2, 4, 8 (and the newest as its frames')."""
    row = np.full(LENGTH, scores[-1], np.float32)
    return replace(evidence, scs=dict(zip((2, 4, 8), scores, strict=True)), frame_scs=row)


def test_before_anything_was_compared():
    watcher = detector()
    assert watcher.report.state is DriftState.UNDEFINED and watcher.baseline is None
    assert watcher.report.cause is Cause.NONE and watcher.report.stamp_ns is None


def test_it_learns_for_so_many_ticks_then_judges():
    watcher = detector(limits=LEARN)
    drive = Drive(400)
    reports = watch(watcher, drive)
    ready = next(n for n, report in enumerate(reports) if report.reason.startswith("learned"))
    assert ready == (120 - LENGTH) // EVERY
    assert {report.state for report in reports[: ready + 1]} == {DriftState.UNDEFINED}
    assert "8 of 120" in reports[0].reason and "118 of 120" in reports[ready - 1].reason
    assert {report.state for report in reports[ready + 1 :]} == {DriftState.OK}
    assert watcher.baseline is not None and watcher.baseline.ticks == 120


def test_scores_are_reported_while_learning():
    report = detector(limits=LEARN).update(Drive(20).evidence(LENGTH))
    assert report.scs.keys() == {2, 4, 8} and report.baseline_scs == {} and report.alarm == 0


def test_what_it_learned_finds_a_fault():
    drive = Drive(320, seed=2)
    drive.change[240:], drive.motion[240:], drive.drop[240:] = 0, 0, 40
    reports = watch(detector(limits=LEARN), drive)
    assert reports[-1].state is DriftState.ERROR and reports[-1].cause is Cause.FROZEN


def test_with_a_baseline_it_judges_from_the_first_comparison(usual):
    watcher = detector(usual)
    assert watcher.baseline is usual
    report = watcher.update(Drive(20).evidence(LENGTH))
    assert report.state is DriftState.OK and report.stamp_ns == LENGTH * TICK_NS
    assert "usually" in report.reason


def test_it_goes_on_learning_while_there_is_nothing_to_learn_from():
    drive = Drive(200)
    drive.noise[:150] = np.nan
    reports = watch(detector(limits=LEARN), drive)
    assert any(report.reason.startswith("still learning") for report in reports)
    assert all(report.state is DriftState.UNDEFINED for report in reports[:70])
    assert reports[-1].state is DriftState.OK


def test_a_lesson_that_never_comes_takes_bounded_memory_and_time():
    watcher = detector(limits=DriftLimits(learn_ticks=48))
    drive = Drive(160)
    drive.noise[:] = np.nan
    watch(watcher, drive)
    assert len(watcher._learner._evidence) <= 2 * 48


def test_a_baseline_from_a_file_judges_as_the_one_that_was_saved(usual, tmp_path):
    usual.save(tmp_path / "b.json")
    drive = Drive(120, seed=3)
    drive.drop[60:] = 45
    one = watch(detector(usual), drive)
    other = watch(detector(load_baseline(tmp_path / "b.json", channels=2)), drive)
    assert [(r.state, r.cause) for r in one] == [(r.state, r.cause) for r in other]
    assert [r.alarm for r in other] == pytest.approx([r.alarm for r in one], abs=0.01)


# Scores that are unknown, and limits that are absolute


def test_nothing_to_judge_is_undefined_not_bad(usual):
    watcher, drive = detector(usual), Drive(80)
    for end in range(LENGTH, 40, EVERY):
        assert watcher.update(drive.evidence(end)).state is DriftState.OK
    for end in range(40, 60, EVERY):
        report = watcher.update(scored(drive.evidence(end), math.nan, math.nan, math.nan))
        assert report.state is DriftState.UNDEFINED and report.cause is Cause.NONE
        assert "no structure" in report.reason
    assert watcher.update(drive.evidence(60)).state is DriftState.OK


def test_the_longest_horizon_that_is_known_speaks(usual):
    report = detector(usual).update(scored(Drive(20).evidence(LENGTH), 95.0, 93.0, math.nan))
    assert report.state is DriftState.OK and "over 4 frames is 93" in report.reason


def test_absolute_limits_hold_while_learning_too():
    limits = DriftLimits(learn_ticks=120, warn_below=60.0, error_below=30.0)
    watcher, drive = detector(limits=limits), Drive(60)
    wanted = {80.0: DriftState.UNDEFINED, 50.0: DriftState.WARN, 20.0: DriftState.ERROR}
    end = LENGTH
    for score, state in wanted.items():
        for _ in range(3):
            report = watcher.update(scored(drive.evidence(end), score, score, score))
            end += EVERY
        assert report.state is state
    assert "20.0, below the limit of 30" in report.reason


def test_one_bad_score_does_not_break_an_absolute_limit(usual):
    watcher, drive = detector(usual, limits=DriftLimits(error_below=30.0)), Drive(60)
    states = []
    for number, end in enumerate(range(LENGTH, 40, EVERY)):
        evidence = drive.evidence(end)
        states.append(watcher.update(scored(evidence, 5.0, 5.0, 5.0) if number == 8 else evidence).state)
    assert set(states) == {DriftState.OK}


def test_the_worse_of_limit_and_alarm_is_reported(usual):
    drive = Drive(80)
    drive.torn[30:] = 60  # people: a warning
    drive.drop[30:] = 70
    reports = watch(detector(usual, limits=DriftLimits(error_below=40.0)), drive)
    assert reports[-1].state is DriftState.ERROR and "below the limit" in reports[-1].reason


@pytest.mark.parametrize("error_at", [1.0, 1.5, 2.4])
def test_error_is_so_many_alarms(usual, error_at):
    drive = Drive(200)
    drive.drop[60:] = 60
    reports = [r for r in watch(detector(usual, limits=DriftLimits(error_at=error_at)), drive) if r.alarm >= 1]
    assert reports
    for report in reports:
        assert report.state is (DriftState.ERROR if report.alarm >= error_at else DriftState.WARN)


@pytest.mark.parametrize("hold_s", [2.0, 6.0])
def test_a_knock_is_reported_for_as_long_as_asked(usual, hold_s):
    drive = Drive(160)
    drive.motion[60] += (25, 0, 0, 0)
    reports = watch(detector(usual, limits=DriftLimits(hold_s=hold_s)), drive)
    raised = [report for report in reports if report.cause is Cause.CAMERA_MOVED]
    assert len(raised) * EVERY * 0.25 == pytest.approx(hold_s, abs=0.5)
    assert reports[-1].state is DriftState.OK


def test_after_a_fault_it_is_well_again(usual):
    drive = Drive(400)
    drive.drop[60:100] = 60
    reports = watch(detector(usual), drive)
    assert DriftState.ERROR in {report.state for report in reports}
    assert reports[-1].state is DriftState.OK and reports[-1].alarm < 0.3


# Time


def test_silence_is_stale_and_the_next_comparison_ends_it(usual):
    watcher = detector(usual, limits=DriftLimits(stale_after_s=2.0))
    drive = Drive(40)
    report = watcher.update(drive.evidence(20))
    assert watcher.check(report.stamp_ns + 2 * SECOND_NS) is report
    stale = watcher.check(report.stamp_ns + 2 * SECOND_NS + SECOND_NS // 10)
    assert stale.state is DriftState.STALE and stale is watcher.report
    assert "2.1 s" in stale.reason and stale.stamp_ns == report.stamp_ns
    assert watcher.update(drive.evidence(34)).state is DriftState.OK


def test_that_nothing_ever_comes_is_stale_too():
    watcher = detector(limits=DriftLimits(stale_after_s=2.0))
    assert watcher.check(100 * SECOND_NS).state is DriftState.UNDEFINED
    assert watcher.check(101 * SECOND_NS).state is DriftState.UNDEFINED
    assert watcher.check(103 * SECOND_NS).state is DriftState.STALE


def test_a_first_comparison_of_frames_older_than_the_first_check_is_welcome(usual):
    watcher, drive = detector(usual), Drive(40)
    watcher.check(drive.stamp(20))  # the watch begins; the comparison of frames up to just before is still computed
    assert watcher.update(drive.evidence(20)).state is DriftState.OK


def test_a_clock_that_jumped_back_is_refused_until_reset(usual):
    watcher, drive = detector(usual), Drive(60)
    before = watcher.update(drive.evidence(40))
    with pytest.raises(ScoreError, match="reset"):
        watcher.update(drive.evidence(39))
    assert watcher.report is before  # nothing lost
    watcher.reset()
    assert watcher.update(drive.evidence(39)).state is DriftState.OK


def test_the_same_stamp_twice_adds_no_tick(usual):
    drive = Drive(60)
    drive.torn[30:] = 80
    once, twice = detector(usual), detector(usual)
    for end in range(LENGTH, 36, EVERY):
        first = once.update(drive.evidence(end))
        twice.update(drive.evidence(end))
        second = twice.update(drive.evidence(end))
    assert 0 < first.channels["torn"] == second.channels["torn"]


def test_a_gap_between_comparisons_is_bridged(usual):
    watcher, drive = detector(usual), Drive(200)
    watcher.update(drive.evidence(20))
    assert watcher.update(drive.evidence(150)).state is DriftState.OK


def test_reset_forgets_all_but_the_given_baseline(usual):
    drive = Drive(100)
    drive.drop[20:] = 60
    given, learner = detector(usual), detector(limits=DriftLimits(learn_ticks=60))
    watch(given, drive)
    watch(learner, Drive(100))
    assert given.report.alarm > 1 and learner.baseline is not None
    for watcher in (given, learner):
        watcher.reset()
        assert watcher.report.state is DriftState.UNDEFINED and watcher.report.stamp_ns is None
    assert given.baseline is usual and learner.baseline is None
    assert given.update(Drive(20).evidence(LENGTH)).alarm < 1


def test_plans_are_forgotten_at_a_reset(usual):
    drive = Drive(120)
    watcher = detector(usual)
    for t in range(120):
        watcher.plan(drive.stamp(t - 1), -drive.actions[t : t + 1] + 2)
    watcher.reset()
    assert all(report.channels["plan"] == 0 for report in watch(watcher, drive))


# Refusals


def test_another_robots_actions_are_refused(usual):
    evidence = Drive(20).evidence(LENGTH)
    wide = replace(evidence, actions=np.zeros((LENGTH, 25), np.float32))
    with pytest.raises(ScoreError, match=r"25 channels.*expects 2"):
        detector(usual).update(wide)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"learn_ticks": 10}, "learn_ticks is 10"),
        ({"error_at": 0.5}, "error_at"),
        ({"hold_s": -1.0}, "hold_s"),
        ({"warn_below": 30.0, "error_below": 60.0}, "error_below 60"),
        ({"stale_after_s": 0.0}, "stale_after_s"),
        ({"stale_after_s": math.nan}, "stale_after_s"),
    ],
)
def test_limits_that_contradict_themselves_are_refused(wrong, words):
    with pytest.raises(ScoreError, match=words):
        DriftLimits(**wrong)


def test_the_same_drive_gives_the_same_reports(usual):
    drive = Drive(120, seed=7)
    drive.drop[60:] = 50
    assert watch(detector(usual), drive) == watch(detector(usual), drive)

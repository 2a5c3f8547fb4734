"""The drift monitor's plain parts: the detector between clocks, sampling, where baselines come from, statuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from egowm_core.drift import BASELINE_FILE, BaselineLearner, Cause, DriftBaseline, DriftLimits, DriftState
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import CheckpointError, ScoreError
from egowm_core.given_baseline import checkpoint_baseline, given_baseline
from egowm_core.types import ActionSequence, ActionSource, Frames, Rollout
from egowm_nodes.drift.sampling import EXECUTED, PLANNED, Sampling
from egowm_nodes.drift.status import drift_status, sampling_status
from egowm_nodes.drift.watch import DriftWatch
from egowm_nodes.runtime.diagnostics import Level
from tests.nodes.made_evidence import TICK_NS, action_at, evidence, tick_ns

ROBOT = load_embodiment("base_3dof")
EVERY = 2


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def baseline() -> DriftBaseline:
    learner = BaselineLearner(ROBOT.scales)
    for newest in range(8, 200, EVERY):
        learner.add(evidence(newest))
    return learner.learn()


def watch(clock: Clock, **options) -> DriftWatch:
    return DriftWatch(ROBOT, DriftLimits(learn_ticks=60, stale_after_s=3.0), clock, **options)


def judge_until(watched: DriftWatch, clock: Clock, newest: range, **changes):
    report = watched.report
    for tick in newest:
        clock.now_s += 0.25 * newest.step
        report = watched.judge(evidence(tick, **changes), generation=watched.generation)
    return report


def test_the_first_minute_is_learned_from_and_reset_learns_anew():
    clock = Clock()
    watched = watch(clock)
    assert watched.learns and watched.usual(evidence(8)) == {}
    report = judge_until(watched, clock, range(8, 60, EVERY))
    assert report.state is DriftState.UNDEFINED and "of 60 ticks" in report.reason and watched.baseline is None
    report = judge_until(watched, clock, range(60, 90, EVERY))
    assert report.state is DriftState.OK
    usual = watched.usual(evidence(90))
    assert usual[2] == pytest.approx(80, abs=3) and usual[8] == pytest.approx(75, abs=3)
    before = watched.generation
    watched.reset()
    assert watched.baseline is None and watched.report.state is DriftState.UNDEFINED
    assert watched.judge(evidence(92), generation=before).reason == "no comparison yet"  # from before the reset
    assert "learning" in watched.judge(evidence(92), generation=watched.generation).reason


def test_a_given_baseline_judges_at_once_stays_over_a_reset_and_a_frozen_picture_is_named(baseline):
    clock = Clock()
    watched = watch(clock, baseline=baseline)
    assert not watched.learns
    assert judge_until(watched, clock, range(8, 40, EVERY)).state is DriftState.OK
    report = judge_until(watched, clock, range(48, 56, EVERY), frozen=True)
    assert report.state is DriftState.ERROR and report.cause is Cause.FROZEN and report.alarm >= 1.5
    watched.reset()
    assert watched.baseline is baseline


def test_the_data_clock_may_jump_back_and_the_detector_starts_over(baseline):
    clock = Clock()
    watched = watch(clock, baseline=baseline)
    judge_until(watched, clock, range(208, 216, EVERY), frozen=True)
    report = watched.judge(evidence(8), generation=watched.generation)
    assert report.state is DriftState.OK and report.stamp_ns == tick_ns(8)


def test_silence_is_told_by_steady_time_however_old_the_data(baseline):
    clock = Clock()
    watched = watch(clock, baseline=baseline)
    clock.now_s += 2.9
    assert watched.check().state is DriftState.UNDEFINED
    clock.now_s += 0.2
    assert watched.check().state is DriftState.STALE and "check the camera" in watched.report.reason
    assert judge_until(watched, clock, range(8, 40, EVERY)).state is DriftState.OK
    clock.now_s += 2.5
    assert watched.check().state is DriftState.OK
    clock.now_s += 1.0
    assert watched.check().state is DriftState.STALE and watched.stale
    assert judge_until(watched, clock, range(40, 42, EVERY)).state is DriftState.OK


def test_plans_that_are_not_followed_are_named(baseline):
    clock = Clock()
    watched = watch(clock, baseline=baseline)
    for tick in range(60):
        planned = action_at(tick + 1) + (np.array([0.3, 0, 0], np.float32) if tick > 30 else 0)
        watched.plan(tick_ns(tick), np.tile(planned, (8, 1)).astype(np.float32))
    assert judge_until(watched, clock, range(8, 30, EVERY)).state is DriftState.OK
    report = judge_until(watched, clock, range(30, 58, EVERY))
    assert report.cause is Cause.NOT_FOLLOWING and report.channels["plan"] >= 1


def rollout(context: int, source: ActionSource = ActionSource.EXECUTED) -> Rollout:
    stamps = np.array([tick_ns(context + i) for i in range(1, 9)], np.int64)
    frames = Frames(np.zeros((8, 4, 4, 3), np.uint8), stamps)
    return Rollout(frames, ActionSequence(np.zeros((8, 3), np.float32), source), tick_ns(context), 1, 0)


def test_the_newest_executed_rollout_is_handed_out_once_its_frames_were_seen():
    sampling = Sampling((2, 4), Clock())
    for context in range(3):
        sampling.offer(rollout(context), every=1, planned_period_s=2.0)
    assert sampling.due(tick_ns(3)) == []
    ((slot, due),) = sampling.due(tick_ns(6))  # horizon 4 of the newest, though 8 were predicted
    assert slot == EXECUTED and due.context_stamp_ns == tick_ns(2)
    assert sampling.due(tick_ns(99)) == []
    assert sampling.heard[EXECUTED].count == 3 and sampling.replaced == {EXECUTED: 2}


def test_a_camera_that_never_catches_up_costs_no_memory():
    sampling = Sampling((8,), Clock())
    for context in range(100):
        sampling.offer(rollout(context), every=1, planned_period_s=0.0)
    assert sampling.replaced == {EXECUTED: 92}
    ((_, due),) = sampling.due(tick_ns(105))
    assert due.context_stamp_ns == tick_ns(97)


def test_every_nth_executed_and_one_planned_a_period_are_kept():
    clock = Clock()
    sampling = Sampling((8,), clock)
    taken = []
    for context in range(40):
        clock.now_s += 0.25
        sampling.offer(rollout(context), every=4, planned_period_s=2.0)
        sampling.offer(rollout(context, ActionSource.HELD), every=4, planned_period_s=2.0)
        for slot, due in sampling.due(tick_ns(context)):
            sampling.judged[slot].tick()
            taken.append((slot, (due.context_stamp_ns - tick_ns(0)) // TICK_NS))
    assert [at for slot, at in taken if slot == PLANNED] == [0, 9, 18, 27]
    assert [at for slot, at in taken if slot == EXECUTED] == list(range(0, 32, 4))
    for slot, waiting in ((EXECUTED, 2), (PLANNED, 1)):
        known = sampling.judged[slot].count + sampling.passed_over[slot] + sampling.replaced[slot]
        assert known + waiting == sampling.heard[slot].count == 40
    assert sampling.share(PLANNED) == pytest.approx(0.1)
    sampling.clear()
    assert sampling.due(tick_ns(99)) == []
    sampling.offer(rollout(41, ActionSource.PLANNED), every=4, planned_period_s=0.0)
    assert sampling.due(tick_ns(99)) == []


def test_sampling_that_does_not_keep_up_is_a_warning():
    clock = Clock()
    sampling = Sampling((8,), clock)
    assert sampling_status(sampling, {}, every=1, cpu_share=0.25).level is Level.OK
    for context in range(40):
        clock.now_s += 0.25
        sampling.offer(rollout(context), every=1, planned_period_s=0.0)
        if context % 4 == 0:
            sampling.judged[EXECUTED].tick()
            sampling.scoring.add(0.9)
    status = sampling_status(sampling, {EXECUTED: 5}, every=1, cpu_share=0.25)
    assert status.level is Level.WARN and "max_structures" in status.message
    assert status.values["executed heard"] == "40" and status.values["executed judged"] == "10"
    assert status.values["executed replaced"] == str(32 + 5) and status.values["executed share judged"] == "25 %"
    assert status.values["scoring_ms p50 / p99"] == "900 / 900" and status.values["cpu_share of one core"] == "25 %"
    assert sampling_status(sampling, {}, every=4, cpu_share=0.25).level is Level.OK  # asked for no more


def test_the_drift_status_names_state_cause_evidence_and_scores(baseline):
    clock = Clock()
    watched = watch(clock, baseline=baseline)
    judge_until(watched, clock, range(8, 40, EVERY))
    judge_until(watched, clock, range(48, 56, EVERY), frozen=True)
    status = drift_status(watched, {"executed": evidence(54), "held": evidence(50, scs=math.nan)})
    assert status.level is Level.ERROR and status.message.startswith("ERROR, frozen: the same picture for")
    assert (status.values["state"], status.values["cause"], status.values["baseline"]) == ("ERROR", "frozen", "given")
    assert float(status.values["strength frozen"]) >= 1.5 and float(status.values["scs executed 2"]) > 70
    assert float(status.values["usual scs executed 8"]) == pytest.approx(75, abs=3)
    assert status.values["scs held 8"] == "-"


def test_a_baseline_is_learned_or_read_from_a_file_or_a_checkpoint(baseline, tmp_path: Path):
    assert given_baseline("learn", channels=ROBOT.action_dim) is None
    path = tmp_path / "mine.json"
    baseline.save(path)
    read = given_baseline(str(path), channels=ROBOT.action_dim)
    assert read is not None and read.ticks == baseline.ticks and set(read.scs) == {2, 8}
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    assert checkpoint_baseline(str(checkpoint)) is None
    with pytest.raises(ScoreError, match=r"has no drift_baseline.json; .*egowm-watch --learn"):
        given_baseline(str(checkpoint), channels=ROBOT.action_dim)
    baseline.save(checkpoint / BASELINE_FILE)
    assert given_baseline(str(checkpoint), channels=ROBOT.action_dim) is not None


def test_a_baseline_that_is_absent_damaged_altered_or_of_another_robot_is_refused(baseline, tmp_path: Path):
    with pytest.raises(ScoreError, match="baseline is not named"):
        given_baseline("", channels=ROBOT.action_dim)
    with pytest.raises(ScoreError, match=r"nowhere.json cannot be read"):
        given_baseline(str(tmp_path / "nowhere.json"), channels=ROBOT.action_dim)
    with pytest.raises(CheckpointError, match="no such directory"):
        given_baseline(str(tmp_path / "nowhere"), channels=ROBOT.action_dim)
    (tmp_path / "damaged.json").write_text(json.dumps(baseline.to_json() | {"levels": {}}))
    with pytest.raises(ScoreError, match="damaged"):
        given_baseline(str(tmp_path / "damaged.json"), channels=ROBOT.action_dim)
    baseline.save(tmp_path / BASELINE_FILE)
    with pytest.raises(ScoreError, match="made for 3 action channels, this robot has 25"):
        given_baseline(str(tmp_path / BASELINE_FILE), channels=load_embodiment("humanoid_25dof").action_dim)
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {BASELINE_FILE}\n")
    with pytest.raises(CheckpointError, match="get the checkpoint again"):
        given_baseline(str(tmp_path), channels=ROBOT.action_dim)

"""The drift bench: its figures on made verdicts with known answers, and a short real drive up to its verdict."""

from __future__ import annotations

import json
import math
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from egowm_core.drift import BASELINE_FILE, Cause, DriftReport, DriftState, load_baseline
from egowm_core.errors import ScoreError
from egowm_core.loading import load_world_model
from egowm_sim import drift_bench
from egowm_sim.drift_figures import RIGHT, Verdicts, auroc, bootstrap_auroc, detect, fault_figures, free_figures
from egowm_sim.drift_runs import SEVERITIES, Run, Watched, held_plans, plan_runs, watch
from egowm_sim.faults import FaultKind, parse_fault

OK, WARN, ERROR = DriftState.OK, DriftState.WARN, DriftState.ERROR


def verdicts(
    states: list[tuple[DriftState, Cause, float]], *, fault: str = "", onset_s: float = math.nan, step_s: float = 0.5
) -> Verdicts:
    """One report every ``step_s`` from 0 on."""
    run = Run("made", 0, len(states) * step_s, fault)
    watched = Watched(run, [], np.zeros((0, 3)), onset_s)
    reports = [DriftReport(state, "", cause=cause, alarm=alarm) for state, cause, alarm in states]
    return Verdicts(watched, np.arange(len(states)) * step_s, reports)


def quiet(count: int) -> list[tuple[DriftState, Cause, float]]:
    return [(OK, Cause.NONE, 0.2)] * count


def test_auroc_of_known_cases() -> None:
    assert auroc([3, 4], [1, 2]) == 1.0
    assert auroc([1, 2], [3, 4]) == 0.0
    assert auroc([1, 1], [1]) == 0.5
    assert auroc([1, 3], [2]) == 0.5
    assert math.isnan(auroc([], [1.0]))
    low, high = bootstrap_auroc([2, 3, 1], [0, 1, 2])
    assert 0 <= low <= auroc([2, 3, 1], [0, 1, 2]) <= high <= 1


def test_delay_and_reason_count_from_the_onset() -> None:
    found = verdicts(quiet(40) + [(ERROR, Cause.FROZEN, 2.0)] * 30, fault="frozen_frame@19", onset_s=19.0)
    row = fault_figures([found], [verdicts(quiet(100))])
    assert row["delay_s"] == 1.0 and row["reason_right"] == 1.0 and row["auroc"] == 1.0 and row["detected"] == 1


def test_a_wrong_reason_and_a_miss_are_told() -> None:
    wrong = verdicts(quiet(40) + [(WARN, Cause.SLIP, 1.2)] * 30, fault="frozen_frame@19", onset_s=19.0)
    missed = verdicts(quiet(70), fault="frozen_frame@19", onset_s=19.0)
    row = fault_figures([wrong, missed], [verdicts(quiet(100))])
    assert row["reason_right"] == 0.0 and row["detected"] == 1 and row["reasons"] == {"slip": 1, "none": 1}
    assert math.isinf(row["delay_worst_s"])


def test_an_alarm_that_stood_before_the_fault_earns_nothing() -> None:
    standing = verdicts([(WARN, Cause.NOVEL_SCENE, 1.1)] * 70, fault="frozen_frame@19", onset_s=19.0)
    assert fault_figures([standing], [verdicts(quiet(100))])["detected"] == 0


def test_a_fault_that_never_showed_is_no_miss() -> None:
    hidden = verdicts(quiet(70), fault="wheel_slip@19", onset_s=math.nan)
    row = fault_figures([hidden], [verdicts(quiet(100))])
    assert row["drives"] == 1 and row["shown"] == 0 and math.isnan(row["auroc"])


def test_false_alarms_are_counted_as_episodes() -> None:
    once = [(WARN, Cause.SLIP, 1.1)] * 3
    drive = verdicts(quiet(60) + once + quiet(4) + once + quiet(60) + once + quiet(1068))  # 10 minutes
    figures = free_figures([drive])
    assert figures["alarms"] == 2  # the second came within 5 s of the first
    assert figures["false_alarms_per_10_min"] == pytest.approx(2.0, rel=0.01)
    assert figures["causes"] == {"slip": 2}


def test_every_fault_kind_is_planned_and_has_a_right_answer() -> None:
    assert set(SEVERITIES) == set(RIGHT) == set(FaultKind)
    runs = plan_runs(free_minutes=3, per_fault=4, learn_minutes=2, seed=5)
    assert len({run.seed for run in runs}) == len(runs) == len({run.name for run in runs})
    for run in runs:
        if run.fault:
            assert str(parse_fault(run.fault).kind) == run.name[:-3]


def test_a_frozen_camera_from_simulator_to_verdict(tmp_path: Path) -> None:
    model = load_world_model("embedded:base_3dof")
    run = Run("frozen_frame_00", 970_501, 14.0, "frozen_frame@6")
    watched = watch(run, model, tmp_path, every=2)
    again = watch(run, model, tmp_path, every=2)  # kept, not simulated anew
    assert not list((tmp_path / "bags").iterdir())
    assert again.onset_s == watched.onset_s >= 6.0
    for one, other in zip(watched.evidence, again.evidence, strict=True):
        assert one.scs == pytest.approx(other.scs, nan_ok=True)
        assert np.array_equal(one.motion, other.motion, equal_nan=True)
    scales, tick_s = model.embodiment.scales, 1 / model.embodiment.rate_hz
    plans = held_plans(watched, tick_s)
    assert len(plans) >= len(watched.evidence)
    baseline_path = tmp_path / "baseline.json"
    embedded = resources.files("egowm_core.embedded") / "base_3dof" / BASELINE_FILE
    baseline_path.write_text(embedded.read_text())
    verdict = detect(watched, load_baseline(baseline_path, channels=3), scales, tick_s)
    after = [r for t, r in zip(verdict.times_s, verdict.reports, strict=True) if t > watched.onset_s + 1.5]
    assert after and all(report.cause is Cause.FROZEN for report in after[:4])


def test_bad_usage_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        drift_bench.main([str(tmp_path), "--per-fault", "0"])
    assert stop.value.code == 2
    broken = tmp_path / "baseline.json"
    broken.write_text(json.dumps({"format": "something else"}))
    with pytest.raises(ScoreError, match="not a drift baseline"):
        load_baseline(broken, channels=3)

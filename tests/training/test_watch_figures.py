"""Figures and drawings of egowm-watch on reports made by hand: alarms, states over time, means, cases."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from egowm_core.drift import Cause, Comparison, DriftReport, DriftState
from egowm_core.types import ActionSource
from training.watch.cases import Cases
from training.watch.figures import Seen, Watched, mean_scs, summary, table_row
from training.watch.timeline import draw_watch


def seen(at_s: float, state: DriftState, cause: Cause = Cause.NONE, *, alarm: float = 0.0, scs: float = 50.0) -> Seen:
    report = DriftReport(state, f"{cause.value} at {at_s}", cause, alarm=alarm, scs={4: scs}, baseline_scs={4: 60.0})
    return Seen(round(at_s * 1e9), report, {4: 20.0}, {4: 3}, learning=state is DriftState.UNDEFINED)


def recording(*items: Seen, name: str = "one") -> Watched:
    return Watched(name, (4,), stale_after_s=3.0, seen=list(items))


def test_alarms_join_over_short_rests_and_go_by_the_usual_cause() -> None:
    one = recording(
        seen(0.5, DriftState.UNDEFINED),
        seen(1.0, DriftState.OK),
        seen(1.5, DriftState.WARN, Cause.NOVEL_SCENE, alarm=1.1),
        seen(2.0, DriftState.ERROR, Cause.SLIP, alarm=1.8),
        seen(2.5, DriftState.OK),
        seen(3.0, DriftState.WARN, Cause.SLIP, alarm=1.2),
        *(seen(3.0 + 0.5 * i, DriftState.OK) for i in range(1, 15)),
        seen(10.5, DriftState.WARN, Cause.EXPOSURE, alarm=1.4),
    )
    first, second = one.alarms()
    assert (first.first, first.last, first.cause, first.state) == (2, 5, Cause.SLIP, DriftState.ERROR)
    assert (first.start_s, first.end_s, first.strength) == (1.5, 3.0, 1.8)
    assert first.causes == {"slip": 2, "novel scene": 1} and first.words == "slip at 2.0"
    assert (second.cause, second.state) == (Cause.EXPOSURE, DriftState.WARN)
    figures = summary([one])
    assert figures["alarms"] == 2 and figures["causes"]["slip"]["alarms"] == 1
    assert figures["judged_minutes"] == pytest.approx(10.0 / 60)  # 10.5 s of comparisons, the first one learning
    assert figures["alarms_per_10_min"] == pytest.approx(2 * 10 / figures["judged_minutes"])
    assert summary([recording()])["alarms_per_10_min"] != 0, "nothing watched is not no alarm"


def test_states_over_time_know_when_comparisons_stopped() -> None:
    one = recording(*(seen(at_s, DriftState.OK) for at_s in (0.5, 1.0, 1.5, 2.0, 12.0, 12.5)))
    assert [(span.state, span.start_s, span.end_s) for span in one.spans()] == [
        (DriftState.OK, 0.5, 5.0),
        (DriftState.STALE, 5.0, 12.0),
        (DriftState.OK, 12.0, 13.0),
    ]
    figures = summary([one])
    assert figures["states"]["STALE"] == pytest.approx(7 / 12.5) and sum(figures["states"].values()) == pytest.approx(1)
    assert figures["minutes"] == pytest.approx(5.5 / 60), "what was not compared was not watched"


def test_states_change_where_the_cause_does() -> None:
    causes = [Cause.SLIP, Cause.SLIP, Cause.FROZEN]
    one = recording(*(seen(0.5 * i, DriftState.ERROR, cause) for i, cause in enumerate(causes)))
    assert [(span.cause, span.words) for span in one.spans()] == [
        (Cause.SLIP, "slip at 0.0"), (Cause.FROZEN, "frozen at 1.0"),
    ]  # fmt: skip


def test_means_leave_out_what_could_not_be_judged() -> None:
    scores = [40.0, math.nan, 60.0] * 40
    one = recording(*(seen(0.5 * i, DriftState.OK, scs=score) for i, score in enumerate(scores)))
    assert table_row([one], [4]) == {"scs": {"4": 50.0}, "usual_scs": {"4": 60.0}, "psnr": {"4": 20.0}}
    around = mean_scs([one], 4)
    assert around.mean == pytest.approx(50.0) and 45 < around.low <= around.mean <= around.high < 55
    assert around.clips == 6, "stretches of 10 s"
    blind = recording(*(seen(0.5 * i, DriftState.UNDEFINED, scs=math.nan) for i in range(4)))
    assert math.isnan(mean_scs([blind], 4).mean) and math.isnan(table_row([blind], [4])["scs"]["4"])


def test_intervals_are_wider_than_those_of_independent_comparisons() -> None:
    rng = np.random.default_rng(0)
    slow = np.repeat(rng.normal(50, 10, 12), 20)  # one level for each 10 s
    mixed = rng.permutation(slow)
    widths = []
    for scores in (slow, mixed):
        around = mean_scs([recording(*(seen(0.5 * i, DriftState.OK, scs=float(s)) for i, s in enumerate(scores)))], 4)
        widths.append(around.high - around.low)
    assert widths[0] > 2 * widths[1]


def test_a_long_recording_is_drawn_with_bounded_points() -> None:
    states = [DriftState.OK, DriftState.WARN]
    items = [seen(0.5 * i, states[i % 2], [Cause.NONE, Cause.SLIP][i % 2], scs=50 + i % 30) for i in range(6000)]
    drawn = draw_watch(recording(*items), error_at=1.5)
    assert drawn.count('class="state') <= 400
    assert max(len(points.split()) for points in re.findall(r'points="([^"]+)"', drawn)) <= 1000
    assert "nan" not in drawn.lower()


def test_nothing_judged_is_drawn_as_nothing() -> None:
    drawn = draw_watch(recording(seen(0.5, DriftState.UNDEFINED, scs=math.nan)), error_at=1.5)
    assert "UNDEFINED" in drawn and "nan" not in drawn.lower()


def test_cases_are_the_worst_the_median_and_the_best() -> None:
    scores = np.random.default_rng(3).permutation(np.arange(101.0))
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    cases = Cases()
    made = Comparison(ActionSource.EXECUTED, 0, np.zeros(1, np.int64), picture[0], picture, picture, np.zeros((1, 3)))
    cases.add(0, math.nan, made)
    assert [case for case, _, _ in cases.chosen()] == ["not judged"]
    for number, score in enumerate(scores, start=1):
        cases.add(number, float(score), made)
    found = {case: scores[number - 1] for case, number, _ in cases.chosen()}
    assert found["worst"] == 0 and found["best"] == 100 and abs(found["median"] - 50) <= 2

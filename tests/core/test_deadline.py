"""The deadline scheduler on made-up machines: what it keeps to, how it adapts, and what it does without memory.

No clock: times come from a rule and a seed, so that every run is the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from egowm_core.deadline import Choice, DeadlineScheduler, Option, ladder
from egowm_core.errors import ConfigError

CHUNK = 8
OPTIONS = ladder(8, 32, chunk=CHUNK)
Machine = Callable[[Option, int], float]


def machine(*, step_s: float = 0.03, scatter: float = 0.1, load: Callable[[int], float] = lambda run: 1.0) -> Machine:
    """Seconds of an option at the n-th run: an amount at all, per chunk and per step, times load and scatter."""
    rng = np.random.default_rng(7)

    def took_s(option: Option, run: int) -> float:
        chunks = option.candidates * math.ceil(option.horizon / CHUNK)
        work = 0.01 + 0.03 * chunks + step_s * chunks * option.num_denoising_steps
        return work * load(run) * float(rng.lognormal(0.0, scatter))

    return took_s


def drive(scheduler: DeadlineScheduler, took_s: Machine, runs: int) -> list[tuple[Choice, float]]:
    done = []
    for run in range(runs):
        choice = scheduler.choose()
        seconds = took_s(choice.option, run)
        assert scheduler.record(choice, seconds) == (seconds <= scheduler.budget_s)
        done.append((choice, seconds))
    return done


def missed(done: list[tuple[Choice, float]], budget_s: float) -> float:
    return sum(seconds > budget_s for _, seconds in done) / len(done)


def mostly(done: list[tuple[Choice, float]]) -> Option:
    return Counter(choice.option for choice, _ in done).most_common(1)[0][0]


def test_the_ladder_gives_up_steps_then_frames_then_candidates() -> None:
    assert ladder(4, 16, 2, chunk=8) == [(4, 16, 2), (2, 16, 2), (1, 16, 2), (1, 8, 2), (1, 8, 1)]
    assert ladder(1, 5, chunk=8) == [(1, 5, 1)]
    assert ladder(1, 20, chunk=8) == [(1, 20, 1), (1, 16, 1), (1, 8, 1)]


@pytest.mark.parametrize(
    ("budget_s", "best"),
    # without scatter the best that fit take 0.07, 0.22, 0.49 and 0.73 s
    [(0.1, (1, 8)), (0.3, (1, 24)), (0.7, (2, 32)), (1.0, (4, 32))],
)
def test_it_finds_the_best_option_that_keeps_to_the_budget(budget_s: float, best: tuple[int, int]) -> None:
    scheduler = DeadlineScheduler(OPTIONS, budget_s, chunk=CHUNK)
    drive(scheduler, machine(), 100)
    later = drive(scheduler, machine(), 400)
    assert mostly(later)[:2] == best
    assert missed(later, budget_s) <= 0.08
    assert scheduler.runs == 500 == sum(scheduler.chosen.values())
    assert scheduler.miss_share == missed(later[-100:], budget_s)


def test_the_quantile_is_kept_where_it_matters() -> None:
    """A budget near an option's own time: the share of predictions above what was foretold is the one asked for."""
    for quantile in (0.8, 0.95):
        scheduler = DeadlineScheduler([(1, 8)], 1.0, quantile, chunk=CHUNK)
        took_s, above = machine(scatter=0.3), 0
        for run in range(2000):
            choice = scheduler.choose()
            seconds = took_s(choice.option, run)
            above += choice.expected_s is not None and seconds > choice.expected_s
            scheduler.record(choice, seconds)
        assert above / 2000 == pytest.approx(1 - quantile, abs=0.02)


def test_it_steps_down_under_load_and_up_again() -> None:
    busy = range(200, 400)
    scheduler = DeadlineScheduler(OPTIONS, 0.6, chunk=CHUNK)
    done = drive(scheduler, machine(load=lambda run: 2.5 if run in busy else 1.0), 600)
    before, during, after = (mostly(done[first : first + 150]) for first in (50, 250, 450))
    assert OPTIONS.index(during) > OPTIONS.index(before) == OPTIONS.index(after)
    assert missed(done[220:400], 0.6) <= 0.1
    assert missed(done[200:220], 0.6) <= 0.4  # that long it takes to notice


def test_one_hiccup_is_not_taken_for_load() -> None:
    scheduler = DeadlineScheduler(OPTIONS, 0.5, chunk=CHUNK)
    done = drive(scheduler, machine(load=lambda run: 40.0 if run == 100 else 1.0), 140)
    assert done[100][1] > 0.5
    assert mostly(done[115:]) == mostly(done[60:100])


def test_an_option_that_never_ran_is_judged_by_those_that_did() -> None:
    took_s = machine(scatter=0.0)
    scheduler = DeadlineScheduler(OPTIONS, 10.0, chunk=CHUNK)
    assert scheduler.expected_s((8, 32)) is None
    assert scheduler.choose() == Choice(Option(1, 8), None, "unmeasured")
    for option in (Option(1, 8), Option(4, 8), Option(1, 24)) * 40:
        scheduler.record(option, took_s(option, 0))
    expected = scheduler.expected_s((8, 32))
    assert expected is not None
    assert expected == pytest.approx(took_s(Option(8, 32), 0), rel=0.35)


def test_what_was_too_dear_is_tried_again_once_in_a_while() -> None:
    scheduler = DeadlineScheduler([(4, 8), (1, 8)], 0.2, chunk=CHUNK)
    done = drive(scheduler, machine(scatter=0.0, load=lambda run: 1.25 if run < 700 else 1.0), 700)
    probes = [run for run, (choice, _) in enumerate(done) if choice.reason == "probe"]
    assert 1 <= len(probes) <= 3 and mostly(done) == (1, 8, 1)


def test_a_budget_below_everything_takes_the_quickest_and_says_so() -> None:
    scheduler = DeadlineScheduler(OPTIONS, 0.01, chunk=CHUNK)
    done = drive(scheduler, machine(), 50)
    assert {choice.reason for choice, _ in done[1:]} == {"over budget"}
    assert mostly(done) == (1, 8, 1) and scheduler.misses == 50 and scheduler.miss_share == 1.0
    scheduler.budget_s = 5.0
    assert mostly(drive(scheduler, machine(), 100)[20:]) == OPTIONS[0]


def test_memory_that_runs_out_steps_down_and_is_tried_again_less_and_less_often() -> None:
    scheduler = DeadlineScheduler(ladder(1, 16, 4, chunk=CHUNK), 100.0, chunk=CHUNK, retry_after=10)
    scheduler.record(Option(1, 8, 2), 0.1)
    failed_at = []
    for run in range(100):
        choice = scheduler.choose()
        if choice.candidates == 4:
            failed_at.append(run)
            smaller = scheduler.out_of_memory(choice)
            assert smaller is not None and smaller.candidates <= 4 and smaller != choice.option
            choice = Choice(smaller, None, "fits")
            if choice.candidates == 4:  # the shorter horizon does not suffice either
                smaller = scheduler.out_of_memory(choice)
                assert smaller == (1, 8, 2)
        else:
            assert choice.option == (1, 8, 2)
            scheduler.record(choice, 0.1)
    gaps = np.diff(failed_at)
    assert 3 <= len(failed_at) <= 6 and all(later > earlier for earlier, later in pairwise(gaps))
    assert "times" in scheduler.figures()["out of memory"]


def test_memory_that_comes_back_is_used_again() -> None:
    scheduler = DeadlineScheduler([(1, 8, 2), (1, 8, 1)], 100.0, chunk=CHUNK, retry_after=5)
    first = scheduler.choose()
    scheduler.record(first, 0.1)
    assert scheduler.choose().candidates == 2
    assert scheduler.out_of_memory(Option(1, 8, 2)) == (1, 8, 1)
    done = drive(scheduler, machine(), 20)
    assert [choice.candidates for choice, _ in done] == [1] * 4 + [2] * 16


def test_where_nothing_is_smaller_it_says_so_and_goes_on() -> None:
    scheduler = DeadlineScheduler([(4, 8), (1, 8)], 1.0, chunk=CHUNK)
    assert scheduler.out_of_memory(scheduler.choose()) is None
    choice = scheduler.choose()
    assert (choice.reason, choice.horizon, choice.candidates) == ("out of memory", 8, 1)


def test_figures_are_in_words() -> None:
    scheduler = DeadlineScheduler(OPTIONS, 0.25, chunk=CHUNK)
    assert scheduler.figures()["budget"] == "250 ms" and "choice" not in scheduler.figures()
    drive(scheduler, machine(), 30)
    figures = scheduler.figures()
    assert figures["choice"].endswith("frames, 1 candidates") and figures["expected"].endswith("95 % of cases")
    assert figures["missed"].endswith("of the last 30)")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], 1.0), "at least one"),
        (([(0, 8)], 1.0), "1 or more"),
        (([(1, 8)], 0.0), "seconds above 0"),
        (([(1, 8)], math.nan), "seconds above 0"),
        (([(1, 8)], 1.0, 1.0), "below 1"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DeadlineScheduler(*arguments)
    with pytest.raises(ConfigError, match="chunk is 0"):
        DeadlineScheduler([(1, 8)], 1.0, chunk=0)
    with pytest.raises(ValueError, match="expected seconds"):
        DeadlineScheduler([(1, 8)], 1.0).record(Option(1, 8), math.nan)

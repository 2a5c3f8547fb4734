"""Given a budget in seconds: which number of denoising steps, horizon and candidates to ask for next.

Learns from how long earlier predictions took, in three parts that are multiplied: the *work* of an option (an amount
at all, one for every chunk and candidate, one for every denoising step of those; slow to change), the *load* of the
machine (fast), and the *spread*, so that a given share of predictions stays below what was foretold. So an option that
never ran is judged by those that did, and load that was met with one option counts for all.

The spread is a quantile followed online, by the sign of each error (the quantile tracker of Angelopoulos et al., arXiv
2307.16895): no distribution is assumed. Knows no clock, no model and no device: its user measures, and says where
memory ran out. Deterministic; one thread records and chooses, others may read the counts.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ConfigError

_PRIOR_SHARES = (0.1, 0.4, 0.5)  # of the first time measured: at all, per chunk, per denoising step
_FIRST_SPREAD = math.log(1.3)  # before there is anything to tell it from
_LOAD_RATE, _WORK_RATE, _OWN_RATE, _OWN_KEPT = 0.3, 0.1, 0.1, 0.99  # shares of an error that is learned from, a record
_ERROR_LIMIT = math.log(4.0)  # of what is learned from one record: a hiccup of seconds is not the load
_HEADROOM = 0.9  # share of the budget that a better option than the last must fit into: no flicker between two
_PROBE_EVERY, _PROBE_STALE, _PROBE_LIMIT = 100, 500, 1.5  # choices, records, times the budget
_RECENT = 100  # records in ``miss_share``
_LONGEST_WAIT = 4096  # choices until memory that ran out is tried again


class Option(NamedTuple):
    """One way to predict: ``horizon`` in frames, ``candidates`` rolled out together."""

    num_denoising_steps: int
    horizon: int
    candidates: int = 1


Reason = Literal["fits", "unmeasured", "probe", "over budget", "out of memory"]


@dataclass(frozen=True)
class Choice:
    """What to do next. ``expected_s``: so long it takes at the quantile asked for; None before the first record.

    ``reason``: "fits"; "unmeasured": the cheapest, to begin with; "probe": a better one is tried once in a while, in
    case it has become cheap enough; "over budget": none fits, it is the quickest; "out of memory": the smallest, though
    it failed before.
    """

    option: Option
    expected_s: float | None
    reason: Reason

    @property
    def num_denoising_steps(self) -> int:
        """See :class:`Option`."""
        return self.option.num_denoising_steps

    @property
    def horizon(self) -> int:
        """See :class:`Option`."""
        return self.option.horizon

    @property
    def candidates(self) -> int:
        """See :class:`Option`."""
        return self.option.candidates


def ladder(num_denoising_steps: int, horizon: int, candidates: int = 1, *, chunk: int = 1) -> list[Option]:
    """Options from the best down: denoising steps are halved first, then the horizon is cut by whole chunks of
    ``chunk`` frames, and at last candidates are halved, down to one of each.

    Raises:
        ConfigError: a number below 1.
    """
    _check((Option(num_denoising_steps, horizon, candidates),), chunk)
    found = [Option(num_denoising_steps, horizon, candidates)]
    while (last := found[-1]) != (1, min(chunk, horizon), 1):
        if last.num_denoising_steps > 1:
            found.append(last._replace(num_denoising_steps=last.num_denoising_steps // 2))
        elif last.horizon > chunk:
            found.append(last._replace(horizon=chunk * ((last.horizon - 1) // chunk)))
        else:
            found.append(last._replace(candidates=last.candidates // 2))
    return found


class DeadlineScheduler:
    """Chooses the best option that is expected to end within the budget.

    Args:
        options: (num_denoising_steps, horizon[, candidates]), the best first.
        budget_s: what a prediction may take; may be changed at any time.
        quantile: share of predictions that are to keep to the budget.
        chunk: frames that the model predicts at once (``WorldModel.horizon``; 1 for causal models).
        retry_after: choices until an option that ran out of memory is tried again; doubled each time that fails.

    Raises:
        ConfigError: no options, a number below 1, or a budget or quantile that is none.
    """

    def __init__(
        self,
        options: Iterable[Sequence[int]],
        budget_s: float,
        quantile: float = 0.95,
        *,
        chunk: int = 1,
        retry_after: int = 64,
    ) -> None:
        self.options = tuple(dict.fromkeys(Option(*option) for option in options))
        _check(self.options, chunk)
        if not 0.5 <= quantile < 1:
            raise ConfigError(f"quantile is {quantile}; expected 0.5 or more and below 1, such as 0.95")
        self.budget_s = budget_s
        self.quantile = quantile
        self.misses = 0
        self.runs = 0
        self.times_out_of_memory = 0
        self.chosen: Counter[Option] = Counter()
        self._chunk, self._retry_after = chunk, retry_after
        self._rates: NDArray[np.float64] | None = None  # log seconds of each feature
        self._own = dict.fromkeys(self.options, 0.0)  # log, what the features do not explain
        self._load, self._spread, self._scatter = 0.0, _FIRST_SPREAD, 0.1  # log
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._last: Option | None = None
        self._choices, self._probed_at = 0, 0
        self._run_at: dict[Option, int] = {}
        self._blocked: dict[Option, int] = {}  # until which choice
        self._waits: dict[Option, int] = {}

    @property
    def budget_s(self) -> float:
        """What a prediction may take."""
        return self._budget_s

    @budget_s.setter
    def budget_s(self, value: float) -> None:
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"budget_s is {value}; expected seconds above 0")
        self._budget_s = value

    @property
    def miss_share(self) -> float:
        """Of the last hundred records, how many took longer than the budget, 0..1."""
        recent = list(self._recent)
        return sum(recent) / len(recent) if recent else 0.0

    def expected_s(self, option: Sequence[int]) -> float | None:
        """How long this option takes at the quantile asked for; None before the first record."""
        return self._expected(Option(*option), self._spread)

    def choose(self) -> Choice:
        """The option to take next."""
        self._choices += 1
        choice = self._choose()
        self._last = choice.option
        self.chosen[choice.option] += 1
        return choice

    def record(self, choice: Choice | Option, took_s: float) -> bool:
        """So long it took; whether that was within the budget. An option may be recorded without being chosen.

        Raises:
            ValueError: ``took_s`` is no time.
        """
        if not (math.isfinite(took_s) and took_s >= 0):
            raise ValueError(f"took_s is {took_s}; expected seconds")
        option = choice.option if isinstance(choice, Choice) else choice
        missed = took_s > self.budget_s
        self.runs += 1
        self.misses += missed
        self._recent.append(missed)
        self._run_at[option] = self.runs
        if option not in self._blocked:
            self._waits.pop(option, None)
        self._learn(option, math.log(max(took_s, 1e-6)))
        return not missed

    def out_of_memory(self, choice: Choice | Option) -> Option | None:
        """Memory did not suffice for this: nothing as large is chosen for a while.

        Returns the best of the smaller options, to go on with at once, or None where there is none. What counts is the
        horizon and the candidates; denoising steps follow each other in the same memory.
        """
        option = choice.option if isinstance(choice, Choice) else choice
        self.times_out_of_memory += 1
        wait = self._waits.get(option, self._retry_after)
        self._waits[option] = min(2 * wait, _LONGEST_WAIT)
        self._blocked[option] = self._choices + wait
        return next(iter(self._allowed()), None)

    def figures(self) -> dict[str, str]:
        """For a diagnostics status: what was chosen last, what is expected, what was missed."""
        found = {"budget": f"{1e3 * self.budget_s:.0f} ms", "runs": str(self.runs)}
        if self._last is not None:
            steps, horizon, candidates = self._last
            found["choice"] = f"{steps} denoising steps, {horizon} frames, {candidates} candidates"
            if (expected := self.expected_s(self._last)) is not None:
                found["expected"] = f"{1e3 * expected:.0f} ms in {100 * self.quantile:g} % of cases"
        found["missed"] = f"{self.misses} ({100 * self.miss_share:.0f} % of the last {len(self._recent)})"
        if self.times_out_of_memory:
            found["out of memory"] = f"{self.times_out_of_memory} times; {len(self._blocked)} sizes wait to be retried"
        return found

    # ---- choosing -----------------------------------------------------------------------------------------------

    def _choose(self) -> Choice:
        allowed = self._allowed()
        if not allowed:
            smallest = min(self.options, key=lambda option: (option.candidates, option.horizon))
            return Choice(smallest, self._expected(smallest, self._spread), "out of memory")
        expected = [self._expected(option, self._spread) for option in allowed]
        known = [value for value in expected if value is not None]
        if not known:
            return Choice(allowed[-1], None, "unmeasured")
        before = self.options.index(self._last) if self._last in self.options else 0
        for rank, (option, seconds) in enumerate(zip(allowed, known, strict=True)):
            better = self.options.index(option) < before
            if seconds <= self.budget_s * (_HEADROOM if better else 1.0):
                if rank and (probe := self._probe(allowed[rank - 1])) is not None:
                    return probe
                return Choice(option, seconds, "fits")
        quickest = int(np.argmin(known))
        return Choice(allowed[quickest], known[quickest], "over budget")

    def _probe(self, option: Option) -> Choice | None:
        """``option`` once in a while, where nothing is known of it or that is long ago, and it may well fit."""
        middle, ran = self._expected(option, 0.0), self._run_at.get(option)
        if (
            self._choices - self._probed_at < _PROBE_EVERY
            or (ran is not None and self.runs - ran < _PROBE_STALE)
            or middle is None
            or middle > _PROBE_LIMIT * self.budget_s
        ):
            return None
        self._probed_at = self._choices
        return Choice(option, self._expected(option, self._spread), "probe")

    def _allowed(self) -> list[Option]:
        self._blocked = {option: until for option, until in self._blocked.items() if until > self._choices}
        return [
            option
            for option in self.options
            if not any(
                option.candidates >= failed.candidates and option.horizon >= failed.horizon for failed in self._blocked
            )
        ]

    # ---- learning -----------------------------------------------------------------------------------------------

    def _features(self, option: Option) -> NDArray[np.float64]:
        chunks = option.candidates * math.ceil(option.horizon / self._chunk)
        return np.array([1.0, chunks, chunks * option.num_denoising_steps])

    def _expected(self, option: Option, spread: float) -> float | None:
        if self._rates is None:
            return None
        work = float(np.exp(self._rates) @ self._features(option))
        return work * math.exp(self._own.get(option, 0.0) + self._load + spread)

    def _learn(self, option: Option, log_s: float) -> None:
        features = self._features(option)
        middle = self._expected(option, 0.0)
        if self._rates is None or middle is None:
            self._rates = log_s + np.log(_PRIOR_SHARES) - np.log(features)
            return
        error = float(np.clip(log_s - math.log(middle), -_ERROR_LIMIT, _ERROR_LIMIT))
        # The step of the quantile tracker is a multiple of the usual error, so that it is as good at any scatter.
        self._spread = max(0.0, self._spread + self._scatter * ((error > self._spread) - (1.0 - self.quantile)))
        self._scatter = max(0.01, 0.95 * self._scatter + 0.05 * abs(error))
        shares = np.exp(self._rates) * features
        shares /= shares.sum()
        self._rates = self._rates + _WORK_RATE * error * shares / float(
            shares @ shares
        )  # normalised least mean squares
        self._own = {key: _OWN_KEPT * value for key, value in self._own.items()}
        self._own[option] = self._own.get(option, 0.0) + _OWN_RATE * error
        self._load += _LOAD_RATE * error


def _check(options: Sequence[Option], chunk: int) -> None:
    if not options:
        raise ConfigError("no options to choose from; give at least one (num_denoising_steps, horizon, candidates)")
    for option in options:
        if min(option) < 1:
            raise ConfigError(f"option {tuple(option)}: expected 1 or more denoising steps, frames and candidates")
    if chunk < 1:
        raise ConfigError(f"chunk is {chunk}; expected 1 frame or more")

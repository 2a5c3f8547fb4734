"""How many candidates to predict at once, from how long that took so far and how much memory there is.

Knows no model.
"""

from __future__ import annotations

from egowm_core.deadline import Choice, DeadlineScheduler, Option, ladder

_NO_BUDGET_S = 1e6


class Pace:
    """Chooses the batch of each turn. Without a budget it is ``batch``, as long as memory suffices.

    Args:
        batch: the most candidates at once.
        budget_s: what a turn may take; 0 for no budget.
        num_denoising_steps, frames: of a turn (one chunk, or one frame of a causal model).
    """

    def __init__(self, *, batch: int, budget_s: float, num_denoising_steps: int, frames: int) -> None:
        self.key = (batch, budget_s, num_denoising_steps, frames)
        self._option = Option(num_denoising_steps, frames, batch)
        self._timed = bool(budget_s)
        sizes = ladder(1, frames, batch, chunk=frames)
        options = [option._replace(num_denoising_steps=num_denoising_steps) for option in sizes]
        self.scheduler = DeadlineScheduler(options, budget_s or _NO_BUDGET_S, chunk=frames)
        self._choice: Choice | Option = self._option

    def choose(self) -> int:
        """The batch of the turns to come, until it is asked again."""
        self._choice = self.scheduler.choose()
        if not self._timed and self._choice.reason == "unmeasured":
            self._choice = self._option  # nothing to be careful about
        return self._choice.candidates

    def record(self, batch: int, took_s: float) -> None:
        """A turn with ``batch`` candidates took so long."""
        self.scheduler.record(self._option._replace(candidates=batch), took_s)

    def out_of_memory(self) -> int:
        """Memory didn't suffice for the last choice: the batch to go on with, 0 where there is no smaller one."""
        option = self.scheduler.out_of_memory(self._choice)
        if option is None:
            return 0
        self._choice = option
        return option.candidates

    def figures(self) -> dict[str, str]:
        """For the diagnostics."""
        found = self.scheduler.figures()
        return found if self._timed else {key: found[key] for key in ("choice", "out of memory") if key in found}

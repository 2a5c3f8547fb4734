"""A verifier: does the last picture show that the task is done? Learnt from the simulator's truth in other rooms.

It sees what a person would who watches a model's prediction: a picture and the goal, no pose. How far apart they are
says a distance between pictures (``egowm_core.planning.cost``), plain or as a share of what it was at the start;
which, and from where on it counts as done, is chosen on predicted pictures whose true poses are known. Knows no policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import DataError
from egowm_core.planning.cost import goal_cost
from egowm_core.types import ImageArray
from egowm_sim.drift_figures import auroc

KINDS = ("structure", "mse")
Costs = Mapping[str, float]


@dataclass(frozen=True)
class Verifier:
    """Done where the distance of ``kind``, ``relative`` to that of the start or not, is at most ``threshold``.

    ``auroc`` and ``balanced_accuracy`` are those of the pictures it was learnt from, ``done`` and ``not_done`` how many
    there were.
    """

    kind: str
    relative: bool
    threshold: float
    auroc: float
    balanced_accuracy: float
    done: int
    not_done: int

    def __call__(self, costs: Costs, start: Costs) -> bool:
        """Whether a picture with these ``costs`` by kind shows a task done that began with ``start``."""
        return value_of(costs, start, self.kind, relative=self.relative) <= self.threshold

    def record(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def picture_costs(images: ImageArray, goal: ImageArray) -> dict[str, list[float]]:
    """The distance of every picture of ``images`` (T,H,W,3) from the goal, by kind."""
    return {kind: [float(v) for v in goal_cost(goal, kind).over_time(images[None])[0]] for kind in KINDS}


def value_of(costs: Costs, start: Costs, kind: str, *, relative: bool) -> float:
    """What is compared with a threshold."""
    return costs[kind] / max(start[kind], 1e-9) if relative else costs[kind]


def learn_verifier(examples: Sequence[tuple[Costs, Costs, bool]]) -> Verifier:
    """The verifier that tells done from not done best (by AUROC), at the threshold of the best balanced accuracy.

    ``examples``: a picture's costs, those of its task's start, and whether the simulator says that it was done.

    Raises:
        DataError: all of them were done, or none.
    """
    truth = np.array([done for _, _, done in examples], bool)
    if truth.all() or not truth.any():
        raise DataError(
            f"{int(truth.sum())} of {len(truth)} examples for the verifier were done; give more rooms to learn from"
        )
    found = []
    for kind in KINDS:
        for relative in (False, True):
            values = np.array([value_of(costs, start, kind, relative=relative) for costs, start, _ in examples])
            threshold, accuracy = _threshold(values, truth)
            area = auroc((-values[truth]).tolist(), (-values[~truth]).tolist())
            done, others = int(truth.sum()), int((~truth).sum())
            found.append(Verifier(kind, relative, threshold, float(area), accuracy, done, others))
    return max(found, key=lambda verifier: verifier.auroc)


def _threshold(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Where the mean of the shares recognised among done and not done is highest, and that mean."""
    order = np.argsort(values, kind="stable")
    ordered, done = values[order], truth[order]
    right = np.cumsum(done) / done.sum()
    wrong = np.cumsum(~done) / (~done).sum()
    accuracy = (right + 1 - wrong) / 2
    last_of_equals = np.append(ordered[1:] > ordered[:-1], True)
    best = int(np.argmax(np.where(last_of_equals, accuracy, -math.inf)))
    following = ordered[best + 1] if best + 1 < len(ordered) else ordered[best]
    return float((ordered[best] + following) / 2), float(accuracy[best])

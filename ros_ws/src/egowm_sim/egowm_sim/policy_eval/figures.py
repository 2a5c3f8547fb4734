"""What an evaluation inside the model is worth: success rates beside the simulator's, and how well the two agree.

Rates have Wilson intervals (scipy). Agreement is of ranks (Kendall, Spearman), of rates (Pearson) and of single
episodes; MMRV, the mean over policies of the largest true difference that the model orders wrongly, is of Li et al.
(SIMPLER, arXiv 2405.05941). Intervals of agreement are by resampling rooms, since the tasks of a room depend on each
other. Knows records (``episodes``); knows no simulation and no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egowm_sim.policy_eval.tasks import CONDITIONS
from egowm_sim.policy_eval.verifier import Verifier

RESAMPLES, LEVEL = 2000, 0.95
_BOUNDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
Rates = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """(tasks,policies) bool of the true outcome and the model's, and of the verifier on the simulator's last picture.

    ``rooms`` and ``conditions`` (tasks,) say where each task was; ``touched`` (tasks,policies) whether anything was.
    """

    policies: tuple[str, ...]
    simulator: NDArray[np.bool_]
    model: NDArray[np.bool_]
    verified: NDArray[np.bool_]
    touched: NDArray[np.bool_]
    distance_m: Rates
    angle_deg: Rates
    rooms: NDArray[np.int64]
    conditions: NDArray[np.str_]


def examples(records: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, float], dict[str, float], bool]]:
    """What a verifier learns from: costs, costs of the task's start, and whether it was done, of all learn rooms."""
    return [
        (example["costs"], task["start"], bool(example["done"]))
        for record in records
        for task in record["tasks"]
        for found in task["model"].values()
        for example in found["examples"]
    ]


def verdicts(records: Sequence[Mapping[str, Any]], verifier: Verifier, policies: Sequence[str]) -> Verdicts:
    """The outcomes of all tasks of the judged rooms."""
    tasks = [(record["seed"], task) for record in records for task in record["tasks"]]

    def of(field: str, kind: type) -> NDArray[Any]:
        return np.array([[task["simulator"][name][field] for name in policies] for _, task in tasks], kind)

    def verified(world: str) -> NDArray[np.bool_]:
        return np.array(
            [[verifier(task[world][name]["costs"], task["start"]) for name in policies] for _, task in tasks], bool
        )

    return Verdicts(
        tuple(policies),
        of("success", bool),
        verified("model"),
        verified("simulator"),
        of("touched", bool),
        of("distance_m", float),
        of("angle_deg", float),
        np.array([seed for seed, _ in tasks], np.int64),
        np.array([task["condition"] for _, task in tasks]),
    )


def all_figures(found: Verdicts, verifier: Verifier, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Everything that is told, see the module."""
    rows = {
        name: {
            "simulator": _rate(found.simulator[:, i]),
            "model": _rate(found.model[:, i]),
            "verifier_on_simulator": _rate(found.verified[:, i]),
            "same_verdict": round(float((found.simulator[:, i] == found.model[:, i]).mean()), 4),
            "touched": round(float(found.touched[:, i].mean()), 4),
            "median_distance_m": round(float(np.median(found.distance_m[:, i])), 3),
            "median_angle_deg": round(float(np.median(found.angle_deg[:, i])), 1),
        }
        for i, name in enumerate(found.policies)
    }
    draws = _drawn_tasks(found.rooms, resamples, seed)
    worlds = (found.simulator, found.model, found.simulator == found.model, found.simulator == found.verified)
    true, judged, same, recognised = (draws @ outcome / draws.sum(axis=1, keepdims=True) for outcome in worlds)
    cells = _cell_rates(found, draws)
    agreement = {
        "kendall": kendall(true, judged),
        "spearman": spearman(true, judged),
        "pearson": pearson(true, judged),
        "mmrv": mmrv(true, judged),
        "mean_difference": np.abs(true - judged).mean(axis=1),
        "cells_pearson": pearson(*cells),
        "cells_spearman": spearman(*cells),
        "episodes_phi": _phi(found, draws),
        "same_verdict": same.mean(axis=1),
        "verifier_on_simulator": recognised.mean(axis=1),
    }
    return {
        "tasks": len(found.rooms),
        "rooms": len(np.unique(found.rooms)),
        "rows": rows,
        "order": {
            world: [found.policies[i] for i in np.argsort(-outcome.mean(axis=0), kind="stable")]
            for world, outcome in (("simulator", found.simulator), ("model", found.model))
        },
        "pairs": _pairs(found.policies, true, judged),
        "agreement": {name: _interval(values) for name, values in agreement.items()},
        "cells": _cells(found),
        "verifier": verifier.record(),
    }


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a rate; (NaN, NaN) of no trials."""
    from scipy.stats import binomtest

    if trials == 0:
        return math.nan, math.nan
    interval = binomtest(successes, trials).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def pearson(first: Rates, second: Rates) -> Rates:
    """Pearson's r (R,) of each row of (R,n); NaN where one doesn't vary."""
    first, second = (each - each.mean(axis=1, keepdims=True) for each in (first, second))
    return _share((first * second).sum(axis=1), (first**2).sum(axis=1), (second**2).sum(axis=1))


def spearman(first: Rates, second: Rates) -> Rates:
    """Spearman's rho (R,) of each row of (R,n): Pearson's r of ranks, ties sharing theirs."""
    from scipy.stats import rankdata

    return pearson(rankdata(first, axis=1), rankdata(second, axis=1))


def kendall(first: Rates, second: Rates) -> Rates:
    """Kendall's tau-b (R,) of each row of (R,n)."""
    orders = [np.sign(each[:, :, None] - each[:, None]).reshape(len(each), -1) for each in (first, second)]
    return pearson(*orders)  # signs of all ordered pairs: their mean is 0


def mmrv(true: Rates, judged: Rates) -> Rates:
    """Mean maximum rank violation (R,) of each row of (R,n): over policies, the mean of the largest true difference to
    a policy that is not judged to lie on the same side."""
    apart = true[:, :, None] - true[:, None]
    wrong = apart * (judged[:, :, None] - judged[:, None]) <= 0
    return np.asarray(np.where(wrong, np.abs(apart), 0.0).max(axis=2).mean(axis=1))


def table(figures: Mapping[str, Any]) -> str:
    """Markdown: a line a policy, and how well the two worlds agree."""
    lines = ["| policy | simulator | model | same verdict | median error |", "| --- | --- | --- | --- | --- |"]
    for name, row in figures["rows"].items():
        rates = [f"{r['rate']:.0%} ({r['low']:.0%} to {r['high']:.0%})" for r in (row["simulator"], row["model"])]
        error = f"{row['median_distance_m']:.2f} m, {row['median_angle_deg']:.0f} deg"
        lines.append(f"| {name} | {rates[0]} | {rates[1]} | {row['same_verdict']:.0%} | {error} |")
    agreement, pairs = figures["agreement"], figures["pairs"]

    def told(name: str) -> str:
        item = agreement[name]
        return f"{item['value']:.2f} ({item['low']:.2f} to {item['high']:.2f})"

    return "\n".join([
        *lines,
        "",
        f"{figures['tasks']} tasks in {figures['rooms']} rooms. Order in the simulator: "
        f"{', '.join(figures['order']['simulator'])}; in the model: {', '.join(figures['order']['model'])}.",
        f"Policies: Kendall {told('kendall')}, Spearman {told('spearman')}, Pearson {told('pearson')}, "
        f"MMRV {told('mmrv')}; {pairs['same_order']} of {pairs['apart']} pairs that the simulator tells apart are "
        "ordered alike.",
        f"Policies x conditions: Pearson {told('cells_pearson')}, Spearman {told('cells_spearman')}. "
        f"Single episodes: {told('same_verdict')} with the same verdict, phi {told('episodes_phi')}.",
    ])  # fmt: skip


def _rate(outcomes: NDArray[np.bool_]) -> dict[str, float]:
    successes, trials = int(outcomes.sum()), len(outcomes)
    low, high = wilson(successes, trials)
    return {"rate": round(successes / trials, 4), "low": round(low, 4), "high": round(high, 4), "n": trials}


def _drawn_tasks(rooms: NDArray[np.int64], resamples: int, seed: int) -> Rates:
    """How often each task counts (1+R,tasks): once in the first row, then as often as its room was drawn."""
    _, of_room = np.unique(rooms, return_inverse=True)
    count = int(of_room.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return np.concatenate([np.ones((1, len(rooms))), drawn[:, of_room]]).astype(np.float64)


def _cell_rates(found: Verdicts, draws: Rates) -> tuple[Rates, Rates]:
    """Rates (1+R,cells) by condition and policy; a condition that wasn't drawn has the rate over all that were."""
    parts: list[tuple[Rates, Rates]] = []
    for condition in np.unique(found.conditions):
        weights = draws * (found.conditions == condition)
        weights = np.where(weights.any(axis=1, keepdims=True), weights, draws)
        total = weights.sum(axis=1, keepdims=True)
        parts.append((weights @ found.simulator / total, weights @ found.model / total))
    first, second = zip(*parts, strict=True)
    return np.concatenate(first, axis=1), np.concatenate(second, axis=1)


def _phi(found: Verdicts, draws: Rates) -> Rates:
    """The correlation (1+R,) of single verdicts over all episodes."""
    total = draws.sum(axis=1) * len(found.policies)
    true, judged, both = (
        (draws @ outcome).sum(axis=1) / total
        for outcome in (found.simulator, found.model, found.simulator & found.model)
    )
    return _share(both - true * judged, true * (1 - true), judged * (1 - judged))


def _cells(found: Verdicts) -> list[dict[str, Any]]:
    cells = []
    for condition in CONDITIONS:
        at = np.flatnonzero(found.conditions == condition)
        for i, name in enumerate(found.policies):
            if len(at):
                rates = {
                    world: round(float(getattr(found, world)[at, i].mean()), 4) for world in ("simulator", "model")
                }
                cells.append({"condition": condition, "policy": name, "n": len(at), **rates})
    return cells


def _pairs(policies: Sequence[str], true: Rates, judged: Rates) -> dict[str, int]:
    """Pairs of policies that the simulator tells apart (0 outside of the difference's interval), and the model."""
    apart = same = 0
    for i, j in combinations(range(len(policies)), 2):
        low, high = np.quantile(true[1:, i] - true[1:, j], _BOUNDS)
        if low > 0 or high < 0:
            apart += 1
            same += bool((true[0, i] - true[0, j]) * (judged[0, i] - judged[0, j]) > 0)
    return {"all": math.comb(len(policies), 2), "apart": apart, "same_order": same}


def _share(both: Rates, first: Rates, second: Rates) -> Rates:
    """``both`` over the root of ``first`` times ``second``, NaN where that is 0."""
    scale = np.sqrt(first * second)
    return np.asarray(np.where(scale > 1e-12, both / np.maximum(scale, 1e-12), np.nan))


def _interval(values: Rates) -> dict[str, float]:
    """Of the first of ``values`` (1+R,), by the others; resamplings without a value don't count."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(drawn, _BOUNDS) if len(drawn) else (math.nan, math.nan)
    return {"value": round(float(values[0]), 4), "low": round(float(low), 4), "high": round(float(high), 4)}

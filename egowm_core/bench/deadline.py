"""`egowm-bench deadline`: are budgets kept while other work competes for the processor, and with which choices?

For each budget, predictions chosen by :class:`egowm_core.deadline.DeadlineScheduler` alternate with predictions that
always take the best option that fitted while nothing competed (``fixed``): both meet the same load. Knows no node.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from egowm_core.bench.load import competing_load
from egowm_core.bench.stages import RolloutInputs
from egowm_core.deadline import DeadlineScheduler, Option, ladder
from egowm_core.errors import ConfigError, EgowmError
from egowm_core.files import write_text
from egowm_core.loading import load_world_model
from egowm_core.world_model import WorldModel

Predict = Callable[[Option], float]
"""Predict so; returns the seconds it took."""

_REPEATS = 3  # of each option while nothing competes
_ABOUT = "Are budgets kept while other work competes for the processor, and with which choices?"
_EXAMPLE = (
    "example: egowm-bench deadline embedded:base_3dof --budgets-ms 100,250,500,1000 --load 2 --json deadline.json"
)


@dataclass
class Tally:
    """What came of the predictions of one kind."""

    budget_s: float
    took_s: list[float] = field(default_factory=list)
    options: Counter[Option] = field(default_factory=Counter)

    def add(self, option: Option, took_s: float) -> None:
        """One more."""
        self.options[option] += 1
        self.took_s.append(took_s)

    def row(self) -> dict[str, Any]:
        """``{metric: {key: value}}``, as other figures here; shares in percent, times in s."""
        count = len(self.took_s)
        missed = sum(took > self.budget_s for took in self.took_s)
        low, high = wilson(missed, count)
        chosen = {"/".join(map(str, option)): 100 * number / count for option, number in self.options.most_common()}
        return {
            "missed": {"percent": 100 * missed / count, "low": 100 * low, "high": 100 * high, "n": count},
            "took": {"p50": float(np.median(self.took_s)), "p99": float(np.quantile(self.took_s, 0.99))},
            "frames": {"mean": sum(option.horizon * number for option, number in self.options.items()) / count},
            "chosen": chosen,
        }


def wilson(successes: int, count: int) -> tuple[float, float]:
    """95% interval of a share (Wilson, Journal of the American Statistical Association 22, 1927)."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.959964, successes / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def predictor(model: WorldModel) -> Predict:
    """Predictions of made-up pictures, timed whole: what comes out is on the processor."""
    inputs = RolloutInputs.made_up(model, horizon=1)

    def predict(option: Option) -> float:
        actions = np.repeat(np.repeat(inputs.actions, option.horizon, axis=1), option.candidates, axis=0)
        context = np.repeat(inputs.context, option.candidates, axis=0)
        state = None if inputs.state is None else np.repeat(inputs.state, option.candidates, axis=0)
        begun = time.perf_counter()
        model.predict(context, actions, state=state, num_denoising_steps=option.num_denoising_steps)
        return time.perf_counter() - begun

    return predict


def undisturbed(predict: Predict, options: Sequence[Option]) -> dict[Option, float]:
    """Median seconds of each option while nothing else runs."""
    found = {}
    for option in tqdm(options, desc="undisturbed", file=sys.stderr):
        predict(option)
        found[option] = float(np.median([predict(option) for _ in range(_REPEATS)]))
    return found


def keep_budget(
    predict: Predict,
    options: Sequence[Option],
    budget_s: float,
    *,
    alone: dict[Option, float],
    seconds: float,
    quantile: float,
    chunk: int,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Tally]:
    """Scheduled and fixed predictions by turns for so many seconds, at least one of each.

    The scheduler knows one time, of its cheapest option while nothing competed, as a node does after its warm-up.
    """
    scheduler = DeadlineScheduler(options, budget_s, quantile, chunk=chunk)
    scheduler.record(options[-1], alone[options[-1]])
    fixed = next((option for option in options if alone[option] <= budget_s), options[-1])
    tallies = {"scheduled": Tally(budget_s), "fixed": Tally(budget_s)}
    until = clock() + seconds
    while not tallies["fixed"].took_s or clock() < until:
        choice = scheduler.choose()
        took_s = predict(choice.option)
        scheduler.record(choice, took_s)
        tallies["scheduled"].add(choice.option, took_s)
        tallies["fixed"].add(fixed, predict(fixed))
    return tallies


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="egowm-bench deadline", description=_ABOUT, epilog=_EXAMPLE)
    parser.add_argument(
        "checkpoint", nargs="?", default="embedded:base_3dof", help="directory, hub id or embedded:NAME"
    )
    parser.add_argument("--budgets-ms", type=_numbers, default=[100, 250, 500, 1000], metavar="MS,MS")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each budget (default 60)")
    parser.add_argument(
        "--load", type=int, default=os.cpu_count() or 1, help="competing processes (default: one a core)"
    )
    parser.add_argument("--num-denoising-steps", type=int, default=8, help="of the best option (default 8)")
    parser.add_argument("--horizon", type=int, default=32, help="frames of the best option (default 32)")
    parser.add_argument("--candidates", type=int, default=1, help="of the best option (default 1)")
    parser.add_argument("--quantile", type=float, default=0.95, help="share that is to keep to the budget (0.95)")
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads of the model (default 1; 0: PyTorch's choice)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the load's spells")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        if arguments.load < 0 or arguments.seconds <= 0:
            raise ConfigError(
                f"--load {arguments.load}, --seconds {arguments.seconds}: expected 0 or more, and above 0"
            )
        model = load_world_model(arguments.checkpoint, device=arguments.device)
        chunk = 1 if model.causal else model.horizon
        options = ladder(arguments.num_denoising_steps, arguments.horizon, arguments.candidates, chunk=chunk)
        predict = predictor(model)
        alone = undisturbed(predict, options)
        print(
            "| run | budget, ms | missed, % (95%) | n | p50 / p99, ms | frames | chosen: steps/frames/candidates, % |"
        )
        print(f"|{' --- |' * 7}", flush=True)
        rows: dict[str, Any] = {}
        with competing_load(arguments.load, seed=arguments.seed):
            for budget_ms in tqdm(arguments.budgets_ms, desc="budgets", file=sys.stderr):
                tallies = keep_budget(
                    predict,
                    options,
                    1e-3 * budget_ms,
                    alone=alone,
                    seconds=arguments.seconds,
                    quantile=arguments.quantile,
                    chunk=chunk,
                )
                for kind, tally in tallies.items():
                    rows[f"{kind}_{budget_ms}_ms"] = row = tally.row()
                    print(_line(kind, budget_ms, row), flush=True)
    except EgowmError as error:
        print(f"egowm-bench deadline: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        about = {name: value for name, value in vars(arguments).items() if name != "json"}
        about |= {"model": model.name, "num_threads": torch.get_num_threads(), "bf16": model.bf16}
        about["undisturbed_s"] = {"/".join(map(str, option)): seconds for option, seconds in alone.items()}
        write_text(arguments.json, json.dumps({"rows": rows, "about": about}, indent=1))
    return 0


def _line(kind: str, budget_ms: int, row: dict[str, Any]) -> str:
    missed, took = row["missed"], row["took"]
    share = f"{missed['percent']:.1f} ({missed['low']:.1f} to {missed['high']:.1f})"
    times = f"{1e3 * took['p50']:.0f} / {1e3 * took['p99']:.0f}"
    chosen = ", ".join(f"{name} {percent:.0f}" for name, percent in list(row["chosen"].items())[:4])
    return f"| {kind} | {budget_ms} | {share} | {missed['n']} | {times} | {row['frames']['mean']:.1f} | {chosen} |"


def _numbers(text: str) -> list[int]:
    try:
        values = [int(item) for item in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of milliseconds, such as 100,250")
    return values

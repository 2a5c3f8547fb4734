"""``python -m egowm_nodes.imagine.bench``: what imagining costs, beside the live stream, in the simulator.

Starts the simulated base and the world model, then: live predictions alone; goals one after another; goals broken off
at their first picture; and a hundred hostile goals at once. Every figure is measured from this process's end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from egowm_msgs.msg import ActionSequence, Rollout
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from tqdm import tqdm

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import AnswerError, EgowmError
from egowm_core.files import without_nan, write_text
from egowm_core.scs.confidence import bootstrap_mean
from egowm_core.types import FloatArray
from egowm_nodes.imagine.candidates import fan
from egowm_nodes.imagine.client import ImagineClient, Pending
from egowm_nodes.launching import node_table
from egowm_nodes.launching.processes import ProcessGroup, environment
from egowm_nodes.runtime.steady_executor import SteadyExecutor

_PATIENCE_S = 120.0
_HOSTILE = 100


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m egowm_nodes.imagine.bench",
        description="Measures ~/imagine beside the live stream, on the simulated base.",
        epilog="Example: python -m egowm_nodes.imagine.bench --json out/imagine.json (about 3 minutes on 2 cores). Exit"
        " status: 0 with figures, 1 where something failed, 2 for wrong options.",
    )
    made.add_argument("--checkpoint", default="embedded:base_3dof", metavar="PATH", help="default: %(default)s")
    made.add_argument("--candidates", type=int, default=8, metavar="N", help="default: %(default)s")
    made.add_argument("--horizon", type=int, default=8, metavar="N", help="frames (default: %(default)s)")
    made.add_argument("--batch", type=int, default=2, metavar="N", help="imagine_batch (default: %(default)s)")
    made.add_argument("--repeats", type=int, default=20, metavar="N", help="goals of each kind (default: %(default)s)")
    made.add_argument("--alone-s", type=float, default=15.0, metavar="S", help="live alone (default: %(default)g)")
    made.add_argument("--seed", type=int, default=7, help="of the simulated room and the model (default: %(default)s)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return made


class Watch:
    """Hears the live rollouts, and spins its node in a thread."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("imagine_bench", context=self.context, start_parameter_services=False)
        self._live = 0
        self.node.create_subscription(Rollout, "world_model/rollout", self._on_rollout, 20)
        self._executor = SteadyExecutor(on_error=lambda *_: None, context=self.context)
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    @property
    def live(self) -> int:
        """Live predictions so far."""
        return self._live

    def close(self) -> None:
        """End the thread and the node."""
        self._stop.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def _on_rollout(self, message: Rollout) -> None:
        self._live += message.actions.source != ActionSequence.EXECUTED

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.1)


@contextmanager
def running(args: argparse.Namespace) -> Iterator[tuple[Watch, ImagineClient]]:
    """The simulator and the world model as processes of a domain of their own. Raises EgowmError."""
    variables, _ = environment(domain_id=20 + os.getpid() % 80)
    os.environ.update(variables)
    runs = node_table.plan(
        node_table.SIM,
        {"checkpoint": args.checkpoint, "seed": args.seed, "drive": "auto"},
        without=("drift_monitor", "planner"),
    )
    with tempfile.TemporaryDirectory() as folder, ProcessGroup(Path(folder), variables) as group:
        for run in runs:
            if run.entry.name == "world_model":
                run.parameters.update(auto_start=True, imagine_batch=args.batch, imagine_horizon=256)
            group.start(run)
        watch = Watch()
        try:
            end_s = time.monotonic() + _PATIENCE_S
            while watch.live < 5:
                group.check()
                if time.monotonic() > end_s:
                    raise AnswerError(f"no live prediction within {_PATIENCE_S:.0f} s; try egowm-demo and see its logs")
                time.sleep(0.1)
            yield watch, ImagineClient("base_3dof", node=watch.node)
        finally:
            watch.close()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The figures. Raises EgowmError."""
    robot = load_embodiment("base_3dof")
    candidates = np.stack(list(fan(robot, args.horizon, args.candidates).values()))
    with running(args) as (watch, client), tqdm(total=2 * args.repeats + 2, disable=not sys.stderr.isatty()) as bar:
        rows: dict[str, Any] = {}
        began_s, live = time.monotonic(), watch.live
        time.sleep(args.alone_s)
        rows["live alone"] = {"live_hz": (watch.live - live) / (time.monotonic() - began_s)}
        bar.update()

        totals, firsts = [], []
        began_s, live = time.monotonic(), watch.live
        for number in range(args.repeats):
            asked_s = time.monotonic()
            came: list[float] = []
            client.imagine(
                candidates,
                horizon=args.horizon,
                seed=args.seed + number,
                timeout_s=_PATIENCE_S,
                on_frame=lambda _, came=came: came.append(time.monotonic()),
            )
            totals.append(time.monotonic() - asked_s)
            firsts.append((came[0] if came else float("nan")) - asked_s)
            bar.update()
        rows[f"{args.candidates} candidates x {args.horizon} frames"] = {
            "seconds": _spread(totals),
            "first_frame_s": _spread(firsts),
            "candidates_per_s": args.candidates * args.repeats / sum(totals),
            "live_hz": (watch.live - live) / (time.monotonic() - began_s),
        }
        rows["broken off at the first picture"] = {
            "seconds_to_the_answer": _spread([_break_off(client, candidates, bar.update) for _ in range(args.repeats)])
        }
        began_s, live = time.monotonic(), watch.live
        endings = _hostile(client, candidates)
        lasted_s = time.monotonic() - began_s
        time.sleep(max(0.0, 10.0 - lasted_s))  # what the server remembers goals for
        client.imagine(candidates[:1], horizon=args.horizon, timeout_s=_PATIENCE_S)
        rows[f"{_HOSTILE} hostile goals at once"] = {
            "endings": endings,
            "seconds": lasted_s,
            "served_afterwards": True,
            "live_hz": (watch.live - live) / (time.monotonic() - began_s),
        }
        bar.update()
    return {
        "rows": rows,
        "checkpoint": args.checkpoint,
        "imagine_batch": args.batch,
        "seed": args.seed,
        "cores": len(os.sched_getaffinity(0)),
    }


def _break_off(client: ImagineClient, candidates: FloatArray, step: Callable[[], Any]) -> float:
    """Seconds from cancelling a goal of many candidates, while it is worked on, to the server's word that it ended."""
    started = threading.Event()
    many = np.repeat(candidates, max(1, 64 // len(candidates)), axis=0)[:64]
    pending = client.start(many, horizon=candidates.shape[1], on_frame=lambda _: started.set())
    if not started.wait(_PATIENCE_S):
        raise AnswerError(f"no picture within {_PATIENCE_S:.0f} s; see the world model's diagnostics")
    asked_s = time.monotonic()
    pending.cancel()
    _until(pending)
    took_s = time.monotonic() - asked_s
    step()
    return took_s


def _hostile(client: ImagineClient, candidates: FloatArray) -> dict[str, int]:
    """How a hundred goals end that come at once: wild actions, no numbers, far too many, wrong pictures, good ones."""
    wild, no_number = 100 * candidates, np.full_like(candidates, np.nan)
    kinds: list[tuple[FloatArray, dict[str, Any]]] = [
        (wild, {}),
        (no_number, {}),
        (np.repeat(candidates, 200, axis=0)[:1500], {}),
        (candidates, {"horizon": 60_000}),
        (candidates, {"goal_image": np.zeros((31, 77, 3), np.uint8)}),
        (candidates[:0], {}),
        (candidates[:1], {}),
    ]
    goals = [client.start(kind, **options) for kind, options in (kinds[n % len(kinds)] for n in range(_HOSTILE))]
    _until(*goals)
    found: Counter[str] = Counter()
    for goal in goals:
        try:
            goal.result()
            found["answered"] += 1
        except AnswerError as error:
            found["rejected" if "rejected" in str(error) else "refused with a reason"] += 1
    return dict(found)


def _until(*goals: Pending) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not all(goal.done for goal in goals):
        if time.monotonic() > end_s:
            missing = sum(not goal.done for goal in goals)
            raise AnswerError(f"{missing} of {len(goals)} goals had no answer within {_PATIENCE_S:.0f} s")
        time.sleep(0.001)


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Mean with its 95 % interval, median, 95th percentile and number."""
    interval = bootstrap_mean(values)
    p50, p95 = np.percentile(values, [50, 95])
    return {
        "mean": float(np.mean(values)), "low": interval.low, "high": interval.high,
        "p50": float(p50), "p95": float(p95), "n": len(values),
    }  # fmt: skip


def tell(found: dict[str, Any]) -> None:
    """The figures, a line each."""
    for name, row in found["rows"].items():
        print(name)
        for key, value in row.items():
            print(f"  {key}: {_words(value)}")


def _words(value: Any) -> str:
    if isinstance(value, dict) and "mean" in value:
        return "{mean:.3f} [{low:.3f}, {high:.3f}], p50 {p50:.3f}, p95 {p95:.3f}, n {n}".format(**value)
    if isinstance(value, dict):
        return ", ".join(f"{count} {what}" for what, count in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; see ``--help`` for the exit status."""
    made = parser()
    args = made.parse_args(argv)
    if min(args.candidates, args.horizon, args.batch, args.repeats) < 1 or args.alone_s <= 0:
        made.error("--candidates, --horizon, --batch and --repeats must be 1 or more, and --alone-s a time")
    try:
        found = measure(args)
        if args.json is not None:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            write_text(args.json, json.dumps(without_nan(found), indent=1))
    except EgowmError as error:
        print(f"imagine.bench: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"imagine.bench: cannot write {args.json}: {error}; name another file", file=sys.stderr)
        return 1
    tell(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())

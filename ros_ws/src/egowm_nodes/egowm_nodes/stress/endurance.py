"""``cycle``, ``soak`` and ``robots``: does anything grow, and how do two robots live on one machine."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition

from egowm_nodes.launching import node_table
from egowm_nodes.stress.figures import MemoryLog, Outcome, percentiles_ms
from egowm_nodes.stress.probe import Probe
from egowm_nodes.stress.system import System, planned
from egowm_nodes.stress.terminal import Progress

MOST_GROWTH_PERCENT = 5.0
_SETTLE_CYCLES = 0.1  # of the cycles: what is made once and kept
_SAMPLE_S = 1.0
_ROUND = (
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
)


def cycle(args: argparse.Namespace, directory: Path, progress: Progress) -> Outcome:
    """Deactivate, clean up, configure and activate, ``--times``; looked at each time while unconfigured."""
    outcome = Outcome("cycle", {"mode": args.mode, "times": args.times})
    runs = planned(args.mode, checkpoint=args.checkpoint, nodes=args.nodes)
    names = args.nodes or [run.entry.name for run in runs if run.entry.lifecycle]
    log = MemoryLog()
    with System(directory, domain_id=args.domain_id) as system, Probe(domain_id=args.domain_id) as probe:
        system.start_all(runs)
        probe.wait_active([run.entry.name for run in runs if run.entry.lifecycle])
        probe.until(lambda: probe.rollouts.count and probe.drifts.count, "rollouts and drift")
        for name in names:
            refused = 0
            for number in progress.steps(args.times, f"cycle {name}"):
                for transition in _ROUND:
                    refused += not probe.change(name, transition)
                    if transition == Transition.TRANSITION_CLEANUP and number >= _SETTLE_CYCLES * args.times:
                        log.sample(name, system.processes[name].pid, time.monotonic())
                time.sleep(args.active_s)
            row: dict[str, Any] = {"cycles": args.times, "refused": refused} | log.row(name)
            outcome.rows[name] = row
            outcome.check(f"{name}: every transition succeeds", refused == 0)
            held = row["memory_growth_percent"] < MOST_GROWTH_PERCENT
            outcome.check(f"{name}: memory grows by less than {MOST_GROWTH_PERCENT:.0f} %", held)
            for what in ("threads", "files"):
                outcome.check(f"{name}: no {what} are left behind", row[f"{what}_end"] <= row[f"{what}_begin"] + 1)
        rollouts, drifts = probe.rollouts.count, probe.drifts.count
        probe.until(lambda: probe.rollouts.count > rollouts and probe.drifts.count > drifts, "rollouts and drift")
        outcome.check("after the last cycle the system predicts and judges", True)
    return outcome


def soak(args: argparse.Namespace, directory: Path, progress: Progress) -> Outcome:
    """A running system for ``--minutes``; memory at the end against memory after ``--settle-s``."""
    outcome = Outcome("soak", {"mode": args.mode, "minutes": args.minutes, "settle_s": args.settle_s})
    _live(args, directory, progress, {"": args.mode}, 60.0 * args.minutes, outcome)
    for name in (name for name, row in outcome.rows.items() if "memory_growth_percent" in row):
        growth = outcome.rows[name]["memory_growth_percent"]
        outcome.check(f"{name}: memory stays within {MOST_GROWTH_PERCENT:.0f} %", abs(growth) < MOST_GROWTH_PERCENT)
    return outcome


def robots(args: argparse.Namespace, directory: Path, progress: Progress) -> Outcome:
    """Several robots on this machine, each in a namespace of its own, for ``--seconds``."""
    spoken = dict(item.split("=", 1) for item in args.robots)
    outcome = Outcome("robots", {"robots": spoken, "seconds": args.seconds, "settle_s": args.settle_s})
    _live(args, directory, progress, spoken, args.seconds, outcome)
    for namespace in spoken:
        row = outcome.rows[namespace]
        outcome.check(f"{namespace}: predicts", row["rollouts_hz"] > 0.5)
        outcome.check(f"{namespace}: judges", row["drift_hz"] > 0.1)
    return outcome


def _live(
    args: argparse.Namespace,
    directory: Path,
    progress: Progress,
    modes: dict[str, str],
    seconds: float,
    outcome: Outcome,
) -> None:
    """Run the nodes of ``modes`` (by namespace) for a time; a row for each robot, and one for each process."""
    log = MemoryLog()
    with ExitStack() as stack:
        system = stack.enter_context(System(directory, domain_id=args.domain_id))
        probes = {}
        for namespace, mode in modes.items():
            runs = node_table.plan(mode, {})
            probe = probes[namespace] = stack.enter_context(Probe(domain_id=args.domain_id, namespace=namespace))
            system.start_all(runs, namespace=namespace)
            probe.wait_active([run.entry.name for run in runs if run.entry.lifecycle])
            probe.until(lambda probe=probe: probe.rollouts.count and probe.drifts.count, f"rollouts of {mode}")
        began_s = time.monotonic()
        for _ in progress.steps(max(1, round(seconds / _SAMPLE_S)), outcome.command):
            time.sleep(_SAMPLE_S)
            now_s = time.monotonic()
            for name, process in system.processes.items():
                if system.alive(name):
                    log.sample(name, process.pid, now_s)
        ended_s = time.monotonic()
        died = [name for name in system.processes if not system.alive(name)]
        for namespace, probe in probes.items():
            outcome.rows[namespace or "robot"] = _robot_row(probe, namespace, began_s, ended_s)
    for name in log.names():
        outcome.rows[name] = log.row(name, settle_s=args.settle_s)
    outcome.check("no node died", not died)


def _robot_row(probe: Probe, namespace: str, began_s: float, ended_s: float) -> dict[str, Any]:
    """Rates, latency from the picture's stamp to the rollout's arrival, and what was dropped."""
    wall_s = time.time() - time.monotonic()
    latencies = [
        at_s + wall_s - stamp_ns * 1e-9
        for at_s, stamp_ns, (executed, _) in list(probe.rollouts.arrivals)
        if not executed and began_s <= at_s <= ended_s
    ]
    row: dict[str, Any] = {
        "rollouts_hz": probe.rollouts.rate_hz(began_s, ended_s),
        "drift_hz": probe.drifts.rate_hz(began_s, ended_s),
    }
    row |= percentiles_ms(latencies, prefix="latency")
    prefix = f"{namespace}/" if namespace else ""
    for status, (_, _, values) in sorted(probe.diagnostics.items()):
        if status.startswith(f"{prefix}world_model:") or status.startswith(f"{prefix}drift_monitor:"):
            own = status.removeprefix(prefix).split(":")[0]
            wanted = ("replaced", "dropped", "skipped", "lost", "not judged", "images_heard", "failures")
            row |= {f"{own} {key}": value for key, value in values.items() if any(word in key for word in wanted)}
    return row

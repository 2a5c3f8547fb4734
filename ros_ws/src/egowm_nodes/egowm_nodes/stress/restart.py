"""``kill``, ``term`` and ``stall``: nodes of a running system die, end or stand still; how soon all is as before."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from egowm_nodes.runtime.process_figures import MEGABYTE
from egowm_nodes.runtime.shared_memory import SHARED_MEMORY
from egowm_nodes.stress.figures import Outcome
from egowm_nodes.stress.probe import Probe, StressError
from egowm_nodes.stress.system import System, planned
from egowm_nodes.stress.terminal import Progress

BACK_S = 5.0
SEGMENT_MB = 24.0  # shared memory that a killed node may leave until it is back
_PAUSE_S = 3.0  # between two deaths
_ENDING_S = 15.0


def kill(args: argparse.Namespace, directory: Path, progress: Progress) -> Outcome:
    """SIGKILL to each node ``--times``; seconds from the signal to the first new rollout or drift."""
    outcome = Outcome("kill", {"mode": args.mode, "times": args.times})
    before = _shared_mb()
    with _Running(args, directory) as running:
        for name in running.names:
            seconds = [running.strike(name, signal.SIGKILL) for _ in progress.steps(args.times, f"kill -9 {name}")]
            outcome.rows[name] = {"killed": len(seconds)} | _spread(seconds)
            outcome.check(f"{name}: predicting within {BACK_S:.0f} s of every kill -9", max(seconds) <= BACK_S)
        left = _shared_mb() - before
        outcome.rows["shared_memory"] = {"before_mb": before, "more_while_running_mb": left}
        most = SEGMENT_MB * (2 * len(running.names) + 2)
        outcome.check(f"killed nodes leave no heap of shared memory (less than {most:.0f} MB)", left < most)
    return outcome


def term(args: argparse.Namespace, directory: Path, progress: Progress) -> Outcome:
    """SIGTERM to the nodes in turn, ``--times`` in all; each must end with status 0."""
    outcome = Outcome("term", {"mode": args.mode, "times": args.times})
    statuses: dict[str, list[int | None]] = {}
    took: dict[str, list[float]] = {}
    with _Running(args, directory) as running:
        for number in progress.steps(args.times, "SIGTERM"):
            name = running.names[number % len(running.names)]
            status, seconds = running.terminate(name)
            statuses.setdefault(name, []).append(status)
            took.setdefault(name, []).append(seconds)
    for name, found in statuses.items():
        outcome.rows[name] = {"ended": len(found), "clean": found.count(0)} | _spread(took[name])
        outcome.check(f"{name}: every SIGTERM ends it with status 0", found.count(0) == len(found))
    return outcome


def stall(args: argparse.Namespace, directory: Path, progress: Progress) -> Outcome:
    """Each node stands still for ``--seconds``, as in a swapping or suspended computer; then all must talk again."""
    outcome = Outcome("stall", {"mode": args.mode, "times": args.times, "seconds": args.seconds})
    with _Running(args, directory) as running:
        for name in running.names:
            seconds = [running.stall(name, args.seconds) for _ in progress.steps(args.times, f"stall {name}")]
            outcome.rows[name] = {"stalled": len(seconds)} | _spread(seconds)
            outcome.check(f"{name}: rollouts and drift within {BACK_S:.0f} s after every stall", max(seconds) <= BACK_S)
    return outcome


class _Running:
    """A running system whose nodes come back."""

    def __init__(self, args: argparse.Namespace, directory: Path) -> None:
        self._runs = planned(args.mode, checkpoint=args.checkpoint, nodes=args.nodes)
        self.names = args.nodes or [run.entry.name for run in self._runs]
        self._system = System(directory, domain_id=args.domain_id, respawn=True, respawn_delay_s=args.respawn_delay_s)
        self._domain_id = args.domain_id

    def __enter__(self) -> _Running:
        self._system.__enter__()
        self._probe = Probe(domain_id=self._domain_id)  # with the variables that the system has set
        self._probe.__enter__()
        self._system.start_all(self._runs)
        self._probe.wait_active([run.entry.name for run in self._runs if run.entry.lifecycle])
        self._probe.until(lambda: self._probe.rollouts.count and self._probe.drifts.count, "rollouts and drift")
        return self

    def __exit__(self, *_: object) -> None:
        self._probe.__exit__()
        self._system.__exit__()

    def strike(self, name: str, number: int) -> float:
        """Seconds from the signal until the robot has what the node gives; infinite where it does not come back."""
        time.sleep(_PAUSE_S)
        endings = len(self._system.processes[name].endings)
        at_s, at_ns = time.monotonic(), time.time_ns()
        self._system.send(name, number)
        if self._system.wait_ending(name, endings + 1, timeout_s=_ENDING_S) is None:
            return float("inf")
        ended_s = time.monotonic()
        try:
            self._probe.until(lambda: self._given(name, ended_s, at_ns), f"{name} to be back")
        except StressError:
            return float("inf")
        return time.monotonic() - at_s

    def terminate(self, name: str) -> tuple[int | None, float]:
        """The exit status after SIGTERM, None where it does not end, and how long that took (s); then waits for it."""
        time.sleep(0.5)
        endings = len(self._system.processes[name].endings)
        at_s, at_ns = time.monotonic(), time.time_ns()
        self._system.send(name, signal.SIGTERM)
        status = self._system.wait_ending(name, endings + 1, timeout_s=_ENDING_S)
        took_s = time.monotonic() - at_s
        if status is None:
            self._system.send(name, signal.SIGKILL)
        self._probe.until(lambda: self._given(name, at_s + took_s, at_ns), f"{name} to be back")
        return status, took_s

    def stall(self, name: str, seconds: float) -> float:
        """Seconds from the end of a standstill until new pictures are predicted from and judged; infinite: never."""
        time.sleep(_PAUSE_S)
        self._system.send(name, signal.SIGSTOP)
        time.sleep(seconds)
        at_s, at_ns = time.monotonic(), time.time_ns()
        self._system.send(name, signal.SIGCONT)
        judges = [node for node in self.names if node.endswith("drift_monitor")]
        try:
            for node in ["world_model", *judges]:
                self._probe.until(lambda node=node: self._given(node, at_s, at_ns), f"{node} to go on")
        except StressError:
            return float("inf")
        return time.monotonic() - at_s

    def _given(self, name: str, since_s: float, since_ns: int) -> bool:
        """Whether a picture newer than the death was predicted from; of the monitor, whether it judged after it."""
        if name.endswith("drift_monitor"):
            return any(at_s > since_s for at_s, _, _ in list(self._probe.drifts.arrivals)[-50:])
        recent = list(self._probe.rollouts.arrivals)[-50:]
        return any(at_s > since_s and stamp_ns > since_ns and not kept[0] for at_s, stamp_ns, kept in recent)


def _spread(seconds: list[float]) -> dict[str, Any]:
    return {"p50_s": float(np.median(seconds)), "max_s": max(seconds), "each_s": [round(one, 2) for one in seconds]}


def _shared_mb() -> float:
    """What Fast DDS holds in shared memory."""
    if not SHARED_MEMORY.is_dir():
        return 0.0
    sizes = []
    for path in SHARED_MEMORY.glob("fastrtps_*"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            continue
    return sum(sizes) / MEGABYTE

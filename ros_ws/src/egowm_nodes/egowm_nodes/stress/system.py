"""Nodes as processes of a stress run: from the node table, in a domain of their own, brought back when they die.

What ends is started anew after ``respawn_delay_s``, as a launch file's ``respawn`` does; how it ended is kept. Knows
processes; knows no topic and no rclpy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from egowm_core.errors import ConfigError
from egowm_nodes.launching import node_table
from egowm_nodes.launching.processes import command, environment

_POLL_S = 0.02
_STOP_S = 10.0


@dataclass
class Process:
    """One node; ``endings`` are the exit statuses of its former lives."""

    name: str
    words: list[str]
    variables: dict[str, str]
    log: Path
    popen: subprocess.Popen[bytes]
    endings: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Of the present life."""
        return self.popen.pid


class System:
    """Starts nodes and ends them all on leaving; with ``respawn`` it brings back what dies. A context manager."""

    def __init__(self, directory: Path, *, domain_id: int, respawn: bool = False, respawn_delay_s: float = 0.0) -> None:
        self._directory = directory
        self.variables, self.remarks = environment(domain_id=domain_id)
        self.processes: dict[str, Process] = {}
        self._respawn, self._delay_s = respawn, respawn_delay_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._watcher = threading.Thread(target=self._watch, name="respawner", daemon=True)

    def __enter__(self) -> System:
        os.environ.update(self.variables)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watcher.join()
        for process in self.processes.values():
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        end_s = time.monotonic() + _STOP_S
        for process in self.processes.values():
            try:
                process.popen.wait(timeout=max(0.1, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()

    def start(
        self, run: node_table.NodeRun, *, namespace: str = "", parameters: Mapping[str, Any] | None = None
    ) -> Process:
        """Start a node, ``namespace`` without its leading slash; lifecycle nodes activate themselves."""
        name = f"{namespace}/{run.entry.name}" if namespace else run.entry.name
        folder = self._directory / name.replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        own = {"auto_start": True} if run.entry.lifecycle else {}
        settings = folder / "settings.yaml"
        values = run.parameters | own | dict(parameters or {})
        settings.write_text(yaml.safe_dump({f"/**/{run.entry.name}": {"ros__parameters": values}}), encoding="utf-8")
        words = command(run, settings)
        if namespace:
            words += ["-r", f"__ns:=/{namespace}"]
        variables = os.environ | self.variables | {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
        process = Process(name, words, variables, folder / "log", _popen(words, variables, folder / "log"))
        self.processes[name] = process
        return process

    def start_all(self, runs: Sequence[node_table.NodeRun], *, namespace: str = "") -> None:
        """Start the nodes of a mode."""
        for run in runs:
            self.start(run, namespace=namespace)

    def send(self, name: str, number: int) -> None:
        """Send a signal to a node."""
        self.processes[name].popen.send_signal(number)

    def alive(self, name: str) -> bool:
        """Whether a node runs now."""
        return self.processes[name].popen.poll() is None

    def wait_ending(self, name: str, count: int, *, timeout_s: float) -> int | None:
        """The exit status of a node's ``count``-th ending (from 1); None where it does not end in time."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            with self._lock:
                endings = self.processes[name].endings
                if len(endings) >= count:
                    return endings[count - 1]
            time.sleep(_POLL_S)
        return None

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_S):
            for process in list(self.processes.values()):
                status = process.popen.poll()
                if status is None or not self._respawn:
                    continue
                with self._lock:
                    process.endings.append(status)
                if self._stop.wait(self._delay_s):
                    return
                process.popen = _popen(process.words, process.variables, process.log)


def planned(mode: str, *, checkpoint: str = "", nodes: Sequence[str] | None = None) -> tuple[node_table.NodeRun, ...]:
    """The nodes of a mode, and those of ``nodes`` that run on request alone. Raises ConfigError for a foreign one."""
    known = [entry.name for entry in node_table.nodes(mode)]
    if strange := [name for name in nodes or () if name not in known]:
        raise ConfigError(f"--nodes {strange[0]}: not a node of {mode}; expected some of {', '.join(known)}")
    values = {"checkpoint": checkpoint} if checkpoint else {}
    asked = {argument.name: "true" for argument in node_table.arguments(mode) if argument.starts in (nodes or ())}
    return node_table.plan(mode, values | asked)


def with_parameters(run: node_table.NodeRun, **parameters: Any) -> node_table.NodeRun:
    """A run with further parameters."""
    return replace(run, parameters=run.parameters | parameters)


def _popen(words: list[str], variables: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as handle:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )

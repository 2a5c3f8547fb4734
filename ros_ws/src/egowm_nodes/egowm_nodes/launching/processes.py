"""The demo's nodes as child processes: started from the node table, watched, and stopped cleanly.

Each child logs to a file of its own and gets its parameters as a file, which stays beside the logs as a record of the
settings. Knows no topic and no rclpy.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import yaml

from egowm_core.errors import EgowmError
from egowm_nodes.launching import fastdds
from egowm_nodes.launching.node_table import NodeRun

STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0))  # and how long each is given
TAIL_LINES = 20
_HEAVY = ("world_model",)  # gets the machine's threads; the others one each


class ChildError(EgowmError):
    """A child process ended by itself or did not get ready; the message ends with its last log lines."""


@dataclass
class Child:
    """A running node."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    handle: IO[bytes]

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The end of its log."""
        text = self.log.read_bytes()[-20_000:].decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])


def environment(*, domain_id: int) -> tuple[dict[str, str], list[str]]:
    """The children's environment variables, to be set in this process too, and remarks on what was left out.

    Discovery stays on this machine and in a domain of its own; Fast DDS gets the profile with enough shared memory,
    unless the machine has too little of it (containers often have 64 MB).
    """
    made = {"ROS_DOMAIN_ID": str(domain_id), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "PYTHONUNBUFFERED": "1"}
    variables, remark = fastdds.profile({})
    return made | variables, [remark] if remark else []


def threads_for(name: str, cores: int) -> int:
    """How many compute threads a node gets."""
    return max(1, cores) if name in _HEAVY else 1


def command(run: NodeRun, parameter_file: Path) -> list[str]:
    """The command line of a node without an installation: ``python -m``, parameter files, remappings."""
    words = [sys.executable, "-m", run.entry.module, "--ros-args", "-r", f"__node:={run.entry.name}"]
    for source, target in run.remappings:
        words += ["-r", f"{source}:={target}"]
    for path in (*run.parameter_files, parameter_file):
        words += ["--params-file", str(path)]
    return words


class ProcessGroup:
    """Starts children and ends them all on leaving. Use as a context manager."""

    def __init__(self, directory: Path, variables: Mapping[str, str]) -> None:
        self._logs, self._settings = directory / "logs", directory / "settings"
        self._variables = dict(variables)
        self.children: dict[str, Child] = {}
        for folder in (self._logs, self._settings):
            folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, run: NodeRun) -> Child:
        """Start a node. Raises ChildError when the command cannot run."""
        name = run.entry.name
        settings = self._settings / f"{name}.yaml"
        settings.write_text(yaml.safe_dump({f"/**/{name}": {"ros__parameters": run.parameters}}), encoding="utf-8")
        threads = str(threads_for(name, os.cpu_count() or 1))
        variables = {**os.environ, **self._variables, "OMP_NUM_THREADS": threads, "LP_NUM_THREADS": "1"}
        log = self._logs / f"{name}.log"
        words = command(run, settings)
        handle = log.open("wb")
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=handle, stderr=subprocess.STDOUT, env=variables,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops its children in order
            )  # fmt: skip
        except OSError as error:
            handle.close()
            raise ChildError(f"{name} cannot be started: {error}; command: {json.dumps(words)}") from error
        self.children[name] = Child(name, process, log, handle)
        return self.children[name]

    def check(self, *, may_end: Sequence[str] = ()) -> None:
        """Raise ChildError when a child has ended, unless it is one of ``may_end`` and ended with status 0."""
        for child in self.children.values():
            status = child.process.poll()
            if status is not None and not (status == 0 and child.name in may_end):
                raise ChildError(f"{child.name} ended with status {status}; its log ends:\n{child.tail()}")

    def ended(self, name: str) -> bool:
        """Whether this child has ended."""
        return name in self.children and self.children[name].process.poll() is not None

    def stop(self, names: Iterable[str] | None = None) -> dict[str, int]:
        """SIGINT, then SIGTERM, then SIGKILL, to all at once; returns exit statuses by name."""
        chosen = [self.children[name] for name in (self.children if names is None else names) if name in self.children]
        for number, patience_s in STOP_SIGNALS:
            alive = [child for child in chosen if child.process.poll() is None]
            for child in alive:
                child.process.send_signal(number)
            end = time.monotonic() + patience_s
            for child in alive:
                try:
                    child.process.wait(timeout=max(0.0, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    continue
        for child in chosen:
            child.handle.close()
        return {child.name: -255 if (status := child.process.poll()) is None else status for child in chosen}

"""The running demo: nodes up, ready, recorded for a while, down again. What it leaves is a bag, logs and ``run.json``.

Knows processes, the recorder and lifecycle states; draws nothing.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from egowm_nodes.demo.lifecycle import ACTIVATE, CONFIGURE, LifecycleManager
from egowm_nodes.demo.recorder import Recorder
from egowm_nodes.demo.session import CAMERA_TOPICS
from egowm_nodes.demo.status import LiveLine, Monitor
from egowm_nodes.launching.node_table import NodeRun
from egowm_nodes.launching.processes import ChildError, ProcessGroup, environment

BAG_NAME = "topics.mcap"
READY_LIMIT_S, CAMERA_LIMIT_S = 120.0, 60.0
SIMULATORS, PLAYERS = ("sim_robot", "sim_humanoid"), ("replay",)
SOURCE_NAMES = SIMULATORS + PLAYERS
LAST_MESSAGES_S = 1.0
SPIN_S = 0.05


@dataclass
class RunFacts:
    """What happened, for ``run.json``: how it was started and how it ended."""

    mode: str
    settings: dict[str, Any]
    remarks: list[str] = field(default_factory=list)
    ready_s: float = 0.0
    lasted_s: float = 0.0
    interrupted: bool = False
    exit_statuses: dict[str, int] = field(default_factory=dict)
    not_recorded: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Stop:
    """Set by SIGINT or SIGTERM while ``listening``; a second signal raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self._event = threading.Event()

    @property
    def wanted(self) -> bool:
        return self._event.is_set()

    def _hear(self, number: int, frame: object) -> None:
        if self._event.is_set():
            raise KeyboardInterrupt
        self._event.set()

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(
    runs: tuple[NodeRun, ...], out: Path, facts: RunFacts, *, seconds: float, domain_id: int, line: LiveLine
) -> None:
    """Run the nodes for ``seconds`` (infinite: until the recording ends), recording into ``out``; fills ``facts``.

    Raises:
        ChildError: a node died or did not get ready. What was recorded until then is kept.
    """
    variables, remarks = environment(domain_id=domain_id)
    facts.remarks += remarks
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        with Stop().listening() as stop, ProcessGroup(out, variables) as group:
            _Demo(runs, out, facts, group, stop, line).run(seconds)
    finally:
        rclpy.try_shutdown()
        _restore(before)


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class _Demo:
    """One run, from the first process to the last."""

    def __init__(
        self, runs: tuple[NodeRun, ...], out: Path, facts: RunFacts, group: ProcessGroup, stop: Stop, line: LiveLine
    ) -> None:
        self._runs, self._facts, self._group, self._stop, self._line = runs, facts, group, stop, line
        self._node = Node("egowm_demo", start_parameter_services=False, enable_rosout=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._monitor = Monitor(CAMERA_TOPICS)
        self._manager = LifecycleManager(self._node, [run.entry.name for run in runs if run.entry.lifecycle])
        self._recorder = Recorder(self._node, out / BAG_NAME, self._hear)

    def run(self, seconds: float) -> None:
        facts, started_s = self._facts, time.monotonic()
        try:
            self._start(*(run for run in self._runs if run.entry.lifecycle))
            self._transition(CONFIGURE, started_s)
            simulators = [run for run in self._runs if run.entry.name in SIMULATORS]
            self._start(*simulators)
            if simulators:
                self._await_camera()
            self._transition(ACTIVATE, started_s)
            facts.ready_s = round(time.monotonic() - started_s, 2)
            self._line.say(f"nodes ready after {facts.ready_s:.1f} s")
            self._start(*(run for run in self._runs if run.entry.name in PLAYERS))
            self._await_camera()
            begun_s = time.monotonic()
            self._watch(begun_s, seconds)
            facts.lasted_s = round(time.monotonic() - begun_s, 2)
            self._end(*SOURCE_NAMES)
            self._spin(LAST_MESSAGES_S)
        finally:
            facts.interrupted = self._stop.wanted
            if facts.interrupted:
                facts.remarks.append("stopped early by a signal")
            facts.not_recorded = dict(self._recorder.unknown)
            self._recorder.close()
            facts.exit_statuses |= self._group.stop()
            self._executor.shutdown()
            self._node.destroy_node()

    def _start(self, *runs: NodeRun) -> None:
        for run in runs:
            if not self._stop.wanted:
                self._group.start(run)

    def _end(self, *names: str) -> None:
        """Stop these children; what they still send is recorded meanwhile."""
        stopping = threading.Thread(target=self._group.stop, args=(names,))
        stopping.start()
        while stopping.is_alive():
            self._executor.spin_once(timeout_sec=SPIN_S)

    def _hear(self, topic: str, kind: str, data: bytes, received_ns: int) -> None:
        self._monitor.hear(topic, kind, data, received_ns)
        self._manager.hear(topic, kind, data, received_ns)

    def _transition(self, transition: int, started_s: float) -> None:
        manager, children = self._manager, self._group.children
        manager.begin(transition)
        while not manager.step() and not self._stop.wanted:
            self._executor.spin_once(timeout_sec=SPIN_S)
            self._group.check()
            waited_s = time.monotonic() - started_s
            self._line.show(f"{waited_s:4.0f} s | waiting for {', '.join(sorted(manager.waiting))}")
            for name in manager.waiting & set(manager.trouble):
                raise ChildError(f"{name}: {manager.trouble[name]}; its log ends:\n{children[name].tail()}")
            if waited_s > READY_LIMIT_S:
                raise self._late(f"not ready after {READY_LIMIT_S:.0f} s", manager.waiting)

    def _await_camera(self) -> None:
        started_s = time.monotonic()
        while not self._monitor.meters["camera"].count and not self._stop.wanted:
            self._executor.spin_once(timeout_sec=SPIN_S)
            self._group.check(may_end=("replay",))
            self._line.show("waiting for the first picture")
            if time.monotonic() - started_s > CAMERA_LIMIT_S:
                raise self._late(f"no picture after {CAMERA_LIMIT_S:.0f} s", set(SOURCE_NAMES))

    def _late(self, what: str, names: set[str]) -> ChildError:
        late = sorted(name for name in names if name in self._group.children)
        tails = "\n".join(f"{name}, the end of its log:\n{self._group.children[name].tail()}" for name in late)
        return ChildError(f"{what}: {', '.join(late)}\n{tails}")

    def _watch(self, begun_s: float, seconds: float) -> None:
        while not self._stop.wanted and (elapsed_s := time.monotonic() - begun_s) < seconds:
            self._executor.spin_once(timeout_sec=SPIN_S)
            self._group.check(may_end=("replay",))
            self._line.show(self._monitor.line(elapsed_s, seconds))
            if self._group.ended("replay"):
                return

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=SPIN_S)

"""``fuzz``: thousands of hostile messages to every topic a node listens to. It must live, answer, and stay as large.

What a node listens to is read from the graph, so nothing new is forgotten. A few messages at a time, then the node is
asked something: its queues never overflow, so each message really is taken.
"""

from __future__ import annotations

import argparse
import importlib
import math
import time
from collections import deque
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import ListParameters, SetParameters
from rclpy._rclpy_pybind11 import RCLError
from rclpy.qos import QoSProfile

from egowm_core.embodiment import load_embodiment
from egowm_nodes.runtime.process_figures import MEGABYTE, footprint
from egowm_nodes.stress.figures import MemoryLog, Outcome
from egowm_nodes.stress.hostile import Hostile
from egowm_nodes.stress.probe import Probe, StressError
from egowm_nodes.stress.system import System, planned
from egowm_nodes.stress.terminal import Progress

ANSWER_S = 5.0
MOST_GROWTH_PERCENT = 5.0
AGAIN_S = 60.0  # for the system to predict again after the last hostile message
_BATCH = 4  # below the depth of every queue
_PRIME = 30  # above the depth of queues of pictures and rollouts
_RAW, _PARAMETER = 0.2, 0.02  # shares of serialised garbage and of parameter requests
_OURS = ("/parameter_events", "/clock")
_NUMBERS = (math.nan, math.inf, -math.inf, -1.0, 1e308)


def fuzz(args: argparse.Namespace, directory: Path, progress: Progress) -> Outcome:
    """``--messages`` to each node of ``--mode`` in turn, in a running system."""
    outcome = Outcome("fuzz", {"mode": args.mode, "messages": args.messages, "seed": args.seed})
    runs = planned(args.mode, checkpoint=args.checkpoint, nodes=args.nodes)
    lifecycle = [run.entry.name for run in runs if run.entry.lifecycle]
    chosen = args.nodes or [run.entry.name for run in runs]
    embodiment = load_embodiment(args.embodiment)
    with System(directory, domain_id=args.domain_id, respawn=True) as system, Probe(domain_id=args.domain_id) as probe:
        system.start_all(runs)
        probe.wait_active(lifecycle)
        probe.until(lambda: probe.rollouts.count >= 3 and probe.drifts.count, "the first rollouts and drift")
        for number, name in enumerate(chosen):
            row = _Fuzzing(system, probe, Hostile(args.seed + number, embodiment), name).run(args.messages, progress)
            outcome.rows[name] = row
            outcome.check(f"{name}: no death", row["deaths"] == 0)
            outcome.check(f"{name}: no hang, answers within {ANSWER_S:.0f} s", row["hangs"] == 0)
            growth = row["memory_growth_percent"]
            outcome.check(
                f"{name}: memory grows by less than {MOST_GROWTH_PERCENT:.0f} %", growth < MOST_GROWTH_PERCENT
            )
            outcome.check("after it the system predicts and judges", row["again_s"] < AGAIN_S)
        active = all((probe.state(name) or ("",))[0] == "active" for name in lifecycle)
        outcome.check("every lifecycle node is active at the end", active)
        outcome.check("no other node died", not any(process.endings for process in system.processes.values()))
    return outcome


class _Fuzzing:
    """One node's turn."""

    def __init__(self, system: System, probe: Probe, hostile: Hostile, name: str) -> None:
        self._system, self._probe, self._hostile, self._name = system, probe, hostile, name
        self._publishers: dict[str, tuple[type[Any], Any]] = {}
        for topic, types in probe.node.get_subscriber_names_and_types_by_node(name, probe.node.get_namespace()):
            if topic not in _OURS and "/_action/" not in topic:  # of an action, its server alone speaks there
                kind = _message_class(types[0])
                self._publishers[topic] = (kind, probe.node.create_publisher(kind, topic, QoSProfile(depth=_BATCH)))
        if not self._publishers:
            raise StressError(f"{name} listens to no topic; is it running?")
        probe.until(
            lambda: all(publisher.get_subscription_count() for _, publisher in self._publishers.values()),
            f"{name} to match the publishers",
        )
        self.hangs, self.slowest_s, self.slowest_after = 0, 0.0, ""
        self._recent: deque[str] = deque(maxlen=2 * _BATCH)
        self.refused = self.accepted = 0

    def run(self, count: int, progress: Progress) -> dict[str, Any]:
        """Send ``count`` messages; the figures."""
        unprimed = footprint(self._process.pid)
        self._prime()
        log, rng = MemoryLog(), self._hostile.rng
        deaths = len(self._process.endings)
        topics = list(self._publishers)
        sent = dict.fromkeys(topics, 0)
        raw = unsendable = 0
        began_s = time.monotonic()
        for number in progress.steps(count, self._name):
            topic = rng.choice(topics)
            kind, publisher = self._publishers[topic]
            message = self._hostile.raw(kind) if rng.random() < _RAW else self._hostile.message(kind)
            raw += isinstance(message, bytes)
            try:
                publisher.publish(message)
            except RCLError:  # longer than any message of a type of fixed size: it cannot be sent at all
                unsendable += 1
                continue
            sent[topic] += 1
            self._recent.append(f"{topic} {_described(message)}")
            if rng.random() < _PARAMETER:
                self._parameter()
            if number % _BATCH == _BATCH - 1:
                self._ask()
            if number % max(1, count // 200) == 0:
                log.sample(self._name, self._process.pid, time.monotonic())
        took_s = time.monotonic() - began_s
        again_s = self._again()
        for _ in range(20):
            log.sample(self._name, self._process.pid, time.monotonic())
        for _, publisher in self._publishers.values():
            self._probe.node.destroy_publisher(publisher)
        row: dict[str, Any] = {
            "messages": sum(sent.values()),
            "raw": raw,
            "unsendable": unsendable,
            "memory_before_any_mb": math.nan if unprimed is None else unprimed.rss / MEGABYTE,
            "deaths": len(self._process.endings) - deaths,
        }
        row |= {
            "hangs": self.hangs,
            "slowest_answer_s": self.slowest_s,
            "slowest_after": self.slowest_after,
            "again_s": again_s,
            "seconds": took_s,
        }
        row |= {"parameters_refused": self.refused, "parameters_accepted": self.accepted}
        return row | log.row(self._name, settle_s=0.15 * took_s) | {f"sent {topic}": n for topic, n in sent.items()}

    @property
    def _process(self) -> Any:
        return self._system.processes[self._name]

    def _prime(self) -> None:
        """Fill the queues with the largest messages: Fast DDS keeps the memory of what a queue once held."""
        for kind, publisher in self._publishers.values():
            for _ in range(_PRIME):
                if (message := self._hostile.largest(kind)) is not None:
                    publisher.publish(message)
            self._ask()

    def _ask(self) -> None:
        """Any node answers what parameters it has; one that takes too long hangs."""
        request = ListParameters.Request()
        answer = self._probe.call(ListParameters, f"{self._name}/list_parameters", request, timeout_s=ANSWER_S)
        if answer is None:
            self.hangs += 1
            self._probe.call(ListParameters, f"{self._name}/list_parameters", request, timeout_s=AGAIN_S)
        if answer is None or answer[1] > self.slowest_s:
            self.slowest_s = math.inf if answer is None else answer[1]
            self.slowest_after = "; ".join(self._recent)

    def _parameter(self) -> None:
        """Values that no parameter may have: not finite, of a wrong type, endless, unknown."""
        rng = self._hostile.rng
        listed = self._probe.call(
            ListParameters, f"{self._name}/list_parameters", ListParameters.Request(), timeout_s=ANSWER_S
        )
        names = list(listed[0].result.names) if listed is not None else []
        name = rng.choice([*names, "unheard_of", "x" * 5000, "a\x00b"])
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=rng.choice(_NUMBERS))
        if rng.random() < 0.4:
            text = rng.choice(("", "/dev/zero", "../../etc/passwd", "y" * 100_000, "\x00"))
            value = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=[text])
        elif rng.random() < 0.2:
            value = ParameterValue(type=rng.randrange(10, 256))
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
        answer = self._probe.call(SetParameters, f"{self._name}/set_parameters", request, timeout_s=ANSWER_S)
        if answer is None:
            self.hangs += 1
        elif answer[0].results and answer[0].results[0].successful:
            self.accepted += 1
        else:
            self.refused += 1

    def _again(self) -> float:
        """Seconds until the whole system predicts what is to come and judges what was, as before."""
        rollouts, drifts, began_s = self._probe.rollouts.count, self._probe.drifts.count, time.monotonic()
        try:
            self._probe.until(
                lambda: self._probe.rollouts.count >= rollouts + 3 and self._probe.drifts.count > drifts,
                "rollouts and drift after the last hostile message",
                timeout_s=AGAIN_S,
            )
        except StressError:
            return math.inf
        return time.monotonic() - began_s


def _message_class(spelled: str) -> type[Any]:
    package, _, name = spelled.split("/")
    found: type[Any] = getattr(importlib.import_module(f"{package}.msg"), name)
    return found


def _described(message: Any) -> str:
    """How large a message is, for telling what a node took long over."""
    if isinstance(message, bytes):
        return f"{len(message)} raw bytes"
    sizes = [
        len(value)
        for name in message.get_fields_and_field_types()
        if hasattr(value := getattr(message, name), "__len__")
    ]
    return f"{type(message).__name__} {max(sizes, default=0)}"

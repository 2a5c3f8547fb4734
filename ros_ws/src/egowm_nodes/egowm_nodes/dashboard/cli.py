"""``egowm-dashboard``: hears the diagnostics and drift of one robot or all, and shows them until it is told to stop.

A plain node, no lifecycle. Knows rclpy, the topics and the terminal; what is shown is made by ``board`` and ``view``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from egowm_msgs.msg import Drift
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from sensor_msgs.msg import Image

from egowm_core.files import write_text
from egowm_nodes import conversions
from egowm_nodes.dashboard.board import Board
from egowm_nodes.dashboard.picture import draw
from egowm_nodes.dashboard.view import render, text_of
from egowm_nodes.runtime.steady_executor import SteadyExecutor

DRIFT = "egowm_msgs/msg/Drift"
PERIOD_S, SEARCH_S = 1.0, 1.0
ALL_HEARD_S = 1.3  # diagnostics come once a second: by then every node has spoken
PLAIN_WIDTH, MOST_DRIFTS = 120, 32
_NAMESPACE = re.compile(r"/?[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*/?|/?")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="egowm-dashboard",
        description="What the nodes say of themselves: lifecycle, rates, latency, where the plan comes from, guards and"
        " drops, and drift with SCS by horizon, state and cause. Takes the ROS domain of the environment.",
        epilog="Example: egowm-dashboard --namespace robot1; in a script: egowm-dashboard --once --json figures.json. "
        "Exit status: 0, 1 where no node was heard, 2 for wrong options.",
    )
    made.add_argument("--namespace", default="", metavar="NS", help="one robot's nodes alone (default: all)")
    made.add_argument("--once", action="store_true", help="print one board when every node has spoken, and end")
    made.add_argument("--seconds", type=float, default=math.inf, metavar="N", help="end after N s (default: never)")
    made.add_argument("--wait", type=float, default=10.0, metavar="S", help="for a first node (default: %(default)g s)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write what was last shown there, at the end")
    made.add_argument("--image", action="store_true", help="publish the board as ~/image, too (RViz shows it)")
    return made


class Listener(Node):
    """Hears /diagnostics and every Drift topic of the namespace; with ``image`` it publishes ~/image each second."""

    def __init__(self, board: Board, *, image: bool, context: rclpy.Context) -> None:
        super().__init__("dashboard", namespace=board.namespace, context=context)
        self.board = board
        self._drifts: set[str] = set()
        self.create_subscription(DiagnosticArray, "/diagnostics", self.board.hear_diagnostics, QoSProfile(depth=50))
        self.create_timer(SEARCH_S, self.search)
        self.search()
        if image:
            self._image = self.create_publisher(Image, "~/image", qos_profile_sensor_data)
            self.create_timer(PERIOD_S, self._publish)

    def search(self) -> None:
        """Subscribe to Drift topics that are new."""
        for topic, types in self.get_topic_names_and_types():
            if types == [DRIFT] and topic not in self._drifts and self.board.within(topic):
                if len(self._drifts) >= MOST_DRIFTS:
                    return
                self._drifts.add(topic)
                self.create_subscription(Drift, topic, partial(self.board.hear_drift, topic), QoSProfile(depth=10))

    def _publish(self) -> None:
        if self._image.get_subscription_count():
            stamp_ns = self.get_clock().now().nanoseconds
            self._image.publish(conversions.image_message(draw(self.board.snapshot()), stamp_ns, ""))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parser().parse_args(argv)
    if not _NAMESPACE.fullmatch(args.namespace):
        parser().error(f"--namespace {args.namespace!r} is no ROS namespace; give names of letters, digits and _")
    if not (args.seconds > 0 and args.wait > 0):
        parser().error("--seconds and --wait must be above 0")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    context = rclpy.Context()
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    board = Board(time.monotonic, namespace=args.namespace)
    executor = SteadyExecutor(on_error=lambda *_: board.leave_out(), context=context)
    listener = Listener(board, image=args.image, context=context)
    executor.add_node(listener)
    try:
        return _show(args, board, executor, stop)
    finally:
        executor.shutdown()
        listener.destroy_node()
        context.try_shutdown()


def _show(args: argparse.Namespace, board: Board, executor: SingleThreadedExecutor, stop: threading.Event) -> int:
    if not _first_heard(args, board, executor, stop):
        if stop.is_set():
            return 0
        where = f" under /{board.namespace}" if board.namespace else ""
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        sys.stderr.write(
            f"egowm-dashboard: no node spoke on /diagnostics in domain {domain}{where} for {args.wait:g} s;"
            " start the nodes, or check ROS_DOMAIN_ID and --namespace\n"
        )
        return 1
    console = Console()
    if args.once:
        _spin(executor, stop, ALL_HEARD_S)
        if console.is_terminal:
            console.print(render(board.snapshot()))
        else:
            sys.stdout.write(text_of(board.snapshot(), width=PLAIN_WIDTH))
    else:
        _follow(args, board, executor, stop, console)
    if args.json is not None:
        write_text(args.json, json.dumps(board.snapshot().to_json(), indent=2, allow_nan=False))
    return 0


def _first_heard(
    args: argparse.Namespace, board: Board, executor: SingleThreadedExecutor, stop: threading.Event
) -> bool:
    end_s = time.monotonic() + args.wait
    while not board.snapshot().nodes and time.monotonic() < end_s and not stop.is_set():
        executor.spin_once(timeout_sec=0.1)
    return bool(board.snapshot().nodes)


def _follow(
    args: argparse.Namespace, board: Board, executor: SingleThreadedExecutor, stop: threading.Event, console: Console
) -> None:
    end_s = time.monotonic() + args.seconds
    if not console.is_terminal:
        while not stop.is_set() and time.monotonic() < end_s:
            _spin(executor, stop, min(PERIOD_S, args.seconds))
            sys.stdout.write(text_of(board.snapshot(), width=PLAIN_WIDTH))
            sys.stdout.flush()
        return
    with Live(render(board.snapshot()), console=console, screen=True, auto_refresh=False) as live:
        while not stop.is_set() and time.monotonic() < end_s:
            _spin(executor, stop, PERIOD_S / 2)
            live.update(render(board.snapshot()), refresh=True)


def _spin(executor: SingleThreadedExecutor, stop: threading.Event, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while not stop.is_set() and (left_s := end_s - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=min(left_s, 0.1))


if __name__ == "__main__":
    sys.exit(main())

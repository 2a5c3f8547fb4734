"""The main loop of both nodes: own signal handlers, one executor, exit code 0 after SIGINT or SIGTERM.

A callback that raises is logged and the node lives on. Knows no node but its lifecycle.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from egowm_core.errors import EgowmError
from egowm_nodes.managed_node import ManagedNode

SPIN_S = 0.2


def run(make: Callable[[], ManagedNode[Any]], argv: Sequence[str] | None, *, name: str) -> int:
    """Run the node that ``make`` makes until a signal comes.

    Where its parameter ``auto_start`` is true it configures and activates itself first. Returns 0 after a stop by
    signal, 1 where the parameters are wrong.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=None if argv is None else list(argv), signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    node: ManagedNode[Any] | None = None
    try:
        node = make()
        executor.add_node(node)
        if node.parameters.auto_start:
            node.start()
        while not stop.is_set():
            try:
                executor.spin_once(timeout_sec=SPIN_S)
            except Exception:  # a node never dies of a message: told once, with its traceback, and counted
                said = node.notices.report("callback", f"a callback failed:\n{traceback.format_exc()}")
                if said is not None:
                    node.get_logger().error(said)
    except (EgowmError, InvalidParameterValueException, InvalidParameterTypeException) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    finally:
        if node is not None:
            node.stop()
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
    return 0

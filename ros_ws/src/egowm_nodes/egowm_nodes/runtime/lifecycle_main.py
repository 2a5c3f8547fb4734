"""The main loop of both nodes: own signal handlers, one executor, exit code 0 after SIGINT or SIGTERM.

A callback that raises, and a message that cannot be taken, is logged and the node lives on; what a killed node left in
shared memory is given back at the start. Knows no node but its lifecycle.
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
from rclpy.signals import SignalHandlerOptions

from egowm_core.errors import EgowmError
from egowm_nodes.runtime import heap, shared_memory
from egowm_nodes.runtime.managed_node import ManagedNode
from egowm_nodes.runtime.steady_executor import SteadyExecutor

SPIN_S = 0.2


def run(make: Callable[[], ManagedNode[Any]], argv: Sequence[str] | None, *, name: str) -> int:
    """Run the node that ``make`` makes until a signal comes.

    Where its parameter ``auto_start`` is true it configures and activates itself first. Returns 0 after a stop by
    signal, 1 where the parameters are wrong.
    """
    heap.return_large_blocks()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=None if argv is None else list(argv), signal_handler_options=SignalHandlerOptions.NO)
    node: ManagedNode[Any] | None = None

    def not_taken(name: str, error: Exception) -> None:
        if node is not None:
            node.report("input: not taken", f"what came on {name} could not be used: {type(error).__name__}: {error}")

    executor = SteadyExecutor(on_error=not_taken)
    try:
        freed, size = shared_memory.sweep()
        node = make()
        if freed:
            node.get_logger().info(f"{freed} shared memory segments of killed nodes given back, {size >> 20} MB")
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

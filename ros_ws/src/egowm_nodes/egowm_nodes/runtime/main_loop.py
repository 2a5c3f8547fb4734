"""The main loop of every node here: own signal handlers, one steady executor, exit code 0 after SIGINT or SIGTERM.

A callback that raises, and a message that cannot be taken, is reported and the node lives on; what a killed node left
in shared memory is given back at the start. Knows no node.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from egowm_core.errors import EgowmError
from egowm_nodes.runtime import heap, shared_memory
from egowm_nodes.runtime.steady_executor import SteadyExecutor

SPIN_S = 0.2
LEAVE_S = 2.0
_LEAVE_STEP_S = 0.01
N = TypeVar("N", bound=Node)


def spin(
    make: Callable[[], N],
    argv: Sequence[str] | None,
    *,
    name: str,
    report: Callable[[N, str, str], None],
    close: Callable[[N], None],
    begin: Callable[[N], object] = lambda node: None,
    leave: Callable[[N], bool] = lambda node: False,
    done: Callable[[N], bool] = lambda node: False,
    fatal: tuple[type[EgowmError], ...] = (),
) -> int:
    """Spin the node that ``make`` makes until a signal comes or it is ``done``; returns the exit code.

    ``begin`` is called once it can be spun, ``close`` at the end, ``report(node, key, text)`` on trouble. Before
    ``close``, the node is spun for as long as ``leave`` is true, ``LEAVE_S`` at most: it has answers to give. The code
    is 1 where ``make``, ``begin`` or ``done`` raises EgowmError, a callback a ``fatal`` one, or where the parameters
    are wrong.
    """
    heap.return_large_blocks()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=None if argv is None else list(argv), signal_handler_options=SignalHandlerOptions.NO)
    node: N | None = None

    def not_taken(topic: str, error: Exception) -> None:
        if node is not None:
            text = f"what came on {topic} could not be used: {type(error).__name__}: {error}"
            report(node, "input: not taken", text)

    executor = SteadyExecutor(on_error=not_taken)
    try:
        freed, size = shared_memory.sweep()
        node = make()
        if freed:
            node.get_logger().info(f"{freed} shared memory segments of killed nodes given back, {size >> 20} MB")
        executor.add_node(node)
        begin(node)
        while not stop.is_set() and not done(node):
            _step(executor, node, SPIN_S, report, fatal)
        answering, end_s = leave(node), time.monotonic() + LEAVE_S
        while answering and time.monotonic() < end_s:
            _step(executor, node, _LEAVE_STEP_S, report, ())
            answering = leave(node)
    except (EgowmError, InvalidParameterValueException, InvalidParameterTypeException) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    finally:
        if node is not None:
            close(node)
        executor.shutdown()
        rclpy.try_shutdown()
    return 0


def _step(
    executor: SteadyExecutor,
    node: N,
    timeout_s: float,
    report: Callable[[N, str, str], None],
    fatal: tuple[type[EgowmError], ...],
) -> None:
    try:
        executor.spin_once(timeout_sec=timeout_s)
    except fatal:
        raise
    except Exception:  # a node never dies of a message: told with its traceback, and counted
        report(node, "callback", f"a callback failed:\n{traceback.format_exc()}")

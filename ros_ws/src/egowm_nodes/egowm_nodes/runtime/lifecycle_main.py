"""The main loop with a lifecycle node in it. Knows no node but its lifecycle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from egowm_nodes.runtime.main_loop import spin
from egowm_nodes.runtime.managed_node import ManagedNode


def run(make: Callable[[], ManagedNode[Any]], argv: Sequence[str] | None, *, name: str) -> int:
    """Run the node that ``make`` makes until a signal comes.

    Where its parameter ``auto_start`` is true it configures and activates itself first. Returns 0 after a stop by
    signal, 1 where the parameters are wrong.
    """

    def begin(node: ManagedNode[Any]) -> None:
        if node.parameters.auto_start:
            node.start()

    def report(node: ManagedNode[Any], key: str, text: str) -> None:
        said = node.notices.report(key, text)
        if said is not None:
            (node.get_logger().error if key == "callback" else node.get_logger().warning)(said)

    def close(node: ManagedNode[Any]) -> None:
        node.stop()
        node.destroy_node()

    return spin(make, argv, name=name, begin=begin, report=report, leave=ManagedNode[Any].leave, close=close)

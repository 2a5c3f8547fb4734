"""``egowm-health``: asks lifecycle nodes for their state and says by its exit status whether all are well.

For a container's health check, a supervisor or a script that waits for a robot to be ready. A node that is alive but
hangs does not answer, which counts as unwell. Knows rclpy and the lifecycle service; knows no topic and no picture.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from egowm_core.files import write_text
from egowm_nodes.launching import node_table

NODES = tuple(entry.name for entry in node_table.NODES if entry.lifecycle and not entry.opt_in)
STATES = ("unconfigured", "inactive", "active", "finalized")
SILENT = "no answer"
SPIN_S, ASK_AGAIN_S = 0.05, 1.0  # an answer can get lost, where a killed node's service is still announced
_NAME = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="egowm-health",
        description="Asks lifecycle nodes for their state. Takes the ROS domain of the environment. Nodes that run on"
        " request are asked where they are named: egowm-health world_model drift_monitor planner",
        epilog="Example: egowm-health world_model --namespace robot1 --timeout 3; until all is up: --wait. "
        "Exit status: 0 when every node is in --state, 1 when one is not or does not answer, 2 for wrong options.",
    )
    made.add_argument("nodes", nargs="*", default=list(NODES), metavar="NODE", help=f"default: {' '.join(NODES)}")
    made.add_argument("--namespace", default="", metavar="NS", help="of the nodes that are given without a slash")
    made.add_argument("--state", choices=STATES, default="active", help="what is well (default: %(default)s)")
    made.add_argument("--timeout", type=float, default=5.0, metavar="S", help="for the answers (default: %(default)g)")
    made.add_argument("--wait", action="store_true", help="ask until all are well or --timeout is over")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the states there")
    return made


def full_names(nodes: Sequence[str], namespace: str) -> list[str]:
    """The nodes' names from the root, each once, in order; ValueError for what is no ROS name."""
    names = []
    for node in nodes:
        name = node if node.startswith("/") else f"/{namespace.strip('/')}/{node}".replace("//", "/")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a ROS node; give names of letters, digits and _")
        names.append(name)
    return list(dict.fromkeys(names))


def ask(node: Node, names: Sequence[str], *, timeout_s: float, until: str | None = None) -> dict[str, str]:
    """The lifecycle state of each node, ``SILENT`` for one that did not answer within ``timeout_s``.

    With ``until``, nodes in another state are asked again while there is time.
    """
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    clients = {name: node.create_client(GetState, f"{name}/get_state") for name in names}
    states = dict.fromkeys(names, SILENT)
    asked: dict[str, tuple[float, Any]] = {}
    pending, end_s = set(names), time.monotonic() + timeout_s
    try:
        while pending and time.monotonic() < end_s:
            for name in sorted(pending):
                asked_s, future = asked.get(name, (-ASK_AGAIN_S, None))
                if future is not None and future.done() and future.result() is not None:
                    states[name] = str(future.result().current_state.label)
                    asked[name] = asked_s, None
                    if until in (None, states[name]):
                        pending.discard(name)
                elif time.monotonic() - asked_s >= ASK_AGAIN_S and clients[name].service_is_ready():
                    if future is not None:
                        clients[name].remove_pending_request(future)
                    asked[name] = time.monotonic(), clients[name].call_async(GetState.Request())
            executor.spin_once(timeout_sec=SPIN_S)
    finally:
        executor.remove_node(node)
        executor.shutdown()
        for client in clients.values():
            node.destroy_client(client)
    return states


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    made = parser()
    args = made.parse_args(argv)
    if not 0 < args.timeout < 3600:
        made.error(f"--timeout {args.timeout:g} must be above 0 and below 3600")
    try:
        names = full_names(args.nodes, args.namespace)
    except ValueError as error:
        made.error(str(error))
    context = rclpy.Context()
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = Node("egowm_health", context=context, start_parameter_services=False, enable_rosout=False)
    try:
        states = ask(node, names, timeout_s=args.timeout, until=args.state if args.wait else None)
    except KeyboardInterrupt:
        return 1
    finally:
        node.destroy_node()
        context.try_shutdown()
    well = all(state == args.state for state in states.values())
    if args.json is not None:
        try:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            write_text(args.json, json.dumps({"well": well, "wanted": args.state, "states": states}, indent=1))
        except OSError as error:
            print(f"egowm-health: cannot write {args.json}: {error}; name another file", file=sys.stderr)
            return 1
    said = ", ".join(f"{name} {state}" for name, state in states.items())
    print(said if well else f"egowm-health: {said}; expected {args.state}", file=sys.stdout if well else sys.stderr)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

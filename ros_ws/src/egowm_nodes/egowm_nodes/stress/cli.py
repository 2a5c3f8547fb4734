"""``egowm-stress``: the nodes under flood, hostile messages, sudden death and long hours; figures, and what held.

Reads options, gives each run a directory for the nodes' logs, prints and writes the outcome. Knows no ROS.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from egowm_core.errors import EgowmError
from egowm_core.files import write_text
from egowm_nodes.launching import node_table

EXAMPLE = "example: egowm-stress kill --times 20 --json kill.json"
STATUS = "Exit status: 0 when every promise held, 1 when one did not or a node failed, 2 for wrong options."


def parser() -> argparse.ArgumentParser:
    """The options of all runs."""
    made = argparse.ArgumentParser(
        prog="egowm-stress", description=__doc__.split("\n", 1)[0], epilog=f"{EXAMPLE}. {STATUS}"
    )
    runs = made.add_subparsers(dest="run", required=True, metavar="RUN")
    overhead = _add(runs, "overhead", "camera message in to rollout out, minus the model's own time")
    _add_camera(overhead, size="640x480", rate_hz=30.0, seconds=60.0)
    flood = _add(runs, "flood", "pictures faster than anybody takes them: memory, losses, predictions")
    _add_camera(flood, size="1920x1080", rate_hz=60.0, seconds=60.0)
    flood.set_defaults(hindsight=True)
    fuzz = _add(runs, "fuzz", "malformed and hostile messages to every topic that a node listens to", nodes=True)
    fuzz.add_argument("--messages", type=_count, default=20_000, metavar="N", help="for each node (%(default)s)")
    fuzz.add_argument("--seed", type=int, default=1, help="of the messages (%(default)s)")
    fuzz.add_argument("--embodiment", default="base_3dof", metavar="NAME", help="the robot (%(default)s)")
    kill = _add(runs, "kill", "kill -9 to each node: seconds until the robot predicts again", nodes=True)
    kill.add_argument("--times", type=_count, default=20, metavar="N", help="for each node (%(default)s)")
    term = _add(runs, "term", "SIGTERM to the nodes in turn: do they end cleanly", nodes=True)
    term.add_argument("--times", type=_count, default=50, metavar="N", help="in all (%(default)s)")
    stall = _add(runs, "stall", "each node stands still for long: do all talk again afterwards", nodes=True)
    stall.add_argument("--times", type=_count, default=2, metavar="N", help="for each node (%(default)s)")
    stall.add_argument("--seconds", type=float, default=30.0, metavar="S", help="each time (%(default)s)")
    for one in (kill, term, stall):
        one.add_argument("--respawn-delay-s", type=float, default=0.0, metavar="S", help="(%(default)s)")
    cycle = _add(runs, "cycle", "deactivate, clean up, configure, activate: threads, files, memory", nodes=True)
    cycle.add_argument("--times", type=_count, default=100, metavar="N", help="for each node (%(default)s)")
    cycle.add_argument("--active-s", type=float, default=0.5, metavar="S", help="active each time (%(default)s)")
    soak = _add(runs, "soak", "a running system for long: memory at the end against the beginning", mode=True)
    soak.add_argument("--minutes", type=float, default=30.0, metavar="M", help="(%(default)s)")
    robots = _add(runs, "robots", "several robots on this machine: rates, latencies, drops, memory")
    robots.add_argument(
        "--robots", nargs="+", default=["base=sim", "humanoid=sim_humanoid"], metavar="NAMESPACE=MODE",
        help="(base=sim humanoid=sim_humanoid)",
    )  # fmt: skip
    robots.add_argument("--seconds", type=float, default=180.0, metavar="S", help="(%(default)s)")
    for one in (soak, robots):
        one.add_argument("--settle-s", type=float, default=60.0, metavar="S", help="before memory counts (%(default)s)")
    return made


def _add(runs: Any, name: str, what: str, *, nodes: bool = False, mode: bool = False) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = runs.add_parser(name, help=what, description=what, epilog=STATUS)
    made.add_argument("--checkpoint", default="", metavar="PATH", help="the model (default: as the nodes' own)")
    if nodes or mode:
        made.add_argument("--mode", default="sim", choices=node_table.MODES, help="which nodes run (%(default)s)")
    if nodes:
        made.add_argument("--nodes", nargs="+", metavar="NODE", help="these alone, also such as planner (default: all)")
    made.add_argument("--domain-id", type=int, default=34, metavar="N", help="ROS domain (%(default)s)")
    made.add_argument("--logs", type=Path, metavar="DIR", help="keep the nodes' logs and settings here")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    made.add_argument("--quiet", action="store_true", help="no progress bar")
    return made


def _add_camera(made: argparse.ArgumentParser, *, size: str, rate_hz: float, seconds: float) -> None:
    made.add_argument("--size", default=size, metavar="WxH", help="of the pictures (%(default)s)")
    made.add_argument("--rate-hz", type=float, default=rate_hz, metavar="HZ", help="(%(default)s)")
    made.add_argument("--seconds", type=float, default=seconds, metavar="S", help="(%(default)s)")
    made.add_argument("--compressed", action="store_true", help="JPEG instead of raw pictures")
    made.add_argument("--hindsight", action="store_true", help="predict from executed actions, too")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    made = parser()
    args = made.parse_args(argv)
    problem = _refused(args)
    if problem:
        made.error(problem)
    from egowm_nodes.stress.terminal import Progress  # tqdm and rclpy are not needed for --help

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # on the way out, the nodes are ended, too
    kept = nullcontext(args.logs) if args.logs else tempfile.TemporaryDirectory(prefix="egowm-stress-")
    try:
        with kept as directory:
            Path(directory).mkdir(parents=True, exist_ok=True)
            outcome = _run(args.run)(args, Path(directory), Progress(quiet=args.quiet))
    except (EgowmError, OSError) as error:
        print(f"egowm-stress: {error}", file=sys.stderr)
        return 1
    outcome.settings["cores"] = os.cpu_count()
    print(outcome.text())
    if args.json:
        write_text(args.json, json.dumps(outcome.as_json(), indent=2) + "\n")
    if outcome.failed:
        print(f"egowm-stress: {len(outcome.failed)} promise(s) broken: {'; '.join(outcome.failed)}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _refused(args: argparse.Namespace) -> str:
    """What is wrong with the options, in words; also takes the picture's size apart."""
    if hasattr(args, "size"):
        width, _, height = args.size.partition("x")
        if not (width.isdigit() and height.isdigit() and 16 <= int(width) <= 8192 and 16 <= int(height) <= 8192):
            return f"--size {args.size} is not WIDTHxHEIGHT of 16..8192 pixels"
        args.width, args.height = int(width), int(height)
        args.checkpoint = args.checkpoint or "embedded:base_3dof"
    for name in ("rate_hz", "seconds", "minutes"):
        if getattr(args, name, 1.0) <= 0:
            return f"--{name.replace('_', '-')} {getattr(args, name)} is not positive"
    for item in getattr(args, "robots", ()):
        if item.partition("=")[2] not in node_table.MODES:
            return f"--robots {item} is not NAMESPACE=MODE with a mode of {', '.join(node_table.MODES)}"
    return ""


def _run(name: str) -> Callable[..., Any]:
    from egowm_nodes.stress import endurance, fuzz, live, restart

    return {
        "overhead": live.overhead, "flood": live.flood, "fuzz": fuzz.fuzz, "kill": restart.kill,
        "term": restart.term, "stall": restart.stall, "cycle": endurance.cycle, "soak": endurance.soak,
        "robots": endurance.robots,
    }[name]  # fmt: skip

"""``egowm-demo``: simulator or recording, world model, drift monitor, live; then a video, a strip, a bag and a report.

Chooses the settings, runs ``live`` and ``report``, and tells how it went. Knows neither topics nor pictures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import CheckpointError, ConfigError, EgowmError
from egowm_core.given_baseline import LEARN, checkpoint_baseline
from egowm_nodes.demo import report
from egowm_nodes.launching import node_table
from egowm_nodes.replay.playback import Recording, look

SIMULATED_S = 60.0
SIMULATED = {"base_3dof": node_table.SIM, "humanoid_25dof": node_table.SIM_HUMANOID}  # robots with a simulator
SLOWER = 0.9  # a camera below this part of the embodiment's rate sets the tick rate
FOLDERS = ("logs", "settings", report.BAG)  # of an earlier run: written anew


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="egowm-demo",
        description="A simulated robot, or a recording, through the world model and the drift monitor, live. Leaves "
        f"{report.VIDEO}, {report.STRIP}, {report.REPORT}, {report.STATUS} and the bag {report.BAG} in --out.",
        epilog="Example: egowm-demo --embodiment humanoid_25dof --seconds 30 --out out/humanoid. "
        "Exit status: 0 with rollouts and drift figures, 1 when a node failed or nothing was predicted or "
        "judged, 2 for wrong options or an unreadable recording.",
    )
    made.add_argument("--bag", metavar="PATH", help="play this recording in real time instead of simulating")
    made.add_argument(
        "--embodiment", default="base_3dof", metavar="NAME",
        help=f"the robot (default: %(default)s); simulated are {' and '.join(SIMULATED)}, any may be played with --bag",
    )  # fmt: skip
    made.add_argument("--checkpoint", metavar="PATH", help="the model (default: embedded:EMBODIMENT)")
    made.add_argument(
        "--baseline",
        metavar="WHAT",
        help="what drift takes for usual: learn, a drift_baseline.json or a checkpoint that has one (default: in the"
        " simulator the model's own, where it has one; else learn)",
    )
    made.add_argument("--device", default="", help="where the model runs (default: as world_model.yaml says)")
    made.add_argument(
        "--seconds", type=float, metavar="N", help=f"how long (default: {SIMULATED_S:.0f}, or the whole recording)"
    )
    made.add_argument("--seed", type=int, default=7, help="picks the simulated room (default: %(default)s)")
    made.add_argument(
        "--image-lag-s", type=float, default=0.0, metavar="S", help="how late the recorded images are against odometry"
    )
    made.add_argument("--image-topic", default="", help="recorded image topic, where several could be meant")
    made.add_argument(
        "--odom-topic", default="", help="recorded odometry or joint states, where several could be meant"
    )
    made.add_argument("--plan-topic", default="", help="recorded joint commands to play as the plan (default: none)")
    made.add_argument("--params-file", metavar="FILE", help="ROS parameter YAML over the nodes' defaults")
    made.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default: %(default)s")
    made.add_argument("--json", type=Path, metavar="FILE", help=f"write the figures ({report.STATUS}) here, too")
    made.add_argument("--domain-id", type=int, metavar="N", help="ROS domain (default: one of its own)")
    made.add_argument("--report-only", type=Path, metavar="OUT", help="make the report of an earlier run again")
    return made


@dataclass(frozen=True)
class Prepared:
    """What is going to run. ``seconds`` may be infinite: until the recording ends."""

    mode: str
    runs: tuple[node_table.NodeRun, ...]
    seconds: float
    settings: dict[str, Any]
    remarks: list[str]


def prepare(args: argparse.Namespace) -> Prepared:
    """Options into nodes, looking at the recording first.

    Raises:
        ConfigError, DataError: a wrong option, or a recording that cannot be read.
    """
    robot = load_embodiment(args.embodiment)
    checkpoint = args.checkpoint or f"embedded:{robot.name}"
    values: dict[str, Any] = {"checkpoint": checkpoint, "embodiment": args.embodiment, "device": args.device}
    values["baseline"] = args.baseline or _usual(checkpoint, simulated=not args.bag)
    remarks: list[str] = []
    topics: list[str] = []
    played: dict[str, Any] = {}
    if args.bag:
        mode, seconds = node_table.REPLAY, args.seconds or math.inf
        choices = {"image_topic": args.image_topic, "odom_topic": args.odom_topic, "plan_topic": args.plan_topic}
        recording = look(args.bag, **choices, embodiment=robot)
        topics = [stream.topic.name for stream in recording.streams]
        topics += [recording.commands.topic] if recording.commands else []
        played = {"bag": str(Path(args.bag).resolve()), "embodiment": args.embodiment}
        played |= {name: topic for name, topic in choices.items() if topic}
        values["image_lag_s"] = args.image_lag_s
        tick_rate_hz, remarks = _look_closely(recording, robot, args.image_lag_s)
        values["tick_rate_hz"] = tick_rate_hz
    else:
        mode, seconds = _simulator(robot), args.seconds or SIMULATED_S
        values |= {"seed": args.seed, "drive": "auto"}
    runs = node_table.plan(mode, values, params_file=args.params_file)
    runs = tuple(replace(r, parameters={**r.parameters, **played}) if r.entry.name == "replay" else r for r in runs)
    values |= played
    settings = {
        "mode": mode,
        "seconds": seconds if math.isfinite(seconds) else "to the end",
        **{key: value for key, value in values.items() if value not in ("", None)},
        **({"recorded_topics": topics} if topics else {}),
    }
    return Prepared(mode, runs, seconds, settings, remarks)


def _simulator(robot: Embodiment) -> str:
    """The mode that simulates a robot. Raises ConfigError for one that has no simulator."""
    if robot.name not in SIMULATED:
        raise ConfigError(
            f"there is no simulator for embodiment {robot.name!r}, only for {', '.join(SIMULATED)}; play a recording of"
            " it with --bag"
        )
    return SIMULATED[robot.name]


def _usual(checkpoint: str, *, simulated: bool) -> str:
    """The checkpoint's own baseline fits the simulator that it was trained in, but hardly a recording of elsewhere."""
    if not simulated:
        return LEARN
    try:
        return LEARN if checkpoint_baseline(checkpoint) is None else checkpoint
    except CheckpointError:
        return LEARN  # the world model says what is wrong with it, and its log is shown


def _look_closely(recording: Recording, robot: Embodiment, image_lag_s: float) -> tuple[float | None, list[str]]:
    """The tick rate where the recording is too slow for the embodiment's, and what a reader should know."""
    remarks, tick_rate_hz, rate_hz = [], None, robot.rate_hz
    measured = "odometry" if robot.integrate != "sum" else robot.action_source.topic
    if 0 < recording.image_rate_hz < SLOWER * rate_hz:
        tick_rate_hz = round(recording.image_rate_hz, 3)
        remarks.append(
            f"the recording has {recording.image_rate_hz:.3g} images a second, the model ticks at {rate_hz:g} Hz: "
            f"tick_rate_hz {tick_rate_hz:g} is used, so a predicted frame is further ahead than in training"
        )
    unknown = "" if image_lag_s else "; if they do lag, the model is given the wrong actions: see --image-lag-s"
    remarks.append(f"images are taken to be {image_lag_s:g} s late against {measured} (image_lag_s){unknown}")
    if recording.motion is None:
        remarks.append("the recording has neither odometry nor velocity commands")
    if recording.commands is not None and recording.commands.skipped:
        remarks.append(f"{recording.commands.skipped} commands on {recording.commands.topic} could not be used")
    return tick_rate_hz, remarks


def demo(prepared: Prepared, out: Path, *, domain_id: int | None) -> dict[str, Any]:
    """Run it into ``out`` and make the report; returns the figures.

    Raises:
        ChildError, DataError: a node failed, or nothing was recorded.
    """
    from egowm_nodes.demo import live  # rclpy: not needed for --help and --report-only
    from egowm_nodes.demo.status import LiveLine

    out.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (report.RUN, report.STATUS, report.REPORT, report.VIDEO, report.STRIP):
        (out / name).unlink(missing_ok=True)
    facts = live.RunFacts(prepared.mode, prepared.settings, prepared.remarks)
    line = LiveLine()
    names = ", ".join(run.entry.name for run in prepared.runs)
    line.say(f"{prepared.mode}: {names}; checkpoint {prepared.settings['checkpoint']}; output in {out}")
    if domain_id is None:
        domain_id = 20 + os.getpid() % 80
    try:
        live.run(prepared.runs, out, facts, seconds=prepared.seconds, domain_id=domain_id, line=line)
    finally:
        report.save(out / report.RUN, json.dumps(facts.to_dict(), indent=1))
    line.say(f"stopped after {facts.lasted_s:.1f} s; drawing")
    return report.build(out)


def tell(found: dict[str, Any], out: Path) -> bool:
    """Print the outcome; whether there was something to see."""
    latency = found["camera_to_rollout_s"]
    scs = ", ".join(f"{v:.1f} at frame {h}" for h, v in found["rows"]["model"]["scs"].items() if v is not None)
    print(f"{found['rollouts']} rollouts, camera to rollout {latency['p50'] if latency else '-'} s (median)")
    print(f"{found['drift_messages']} drift messages, {found['drift_scored']} scored")
    print(f"mean SCS, executed actions: {scs or '-'}")
    print(f"states: {', '.join(f'{state} {count}' for state, count in found['drift_states'].items()) or 'none'}")
    for alarm in found["alarms"]:
        when = f"{alarm['start_s']:.1f} to {alarm['end_s']:.1f} s"
        print(f"{alarm['state']} from {when}, {alarm['cause']}: {alarm['reason']}")
    for remark in found["run"]["remarks"]:
        print(f"note: {remark}")
    for name in (report.VIDEO, report.STRIP, report.REPORT, report.BAG, report.STATUS):
        if (out / name).exists():
            print(f"  {out / name}")
    return found["rollouts"] > 0 and found["drift_scored"] > 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; see ``--help`` for the exit status."""
    made = parser()
    args = made.parse_args(argv)
    if args.seconds is not None and not args.seconds > 0:
        made.error(f"--seconds {args.seconds:g} must be positive")
    out = args.report_only or args.out
    try:
        prepared = None if args.report_only else prepare(args)
    except EgowmError as error:
        print(f"egowm-demo: {error}", file=sys.stderr)
        return 2
    try:
        found = report.build(out) if prepared is None else demo(prepared, out, domain_id=args.domain_id)
    except EgowmError as error:
        print(f"egowm-demo: {error}", file=sys.stderr)
        return 1
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        report.save(args.json, json.dumps(found, indent=1))
    if not tell(found, out):
        print("egowm-demo: nothing was predicted and judged; see the notes above and logs/", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

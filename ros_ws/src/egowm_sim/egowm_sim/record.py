"""Simulated drives into bags, as fast as the machine goes: ``egowm-sim-record OUT``.

One room, one drive, one mcap bag. Stamps are simulated time from a fixed start, so equal arguments give equal
messages. Rooms already recorded are skipped, so an interrupted run is continued by running it again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from egowm_core.errors import EgowmError
from egowm_sim.beat import Beat
from egowm_sim.drive import ROBOTS, Drive, Figures
from egowm_sim.faults import Fault, FaultPlan, change_json, describe_kinds, parse_fault
from egowm_sim.processes import in_processes

IMAGE_RATES = {"base": 4.0, "humanoid": 5.0}  # of the embedded models
MOST_RATE_HZ = 100.0  # the simulation's tick rate


def record_drive(drive: Drive) -> Figures:
    """Simulate one drive and write its bag.

    Raises:
        egowm_sim.backend.SimulationError: arguments out of range or no OpenGL; nothing is left behind.
    """
    if drive.robot == "humanoid":
        from egowm_sim.humanoid.record import record_work

        return record_work(drive)
    from egowm_sim.bag import RobotBag
    from egowm_sim.driver import CONTROL_PERIOD_S, WanderingDriver
    from egowm_sim.faulty import FaultySimulation
    from egowm_sim.robot_simulation import TICK_S

    started = time.perf_counter()
    frames, distance_m = 0, 0.0
    images, odometry, control = (
        Beat(rate, tick_s=TICK_S) for rate in (drive.image_rate_hz, drive.odom_rate_hz, 1 / CONTROL_PERIOD_S)
    )
    with (
        FaultySimulation(
            seed=drive.seed,
            height=drive.height,
            width=drive.width,
            faults=drive.faults,
            camera_noise=drive.camera_noise,
            flicker=drive.flicker,
        ) as simulation,
        RobotBag(
            drive.path, height=drive.height, width=drive.width, truth=drive.truth, faults=bool(drive.faults)
        ) as bag,
    ):
        driver = WanderingDriver(simulation.room.floor_map, seed=drive.seed)
        if drive.truth:
            bag.structures(simulation.stamp_ns, simulation.room.structures)
        v = w = 0.0
        last = round(drive.seconds / TICK_S)
        tick = 0
        while True:
            for change in simulation.changes():
                bag.fault(simulation.start_ns + round(change.time_s * 1e9), change_json(change))
            if odometry.due(tick):
                bag.odometry(simulation.odometry())
            if images.due(tick):
                bag.image(simulation.stamp_ns, simulation.observe().image)
                if drive.truth:
                    bag.truth(simulation.stamp_ns, simulation.truth())
                frames += 1
            if tick >= last:
                break
            if control.due(tick):
                pose = simulation.pose()
                v, w = driver.command(pose.x, pose.y, pose.yaw)
                bag.command(simulation.stamp_ns, v, w)
            ahead = min(last, images.next_tick, odometry.next_tick, control.next_tick) - tick
            simulation.step(v, w, ahead * TICK_S)
            distance_m += abs(simulation.odometry().v) * ahead * TICK_S
            tick += ahead
    size = sum(file.stat().st_size for file in drive.path.iterdir())
    return Figures(drive.seed, frames, round(distance_m, 3), size, round(time.perf_counter() - started, 3))


def picture_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH of a command line. Raises ArgumentTypeError."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; expected HEIGHTxWIDTH, e.g. 240x320") from None
    return height, width


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} must be more than 0")
    return value


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except EgowmError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def build_parser() -> argparse.ArgumentParser:
    """The command line of egowm-sim-record."""
    parser = argparse.ArgumentParser(
        prog="egowm-sim-record",
        description="Drive a simulated robot through furnished rooms and record one mcap bag a room. "
        "Runs faster than real time, without ROS; run it again to continue an interrupted recording.",
        epilog="example: egowm-sim-record out/rooms --rooms 100 --seconds 60 --workers 2\n"
        "example: egowm-sim-record out/work --robot humanoid --rooms 100 --workers 2\n"
        "example: egowm-sim-record out/slips --fault wheel_slip:0.9@20-30 --fault lights_out@40 --camera-noise 1.5\n\n"
        f"faults, each with its usual severity (and wheel: .left, .right, .both):\n{describe_kinds()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for the bags (OUT/room_000007/ ...)")
    parser.add_argument("--rooms", type=int, default=10, metavar="N", help="how many rooms (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of the first room; the next follow (default %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=_positive, default=60.0, help="simulated seconds a room (default %(default)s)"
    )
    parser.add_argument(
        "--robot",
        choices=ROBOTS,
        default=ROBOTS[0],
        help="base: a mobile base that wanders; humanoid: works at a table with both hands, then drives about"
        " (default %(default)s)",
    )
    parser.add_argument(
        "--image-rate-hz",
        type=_rate,
        metavar="HZ",
        help="pictures a second (default: the embedded model's rate, 4 of the base and 5 of the humanoid)",
    )
    parser.add_argument(
        "--odom-rate-hz", type=_rate, default=20.0, metavar="HZ", help="odometry rate (default %(default)s)"
    )
    parser.add_argument(
        "--size", type=picture_size, default=(240, 320), metavar="HxW", help="picture size (default 240x320)"
    )
    parser.add_argument("--truth", action="store_true", help="also write structure ids and depth of every picture")
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        dest="faults",
        metavar="KIND[.WHEEL][:SEVERITY]@START[-END]",
        help="what goes wrong in every drive, from START to END seconds (repeatable); changes go to the topic /faults",
    )
    parser.add_argument(
        "--camera-noise",
        type=float,
        default=0.0,
        metavar="SIGMA",
        help="noise of every pixel in grey levels (default %(default)s)",
    )
    parser.add_argument(
        "--flicker",
        type=float,
        default=0.0,
        metavar="SIGMA",
        help="change of the exposure from picture to picture, as a share (default %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def _rate(text: str) -> float:
    value = _positive(text)
    if value > MOST_RATE_HZ:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_RATE_HZ:g} Hz, the simulation's own rate")
    return value


def _is_complete(path: Path) -> bool:
    return (path / "metadata.yaml").is_file()


def _report(done: list[Figures], skipped: int, wall_s: float) -> dict[str, object]:
    frames = sum(figures.frames for figures in done)
    return {
        "rooms": len(done), "skipped": skipped, "frames": frames,
        "frames_per_s": round(frames / wall_s, 1) if wall_s > 0 else 0.0,
        "distance_m": round(sum(figures.distance_m for figures in done), 1),
        "size_bytes": sum(figures.size_bytes for figures in done), "wall_s": round(wall_s, 2),
        "drives": [asdict(figures) for figures in done],
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 0 when every room is recorded, 1 on an error, 130 when interrupted."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.rooms < 1 or args.workers < 1 or args.seed < 0:
        parser.error(
            f"--rooms {args.rooms} and --workers {args.workers} must be 1 or more, --seed {args.seed} 0 or more"
        )
    late = [str(fault) for fault in args.faults if fault.start_s >= args.seconds]
    if late:
        parser.error(f"--fault {late[0]} begins after the drive's {args.seconds:g} s; begin it earlier or drive longer")
    if args.robot == "humanoid" and (args.faults or args.camera_noise or args.flicker):
        parser.error("--fault, --camera-noise and --flicker are the base's; leave them out with --robot humanoid")
    try:
        FaultPlan(args.faults)
    except EgowmError as error:
        parser.error(str(error))
    from tqdm import tqdm

    os.environ.setdefault("LP_NUM_THREADS", "0")  # software OpenGL paints in the calling thread: processes do the rest
    height, width = args.size
    drives = [
        Drive(
            args.out / f"room_{seed:06d}",
            seed,
            args.seconds,
            args.image_rate_hz or IMAGE_RATES[args.robot],
            args.odom_rate_hz,
            height,
            width,
            args.truth,
            tuple(args.faults),
            args.camera_noise,
            args.flicker,
            args.robot,
        )
        for seed in range(args.seed, args.seed + args.rooms)
    ]
    todo = [drive for drive in drives if not _is_complete(drive.path)]
    done: list[Figures] = []
    started = time.perf_counter()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with tqdm(total=len(drives), initial=len(drives) - len(todo), unit="room", desc="recording") as bar:
            for figures in in_processes(record_drive, todo, min(args.workers, max(len(todo), 1))):
                done.append(figures)
                bar.set_postfix(frames_per_s=f"{sum(f.frames for f in done) / (time.perf_counter() - started):.0f}")
                bar.update()
        report = _report(done, len(drives) - len(todo), time.perf_counter() - started)
        if args.json:
            partial = args.json.with_name(args.json.name + ".partial")
            partial.write_text(json.dumps(report, indent=1) + "\n")
            partial.replace(args.json)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except (EgowmError, OSError) as error:
        print(f"egowm-sim-record: {error}", file=sys.stderr)
        return 1
    there = f", {report['skipped']} rooms were there" if report["skipped"] else ""
    print(f"{report['frames']} frames of {len(done)} rooms in {args.out} ({report['frames_per_s']} frames/s{there})")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One shift of the humanoid into a bag, as fast as the machine goes. Knows the loop; knows no command line."""

from __future__ import annotations

import time

import numpy as np

from egowm_sim.bag import RobotBag
from egowm_sim.beat import Beat
from egowm_sim.drive import Drive, Figures
from egowm_sim.driver import CONTROL_PERIOD_S
from egowm_sim.humanoid.body import JOINT_NAMES
from egowm_sim.humanoid.operator import HumanoidOperator
from egowm_sim.humanoid.simulation import HumanoidSimulation
from egowm_sim.robot_simulation import TICK_S

JOINT_RATE_HZ, PLAN_RATE_HZ, PLAN_S = 50.0, 2.0, 2.0
HEAD_OPTICAL_FRAME = "head_camera_optical_frame"


def record_work(drive: Drive) -> Figures:
    """Simulate one shift and write its bag: pictures, joints, odometry, commands and plans.

    Raises:
        egowm_sim.backend.SimulationError: arguments out of range or no OpenGL; nothing is left behind.
    """
    started = time.perf_counter()
    frames, distance_m = 0, 0.0
    images, joints, odometry, plans, control = (
        Beat(rate, tick_s=TICK_S)
        for rate in (drive.image_rate_hz, JOINT_RATE_HZ, drive.odom_rate_hz, PLAN_RATE_HZ, 1 / CONTROL_PERIOD_S)
    )
    with (
        HumanoidSimulation(seed=drive.seed, height=drive.height, width=drive.width) as simulation,
        RobotBag(
            drive.path, height=drive.height, width=drive.width, truth=drive.truth, joints=True,
            optical_frame=HEAD_OPTICAL_FRAME,
        ) as bag,
    ):  # fmt: skip
        operator = HumanoidOperator(simulation, seed=drive.seed)
        if drive.truth:
            bag.structures(simulation.stamp_ns, simulation.room.structures)
        command = operator.command()
        tick, last = 0, round(drive.seconds / TICK_S)
        while True:
            stamp_ns = simulation.stamp_ns
            if joints.due(tick):
                reading = simulation.reading()
                bag.joints(stamp_ns, reading.names, reading.positions, reading.velocities)
            if odometry.due(tick):
                bag.odometry(simulation.odometry())
            if images.due(tick):
                bag.image(stamp_ns, simulation.observe().image)
                if drive.truth:
                    bag.truth(stamp_ns, simulation.truth())
                frames += 1
            if tick >= last:
                break
            if control.due(tick):
                command = operator.command()
                bag.command(stamp_ns, command.v, command.w)
            if plans.due(tick):
                ahead = operator.ahead(PLAN_S)
                bag.trajectory(stamp_ns, JOINT_NAMES, [(t, np.append(q, [v, w])) for t, q, v, w in ahead])
            nearest = min(beat.next_tick for beat in (images, joints, odometry, plans, control))
            step = min(last, nearest) - tick
            simulation.step(command.joints, command.v, command.w, step * TICK_S)
            distance_m += abs(simulation.odometry().v) * step * TICK_S
            tick += step
    size = sum(file.stat().st_size for file in drive.path.iterdir())
    return Figures(drive.seed, frames, round(distance_m, 3), size, round(time.perf_counter() - started, 3))

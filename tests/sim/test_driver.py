"""The wandering driver: moves on, keeps off things, drives smoothly, turns often."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from egowm_sim.driver import CONTROL_PERIOD_S, WanderingDriver
from egowm_sim.simulation import Simulation


def _drive(seed: int, seconds: float) -> tuple[np.ndarray, np.ndarray, int, Simulation]:
    """Poses (T,3), commands (T,2), bumps and the simulation after a drive."""
    simulation = Simulation(seed=seed)
    driver = WanderingDriver(simulation.room.floor_map, seed=seed)
    poses, commands, bumps = [], [], 0
    for _ in range(round(seconds / CONTROL_PERIOD_S)):
        pose = simulation.pose()
        command = driver.command(pose.x, pose.y, pose.yaw)
        simulation.step(*command, CONTROL_PERIOD_S)
        bumps += simulation.contacts() > 0
        poses.append((pose.x, pose.y, pose.yaw))
        commands.append(command)
    return np.array(poses), np.array(commands), bumps, simulation


@pytest.mark.parametrize("seed", [0, 2, 5, 8, 13, 23])
def test_it_stays_in_the_room_touches_nothing_and_gets_about(seed: int) -> None:
    poses, commands, bumps, simulation = _drive(seed, 30.0)
    polygon = simulation.room.plan.polygon.astype(np.float32)
    assert all(cv2.pointPolygonTest(polygon, (float(x), float(y)), False) > 0 for x, y, _ in poses[::10])
    assert bumps == 0
    assert np.hypot(*np.diff(poses[:, :2], axis=0).T).sum() > 3.0
    assert np.abs(commands[:, 0]).max() <= 0.6
    assert np.abs(commands[:, 1]).max() <= 0.6
    assert np.abs(np.diff(commands[:, 0])).max() < 0.08
    assert np.abs(np.diff(commands[:, 1])).max() <= 1.2 * CONTROL_PERIOD_S + 1e-9
    still = (np.abs(commands) < 0.02).all(axis=1)
    runs = np.diff(np.flatnonzero(np.concatenate([[True], ~still, [True]])))
    assert runs.max() * CONTROL_PERIOD_S < 6.0  # never stands for long


def test_turning_and_straight_driving_are_both_common() -> None:
    commands = np.concatenate([_drive(seed, 30.0)[1] for seed in (1, 3, 7, 9)])
    yaw_rate = np.abs(commands[:, 1])
    assert 0.15 < yaw_rate.mean() < 0.35
    assert ((yaw_rate < 0.1) & (commands[:, 0] > 0.2)).mean() > 0.1
    assert ((yaw_rate > 0.2) & (np.abs(commands[:, 0]) < 0.05)).mean() > 0.05
    assert np.median(commands[:, 0]) > 0.1


def test_equal_seeds_drive_alike_and_others_do_not() -> None:
    a, b = _drive(4, 5.0)[1], _drive(4, 5.0)[1]
    assert np.array_equal(a, b)
    simulation = Simulation(seed=4)
    pose = simulation.pose()
    drivers = [WanderingDriver(simulation.room.floor_map, seed=seed) for seed in (4, 99)]
    ways = [[driver.command(pose.x, pose.y, pose.yaw) for _ in range(60)] for driver in drivers]
    assert ways[0] != ways[1]

"""The demo with a robot of joints: the simulated humanoid for real, and how the pictures tell what its joints did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("av")
pytest.importorskip("mujoco")

from egowm_core.embodiment import load_embodiment
from egowm_nodes.demo import figures, motions, report, strip
from egowm_nodes.demo.session import Picture, Prediction, Session, read_session
from tests.fixtures.tiny_checkpoint import save_tiny_checkpoint

DOMAIN = str(1 + (os.getpid() + 70) % 100)
LIMIT_S = 200
ROBOT = load_embodiment("humanoid_25dof")
TICK_NS = 200_000_000


def test_the_humanoid_runs_through_the_same_nodes(tmp_path: Path) -> None:
    checkpoint = save_tiny_checkpoint(tmp_path / "tiny", horizon=4, embodiment=ROBOT)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "egowm_nodes.demo", "--domain-id", DOMAIN, "--embodiment", ROBOT.name]
    command += ["--checkpoint", str(checkpoint), "--seconds", "8", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    logs = "\n".join(f"{log.name}: {log.read_text()}" for log in (out / "logs").iterdir())
    assert done.returncode == 0, done.stdout + done.stderr + logs
    assert "Traceback" not in done.stdout + done.stderr + logs
    found = json.loads((out / report.STATUS).read_text())
    assert found["run"]["exit_statuses"] == {"sim_humanoid": 0, "world_model": 0, "drift_monitor": 0}
    assert found["run"]["settings"]["mode"] == "sim_humanoid"
    assert found["rollouts"] > 3 and found["drift_scored"] > 0
    assert found["topics"]["/joint_states"]["rate_hz"] > 20
    assert {"/joint_trajectory", "/odom", "/cmd_vel", "/camera_info"} <= set(found["topics"])
    session = read_session(out / report.BAG)
    assert {prediction.actions.shape for prediction in session.predictions} == {(4, 25)}
    assert {prediction.embodiment for prediction in session.predictions} == {ROBOT.name}
    assert "of its scale" in (out / report.REPORT).read_text()


def test_a_robot_without_a_simulator_is_told_to_bring_a_recording(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "egowm_nodes.demo",
        "--embodiment",
        "unitree_g1_26",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 2
    assert "--bag" in done.stderr and "humanoid_25dof" in done.stderr
    assert not (tmp_path / "out").exists()


def _prediction(tick: int, **per_tick: float) -> Prediction:
    """Four ticks of executed actions, in which the channels named go so far each tick."""
    actions = np.zeros((4, ROBOT.action_dim), np.float32)
    for name, value in per_tick.items():
        actions[:, ROBOT.channel_names.index(name)] = value
    return Prediction(
        context_ns=tick * TICK_NS,
        stamps_ns=(tick + np.arange(1, 5)) * TICK_NS,
        frames=np.zeros((4, 24, 32, 3), np.uint8),
        actions=actions,
        source="executed",
        inference_s=0.1,
        received_ns=tick * TICK_NS,
        model="made up",
        num_denoising_steps=1,
        embodiment=ROBOT.name,
    )


def test_motion_is_told_by_the_joints_that_moved_most() -> None:
    channels = motions.joint_channels(ROBOT.name, ROBOT.action_dim)
    told = motions.describe(_prediction(0, right_elbow_pitch=-0.2, linear_velocity=0.25).actions, channels, 0.8)
    assert told == "right_elbow_pitch -0.80 rad, linear_velocity +0.20 m"
    assert motions.describe(_prediction(0).actions, channels, 0.8) == "stands still"
    assert motions.joint_channels("base_3dof", 3) == ()
    assert motions.joint_channels(ROBOT.name, 3) == ()  # a rollout of something else
    assert motions.joint_channels("no such robot", 3) == ()


def test_the_strip_shows_where_joints_move_most_apart_from_each_other() -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    observed = [Picture(tick * TICK_NS, image) for tick in range(40)]
    moves = dict.fromkeys(range(0, 30, 2), 0.02) | {6: 0.2, 8: 0.19, 20: 0.1}
    predictions = [_prediction(tick, left_elbow_pitch=move) for tick, move in moves.items()]
    session = Session(observed=observed, predictions=sorted(predictions, key=lambda p: p.context_ns))
    chosen = strip.choose(strip.contexts(session))
    starts = [context.prediction.context_ns // TICK_NS for context in chosen]
    assert {6, 20} < set(starts) and 8 not in starts and len(starts) == 3  # 8 overlaps with 6
    assert strip.describe(chosen[starts.index(20)]) == "left_elbow_pitch +0.40 rad"
    assert "left_elbow_pitch" in figures.scs_plot(session)

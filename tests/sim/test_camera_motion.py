"""Where geometry says the humanoid's camera goes, against where the simulator renders it from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egowm_core.data.normalize import normalize
from egowm_core.data.state import normalize_state
from egowm_core.embodiment import load_embodiment
from egowm_core.errors import ConfigError
from egowm_core.models.camera_motion import camera_motion, moves_camera
from egowm_core.models.conditioning import camera_geometry
from egowm_core.models.warp import warp_by_pose
from egowm_sim.humanoid import JOINT_NAMES, HumanoidSimulation
from egowm_sim.humanoid.simulation import HOME

EMBODIMENT = load_embodiment("humanoid_25dof")
INDEX = {name: index for index, name in enumerate(JOINT_NAMES)}


def moves(simulation: HumanoidSimulation, joints: np.ndarray, v: float, w: float, ticks: int):
    """Pictures (T+1,H,W,3), actions (T,25) and the state at the first, of some ticks under one command."""
    simulation.open_camera()
    pictures, readings = [simulation.observe().image], [simulation.reading().positions]
    for _ in range(ticks):
        readings.append(simulation.step(joints, v, w, 0.2).positions)
        pictures.append(simulation.observe().image)
    positions = np.array(readings)
    actions = np.diff(positions, axis=0)
    actions[:, -2:] = (positions[1:, -2:] + positions[:-1, -2:]) / 2
    return np.stack(pictures), actions.astype(np.float32), positions[0].astype(np.float32)


@pytest.mark.parametrize(
    ("joints", "v", "w"),
    [({"NECK_PITCH": 0.6}, 0.0, 0.0), ({"HIP_YAW": 0.4}, 0.0, 0.0), ({}, 0.0, 0.5), ({"NECK_PITCH": -0.1}, -0.4, 0.4)],
)
def test_warping_by_the_motion_foresees_the_picture(joints: dict[str, float], v: float, w: float) -> None:
    wanted = HOME.copy()
    for name, value in joints.items():
        wanted[INDEX[name]] = value
    with HumanoidSimulation(seed=8, height=96, width=128) as simulation:
        away = HOME.copy()
        away[[INDEX["LEFT_SHOULDER_PITCH"], INDEX["RIGHT_SHOULDER_PITCH"]]] = 0.9  # arms out of the picture
        wanted[[INDEX["LEFT_SHOULDER_PITCH"], INDEX["RIGHT_SHOULDER_PITCH"]]] = 0.9
        simulation.step(away, -0.4, 0.0, 2.0)
        simulation.step(away, 0.0, 0.0, 1.0)
        pictures, actions, state = moves(simulation, wanted, v, w, 4)
    motion = camera_motion(
        torch.from_numpy(normalize(actions[None], EMBODIMENT)),
        EMBODIMENT,
        state=torch.from_numpy(normalize_state(state[None], EMBODIMENT)),
    )
    before = torch.from_numpy(pictures[:1]).permute(0, 3, 1, 2).float()
    warped, known = warp_by_pose(
        before, motion.pose, camera_geometry(EMBODIMENT), floor=torch.tensor([True]), pitch=motion.pitch
    )
    seen = known[0, -1, 0].numpy() > 0
    observed = pictures[-1].astype(float)
    foreseen = warped[0, -1].permute(1, 2, 0).numpy()
    error = np.abs(foreseen - observed)[seen].mean()
    copied = np.abs(pictures[0].astype(float) - observed)[seen].mean()
    assert seen.mean() > 0.5
    assert error < 0.55 * copied


def test_a_pitch_that_stays_changes_nothing() -> None:
    base = load_embodiment("base_3dof")
    camera = camera_geometry(base)
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    pose = torch.tensor([[[0.1, 0.0, 0.05]], [[-0.05, 0.0, -0.2]]])
    for floor in (True, False):
        plain, _ = warp_by_pose(images, pose, camera, floor=torch.tensor([floor] * 2))
        pitched, _ = warp_by_pose(
            images, pose, camera, floor=torch.tensor([floor] * 2), pitch=torch.full((2, 2), camera.pitch)
        )
        torch.testing.assert_close(plain, pitched, atol=2e-4, rtol=0)


def test_an_embodiment_that_does_not_say_is_refused_with_the_remedy() -> None:
    arm = load_embodiment("unitree_g1_26")
    assert not moves_camera(arm)
    with pytest.raises(ConfigError, match="moves_forward"):
        camera_motion(torch.zeros(1, 2, arm.action_dim), arm)


def test_a_joint_whose_position_is_not_given_is_named() -> None:
    with pytest.raises(ConfigError, match="hip_yaw"):
        camera_motion(torch.zeros(1, 2, 25), EMBODIMENT)

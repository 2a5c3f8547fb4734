"""The body that kinematics draw, against the one that the simulator renders; and what an embodiment may say of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egowm_core.data.normalize import normalize
from egowm_core.data.state import normalize_state
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import ConfigError
from egowm_core.models.conditioning import camera_geometry, foresee
from egowm_core.models.own_body import draw_own_body, joint_angles
from egowm_sim.humanoid import HumanoidOperator, HumanoidSimulation

EMBODIMENT = load_embodiment("humanoid_25dof")
ARMS = ("upper_arm", "forearm", "hand", "finger")
MARK = 60_000


@pytest.fixture(scope="module")
def work():
    """Pictures (N,H,W,3), arm masks (N,H,W) and readings (N,25), five a second, of a humanoid at work."""
    with HumanoidSimulation(seed=5, height=96, width=128) as simulation:
        model = simulation.model
        names = [model.body(model.geom_bodyid[i]).name for i in range(model.ngeom)]
        simulation.scene.geom_structure[[any(part in name for part in ARMS) for name in names]] = MARK
        operator = HumanoidOperator(simulation, seed=5)
        pictures, masks, readings = [], [], []
        for step in range(160):
            if step % 4 == 0:
                pictures.append(simulation.observe().image)
                masks.append(simulation.truth().segmentation == MARK)
                readings.append(simulation.reading().positions)
            command = operator.command()
            simulation.step(command.joints, command.v, command.w, 0.05)
    return np.stack(pictures), np.stack(masks), np.stack(readings)


def as_given(readings: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised actions (1,N-1,25) and state (1,25)."""
    actions = np.diff(readings, axis=0)
    actions[:, -2:] = (readings[1:, -2:] + readings[:-1, -2:]) / 2
    given = torch.from_numpy(normalize(actions[None].astype(np.float32), EMBODIMENT))
    return given, torch.from_numpy(normalize_state(readings[None, 0], EMBODIMENT))


def test_the_arms_are_drawn_where_the_simulator_renders_them(work) -> None:
    _, masks, readings = work
    actions, state = as_given(readings)
    angles = joint_angles(actions, state, EMBODIMENT, EMBODIMENT.own_body.joints)
    _, drawn = draw_own_body(EMBODIMENT.own_body, camera_geometry(EMBODIMENT), angles)
    drawn = drawn[0, :, 0].numpy() > 0
    shown = masks.mean(axis=(1, 2)) > 0.02
    overlap = (drawn & masks).sum(axis=(1, 2)) / (drawn | masks).sum(axis=(1, 2))
    assert shown.sum() > 20
    assert np.median(overlap[shown]) > 0.85
    assert overlap[shown].min() > 0.6


def test_foreseeing_with_the_body_beats_foreseeing_without(work) -> None:
    pictures, masks, readings = work
    errors = {"body": [], "none": []}
    for first in range(0, 32, 8):
        actions, state = as_given(readings[first : first + 9])
        before = torch.from_numpy(pictures[first][None]).permute(0, 3, 1, 2).float() / 127.5 - 1
        for name, robot in (("body", EMBODIMENT), ("none", _without_body())):
            seen, known = foresee(before, actions, embodiment=robot, floor=torch.tensor([True]), state=state)
            assert set(known.unique().tolist()) <= {0.0, 1.0}
            future = (seen[0].permute(0, 2, 3, 1).numpy() + 1) * 127.5
            off = np.abs(future - pictures[first + 1 : first + 9])[masks[first + 1 : first + 9]]
            errors[name].append(off.mean())
    assert np.mean(errors["body"]) < 0.75 * np.mean(errors["none"])


def test_it_survives_yaml() -> None:
    assert Embodiment.from_yaml(EMBODIMENT.to_yaml()) == EMBODIMENT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"neck": [0, 0]}, "three numbers"),
        ({"neck_joints": {"neck_pitch": "w"}}, "axis"),
        ({"chains": []}, "links"),
        ({"nec": [0, 0, 0]}, "neck"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(change: dict[str, object], words: str) -> None:
    data = EMBODIMENT.to_dict()
    data["own_body"] = {**data["own_body"], **change}
    with pytest.raises(ConfigError, match=words):
        Embodiment.from_dict(data)


def test_a_joint_that_is_no_state_is_named() -> None:
    with pytest.raises(ConfigError, match="tail"):
        joint_angles(torch.zeros(1, 2, 25), torch.zeros(1, 25), EMBODIMENT, ("tail",))


def _without_body() -> Embodiment:
    data = EMBODIMENT.to_dict()
    data.pop("own_body")
    return Embodiment.from_dict(data)

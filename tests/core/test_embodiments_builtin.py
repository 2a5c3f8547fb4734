"""The robots that ship with the package: data only, each of them enough to build an encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egowm_core.data.bag import Bag
from egowm_core.data.normalize import denormalize, normalize
from egowm_core.data.values import JointsValue
from egowm_core.embodiment import Embodiment, builtin_embodiments, load_embodiment
from egowm_core.errors import ConfigError, EmbodimentError
from egowm_core.models.action_encoder import ActionEncoder, ActionEncoderConfig, StateEncoder

RECORDING = Path(__file__).parents[3] / "shared" / "data" / "bags" / "g1_inspire_ep001"
WIDTHS = {
    "base_3dof": 3,
    "camera_6dof": 6,
    "humanoid_25dof": 25,
    "manipulator_7dof": 7,
    "rc_car_2dof": 2,
    "unitree_g1_26": 26,
}
HORIZON = 8

LEGS = ["hip_yaw", "hip_roll", "hip_pitch", "knee_pitch", "ankle_roll", "ankle_pitch"]
ARM = ["shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow_pitch", "elbow_yaw", "wrist_pitch", "wrist_roll"]
HUMANOID = [
    *LEGS,
    *(f"left_{joint}" for joint in ARM),
    *(f"right_{joint}" for joint in ARM),
    "neck_pitch",
    "left_hand_closure",
    "right_hand_closure",
    "linear_velocity",
    "angular_velocity",
]


def test_every_width_is_there() -> None:
    assert {name: load_embodiment(name).action_dim for name in builtin_embodiments()} == WIDTHS


@pytest.mark.parametrize("name", builtin_embodiments())
def test_actions_by_name_become_embeddings(name: str) -> None:
    robot = load_embodiment(name)
    rng = np.random.default_rng(0)
    low, high = robot.limits.T
    named = {
        channel.name: rng.uniform(low[i], high[i], HORIZON).astype(np.float32)
        for i, channel in reversed(list(enumerate(robot.channels)))
    }
    packed = robot.validate_actions(robot.pack(named))
    assert packed.shape == (HORIZON, WIDTHS[name])
    np.testing.assert_array_equal(robot.unpack(packed)[robot.channel_names[-1]], named[robot.channel_names[-1]])
    normalized = normalize(packed, robot)
    np.testing.assert_allclose(denormalize(normalized, robot), packed, rtol=1e-5, atol=1e-7)

    torch.manual_seed(0)
    encoder = ActionEncoder(
        action_dim=robot.action_dim,
        embedding_dim=8,
        scale=[float(scale) for scale in robot.scales],
        integrate_kind=robot.integrate,
        horizon=HORIZON,
        config=ActionEncoderConfig(hidden_dim=16),
    )
    torch.nn.init.normal_(encoder.mlp[-1].weight)
    action = torch.from_numpy(normalized)[None]
    embedding = encoder(action)
    assert embedding.shape == (1, HORIZON, 8)
    for channel in range(robot.action_dim):
        other = action.clone()
        other[0, 4, channel] += 0.1
        changed = (encoder(other) - embedding).abs().amax(dim=(0, 2))
        assert not changed[:4].any()
        assert (changed[4:] > 0).all(), robot.channel_names[channel]


@pytest.mark.parametrize("name", builtin_embodiments())
def test_scales_and_limits_make_sense_together(name: str) -> None:
    robot = load_embodiment(name)
    low, high = robot.limits.T
    assert (low < 0).all()
    assert (high > 0).all()
    reach = np.maximum(-low, high) / robot.scales
    assert (reach >= 0.6).all(), "a scale beyond the limits wastes the encoder's range"
    assert (reach <= 4).all(), "normalised actions would leave the range that features resolve"
    joined = [channel.kind == "delta" and channel.unit in ("m", "rad", "1") for channel in robot.channels]
    velocity = [channel.kind == "velocity" and channel.unit in ("m/s", "rad/s", "1") for channel in robot.channels]
    assert all(a or b for a, b in zip(joined, velocity, strict=True))
    with pytest.raises(EmbodimentError, match=robot.channel_names[-1]):
        robot.validate_actions(np.eye(robot.action_dim)[-1:] * 55)


@pytest.mark.parametrize("name", ["humanoid_25dof", "unitree_g1_26"])
def test_initial_states_are_the_same_joints_and_embed(name: str) -> None:
    robot = load_embodiment(name)
    assert [state.name for state in robot.states] == list(robot.channel_names)
    assert [state.source for state in robot.states] == [channel.source for channel in robot.channels]
    encoder = StateEncoder(state_dim=len(robot.states), embedding_dim=8)
    assert encoder(torch.zeros(2, len(robot.states))).shape == (2, 1, 8)
    assert robot.camera().name == "head"


def test_humanoid_order_is_that_of_its_recordings() -> None:
    robot = load_embodiment("humanoid_25dof")
    assert list(robot.channel_names) == HUMANOID
    assert [channel.source for channel in robot.channels] == [name.upper() for name in HUMANOID]
    assert (robot.rate_hz, robot.integrate) == (5.0, "sum")
    assert [channel.kind for channel in robot.channels] == ["delta"] * 23 + ["velocity"] * 2
    slower = robot.with_rate(2.5)
    np.testing.assert_allclose(slower.scales[:23], 2 * robot.scales[:23])
    np.testing.assert_allclose(slower.scales[23:], robot.scales[23:])


def test_left_and_right_share_their_scales() -> None:
    for name in ("humanoid_25dof", "unitree_g1_26"):
        channels = {channel.name: channel for channel in load_embodiment(name).channels}
        mirrored = [side for side in channels if side.startswith("left_")]
        assert mirrored
        for side in mirrored:
            twin = channels["right_" + side.removeprefix("left_")]
            assert (channels[side].scale, channels[side].limits) == (twin.scale, twin.limits)


def test_se3_wants_its_six_channels() -> None:
    camera = load_embodiment("camera_6dof")
    assert camera.channel_names == ("dx", "dy", "dz", "droll", "dpitch", "dyaw")
    data = camera.to_dict()
    data["channels"] = data["channels"][:5]
    with pytest.raises(ConfigError, match=r"integrate se3 needs the channels dx, dy, dz, droll, dpitch, dyaw.*use"):
        Embodiment.from_dict(data)
    with pytest.raises(ConfigError, match="'se4' is not one of se2, se3, sum"):
        Embodiment.from_dict({**camera.to_dict(), "integrate": "se4"})


@pytest.fixture(scope="module")
def recorded() -> tuple[np.ndarray, list[dict[str, float]]]:
    """Stamps in seconds and joint positions by name of a real recording."""
    if not RECORDING.is_dir():
        pytest.skip("the shared recording of a Unitree G1 is not here")
    with Bag(RECORDING) as bag:
        found = list(bag.read(["/joint_states"]))
    assert all(isinstance(item.value, JointsValue) for item in found)
    return np.array([item.stamp_ns for item in found]) * 1e-9, [item.value.positions for item in found]


def test_g1_recording_packs_by_name_and_fits(recorded: tuple[np.ndarray, list[dict[str, float]]]) -> None:
    stamps, joints = recorded
    robot = load_embodiment("unitree_g1_26")
    every = round(1 / (robot.rate_hz * float(np.median(np.diff(stamps)))))
    assert every * robot.rate_hz == pytest.approx(30.0)
    assert set(joints[0]) == {channel.source for channel in robot.channels}
    ticks = joints[::every]
    named = {
        channel.name: np.diff([positions[channel.source or ""] for positions in ticks]) for channel in robot.channels
    }
    actions = robot.pack(named)
    vectors = np.array([[positions[c.source or c.name] for c in robot.channels] for positions in ticks])
    np.testing.assert_allclose(actions, np.diff(vectors, axis=0), atol=1e-6)
    assert len(actions) > 60
    assert np.mean([robot.within_limits(row) for row in actions]) >= 0.99
    busy = np.quantile(np.abs(normalize(actions, robot)), 0.99, axis=0)
    right = [i for i, channel in enumerate(robot.channels) if channel.name.startswith("right_")]
    assert (busy[right] > 0.3).all()  # scales use the range
    assert (busy < 2).all()
    assert not robot.within_limits(actions * every * robot.rate_hz)  # rad/s given for rad is caught

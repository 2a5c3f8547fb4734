"""Action and state encoders: exact defaults, zero at birth, dropped ticks, latent groups, causality, SE(3)."""

from __future__ import annotations

import math
from dataclasses import fields
from importlib import resources

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from egowm_core.errors import ConfigError, EmbodimentError
from egowm_core.models.action_encoder import ActionEncoder, ActionEncoderConfig, StateEncoder, integrate
from egowm_core.models.action_features import FEATURES, SINUSOID_INPUT_SCALE, build_features
from egowm_core.schema import read_fields

WIDTH, HORIZON = 16, 8
CONTINUOUS = [name for name in FEATURES if name != "table"]
SE3 = ("se3", 6)


def encoder(
    kind: str = "se2", channels: int = 3, *, awake: bool = True, scale: float = 0.15, **options
) -> ActionEncoder:
    """A small encoder; ``awake`` gives the zero-initialised layer random weights, as if trained."""
    torch.manual_seed(0)
    made = ActionEncoder(
        action_dim=channels,
        embedding_dim=WIDTH,
        scale=[scale] * channels,
        integrate_kind=kind,
        horizon=HORIZON,
        config=ActionEncoderConfig(hidden_dim=32, **options),
    )
    if awake:
        nn.init.normal_(made.mlp[-1].weight, std=0.3)
    return made.eval()


def table(**options) -> ActionEncoder:
    return encoder("sum", 1, scale=1.0, features="table", motion="tick", num_actions=5, **options)


def actions(channels: int = 3, *, ticks: int = HORIZON, seed: int = 1) -> Tensor:
    return torch.rand(2, ticks, channels, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def moved_frames(model: nn.Module, action: Tensor, tick: int) -> list[int]:
    """Latent frames whose embedding changes with the action of ``tick``."""
    other = action.clone()
    other[:, tick] += 0.25
    changed = (model(action) - model(other)).abs().amax(dim=(0, 2))
    return [i for i, value in enumerate(changed.tolist()) if value > 0]


def test_the_embedded_checkpoint_keeps_its_embeddings() -> None:
    """Values recorded when the checkpoint was trained."""
    path = resources.files("egowm_core.embedded") / "base_3dof" / "weights.safetensors"
    prefix = "denoiser.action_encoder."
    weights = {k.removeprefix(prefix): v.float() for k, v in load_file(str(path)).items() if k.startswith(prefix)}
    model = ActionEncoder(action_dim=3, embedding_dim=512, scale=[0.15] * 3, integrate_kind="se2", horizon=8).eval()
    model.load_state_dict(weights)  # strict: no key more, none less
    tick = torch.arange(8)
    action = torch.stack([0.5 + 0.05 * tick, 0.1 * (-1.0) ** tick, 0.8 - 0.2 * tick], dim=-1)[None]
    with torch.no_grad():
        embedding = model(action)[0]
    recorded = torch.tensor(
        [
            [-0.41241193, 0.19473463, -0.08749135, -0.75266182],
            [0.22243142, 0.19263750, -0.08600736, -0.40374523],
            [0.36462003, -0.38670093, -0.18834630, -0.32981628],
        ]
    )
    norms = [11.9221859, 8.2688236, 7.7761159, 7.3080788, 7.6632037, 7.7102780, 8.1007833, 10.6332836]
    torch.testing.assert_close(embedding[[0, 3, 7], :4], recorded, atol=2e-6, rtol=0)
    torch.testing.assert_close(embedding.norm(dim=-1), torch.tensor(norms), atol=2e-5, rtol=0)


def test_default_features_are_bit_for_bit_the_octaves_of_the_published_checkpoints() -> None:
    model = encoder()
    action = actions()
    scale = torch.full((3,), 0.15)
    scalars = torch.cat([action, integrate(action, kind="se2", scale=scale) / (scale * HORIZON)], dim=-1)
    angles = (scalars[..., None] * (math.pi / 2 * 2.0 ** torch.arange(5))).flatten(-2)
    expected = model.mlp(torch.cat([scalars, angles.sin(), angles.cos()], dim=-1))
    assert torch.equal(model(action), expected)
    everything = torch.ones(2, HORIZON, dtype=torch.bool)
    assert torch.equal(model(action, everything), expected)


@pytest.mark.parametrize("features", CONTINUOUS)
@pytest.mark.parametrize("downsample", [1, 4])
def test_embeddings_are_zero_at_birth_and_only_the_last_layer_learns_first(features: str, downsample: int) -> None:
    model = encoder(awake=False, features=features, temporal_downsample=downsample)
    embedding = model(actions())
    assert embedding.shape == (2, HORIZON // downsample, WIDTH)
    assert not embedding.any()
    (embedding - 1).square().sum().backward()
    moving = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moving == {"mlp.4.weight", "mlp.4.bias"}


@pytest.mark.parametrize("features", CONTINUOUS)
@pytest.mark.parametrize(("kind", "channels"), [("se2", 3), SE3, ("sum", 7)])
def test_gradients_reach_actions_and_all_parameters(features: str, kind: str, channels: int) -> None:
    model = encoder(kind, channels, features=features, temporal_downsample=2)
    action = actions(channels).requires_grad_()
    model(action).square().sum().backward()
    assert action.grad is not None
    assert (action.grad.abs().sum(dim=(0, 2)) > 0).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_composed_motion_is_causal_and_a_tick_stands_alone() -> None:
    for kind, channels in [("se2", 3), SE3, ("sum", 4)]:
        assert moved_frames(encoder(kind, channels), actions(channels), 3) == [3, 4, 5, 6, 7]
        assert moved_frames(encoder(kind, channels, motion="tick"), actions(channels), 3) == [3]


def test_tick_motion_does_not_know_when_the_stream_began() -> None:
    action = actions(ticks=12)
    early, late = action[:, :HORIZON], action[:, 4:]
    model = encoder(motion="tick")
    torch.testing.assert_close(model(early)[:, 4:], model(late)[:, :4])
    composed = encoder()
    assert not torch.allclose(composed(early)[:, 4:], composed(late)[:, :4], atol=1e-3)


@pytest.mark.parametrize(("downsample", "expected"), [(1, [5]), (2, [2]), (4, [1]), (8, [0])])
def test_a_latent_frame_holds_exactly_its_own_group_of_ticks(downsample: int, expected: list[int]) -> None:
    model = encoder(motion="tick", features="linear", temporal_downsample=downsample)
    assert len(model.downsample) == int(math.log2(downsample))
    assert moved_frames(model, actions(), 5) == expected
    assert moved_frames(encoder(temporal_downsample=4), actions(), 1) == [0, 1]  # composed: and what follows


@pytest.mark.parametrize("model", [encoder(), encoder(*SE3), table()], ids=["se2", "se3", "table"])
def test_a_dropped_tick_is_exactly_zero_whatever_it_holds(model: ActionEncoder) -> None:
    nn.init.ones_(model.mlp[-1].bias)
    action = actions(model.action_dim)
    known = torch.ones(2, HORIZON, dtype=torch.bool)
    known[0, 2] = known[1, 7] = False
    holes = action.clone()
    holes[~known] = math.nan
    embedding = model(holes, known)
    assert not embedding[~known].any()
    assert embedding[known].abs().amin(dim=0).sum() > 0
    assert torch.equal(embedding[0, :2], model(action)[0, :2])


def test_a_dropped_tick_is_no_motion_for_those_after_it() -> None:
    model, action = encoder(), actions()
    known = torch.ones(2, HORIZON, dtype=torch.bool)
    known[:, 2] = False
    still = action.clone()
    still[:, 2] = 0
    assert torch.equal(model(action, known)[:, 3:], model(still)[:, 3:])
    assert not torch.equal(model(action, known)[:, 3:], model(action)[:, 3:])


def test_dropping_in_latent_groups() -> None:
    model, action = encoder(motion="tick", temporal_downsample=4), actions()
    nn.init.ones_(model.mlp[-1].bias)
    whole = torch.ones(2, HORIZON, dtype=torch.bool)
    whole[:, :4] = False
    embedding = model(action, whole)
    assert not embedding[:, 0].any()
    assert torch.equal(embedding[:, 1], model(action)[:, 1])
    per_frame = torch.tensor([[False, True]]).expand(2, -1)
    assert torch.equal(model(action, per_frame), embedding)

    part = torch.ones(2, HORIZON, dtype=torch.bool)
    part[:, 1] = False
    embedding, other = model(action, part), action.clone()
    assert embedding[:, 0].any()
    other[:, 1] = math.nan
    assert torch.equal(model(other, part), embedding)
    other = action.clone()
    other[:, 0] += 0.5
    assert not torch.equal(model(other, part)[:, 0], embedding[:, 0])


def matrix(pose: np.ndarray) -> np.ndarray:
    """4x4 of a translation and rotation vector: the power series of the matrix exponential."""
    x, y, z = pose[3:]
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation, term = np.eye(3), np.eye(3)
    for k in range(1, 40):
        term = term @ skew / k
        rotation = rotation + term
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, pose[:3]
    return out


@pytest.mark.parametrize("ticks", [1, 2, 7, 16])
def test_se3_agrees_with_matrices(ticks: int) -> None:
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, (2, ticks, 6))
    scale = np.array([0.15, 0.2, 0.1, 0.5, 0.4, 0.6])
    poses = integrate(torch.from_numpy(action), kind="se3", scale=torch.from_numpy(scale)).numpy()
    assert (np.linalg.norm(poses[..., 3:], axis=-1) <= np.pi + 1e-9).all()
    for clip, composed in zip(action * scale, poses, strict=True):
        expected = np.eye(4)
        for delta, pose in zip(clip, composed, strict=True):
            expected = expected @ matrix(delta)
            np.testing.assert_allclose(matrix(pose), expected, atol=1e-9)


def test_se3_in_the_plane_is_se2() -> None:
    planar = actions() * 0.7
    full = torch.zeros(2, HORIZON, 6)
    full[..., [0, 1, 5]] = planar
    expected = integrate(planar, kind="se2", scale=torch.full((3,), 0.3))
    composed = integrate(full, kind="se3", scale=torch.full((6,), 0.3))
    torch.testing.assert_close(composed[..., [0, 1, 5]], expected, atol=1e-5, rtol=0)
    assert not composed[..., 2:5].any()


@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-4, 1.0])
def test_se3_is_smooth_down_to_no_rotation(size: float) -> None:
    action = (actions(6, ticks=3).double() * size).requires_grad_()
    scale = torch.full((6,), 0.5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: integrate(a, kind="se3", scale=scale), action, eps=1e-6, atol=1e-6)
    single = torch.zeros(1, 4, 6, requires_grad=True)
    integrate(single, kind="se3", scale=torch.ones(6)).sum().backward()
    assert single.grad is not None
    torch.testing.assert_close(single.grad[0, :, 3], torch.tensor([4.0, 3.0, 2.0, 1.0]))


def test_se3_keeps_small_turns_in_float32() -> None:
    small = torch.full((1, 8, 6), 1e-5)
    composed = integrate(small, kind="se3", scale=torch.ones(6))
    torch.testing.assert_close(composed[0, :, 3], 1e-5 * torch.arange(1, 9), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("kind", "channels"), [("se2", 6), ("se3", 3), ("se4", 3)])
def test_integrate_refuses_other_widths(kind: str, channels: int) -> None:
    with pytest.raises(ValueError, match=f"se3.*{kind}.* {channels} channels"):
        integrate(torch.zeros(1, 2, channels), kind=kind, scale=torch.ones(channels))


def test_sinusoids_tell_neighbouring_actions_apart_only_when_scaled() -> None:
    x = torch.linspace(-1, 0.9, 96)[:, None]

    def apart(name: str, input_scale: float | None = None) -> float:
        made = build_features(name, num_scalars=1, num_frequencies=5, input_scale=input_scale)
        return float((made(x + 0.1) - made(x)).square().mean())

    assert apart("sinusoid", 1.0) < 0.002
    assert apart("sinusoid") > 0.5 * apart("fourier") > 0.2
    assert build_features("sinusoid", num_scalars=1, num_frequencies=5).frequencies[0] == pytest.approx(
        SINUSOID_INPUT_SCALE
    )
    raw = build_features("sinusoid", num_scalars=1, num_frequencies=5, input_scale=1.0)
    torch.testing.assert_close(raw.frequencies, torch.tensor([1.0, 0.1, 0.01, 1e-3, 1e-4]))


def test_learned_frequencies_are_trained_saved_and_joint() -> None:
    model = encoder(features="learned_fourier", motion="tick")
    assert model.state_dict()["features.frequencies"].shape == (15, 3)
    copy = encoder(features="learned_fourier", motion="tick", awake=False)
    nn.init.zeros_(copy.features.frequencies)
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy(actions()), model(actions()))


def test_a_table_of_discrete_actions() -> None:
    model = table(temporal_downsample=2)
    choices = torch.tensor([[0.0, 1, 2, 3, 4, 0, 1, 2]])[..., None]
    assert model(choices).shape == (1, 4, WIDTH)
    assert model.mlp[0].weight.shape == (5, 32)
    plain = table()
    embedding = plain(choices)[0]
    assert torch.equal(embedding[0], embedding[5])
    assert len({tuple(row) for row in embedding[:5].tolist()}) == 5
    plain.check_actions(choices)
    for bad in (1.5, -1.0, 5.0, math.nan):
        wrong = choices.clone()
        wrong[0, 3] = bad
        with pytest.raises(EmbodimentError, match=r"not finite|0\.\.4"):
            plain.check_actions(wrong)
        known = torch.ones(1, 8, dtype=torch.bool)
        known[0, 3] = False
        plain.check_actions(wrong, known)
        assert torch.isfinite(plain(torch.nan_to_num(wrong))).all()  # inside a graph: clamped, never out of range


def test_continuous_actions_are_checked_to_be_finite() -> None:
    action = actions()
    encoder().check_actions(action * 100)  # limits are the embodiment's business
    action[0, 0, 0] = math.inf
    with pytest.raises(EmbodimentError, match="not finite"):
        encoder().check_actions(action)


@pytest.mark.parametrize("features", FEATURES)
def test_state_embedding(features: str) -> None:
    options = {"motion": "tick", "num_actions": 4} if features == "table" else {}
    config = ActionEncoderConfig(features=features, hidden_dim=32, state_dim=25, **options)
    model = StateEncoder(state_dim=25, embedding_dim=WIDTH, config=config)
    state = torch.rand(2, 25)
    assert model(state).shape == (2, 1, WIDTH)
    assert not model(state).any()
    nn.init.normal_(model.mlp[-1].weight)
    other = state.clone()
    other[0, 24] += 0.1
    changed = (model(state) - model(other)).abs().amax(dim=(1, 2))
    assert changed[0] > 0
    assert changed[1] == 0
    with pytest.raises(EmbodimentError, match=r"\(B,25\), got \(2, 24\)"):
        model(state[:, 1:])
    for wrong in (0, 24):
        with pytest.raises(ConfigError, match=f"state_dim {wrong}"):
            StateEncoder(state_dim=wrong, embedding_dim=WIDTH, config=config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "sinusoids"}, "'sinusoids'.*did you mean 'sinusoid'"),
        ({"motion": "ticks"}, "'ticks'.*did you mean 'tick'"),
        ({"num_frequencies": 0}, "num_frequencies 0"),
        ({"hidden_dim": 0}, "hidden_dim 0"),
        ({"state_dim": -1}, "state_dim -1"),
        ({"input_scale": 0.0}, "input_scale 0"),
        ({"input_scale": math.nan}, "input_scale nan"),
        ({"temporal_downsample": 3}, "temporal_downsample 3.*power of two"),
        ({"temporal_downsample": 0}, "temporal_downsample 0"),
        ({"num_actions": 4}, "num_actions 4.*'table'"),
        ({"features": "table", "motion": "tick"}, "num_actions of at least 2"),
        ({"features": "table", "num_actions": 4}, "motion 'tick', got 'composed'"),
        ({"features": "table", "num_actions": 4, "motion": "tick", "input_scale": 2.0}, "input_scale"),
    ],
)
def test_config_errors_name_value_and_remedy(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ActionEncoderConfig(**options)


def test_config_reads_from_a_mapping() -> None:
    values = {"features": "sinusoid", "input_scale": 100, "temporal_downsample": 4}
    config = ActionEncoderConfig(**read_fields(ActionEncoderConfig, values, "action"))
    assert (config.input_scale, config.temporal_downsample, config.motion) == (100.0, 4, "composed")
    with pytest.raises(ConfigError, match="did you mean 'hidden_dim'"):
        read_fields(ActionEncoderConfig, {"hiden_dim": 4}, "action")
    assert read_fields(ActionEncoderConfig, {f.name: f.default for f in fields(ActionEncoderConfig)}, "action")


@pytest.mark.parametrize(
    ("kind", "channels", "options", "message"),
    [
        ("se33", 6, {}, "'se33'.*did you mean 'se3'"),
        ("se3", 7, {}, "se3 needs 6 channels, got 7"),
        ("se2", 6, {}, "se2 needs 3 channels, got 6"),
        ("sum", 2, {"features": "table", "motion": "tick", "num_actions": 4}, "one action channel, got 2"),
    ],
)
def test_encoders_that_cannot_fit_the_robot(kind: str, channels: int, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder(kind, channels, **options)


def test_one_scale_per_channel_is_needed() -> None:
    with pytest.raises(ConfigError, match="2 values for 3"):
        ActionEncoder(action_dim=3, embedding_dim=4, scale=[1.0, 1.0], integrate_kind="se2", horizon=8)


def test_wrong_shapes_are_refused() -> None:
    model = encoder(temporal_downsample=4)
    with pytest.raises(EmbodimentError, match=r"\(B,T,3\), got \(2, 8, 4\)"):
        model(actions(4))
    with pytest.raises(EmbodimentError, match=r"6 ticks.*multiple of 4"):
        model(actions(ticks=6))
    with pytest.raises(EmbodimentError, match=r"known.*\(2, 8\).*\(2, 2\), got \(2, 4\)"):
        model(actions(), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(EmbodimentError, match="known must be bool"):
        model(actions(), torch.ones(2, 8))


@pytest.mark.parametrize(
    "model",
    [encoder(temporal_downsample=4), encoder(*SE3, features="sinusoid"), table(), encoder(features="learned_fourier")],
    ids=["downsampled", "se3", "table", "learned"],
)
@pytest.mark.parametrize("dropping", [False, True])
def test_one_graph_serves_every_value(model: ActionEncoder, dropping: bool) -> None:
    """What ONNX export starts from: captured without data-dependent control flow, for any values and dropped ticks."""
    known = (torch.ones(2, HORIZON, dtype=torch.bool),) if dropping else ()
    graph = torch.export.export(model, (actions(model.action_dim), *known)).module()
    other = actions(model.action_dim, seed=2) * 3
    if dropping:
        known = (torch.rand(2, HORIZON, generator=torch.Generator().manual_seed(3)) > 0.5,)
    torch.testing.assert_close(graph(other, *known), model(other, *known))

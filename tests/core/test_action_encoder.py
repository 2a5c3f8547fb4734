"""Action and state encoders: exact defaults, zero at birth, dropped ticks, latent groups, causality, one graph."""

from __future__ import annotations

import math
from importlib import resources

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from egowm_core.errors import ConfigError, EmbodimentError
from egowm_core.models.action_encoder import ActionEncoder, ActionEncoderConfig, StateEncoder, integrate
from egowm_core.models.action_features import FEATURES, SINUSOID_INPUT_SCALE, build_features
from tests.core.action_encoders import HORIZON, SE3, WIDTH, actions, encoder, table

CONTINUOUS = [name for name in FEATURES if name != "table"]


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

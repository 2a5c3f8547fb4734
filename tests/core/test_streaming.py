"""Streams of causal models: frame by frame without end, cached as uncached, each action taken when it is needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egowm_core import Frames, adapt_backbone, load_world_model
from egowm_core.diffusion.denoiser import Context
from egowm_core.errors import ConfigError, EmbodimentError, RolloutError
from egowm_core.latent_rollout import LatentStream, SamplingPlan
from egowm_core.world_model import WorldModel
from tests.core.wandering import CAUSAL, wander
from tests.fixtures.tiny_checkpoint import made_up_picture, save_tiny_checkpoint
from tests.fixtures.tiny_pipelines import save_tiny_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> WorldModel:
    directory = save_tiny_checkpoint(
        tmp_path_factory.mktemp("causal") / "tiny", horizon=4, denoiser_fields=CAUSAL, vae_fields={"causal": True}
    )
    loaded = load_world_model(directory, bf16=False)
    _awaken(loaded)
    return loaded


def _awaken(model: WorldModel) -> None:
    """Layers that start at zero get weights, as if trained."""
    generator = torch.Generator().manual_seed(5)
    for module in (model.denoiser, model.vae):
        assert isinstance(module, torch.nn.Module)
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)


def context() -> Frames:
    return Frames(made_up_picture(96, 128, seed=9)[None], np.array([1_000_000_000], dtype=np.int64))


def test_a_stream_never_ends_and_stamps_every_frame(model: WorldModel) -> None:
    frames = list(itertools.islice(model.stream(context(), wander()), 12))  # three times the training length
    assert [int(item.frames.stamps_ns[0]) for item in frames] == [1_000_000_000 + 250_000_000 * i for i in range(1, 13)]
    assert all(item.frames.images.shape == (1, 96, 128, 3) for item in frames)
    assert all(set(item.timings_s) == {"denoise", "decode", "total"} for item in frames)


def test_a_stream_is_the_rollout_of_the_same_actions(model: WorldModel) -> None:
    actions = np.stack(list(wander(6)))
    streamed = np.concatenate([item.frames.images for item in model.stream(context(), actions, seed=4)])
    rolled = model.predict(context().images[None], actions[None], seed=4).images[0]
    assert np.abs(streamed.astype(int) - rolled.astype(int)).max() <= 1
    changed = actions.copy()
    changed[3] = -changed[3]
    other = model.predict(context().images[None], changed[None], seed=4).images[0]
    assert np.array_equal(rolled[:3], other[:3]) and not np.array_equal(rolled[3], other[3])


def test_an_action_is_asked_for_only_when_its_frame_is(model: WorldModel) -> None:
    taken: list[int] = []

    def source() -> Iterator[np.ndarray]:
        for number, action in enumerate(wander()):
            taken.append(number)
            yield action

    stream = model.stream(context(), source())
    next(stream)
    next(stream)
    assert taken == [0, 1]


@torch.inference_mode()
@pytest.mark.parametrize("guidance_scale", [0.0, 1.5])
def test_cached_streams_equal_uncached_ones_beyond_the_window(model: WorldModel, guidance_scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    known = Context(torch.randn(2, 1, 16, 12, 16, generator=generator))
    plan = SamplingPlan(num_denoising_steps=2, guidance_scale=guidance_scale)
    streams = [LatentStream(model.denoiser, known, plan, cache=cache) for cache in (True, False)]
    for _ in range(9):  # the window is 5
        action = torch.rand(2, 1, 3, generator=generator) - 0.5
        noise = torch.randn(2, 1, 16, 12, 16, generator=generator)
        cached, uncached = (stream.step(action, noise) for stream in streams)
        assert torch.isfinite(cached).all()
        assert torch.allclose(cached, uncached, atol=1e-4, rtol=1e-5)


@torch.inference_mode()
def test_guidance_moves_a_frame_further_along_its_action(model: WorldModel) -> None:
    generator = torch.Generator().manual_seed(0)
    known = Context(torch.randn(1, 1, 16, 12, 16, generator=generator))
    noise = torch.randn(1, 1, 16, 12, 16, generator=generator)
    action = torch.tensor([[[0.9, 0.0, -0.7]]])

    def frame(scale: float) -> torch.Tensor:
        plan = SamplingPlan(num_denoising_steps=1, guidance_scale=scale, guidance_rescale=0.0)
        return LatentStream(model.denoiser, known, plan).step(action, noise)

    plain, guided, strongly = frame(0.0), frame(1.0), frame(2.0)
    assert not torch.equal(plain, guided)
    assert torch.allclose(strongly - plain, 2 * (guided - plain), atol=1e-4)  # one step: affine in the scale


def test_history_is_bounded_without_a_cache(model: WorldModel) -> None:
    known = Context(torch.zeros(1, 1, 16, 12, 16))
    stream = LatentStream(model.denoiser, known, SamplingPlan(num_denoising_steps=1), cache=False, history=4)
    with torch.inference_mode():
        for _ in range(8):
            stream.step(torch.zeros(1, 1, 3), torch.randn(1, 1, 16, 12, 16))
    assert stream.num_kept == 4
    with pytest.raises(ConfigError, match="history 1 must exceed"):
        LatentStream(model.denoiser, known, SamplingPlan(), cache=False, history=1)


def test_what_cannot_stream_says_so(model: WorldModel, tmp_path: Path) -> None:
    with pytest.raises(EmbodimentError, match="dyaw"):
        next(model.stream(context(), [np.array([0, 0, 9.0], np.float32)]))
    chunked = load_world_model(save_tiny_checkpoint(tmp_path / "tiny", horizon=4), bf16=False)
    with pytest.raises(ConfigError, match="causal: true"):
        next(chunked.stream(context(), wander()))
    with pytest.raises(RolloutError, match="0 context frames"):
        next(model.stream(Frames(context().images[:0], context().stamps_ns[:0]), wander()))


def test_sampling_plans_are_checked() -> None:
    for changes, message in (
        ({"sampler": "oiler"}, "did you mean 'euler'"),
        ({"schedule": "karas"}, "did you mean 'karras'"),
        ({"num_denoising_steps": 0}, "at least 1"),
        ({"guidance_rescale": 2.0}, "0..1"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(SamplingPlan(), **changes)
    assert SamplingPlan.from_config({"num_denoising_steps": 3, "warp": "floor"}).num_denoising_steps == 3
    flow = SamplingPlan(schedule="flow", num_denoising_steps=5, sigma_max=80.0, sigma_min=0.01).sigmas()
    t = flow[:-1] / (1 + flow[:-1])
    assert torch.allclose(t.diff(), t.diff()[0].expand(4), atol=1e-5) and flow[-1] == 0


def test_a_temporal_autoencoder_streams_a_latent_s_frames_at_a_time(tmp_path: Path) -> None:
    source = save_tiny_pipeline(tmp_path / "stock", "wan")
    model = adapt_backbone("wan", "base_3dof", source=source, horizon=8, causal=True, size=(64, 64), text="zeros")
    factor = model.vae.temporal_factor
    picture = made_up_picture(64, 64, seed=2)
    first = Frames(picture[None], np.array([0], dtype=np.int64))
    chunks = list(model.stream(first, wander(2 * factor + 1), num_denoising_steps=1))
    assert [item.frames.images.shape for item in chunks] == [(factor, 64, 64, 3)] * 2
    assert chunks[1].frames.stamps_ns[-1] == 2 * factor * 250_000_000
    actions = np.stack(list(wander(2 * factor)))
    rolled = model.predict(picture[None, None], actions[None], num_denoising_steps=1).images[0]
    streamed = np.concatenate([item.frames.images for item in chunks])
    assert np.array_equal(streamed[:factor], rolled[:factor])

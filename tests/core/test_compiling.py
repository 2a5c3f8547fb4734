"""Compiled world models: the same outputs, hooks included, and what cannot be compiled. On a backend without kernels of
its own, which traces and lowers as the default one does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from egowm_core.bench.build import build_model, build_parts, with_tiny_decoder
from egowm_core.bench.configs import setting
from egowm_core.compiling import COMPILE_MODES, compile_world_model
from egowm_core.diffusion.denoiser import Context
from egowm_core.errors import ConfigError
from egowm_core.latent_rollout import LatentStream, SamplingPlan
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.world_model import WorldModel
from tests.core.tiny import tiny, wake

CPU = torch.device("cpu")
BACKEND = "aot_eager"
SMALLER: dict[str, dict[str, Any]] = {
    "svd": {"block_out_channels": [128], "attention_levels": [True]},
    "cosmos": {"num_layers": 1},
}


def tiny_model(backbone: str) -> WorldModel:
    """With an action path that says something."""
    small = setting(backbone, "tiny")
    torch.manual_seed(0)
    model = build_model(small, build_parts(small, device=CPU, dtype=torch.float32), device=CPU)
    assert isinstance(model.denoiser, BackboneDenoiser)
    wake(model.denoiser)
    return model


def denoised(model: WorldModel, action: float) -> Tensor:
    config = model.denoiser.config
    generator = torch.Generator().manual_seed(0)
    shape = (1, config.horizon, config.latent_channels, config.latent_height, config.latent_width)
    noisy = torch.randn(shape, generator=generator)
    actions = torch.full((1, config.horizon * config.temporal_factor, 3), action)
    with torch.inference_mode():
        return model.denoiser.denoise(noisy, torch.ones(1, config.horizon), Context(0.5 * noisy[:, :1]), actions)


@pytest.mark.parametrize("backbone", ["svd", "cosmos"])
def test_the_compiled_denoiser_follows_actions_as_the_eager_one(backbone: str) -> None:
    model = tiny_model(backbone)
    keys = list(model.denoiser.state_dict())  # type: ignore[attr-defined]
    eager = {action: denoised(model, action) for action in (0.5, -0.5)}
    difference = (eager[0.5] - eager[-0.5]).abs().max()
    compile_world_model(model, "default", backend=BACKEND)
    for action, expected in eager.items():
        compiled = denoised(model, action)
        assert (compiled - expected).abs().max() < 1e-2 * difference
        assert torch.allclose(compiled, expected, rtol=1e-3, atol=1e-4)
    assert list(model.denoiser.state_dict()) == keys  # type: ignore[attr-defined]
    compile_world_model(model, "none")
    assert torch.equal(denoised(model, 0.5), eager[0.5])


def test_compilation_is_one_graph_for_all_steps_and_actions() -> None:
    model = tiny_model("cosmos")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compile_world_model(model, "default", backend=BACKEND)
    for action in (0.5, -0.5, 0.1):
        denoised(model, action)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.parametrize("tiny_decoder", [False, True])
def test_the_compiled_decoder_decodes_the_same_pictures(tiny_decoder: bool) -> None:
    model = tiny_model("svd")
    model = with_tiny_decoder(model, setting("svd", "tiny")) if tiny_decoder else model
    latents = torch.randn(2, 8, 4, 4, 4, generator=torch.Generator().manual_seed(0))  # two chunks
    with torch.inference_mode():
        eager = model.vae.decode(latents)
        compile_world_model(model, "default", backend=BACKEND)
        compiled = model.vae.decode(latents)
    assert eager.std() > 1e-3
    assert torch.allclose(eager, compiled, rtol=1e-3, atol=1e-4)


def test_an_unknown_mode_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'max-autotune'"):
        compile_world_model(tiny_model("cosmos"), "max-auto-tune")
    assert "none" in COMPILE_MODES


def test_without_a_compiler_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("cosmos")
    eager = denoised(model, 0.5)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"apt install g\+\+"):
        compile_world_model(model, "default")
    compile_world_model(model, "none")
    assert torch.equal(denoised(model, 0.5), eager)


@pytest.mark.parametrize("backbone", ["svd", "cosmos"])
def test_compiled_streams_are_the_eager_ones_in_few_graphs(backbone: str) -> None:
    model = tiny_model("cosmos")
    model.denoiser = tiny(f"{backbone}-causal", **SMALLER[backbone])
    config = model.denoiser.config
    count = config.attention_window + 1
    generator = torch.Generator().manual_seed(0)
    frame = (config.latent_channels, config.latent_height, config.latent_width)
    known = Context(torch.randn(1, config.context_frames, *frame, generator=generator))
    noise = torch.randn(count, 1, 1, *frame, generator=generator)
    actions = 2 * torch.rand(count, 1, config.temporal_factor, 3, generator=generator) - 1

    def streamed(plan: SamplingPlan) -> Tensor:
        with torch.inference_mode():
            stream = LatentStream(model.denoiser, known, plan)
            return torch.cat([stream.step(actions[index], noise[index]) for index in range(count)], dim=1)

    plan = SamplingPlan(num_denoising_steps=1)
    eager = streamed(plan)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    counters = torch._dynamo.utils.counters
    compile_world_model(model, "default", backend=BACKEND)
    assert torch.allclose(streamed(plan), eager, rtol=1e-3, atol=1e-3)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs <= 5  # the beginning; a frame and its commit, while memory fills and when it is full
    assert not counters["graph_break"]
    streamed(SamplingPlan(num_denoising_steps=2))  # another stream, and more steps, compile nothing anew
    assert counters["stats"]["unique_graphs"] == graphs
    compile_world_model(model, "none")
    assert torch.equal(streamed(plan), eager)


def test_exported_graphs_are_refused() -> None:
    model = tiny_model("cosmos")

    class Graph:
        config = model.denoiser.config

    model.denoiser = Graph()  # type: ignore[assignment]
    compile_world_model(model, "none")
    with pytest.raises(ConfigError, match="engine 'torch'"):
        compile_world_model(model, "default")


def test_cuda_graphs_and_overlapping_stages_exclude_each_other() -> None:
    model = tiny_model("svd")
    model.overlap = True
    with pytest.raises(ConfigError, match="overlap"):
        compile_world_model(model, "reduce-overhead")
    model.overlap = False
    compile_world_model(model, "reduce-overhead")  # compiles nothing before the first rollout
    with pytest.raises(ConfigError, match="CUDA graphs"):
        model.overlap = True
    compile_world_model(model, "none")
    model.overlap = True
    assert model.overlap

"""Streams of causal networks: with a memory of past frames as without, on stock classes, and what a memory refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from egowm_core.errors import RolloutError
from egowm_core.models.frame_cache import FrameCache
from tests.core.causal_backbones import (
    BACKBONES,
    BATCH,
    CACHED,
    WINDOW,
    cosmos_backbone,
    unet_backbone,
    video,
)


@torch.no_grad()
@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize("chunks", [[1] * 9, [2, 2, 2, 2, 1], [1, 5, 3]], ids=["by one", "by two", "uneven"])
def test_a_stream_with_a_cache_is_the_full_pass(name: str, chunks: list[int]) -> None:
    backbone = BACKBONES[name]()
    control = backbone.causalise()
    latents, noise = video(sum(chunks))
    full = backbone.call(latents, noise)
    cache, streamed = FrameCache(), []
    for new_latents, new_noise in zip(latents.split(chunks, dim=1), noise.split(chunks, dim=1), strict=True):
        with control.streaming(cache, commit=True):
            streamed.append(backbone.call(new_latents, new_noise))
    assert cache.num_frames == sum(chunks) > WINDOW
    torch.testing.assert_close(torch.cat(streamed, dim=1), full, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone.call(latents, noise), full, atol=0, rtol=0)  # outside, the cache is not used


@torch.no_grad()
@pytest.mark.parametrize("name", ["unet-extrapolative", "decoder-extrapolative", "cosmos"])
def test_the_cache_is_untouched_without_commit_or_after_an_error(name: str) -> None:
    backbone = BACKBONES[name]()
    control = backbone.causalise()
    latents, noise = video(3)
    cache = FrameCache()
    with control.streaming(cache, commit=True):
        backbone.call(latents[:, :2], noise[:, :2])
    kept = {key: state.clone() for key, state in cache.states.items()}
    newest = latents[:, 2:], noise[:, 2:]
    with control.streaming(cache, commit=False):
        outputs = [backbone.call(*newest), backbone.call(newest[0] + 1, newest[1]), backbone.call(*newest)]
    assert torch.equal(outputs[0], outputs[2]) and not torch.equal(outputs[0], outputs[1])
    with pytest.raises(ZeroDivisionError), control.streaming(cache, commit=True):
        backbone.call(*newest)
        raise ZeroDivisionError
    assert cache.num_frames == 2 and cache.states.keys() == kept.keys()
    assert all(torch.equal(state, kept[key]) for key, state in cache.states.items())
    with control.streaming(cache, commit=True):
        assert torch.equal(backbone.call(*newest), outputs[0])


@torch.no_grad()
@pytest.mark.parametrize("name", ["unet-extrapolative", "decoder-extrapolative", "cosmos"])
def test_memory_is_bounded(name: str) -> None:
    backbone = BACKBONES[name]()
    control = backbone.causalise()
    latents, noise = video(50, batch=1)
    cache, sizes = FrameCache(), []
    for frame in range(50):
        with control.streaming(cache, commit=True):
            backbone.call(latents[:, frame : frame + 1], noise[:, frame : frame + 1])
        sizes.append(cache.num_bytes)
    assert 0 < sizes[0] < sizes[1] and sizes[WINDOW] == sizes[-1]
    assert cache.num_frames == 50
    # What is kept is a copy, not a view into a longer tensor.
    assert sum(state.untyped_storage().nbytes() for state in cache.states.values()) == cache.num_bytes


@torch.no_grad()
def test_a_fork_goes_its_own_way_and_tiles_the_batch() -> None:
    backbone = cosmos_backbone()
    control = backbone.causalise()
    latents, noise = video(4, batch=1)
    cache = FrameCache()
    with control.streaming(cache, commit=True):
        backbone.call(latents[:, :3], noise[:, :3])
    fork = cache.fork(batch_size=2)
    with control.streaming(fork, commit=True):
        pair = backbone.call(latents[:, 3:].repeat(2, 1, 1, 1, 1), noise[:, 3:].repeat(2, 1))
    full = backbone.call(latents.repeat(2, 1, 1, 1, 1), noise.repeat(2, 1))
    torch.testing.assert_close(pair, full[:, 3:], atol=1e-5, rtol=1e-5)
    assert (cache.num_frames, fork.num_frames) == (3, 4)


def test_a_cache_of_inference_mode_serves_outside_of_it_and_passes_no_gradient_into_the_past() -> None:
    backbone = unet_backbone()
    control = backbone.causalise()
    latents, noise = video(3)
    cache = FrameCache()
    with torch.inference_mode(), control.streaming(cache, commit=True):
        backbone.call(latents[:, :2], noise[:, :2])
    newest = latents[:, 2:].clone().requires_grad_()
    with control.streaming(cache, commit=True):
        backbone.call(newest, noise[:, 2:]).square().mean().backward()
    assert newest.grad is not None and newest.grad.abs().max() > 0
    assert not any(state.requires_grad for state in cache.states.values())


@torch.no_grad()
def test_a_copy_of_a_causal_network_has_a_control_of_its_own() -> None:
    backbone = unet_backbone()
    control = backbone.causalise()
    other = copy.deepcopy(backbone.network)
    latents, _ = video(2)
    arguments = (torch.full((BATCH,), 0.2), torch.zeros(BATCH, 1, 16), torch.zeros(BATCH, 3))
    cache = FrameCache()
    with other.causal_control.streaming(cache, commit=True):
        streamed = [other(latents[:, :1], *arguments).sample]
        assert other.causal_control is not control and control.cache is None
    with other.causal_control.streaming(cache, commit=True):
        streamed.append(other(latents[:, 1:], *arguments).sample)
    full = backbone.network(latents, *arguments).sample
    torch.testing.assert_close(torch.cat(streamed, dim=1), full, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_cache_of_another_network_batch_or_pass_is_refused() -> None:
    backbone, other = cosmos_backbone(), cosmos_backbone()
    control, other_control = backbone.causalise(), other.causalise()
    latents, noise = video(1)
    cache = FrameCache()
    with control.streaming(cache, commit=True):
        backbone.call(latents, noise)
    with pytest.raises(RolloutError, match="another network"), other_control.streaming(cache, commit=False):
        pass
    with pytest.raises(RolloutError, match="another stream"), control.streaming(cache, commit=False):  # noqa: SIM117
        with control.streaming(cache, commit=False):
            pass
    with pytest.raises(RolloutError, match="keeps its batch"), control.streaming(cache, commit=False):
        backbone.call(latents[:1], noise[:1])
    with pytest.raises(RolloutError, match="commit once"), control.streaming(cache, commit=True):
        backbone.call(latents, noise)
        backbone.call(latents, noise)
    assert cache.num_frames == 1 and control.cache is None


@torch.no_grad()
def test_a_cached_step_exports_with_its_states_as_inputs_and_outputs() -> None:
    backbone = cosmos_backbone()
    control = backbone.causalise()
    latents, noise = video(WINDOW + 2, batch=1)
    cache = FrameCache()
    with control.streaming(cache, commit=True):
        backbone.call(latents[:, :-1], noise[:, :-1])

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = backbone.network

        def forward(
            self, latents: Tensor, noise: Tensor, states: dict[str, Tensor]
        ) -> tuple[Tensor, dict[str, Tensor]]:
            cache = FrameCache(states, num_frames=WINDOW + 1)
            with control.streaming(cache, commit=True):
                denoised = backbone.call(latents, noise)
            return denoised, cache.states

    arguments = (latents[:, -1:], noise[:, -1:], cache.states)
    program = torch.export.export(Step(), arguments, strict=False)
    output, states = program.module()(*arguments)
    with control.streaming(cache, commit=True):
        expected = backbone.call(latents[:, -1:], noise[:, -1:])
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    assert states.keys() == cache.states.keys()
    assert all(torch.allclose(states[key], state, atol=1e-5) for key, state in cache.states.items())


@torch.no_grad()
@pytest.mark.parametrize("name", ["unet-extrapolative", "decoder-extrapolative", "cosmos"])
@pytest.mark.parametrize("chunks", [[1] * 9, [1, 5, 3]], ids=["by one", "uneven"])
def test_memory_of_a_fixed_shape_streams_as_memory_that_grows(name: str, chunks: list[int]) -> None:
    backbone = BACKBONES[name]()
    control = backbone.causalise()
    latents, noise = video(sum(chunks))
    full = backbone.call(latents, noise)
    control.fix_shapes(torch.device("cpu"))
    cache, streamed, shapes = FrameCache(), [], []
    for new_latents, new_noise in zip(latents.split(chunks, dim=1), noise.split(chunks, dim=1), strict=True):
        with control.streaming(cache, commit=True):
            streamed.append(backbone.call(new_latents, new_noise))
        shapes.append({key: state.shape for key, state in cache.states.items()})
    torch.testing.assert_close(torch.cat(streamed, dim=1), full, atol=1e-5, rtol=1e-5)
    assert shapes[0] and all(found == shapes[0] for found in shapes)
    torch.testing.assert_close(backbone.call(latents, noise), full, atol=0, rtol=0)


@torch.no_grad()
def test_a_stream_does_not_go_on_with_memory_of_the_other_kind() -> None:
    backbone = cosmos_backbone()
    control = backbone.causalise()
    latents, noise = video(2)
    cache = FrameCache()
    with control.streaming(cache, commit=True):
        backbone.call(latents[:, :1], noise[:, :1])
    control.fix_shapes(torch.device("cpu"))
    with pytest.raises(RolloutError, match="begin a new one"), control.streaming(cache.fork(), commit=False):
        pass
    control.fix_shapes(None)
    with control.streaming(cache, commit=False):
        backbone.call(latents[:, 1:], noise[:, 1:])


@torch.no_grad()
@pytest.mark.parametrize("name", ["unet-extrapolative", "decoder-extrapolative", "cosmos"])
@pytest.mark.parametrize("fixed", [False, True])
def test_several_futures_share_one_past(name: str, fixed: bool) -> None:
    backbone = BACKBONES[name]()
    control = backbone.causalise()
    control.fix_shapes(torch.device("cpu") if fixed else None)
    latents, noise = video(3, batch=1)
    cache = FrameCache()
    with control.streaming(cache, commit=True):
        backbone.call(latents[:, :2], noise[:, :2])
    pair = torch.cat([latents[:, 2:], latents[:, 2:] + 1.0])
    levels = noise[:, 2:].expand(2, -1)
    with control.streaming(cache, commit=False):
        together = backbone.call(pair, levels)
    with control.streaming(cache.fork(batch_size=2), commit=False):
        expected = backbone.call(pair, levels)
    assert torch.equal(together, expected) and not torch.equal(together[0], together[1])
    with pytest.raises(RolloutError, match="keeps its batch"), control.streaming(cache, commit=True):
        backbone.call(pair, levels)


@torch.no_grad()
def test_what_is_about_to_be_remembered_can_be_made_ones_own() -> None:
    backbone = unet_backbone()
    control = backbone.causalise()
    latents, noise = video(2)
    caches = [FrameCache(), FrameCache()]
    for cache in caches:
        with control.streaming(cache, commit=True):
            backbone.call(latents, noise)
            passed = dict(control._pending)
            if cache is caches[1]:
                control.own_pending()
                for state in passed.values():
                    state.zero_()  # as the next replay of a CUDA graph would
    assert all(torch.equal(caches[1].states[key], state) for key, state in caches[0].states.items())

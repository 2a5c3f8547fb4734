"""Causal backbones: nothing leaks from the future, and a stream with a cache is the full pass, on stock classes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    CosmosTransformer3DModel,
    LTXVideoTransformer3DModel,
    UNetSpatioTemporalConditionModel,
    WanTransformer3DModel,
)
from torch import Tensor, nn

from egowm_core.errors import ConfigError, RolloutError
from egowm_core.models.causal import (
    TRANSFERS,
    CausalConv3d,
    PerFrameGroupNorm,
    causalise_decoder,
    causalise_unet,
    transfer_kernel,
)
from egowm_core.models.causal_attention import band_mask, causalise_cosmos, causalise_ltx, causalise_wan
from egowm_core.models.frame_cache import CausalControl, FrameCache

BATCH, CHANNELS, SIZE, WINDOW = 2, 4, 8, 3


@dataclass
class Backbone:
    """A stock network, its surgery, and one way to call it: latents (B,T,C,h,w), noise (B,T) -> (B,T,C,h,w)."""

    network: Any
    causalise: Callable[[], CausalControl]
    call: Callable[[Tensor, Tensor], Tensor]


def awake(network: nn.Module) -> nn.Module:
    """Random weights where initialisation leaves zeros, and temporal branches that weigh as much as spatial ones."""
    for name, parameter in network.named_parameters():
        if name.endswith("mix_factor"):
            nn.init.zeros_(parameter)
        elif parameter.abs().max() == 0:
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def unet_backbone(transfer: str = "extrapolative") -> Backbone:
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        sample_size=None,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=16,
        num_attention_heads=2,
    )
    awake(unet)
    tokens = torch.randn(BATCH, 2, 16)

    def call(latents: Tensor, noise: Tensor) -> Tensor:
        batch = latents.shape[0]
        return unet(latents, torch.full((batch,), 0.2), tokens[:batch], torch.zeros(batch, 3)).sample

    return Backbone(unet, lambda: causalise_unet(unet, transfer=transfer, window=WINDOW), call)


def decoder_backbone(transfer: str = "extrapolative") -> Backbone:
    torch.manual_seed(0)
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=CHANNELS
    )
    awake(vae)

    def call(latents: Tensor, noise: Tensor) -> Tensor:
        batch, frames = latents.shape[:2]
        return vae.decode(latents.flatten(0, 1), num_frames=frames).sample.unflatten(0, (batch, frames))

    return Backbone(vae, lambda: causalise_decoder(vae, transfer=transfer), call)


def cosmos_backbone() -> Backbone:
    torch.manual_seed(0)
    transformer = CosmosTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=24,
        num_layers=2,
        text_embed_dim=16,
        adaln_lora_dim=8,
        max_size=(16, 8, 8),
        concat_padding_mask=False,
        extra_pos_embed_type="learnable",
    )
    awake(transformer)
    token = torch.randn(1, 2, 16)

    def call(latents: Tensor, noise: Tensor) -> Tensor:
        tokens = token.expand(latents.shape[0], -1, -1)
        output = transformer(latents.transpose(1, 2), noise[:, None, :, None, None], tokens)
        return output.sample.transpose(1, 2)

    return Backbone(transformer, lambda: causalise_cosmos(transformer, window=WINDOW), call)


def wan_backbone() -> Backbone:
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    awake(transformer)
    tokens = torch.randn(BATCH, 2, 16)

    def call(latents: Tensor, noise: Tensor) -> Tensor:
        timestep = noise.repeat_interleave((SIZE // 2) ** 2, dim=1)
        return transformer(latents.transpose(1, 2), timestep, tokens).sample.transpose(1, 2)

    return Backbone(transformer, lambda: causalise_wan(transformer, window=WINDOW), call)


def ltx_backbone() -> Backbone:
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=16,
        num_layers=2,
    )
    awake(transformer)
    tokens, seen = torch.randn(BATCH, 2, 16), torch.ones(BATCH, 2)

    def call(latents: Tensor, noise: Tensor) -> Tensor:
        frames = latents.shape[1]
        hidden = latents.movedim(2, -1).flatten(1, 3)
        timestep = noise.repeat_interleave(SIZE * SIZE, dim=1)
        output = transformer(hidden, tokens, timestep, seen, num_frames=frames, height=SIZE, width=SIZE).sample
        return output.unflatten(1, (frames, SIZE, SIZE)).movedim(-1, 2)

    return Backbone(transformer, lambda: causalise_ltx(transformer, window=WINDOW), call)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    **{f"unet-{transfer}": lambda transfer=transfer: unet_backbone(transfer) for transfer in TRANSFERS},
    **{f"decoder-{transfer}": lambda transfer=transfer: decoder_backbone(transfer) for transfer in TRANSFERS},
    "cosmos": cosmos_backbone,
    "wan": wan_backbone,
    "ltx": ltx_backbone,
}
CACHED = ["unet-extrapolative", "unet-shift", "decoder-extrapolative", "cosmos"]


def video(frames: int, *, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """Latents and a noise level per frame."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, frames, CHANNELS, SIZE, SIZE, generator=generator)
    return latents, torch.rand(batch, frames, generator=generator)


def leak(call: Callable[[Tensor, Tensor], Tensor], frames: int = 5) -> float:
    """Largest change at or before t when latents and noise of t + 1 change, over all t."""
    latents, noise = video(frames)
    before = call(latents, noise)
    largest = 0.0
    for changed in range(1, frames):
        other_latents, other_noise = latents.clone(), noise.clone()
        other_latents[:, changed] += 1.0
        other_noise[:, changed] += 0.3
        difference = (call(other_latents, other_noise) - before).abs()
        assert difference[:, changed].max() > 1e-3  # the changed frame itself answers
        largest = max(largest, difference[:, :changed].max().item())
    return largest


@torch.no_grad()
@pytest.mark.parametrize("name", BACKBONES)
def test_nothing_leaks_from_the_future(name: str) -> None:
    backbone = BACKBONES[name]()
    assert leak(backbone.call) > 1e-3  # the stock module leaks
    keys = list(backbone.network.state_dict())
    backbone.causalise()
    assert leak(backbone.call) == 0.0
    assert list(backbone.network.state_dict()) == keys


@torch.no_grad()
@pytest.mark.parametrize("name", ["unet-extrapolative", "cosmos", "wan", "ltx"])
def test_the_past_is_seen(name: str) -> None:
    backbone = BACKBONES[name]()
    backbone.causalise()
    latents, noise = video(4)
    before = backbone.call(latents, noise)
    latents[:, 0] += 1.0
    moved = (backbone.call(latents, noise) - before).abs().amax(dim=(0, 2, 3, 4))
    assert (moved > 1e-4).all()  # frame 3 through the frames between, for it is out of frame 0's window


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


@pytest.mark.parametrize("name", ["unet-extrapolative", "decoder-extrapolative", "cosmos", "wan", "ltx"])
def test_gradients_flow_into_the_past_alone_also_with_checkpointing(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = BACKBONES[name]()
        backbone.causalise()
        backbone.network.train()
        if checkpointing:
            backbone.network.enable_gradient_checkpointing()
        latents, noise = video(4)
        latents.requires_grad_()
        backbone.call(latents, noise)[:, 2].square().mean().backward()
        assert latents.grad is not None
        reached = latents.grad.abs().amax(dim=(0, 2, 3, 4))
        assert (reached[:3] > 0).all() and reached[3] == 0
        named = backbone.network.named_parameters()
        gradients.append({key: parameter.grad for key, parameter in named if parameter.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.allclose(gradients[0][key], gradients[1][key], rtol=1e-4, atol=1e-6) for key in gradients[0])


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


def both_convolutions(transfer: str, signal: Tensor) -> Tensor:
    """Largest difference per frame between the stock convolution and its causal form."""
    torch.manual_seed(3)
    stock = nn.Conv3d(signal.shape[1], 5, (3, 1, 1), padding=(1, 0, 0)).double()
    causal = CausalConv3d(copy.deepcopy(stock), transfer=transfer, control=CausalControl(1), key="conv")
    return (causal(signal) - stock(signal)).abs().amax(dim=(0, 1, 3, 4))


@torch.no_grad()
def test_transfers_are_exact_where_they_claim_to_be() -> None:
    torch.manual_seed(4)
    start, slope = torch.randn(2, 1, 3, 1, 2, 2, dtype=torch.double)
    constant = start.expand(-1, -1, 7, -1, -1)
    linear = start + slope * torch.arange(7.0, dtype=torch.double)[:, None, None]
    inner = slice(2, 6)  # frames whose past and future are inside the signal
    assert both_convolutions("extrapolative", linear)[inner].max() < 1e-12
    assert both_convolutions("extrapolative", constant)[inner].max() < 1e-12
    assert both_convolutions("hold", constant)[inner].max() < 1e-12
    assert both_convolutions("hold", linear)[inner].min() > 1e-3
    assert both_convolutions("masked", constant)[inner].min() > 1e-3


def test_transferred_kernels_by_hand() -> None:
    kernel = torch.tensor([1.0, 20.0, 300.0])[None, None, :, None, None]
    taps = {transfer: transfer_kernel(kernel, transfer).flatten().tolist() for transfer in TRANSFERS}
    assert taps == {
        "shift": [1, 20, 300],
        "masked": [0, 1, 20],
        "hold": [0, 1, 320],
        "extrapolative": [0, -299, 620],
    }


@torch.no_grad()
def test_per_frame_norm_is_the_stock_norm_of_each_frame() -> None:
    stock = awake(nn.GroupNorm(2, 4))
    signal = torch.randn(2, 4, 3, 2, 2)
    normalised = PerFrameGroupNorm(stock)(signal)
    for frame in range(3):
        alone = stock(signal[:, :, frame : frame + 1])
        torch.testing.assert_close(normalised[:, :, frame : frame + 1], alone)


def test_band_mask() -> None:
    full = band_mask(4, 4, 2)
    assert full.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert torch.equal(band_mask(2, 4, 2), full[2:])
    assert torch.equal(band_mask(4, 4, 2, tokens_per_frame=3), torch.kron(full.int(), torch.ones(3, 3)).bool())


def test_refusals_name_the_remedy() -> None:
    backbone = unet_backbone()
    with pytest.raises(ConfigError, match="did you mean 'extrapolative'"):
        causalise_unet(backbone.network, transfer="extrapolate", window=2)
    with pytest.raises(ConfigError, match="window is 0"):
        causalise_unet(backbone.network, transfer="hold", window=0)
    backbone.causalise()  # neither refusal has left it half changed
    decoder = decoder_backbone()
    decoder.causalise()
    for again in (backbone, decoder):
        with pytest.raises(ConfigError, match="causal already"):
            again.causalise()
    for uncached in (wan_backbone(), ltx_backbone()):
        control = uncached.causalise()
        assert not control.can_cache
        with pytest.raises(ConfigError, match="cache=False"), control.streaming(FrameCache(), commit=False):
            pass
        with pytest.raises(ConfigError, match="causal already"):
            uncached.causalise()
    with pytest.raises(ConfigError, match="patches of 2 frames"):
        causalise_wan(WanTransformer3DModel(patch_size=(2, 2, 2), num_layers=1, num_attention_heads=1), window=2)


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

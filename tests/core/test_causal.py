"""Causal backbones: nothing leaks from the future, the past is seen, and pretrained kernels become causal ones."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from egowm_core.errors import ConfigError
from egowm_core.models.causal import (
    TRANSFERS,
    CausalConv3d,
    PerFrameGroupNorm,
    causalise_unet,
    transfer_kernel,
)
from egowm_core.models.causal_attention import band_mask, causalise_wan
from egowm_core.models.frame_cache import CausalControl, FrameCache
from tests.core.causal_backbones import (
    BACKBONES,
    awake,
    decoder_backbone,
    ltx_backbone,
    unet_backbone,
    video,
    wan_backbone,
)


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

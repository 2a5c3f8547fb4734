"""Latents of a stream decoded one by one: as a whole clip would be where the decoder remembers, and each once."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from egowm_core.bench.build import build_parts, build_tiny_decoder
from egowm_core.bench.configs import setting
from egowm_core.errors import ConfigError
from egowm_core.models.autoencoders import KLTemporalVideoAutoencoder, WanVideoAutoencoder
from egowm_core.models.onnx import OnnxAutoencoder
from egowm_core.streaming import FrameDecoder

CPU = torch.device("cpu")
CLIP = 9


def wan() -> WanVideoAutoencoder:
    return WanVideoAutoencoder(build_parts(setting("cosmos", "tiny"), device=CPU, dtype=torch.float32).autoencoder)


def latents_for(autoencoder: WanVideoAutoencoder | KLTemporalVideoAutoencoder) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, CLIP, autoencoder.latent_channels, 4, 4, generator=generator)


@pytest.mark.parametrize("lead", [1, 3])
@pytest.mark.parametrize("wrapped", [False, True], ids=["itself", "beside exported graphs"])
@torch.inference_mode()
def test_wan_decodes_a_stream_as_the_whole_clip(lead: int, wrapped: bool) -> None:
    stock = wan()
    autoencoder = OnnxAutoencoder(stock) if wrapped else stock
    latents = latents_for(stock)
    whole = stock.decode(latents)
    decoder = FrameDecoder(autoencoder, latents[:, :lead])
    streamed = [decoder.next(part) for part in latents[:, lead:].split(1, dim=1)]
    assert all(part.shape[1] == stock.temporal_factor for part in streamed)
    assert torch.equal(torch.cat(streamed, dim=1), whole[:, 1 + (lead - 1) * stock.temporal_factor :])
    assert whole[:, -1].std() > 1e-3


@torch.inference_mode()
def test_two_streams_of_one_decoder_and_whole_clips_between_them_do_not_meet() -> None:
    autoencoder = wan()
    latents = latents_for(autoencoder)
    decoders = [FrameDecoder(autoencoder, clip[None, :1]) for clip in latents]
    parts: list[list[Tensor]] = [[], []]
    for index in range(1, CLIP):
        for clip, decoder, found in zip(latents, decoders, parts, strict=True):
            found.append(decoder.next(clip[None, index : index + 1]))
            autoencoder.decode(latents[:, :2])
    together = torch.cat([torch.cat(found, dim=1) for found in parts])
    torch.testing.assert_close(together, autoencoder.decode(latents)[:, 1:], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_each_latent_passes_through_the_decoder_once() -> None:
    autoencoder = wan()
    latents = latents_for(autoencoder)
    seen: list[int] = []
    autoencoder.network.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[2]))
    decoder = FrameDecoder(autoencoder, latents[:, :1])
    for part in latents[:, 1:].split(1, dim=1):
        decoder.next(part)
    assert seen == [1] * CLIP


def test_a_tiny_decoder_or_tiles_keep_nothing() -> None:
    autoencoder = wan()
    autoencoder.network.enable_tiling()
    assert not autoencoder.can_stream
    with pytest.raises(ConfigError, match="decode whole clips"):
        autoencoder.start_stream()


class Counting(nn.Module):
    """A tiny decoder, and how many pictures it made."""

    def __init__(self, decoder: AutoencoderTiny) -> None:
        super().__init__()
        self.decoder, self.config, self.pictures = decoder, decoder.config, 0

    def decode(self, latents: Tensor) -> Tensor:
        self.pictures += len(latents)
        return self.decoder.decode(latents).sample


@torch.inference_mode()
def test_a_decoder_without_time_is_given_nothing_again() -> None:
    chosen = setting("svd", "tiny")
    network = build_parts(chosen, device=CPU, dtype=torch.float32).autoencoder
    plain = KLTemporalVideoAutoencoder(network)
    latents = latents_for(plain)[:1]
    with_time = FrameDecoder(plain, latents[:, :1])
    given: list[int] = []
    network.decoder.register_forward_pre_hook(lambda module, args, kwargs: given.append(len(args[0])), with_kwargs=True)
    for part in latents[:, 1:5].split(1, dim=1):
        with_time.next(part)
    assert given == [2, 3, 4, 4]
    counting = Counting(build_tiny_decoder(chosen, CPU))
    tiny = KLTemporalVideoAutoencoder(network, tiny_decoder=counting)
    decoder = FrameDecoder(tiny, latents[:, :1])
    frames = [decoder.next(part) for part in latents[:, 1:].split(1, dim=1)]
    assert counting.pictures == CLIP - 1
    torch.testing.assert_close(torch.cat(frames, dim=1), tiny.decode(latents)[:, 1:], atol=1e-5, rtol=1e-5)

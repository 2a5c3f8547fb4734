"""Video autoencoders normalise, encode and decode as the stock pipelines do."""

from __future__ import annotations

from types import SimpleNamespace

import diffusers
import pytest
import torch

from egowm_core.models.autoencoders import KLTemporalVideoAutoencoder, LTXVideoAutoencoder
from tests.core.tiny_autoencoders import BACKBONES, SIZE, WRAPPERS, tiny_autoencoder, tiny_network, video


@torch.no_grad()
def test_svd_decodes_as_the_stock_pipeline() -> None:
    network = tiny_network("svd")
    latents = torch.randn(1, 5, 4, 2, 2)
    pipeline = SimpleNamespace(vae=network)
    stock = diffusers.StableVideoDiffusionPipeline.decode_latents(pipeline, latents, 5, 2)
    decoded = KLTemporalVideoAutoencoder(network, decode_chunk_size=2).decode(latents)
    assert torch.equal(decoded, stock.movedim(1, 2))


@torch.no_grad()
def test_wan_normalises_as_the_stock_pipeline() -> None:
    autoencoder = tiny_autoencoder("wan")
    frame = video(1)
    stock = diffusers.WanImageToVideoPipeline.prepare_latents(
        SimpleNamespace(
            vae=autoencoder.network,
            config=SimpleNamespace(expand_timesteps=True),
            vae_scale_factor_temporal=4,
            vae_scale_factor_spatial=8,
        ),
        frame[:, 0],
        batch_size=1,
        num_channels_latents=4,
        height=SIZE,
        width=SIZE,
        num_frames=5,
        dtype=torch.float32,
    )[1]
    assert torch.allclose(autoencoder.encode(frame), stock.movedim(1, 2), atol=1e-6)


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
@torch.no_grad()
def test_cosmos_normalises_as_the_stock_pipeline(sigma_data: float) -> None:
    autoencoder = tiny_autoencoder("cosmos", sigma_data=sigma_data)
    network = autoencoder.network
    network.quant_conv.weight[network.config.z_dim :] = 0
    network.quant_conv.bias[network.config.z_dim :] = -30  # no deviation: the stock pipeline samples the posterior
    frames = video(5)
    stock = diffusers.Cosmos2VideoToWorldPipeline.prepare_latents(
        SimpleNamespace(
            vae=network,
            scheduler=SimpleNamespace(config=SimpleNamespace(sigma_data=sigma_data, sigma_max=80.0)),
            vae_scale_factor_temporal=4,
            vae_scale_factor_spatial=8,
        ),
        frames.movedim(1, 2),
        batch_size=1,
        num_channels_latents=4,
        height=SIZE,
        width=SIZE,
        num_frames=5,
        dtype=torch.float32,
    )[1]
    assert torch.allclose(autoencoder.encode(frames), stock.movedim(1, 2), atol=1e-5)


@torch.no_grad()
def test_ltx_normalises_as_the_stock_pipeline() -> None:
    autoencoder = WRAPPERS["ltx"](tiny_network("ltx", scaling_factor=0.7))
    network, frames = autoencoder.network, video(9)
    statistics = (network.latents_mean, network.latents_std, network.config.scaling_factor)
    pipeline = diffusers.LTXImageToVideoPipeline
    raw = network.encode(frames.movedim(1, 2)).latent_dist.mode()
    latents = autoencoder.encode(frames)
    assert torch.equal(latents.movedim(1, 2), pipeline._normalize_latents(raw, *statistics))
    stock = network.decode(pipeline._denormalize_latents(latents.movedim(1, 2), *statistics)).sample
    assert torch.equal(autoencoder.decode(latents), stock.movedim(1, 2))


@torch.no_grad()
def test_ltx_decoder_that_takes_a_timestep() -> None:
    network = tiny_network("ltx", timestep_conditioning=True)
    for name, parameter in network.decoder.named_parameters():
        if "scale_shift_table" in name:
            parameter.normal_()
    latents = torch.randn(2, 2, 8, 2, 2)
    noisy = LTXVideoAutoencoder(network, decode_timestep=0.05, decode_noise_scale=0.1)
    decoded = noisy.decode(latents)
    assert torch.equal(decoded, noisy.decode(latents))  # the noise is the seed's: decoding is a function
    assert not torch.equal(decoded, LTXVideoAutoencoder(network, decode_timestep=0.05, decode_seed=1).decode(latents))
    plain = LTXVideoAutoencoder(network)  # by default: timestep 0 and no noise, as the stock pipeline's
    stock = network.decode(plain.denormalise(latents).movedim(1, 2), torch.zeros(2)).sample
    assert torch.equal(plain.decode(latents), stock.movedim(1, 2))
    other = LTXVideoAutoencoder(network, decode_timestep=0.5, decode_noise_scale=0.0).decode(latents)
    assert not torch.allclose(plain.decode(latents), other)


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_normalisation_round_trip(backbone: str) -> None:
    autoencoder = tiny_autoencoder(backbone)
    latents = torch.randn(2, 3, autoencoder.latent_channels, 2, 2)
    assert torch.allclose(autoencoder.normalise(autoencoder.denormalise(latents)), latents, atol=1e-5)

"""Video autoencoders: which frames belong to which latents, tiny decoders, exact rebuilding, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import yaml

from egowm_core.errors import CheckpointError, ConfigError, RolloutError
from egowm_core.models.autoencoders import (
    KLTemporalVideoAutoencoder,
    WanVideoAutoencoder,
    autoencoder_config,
    autoencoder_from_config,
)
from tests.core.tiny_autoencoders import BACKBONES, SIZE, WRAPPERS, tiny_autoencoder, tiny_network, video


def first_change(before: torch.Tensor, after: torch.Tensor) -> int:
    """Index of the first element of axis 1 that differs."""
    moved = (before - after).abs().flatten(2).amax(dim=(0, 2)) > 0
    assert moved.any()
    return int(moved.nonzero()[0])


@pytest.mark.parametrize(("backbone", "factor"), [("svd", 1), ("cosmos", 4), ("wan", 4), ("ltx", 8)])
@torch.no_grad()
def test_frames_and_latents_line_up(backbone: str, factor: int) -> None:
    autoencoder = tiny_autoencoder(backbone)
    assert (autoencoder.temporal_factor, autoencoder.downscale) == (factor, 8)
    latents = autoencoder.encode(video(1 + 2 * factor, batch=2))
    assert latents.shape == (2, 3, autoencoder.latent_channels, SIZE // 8, SIZE // 8)
    assert autoencoder.decode(latents).shape == (2, 1 + 2 * factor, 3, SIZE, SIZE)
    future = autoencoder.decode(latents[:, 1:], context=latents[:, :1])
    assert future.shape == (2, 2 * factor, 3, SIZE, SIZE)
    assert autoencoder.decode(latents[:, 2:], context=latents[:, :2]).shape == (2, factor, 3, SIZE, SIZE)
    assert autoencoder.encode(video(1)).shape[1] == 1  # a clip of a single frame


@pytest.mark.parametrize("backbone", ["cosmos", "wan", "ltx"])
@torch.no_grad()
def test_decoding_after_a_context_continues_the_whole_clip(backbone: str) -> None:
    autoencoder = tiny_autoencoder(backbone)
    latents = autoencoder.encode(video(1 + 3 * autoencoder.temporal_factor))
    whole = autoencoder.decode(latents)
    for given in (1, 2):
        future = autoencoder.decode(latents[:, given:], context=latents[:, :given])
        assert torch.allclose(future, whole[:, 1 + (given - 1) * autoencoder.temporal_factor :], atol=1e-6)


@pytest.mark.parametrize("backbone", ["cosmos", "wan", "ltx"])
@torch.no_grad()
def test_causal_encoders_see_no_later_frame(backbone: str) -> None:
    autoencoder = tiny_autoencoder(backbone)
    factor = autoencoder.temporal_factor
    frames = video(1 + 3 * factor)
    latents = autoencoder.encode(frames)
    for latent, frame in ((0, 0), (1, 1), (1, factor), (2, 1 + factor), (3, 3 * factor)):
        changed = frames.clone()
        changed[:, frame] = -changed[:, frame]
        assert first_change(latents, autoencoder.encode(changed)) == latent


@pytest.mark.parametrize("backbone", ["cosmos", "wan", "ltx"])
@torch.no_grad()
def test_causal_decoders_see_no_later_latent(backbone: str) -> None:
    causal = {"decoder_causal": True} if backbone == "ltx" else {}
    autoencoder = WRAPPERS[backbone](tiny_network(backbone, **causal))
    factor = autoencoder.temporal_factor
    latents = autoencoder.encode(video(1 + 3 * factor))
    frames = autoencoder.decode(latents)
    for latent in range(4):
        changed = latents.clone()
        changed[:, latent] += 1.0
        expected = 0 if latent == 0 else 1 + (latent - 1) * factor
        assert first_change(frames, autoencoder.decode(changed)) == expected


@torch.no_grad()
def test_svd_pictures_are_encoded_one_by_one_and_decoded_in_chunks() -> None:
    network = tiny_network("svd")
    one, chunked = (KLTemporalVideoAutoencoder(network, decode_chunk_size=size) for size in (12, 2))
    frames = video(4, batch=3)
    latents = one.encode(frames)
    assert torch.allclose(latents, chunked.encode(frames), atol=1e-6)
    whole, parts = one.decode(latents), chunked.decode(latents)
    separate = torch.cat([chunked.decode(latents[:, :2]), chunked.decode(latents[:, 2:])], dim=1)
    assert torch.allclose(parts, separate, atol=1e-5)
    assert not torch.allclose(parts, whole, atol=1e-4)  # the stock decoder looks across frames, so chunks show
    for clip in range(3):  # clips of a batch never mix, whatever the chunk
        assert torch.allclose(chunked.decode(latents[clip : clip + 1]), parts[clip : clip + 1], atol=1e-6)
        assert torch.allclose(one.decode(latents[clip : clip + 1]), whole[clip : clip + 1], atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3])
@torch.no_grad()
def test_svd_chunks_bound_what_passes_at_a_time(size: int) -> None:
    network = tiny_network("svd")
    passed: list[int] = []
    for layer in (network.encoder.conv_in, network.decoder.conv_in):
        layer.register_forward_hook(lambda _module, inputs, _output: passed.append(len(inputs[0])))
    autoencoder = KLTemporalVideoAutoencoder(network, decode_chunk_size=size)
    autoencoder.decode(autoencoder.encode(video(3, batch=2)))
    assert max(passed) == size
    assert sum(passed) == 12  # every frame once in each direction


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_rebuilt_from_yaml_and_weights_exactly(backbone: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "svd": {"decode_chunk_size": 3},
        "cosmos": {"sigma_data": 0.5},
        "ltx": {"decode_timestep": 0.05, "decode_seed": 3},
    }
    autoencoder = tiny_autoencoder(backbone, **options.get(backbone, {}))
    config = yaml.safe_load(yaml.safe_dump(autoencoder_config(autoencoder)))
    rebuilt = autoencoder_from_config(config)
    rebuilt.load_state_dict(autoencoder.state_dict())
    assert type(rebuilt) is type(autoencoder)
    assert autoencoder_config(rebuilt) == autoencoder_config(autoencoder)
    frames = video(1 + 2 * autoencoder.temporal_factor)
    latents = autoencoder.encode(frames)
    assert torch.equal(rebuilt.encode(frames), latents)
    assert torch.equal(rebuilt.decode(latents), autoencoder.decode(latents))


def tiny_tiny_decoder(latent_channels: int = 4) -> diffusers.AutoencoderTiny:
    torch.manual_seed(1)
    return diffusers.AutoencoderTiny(
        latent_channels=latent_channels,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    ).eval()


@torch.no_grad()
def test_tiny_decoder_replaces_svds_and_is_restored(tmp_path: Path) -> None:
    tiny = tiny_tiny_decoder()
    tiny.save_pretrained(tmp_path)
    autoencoder = KLTemporalVideoAutoencoder(tiny_network("svd"), decode_chunk_size=2)
    latents = torch.randn(2, 3, 4, 2, 2)
    stock = autoencoder.decode(latents)
    autoencoder.load_tiny_decoder(tmp_path)
    frames = autoencoder.decode(latents)
    assert frames.shape == stock.shape and not torch.allclose(frames, stock)
    assert torch.allclose(frames.flatten(0, 1), tiny.decode(latents.flatten(0, 1)).sample, atol=1e-6)
    rebuilt = autoencoder_from_config(yaml.safe_load(yaml.safe_dump(autoencoder_config(autoencoder))))
    rebuilt.load_state_dict(autoencoder.state_dict())
    assert torch.equal(rebuilt.decode(latents), frames)


def test_tiny_decoder_of_other_latents_is_refused() -> None:
    with pytest.raises(ConfigError, match="16 latent channels"):
        KLTemporalVideoAutoencoder(tiny_network("svd"), tiny_decoder=tiny_tiny_decoder(16))
    with pytest.raises(ConfigError, match="decode method"):
        KLTemporalVideoAutoencoder(tiny_network("svd"), tiny_decoder=torch.nn.Identity())


@pytest.mark.parametrize("backbone", ["cosmos", "ltx"])
@torch.no_grad()
def test_temporal_autoencoders_take_only_video_decoders(backbone: str, tmp_path: Path) -> None:
    tiny = tiny_tiny_decoder(8 if backbone == "ltx" else 4)
    with pytest.raises(ConfigError, match="a picture per latent"):
        tiny_autoencoder(backbone, tiny_decoder=tiny)
    tiny.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="a picture per latent"):
        tiny_autoencoder(backbone).load_tiny_decoder(tmp_path)

    def grey(latents: torch.Tensor) -> torch.Tensor:
        frames = 1 + (latents.shape[1] - 1) * factor
        return latents.mean(dim=(1, 2, 3, 4))[:, None, None, None, None].expand(-1, frames, 3, SIZE, SIZE)

    autoencoder = tiny_autoencoder(backbone, tiny_decoder=grey)
    factor = autoencoder.temporal_factor
    latents = torch.randn(1, 3, autoencoder.latent_channels, 2, 2)
    assert autoencoder.decode(latents[:, 1:], context=latents[:, :1]).shape[1] == 2 * factor
    with pytest.raises(ConfigError, match="no configuration to save"):
        autoencoder_config(autoencoder)
    per_frame = tiny_autoencoder(backbone, tiny_decoder=lambda latents: torch.zeros(1, latents.shape[1], 3, SIZE, SIZE))
    with pytest.raises(RolloutError, match="3 frames of 3 latents"):
        per_frame.decode(latents)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(RolloutError, match=r"8 frames.* 1 \+ n \* 4"):
        tiny_autoencoder("wan").encode(video(8))
    with pytest.raises(RolloutError, match="divisible by 8"):
        tiny_autoencoder("wan").encode(torch.zeros(1, 5, 3, 12, 16))
    with pytest.raises(RolloutError, match="expected"):
        tiny_autoencoder("svd").encode(torch.zeros(5, 3, 16, 16))
    with pytest.raises(ConfigError, match="compresses time by 2"):
        WanVideoAutoencoder(tiny_network("cosmos", temperal_downsample=[False, False, True]))
    with pytest.raises(ConfigError, match="wraps AutoencoderKLWan, got AutoencoderKLLTXVideo"):
        WanVideoAutoencoder(tiny_network("ltx"))
    with pytest.raises(ConfigError, match="decode_chunk_size is 0"):
        KLTemporalVideoAutoencoder(tiny_network("svd"), decode_chunk_size=0)


def test_configurations_that_do_not_fit_are_refused() -> None:
    config = autoencoder_config(tiny_autoencoder("cosmos"))
    with pytest.raises(ConfigError, match="did you mean 'wan'"):
        autoencoder_from_config(config | {"kind": "wann"})
    with pytest.raises(ConfigError, match="did you mean 'sigma_data'"):
        autoencoder_from_config(config | {"sigma_dta": 1.0})
    with pytest.raises(ConfigError, match="did you mean 'z_dim'"):
        autoencoder_from_config(config | {"config": config["config"] | {"zdim": 4}})
    with pytest.raises(ConfigError, match="expected a mapping"):
        autoencoder_from_config({"kind": "wan"})
    with pytest.raises(ConfigError, match="Linear"):
        autoencoder_config(torch.nn.Linear(1, 1))


@torch.no_grad()
def test_results_come_in_the_type_that_was_given() -> None:
    autoencoder = tiny_autoencoder("ltx").to(torch.bfloat16)
    latents = autoencoder.encode(video(9))
    assert latents.dtype == torch.float32
    assert autoencoder.decode(latents).dtype == torch.float32
    assert autoencoder.encode(video(9).bfloat16()).dtype == torch.bfloat16


def test_a_tiny_decoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        tiny_autoencoder("svd").load_tiny_decoder(tmp_path)

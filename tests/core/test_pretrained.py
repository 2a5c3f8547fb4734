"""Opening pretrained backbones: every weight as saved, right parts and precision, the stock pipelines' null tokens."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.transformers import transformer_cosmos
from diffusers.pipelines.wan import pipeline_wan_i2v
from safetensors.torch import load_file
from torch import Tensor

from egowm_core.errors import CheckpointError
from egowm_core.models.components import load_component
from egowm_core.models.cosmos import provide_padding_mask_resize
from egowm_core.models.pretrained import LAYOUTS, Pretrained, open_pretrained
from tests.core import tiny_sources
from tests.core.tiny_sources import copied, same_weights, weights_of
from tests.fixtures.tiny_pipelines import PARTS, TOKEN_WIDTH

tiny = tiny_sources.tiny

BACKBONES = tuple(LAYOUTS)
TEXT_BACKBONES = tuple(name for name in BACKBONES if LAYOUTS[name].text_encoder)


def run_denoiser(opened: Pretrained) -> Tensor:
    """One call of the stock denoiser as its pipeline calls it: two latent frames of 4 x 4 cells."""
    network: Any = opened.network
    generator = torch.Generator().manual_seed(0)
    channels = network.config.in_channels
    sample = torch.randn(1, channels, 2, 4, 4, generator=generator)
    tokens = opened.null_tokens
    with torch.no_grad():
        if opened.backbone == "svd":
            output = network(sample.movedim(1, 2), torch.tensor([0.3]), tokens, torch.zeros(1, 3)).sample
        elif opened.backbone == "cosmos":
            masks = {"condition_mask": torch.zeros(1, 1, 2, 4, 4), "padding_mask": torch.zeros(1, 1, 32, 32)}
            output = network(sample[:, :-1], torch.tensor([0.5]), tokens, **masks).sample
        elif opened.backbone == "wan":
            output = network(sample, torch.tensor([500.0]), tokens).sample
        else:
            mask = torch.ones(tokens.shape[:2])
            packed = sample.flatten(2).movedim(1, 2)
            output = network(packed, tokens, torch.tensor([500.0]), mask, num_frames=2, height=4, width=4).sample
    return torch.as_tensor(output)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_part_is_as_saved_and_runs(backbone: str, tiny: Callable[..., Path]) -> None:
    directory = tiny(backbone)
    opened = open_pretrained(directory, backbone=backbone, text="zeros")
    folder = LAYOUTS[backbone].folder
    assert same_weights(opened.network, weights_of(directory, folder))
    assert same_weights(opened.autoencoder.network, weights_of(directory, "vae"))
    assert not opened.network.training and not opened.autoencoder.network.training
    name, values = PARTS[backbone]["scheduler"]
    assert opened.scheduler_config["_class_name"] == name
    assert values.items() <= opened.scheduler_config.items()
    assert torch.equal(opened.null_tokens, torch.zeros(1, 1, TOKEN_WIDTH))
    assert opened.resolved_revision is None
    output = run_denoiser(opened)
    assert output.isfinite().all() and output.std() > 0
    with torch.no_grad():
        latents = opened.autoencoder.encode(torch.zeros(1, 1, 3, 16, 16))
    assert latents.shape[2] == opened.autoencoder.latent_channels


@pytest.mark.parametrize("backbone", BACKBONES)
def test_without_accelerate_the_same_weights_are_read(
    backbone: str, tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tiny(backbone)
    options: dict[str, Any] = {"backbone": backbone, "text": "zeros", "dtype": torch.bfloat16}
    usual = open_pretrained(directory, **options)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    other = open_pretrained(directory, **options)
    for part in ("network", "autoencoder"):
        expected, found = getattr(usual, part).state_dict(), getattr(other, part).state_dict()
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert value.dtype == found[name].dtype and torch.equal(value, found[name]), name
    assert not other.network.training


@pytest.mark.parametrize("accelerate", [True, False])
def test_sharded_weights(
    accelerate: bool, tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = copied(tiny("wan"), tmp_path)
    whole = open_pretrained(directory, backbone="wan", text="zeros")
    shutil.rmtree(directory / "transformer")
    whole.network.save_pretrained(directory / "transformer", max_shard_size="30KB")
    assert len(list((directory / "transformer").glob("*.safetensors"))) > 1
    if not accelerate:
        monkeypatch.setitem(sys.modules, "accelerate", None)
    sharded = open_pretrained(directory, backbone="wan", text="zeros")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, sharded.network.state_dict()[name])


def test_precision_is_what_was_asked_but_for_what_must_stay(tiny: Callable[..., Path]) -> None:
    half = open_pretrained(tiny("svd"), backbone="svd", dtype=torch.float16)
    assert {value.dtype for value in half.network.state_dict().values()} == {torch.float16}
    assert half.null_tokens.dtype == torch.float16
    assert half.autoencoder.network.dtype == torch.float32  # its configuration says force_upcast
    wan = open_pretrained(tiny("wan"), backbone="wan", text="zeros", dtype=torch.bfloat16).network.state_dict()
    assert wan["patch_embedding.weight"].dtype == torch.bfloat16
    assert wan["scale_shift_table"].dtype == torch.float32


@pytest.mark.parametrize("backbone", BACKBONES)
def test_from_scratch_reads_no_weights(backbone: str, tiny: Callable[..., Path], tmp_path: Path) -> None:
    directory = copied(tiny(backbone), tmp_path)
    saved = load_file(str(weights_of(directory, LAYOUTS[backbone].folder)))
    for file in directory.rglob("*.safetensors"):
        file.unlink()
    torch.manual_seed(7)
    first = open_pretrained(directory, backbone=backbone, from_scratch=True)
    torch.manual_seed(7)
    again = open_pretrained(directory, backbone=backbone, from_scratch=True)
    values, repeated = first.network.state_dict(), again.network.state_dict()
    assert values.keys() == saved.keys()
    assert all(torch.equal(values[name], repeated[name]) for name in values)
    assert any(not torch.equal(values[name], saved[name]) for name in values)
    assert torch.equal(first.null_tokens, torch.zeros(1, 1, TOKEN_WIDTH))
    with pytest.raises(CheckpointError, match=r"vae has no diffusion_pytorch_model\.safetensors"):
        open_pretrained(directory, backbone=backbone, from_scratch=True, autoencoder_from_scratch=False)


def test_from_scratch_may_keep_the_autoencoder(tiny: Callable[..., Path]) -> None:
    directory = tiny("svd")
    opened = open_pretrained(directory, backbone="svd", from_scratch=True, autoencoder_from_scratch=False)
    assert same_weights(opened.autoencoder.network, weights_of(directory, "vae"))
    assert not same_weights(opened.network, weights_of(directory, "unet"))


@pytest.mark.parametrize("backbone", TEXT_BACKBONES)
@torch.no_grad()
def test_null_tokens_are_the_stock_pipelines_for_an_empty_prompt(
    backbone: str, tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(pipeline_wan_i2v, "prompt_clean", str)  # its cleaning of prompts needs ftfy; "" is clean
    directory = tiny(backbone, text_encoder=True)
    tokens = open_pretrained(directory, backbone=backbone).null_tokens
    encoder = getattr(transformers, str(LAYOUTS[backbone].text_encoder)).from_pretrained(directory / "text_encoder")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory / "tokenizer")
    parts = SimpleNamespace(text_encoder=encoder, tokenizer=tokenizer)
    arguments = {"device": torch.device("cpu"), "dtype": torch.float32}
    if backbone == "ltx":
        stock, mask = diffusers.LTXImageToVideoPipeline._get_t5_prompt_embeds(parts, "", **arguments)
        assert torch.equal(tokens, stock[mask][None])  # what its denoiser attends to
    else:
        pipeline = {"wan": "WanImageToVideoPipeline", "cosmos": "Cosmos2VideoToWorldPipeline"}[backbone]
        assert torch.equal(tokens, getattr(diffusers, pipeline)._get_t5_prompt_embeds(parts, "", **arguments))
    assert tokens.abs().sum() > 0


@pytest.mark.skipif(diffusers.utils.is_torchvision_available(), reason="torchvision provides the name itself")
def test_padding_mask_of_cosmos_works_without_torchvision(
    tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(transformer_cosmos, "transforms", raising=False)
    network: Any = load_component(tiny("cosmos"), diffusers.CosmosTransformer3DModel, subfolder="transformer")
    sample, tokens = torch.randn(1, 4, 1, 4, 4), torch.zeros(1, 1, TOKEN_WIDTH)

    def run(mask: Tensor) -> Tensor:
        condition = torch.zeros(1, 1, 1, 4, 4)
        with torch.no_grad():
            return torch.as_tensor(
                network(sample, torch.tensor([0.5]), tokens, condition_mask=condition, padding_mask=mask).sample
            )

    mask = torch.zeros(1, 1, 8, 8)
    with pytest.raises(NameError):
        run(mask)
    assert provide_padding_mask_resize()
    assert not provide_padding_mask_resize()  # there now
    mask[..., 1::2, 1::2] = 1.0  # cells that nearest-neighbour resizing to half does not take
    assert torch.equal(run(mask), run(torch.zeros(1, 1, 4, 4)))
    mask[..., ::2, ::2] = 1.0
    assert not torch.allclose(run(mask), run(torch.zeros(1, 1, 4, 4)))
    monkeypatch.delattr(transformer_cosmos, "transforms")
    open_pretrained(tiny("cosmos"), backbone="cosmos", text="zeros")  # provides it by itself
    run(mask)

"""Pretrained directories that can't be opened: what is missing, of another kind or pickled is named, and the remedy."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.pretrained import open_pretrained
from tests.core import tiny_sources
from tests.core.tiny_sources import NAME, copied, weights_of

tiny = tiny_sources.tiny


@pytest.mark.parametrize("folder", ["text_encoder", "tokenizer"])
def test_a_missing_text_part_is_named_with_the_remedy(folder: str, tiny: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    directory = copied(tiny("cosmos", text_encoder=True), tmp_path)
    shutil.rmtree(directory / folder)
    with pytest.raises(CheckpointError, match=f"no folder '{folder}'.*text='zeros'"):
        open_pretrained(directory, backbone="cosmos")


def test_missing_transformers_is_named_with_the_remedy(
    tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    directory = tiny("cosmos", text_encoder=True)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install transformers.*text='zeros'"):
        open_pretrained(directory, backbone="cosmos")


def test_a_text_encoder_of_another_width_is_refused(tiny: Callable[..., Path], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    directory = copied(tiny("ltx", text_encoder=True), tmp_path)
    config = transformers.T5Config(vocab_size=8, d_model=24, d_kv=8, d_ff=8, num_layers=1, num_heads=1)
    transformers.T5EncoderModel(config).save_pretrained(directory / "text_encoder")
    with pytest.raises(CheckpointError, match="24 wide, transformer takes 16"):
        open_pretrained(directory, backbone="ltx")


def test_options_that_make_no_sense_are_refused(tiny: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'cosmos'"):
        open_pretrained(tiny("svd"), backbone="cosmo")
    with pytest.raises(ConfigError, match="takes no prompt"):
        open_pretrained(tiny("svd"), backbone="svd", text="empty_prompt")
    with pytest.raises(ConfigError, match="did you mean 'zeros'"):
        open_pretrained(tiny("wan"), backbone="wan", text="zero")
    with pytest.raises(ConfigError, match="has no revision 'main'"):
        open_pretrained(tiny("svd"), backbone="svd", revision="main")
    with pytest.raises(ConfigError, match="another revision than 'v2'"):
        open_pretrained(f"{NAME}@v1", backbone="svd", revision="v2")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model_index.json", r"no model_index\.json"),
        ("unet", "no folder 'unet'; expected UNetSpatioTemporalConditionModel"),
        ("vae", "no folder 'vae'; expected AutoencoderKLTemporalDecoder"),
        ("scheduler", r"no scheduler_config\.json"),
        ("unet/config.json", r"unet has no config\.json"),
    ],
)
def test_what_is_missing_is_named(missing: str, message: str, tiny: Callable[..., Path], tmp_path: Path) -> None:
    directory = copied(tiny("svd"), tmp_path)
    path = directory / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match=message):
        open_pretrained(directory, backbone="svd")


def test_another_model_is_refused_by_its_class(tiny: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"WanImageToVideoPipeline.*'unet' is None.*UNetSpatioTemporalConditionModel"
    ):
        open_pretrained(tiny("wan"), backbone="svd")
    with pytest.raises(CheckpointError, match=r"is WanTransformer3DModel.*expects CosmosTransformer3DModel"):
        open_pretrained(tiny("wan"), backbone="cosmos")
    directory = copied(tiny("cosmos"), tmp_path)
    shutil.rmtree(directory / "transformer")
    shutil.copytree(tiny("ltx") / "transformer", directory / "transformer")
    with pytest.raises(CheckpointError, match="holds LTXVideoTransformer3DModel; expected CosmosTransformer3DModel"):
        open_pretrained(directory, backbone="cosmos", text="zeros")


def test_two_denoisers_are_refused(tiny: Callable[..., Path], tmp_path: Path) -> None:
    directory = copied(tiny("wan"), tmp_path)
    index = json.loads((directory / "model_index.json").read_text())
    index["transformer_2"] = ["diffusers", "WanTransformer3DModel"]
    (directory / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="two denoisers"):
        open_pretrained(directory, backbone="wan", text="zeros")


@pytest.mark.parametrize("folder", ["transformer", "vae"])
def test_pickled_weights_are_never_loaded(folder: str, tiny: Callable[..., Path], tmp_path: Path) -> None:
    directory = copied(tiny("wan"), tmp_path)
    weights = load_file(str(weights_of(directory, folder)))
    torch.save(weights, directory / folder / "diffusion_pytorch_model.bin")
    weights_of(directory, folder).unlink()
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.bin, but pickles are never loaded"):
        open_pretrained(directory, backbone="wan", text="zeros")


def test_a_pickled_text_encoder_is_not_loaded(tiny: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    directory = copied(tiny("wan", text_encoder=True), tmp_path)
    (directory / "text_encoder" / "model.safetensors").rename(directory / "text_encoder" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin, but pickles are never loaded"):
        open_pretrained(directory, backbone="wan")


@pytest.mark.parametrize("accelerate", [True, False])
def test_weights_that_are_cut_short_are_refused(
    accelerate: bool, tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = copied(tiny("ltx"), tmp_path)
    file = weights_of(directory, "transformer")
    weights = load_file(str(file))
    weights.pop("proj_out.weight")
    save_file(weights, str(file), metadata={"format": "pt"})
    if not accelerate:
        monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(CheckpointError, match=r"proj_out\.weight"):
        open_pretrained(directory, backbone="ltx", text="zeros")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be made of it"):
        open_pretrained(directory, backbone="ltx", text="zeros")

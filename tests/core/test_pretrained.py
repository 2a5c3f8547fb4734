"""Opening pretrained backbones: every weight as saved, the right parts, and what is wrong with a source, by name."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import huggingface_hub
import pytest
import torch
from diffusers.models.transformers import transformer_cosmos
from diffusers.pipelines.wan import pipeline_wan_i2v
from huggingface_hub import errors
from safetensors.torch import load_file, save_file
from torch import Tensor

from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.components import load_component
from egowm_core.models.cosmos import provide_padding_mask_resize
from egowm_core.models.pretrained import LAYOUTS, Pretrained, open_pretrained
from tests.fixtures.tiny_pipelines import PARTS, TOKEN_WIDTH, save_tiny_pipeline

BACKBONES = tuple(LAYOUTS)
TEXT_BACKBONES = tuple(name for name in BACKBONES if LAYOUTS[name].text_encoder)
NAME = "an-org/a-model"
COMMITS = ("a" * 40, "b" * 40)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Directories by backbone, written once; tests that change one copy it."""
    made: dict[tuple[str, bool], Path] = {}

    def get(backbone: str, *, text_encoder: bool = False) -> Path:
        key = (backbone, text_encoder)
        if key not in made:
            made[key] = save_tiny_pipeline(tmp_path_factory.mktemp(backbone), backbone, text_encoder=text_encoder)
        return made[key]

    return get


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target / "model"))


def same_weights(module: torch.nn.Module, file: Path) -> bool:
    saved, loaded = load_file(str(file)), module.state_dict()
    return saved.keys() == loaded.keys() and all(torch.equal(saved[name], loaded[name]) for name in saved)


def weights_of(directory: Path, folder: str) -> Path:
    return directory / folder / "diffusion_pytorch_model.safetensors"


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


def cached_repository(cache: Path, tiny: Callable[..., Path]) -> Path:
    """A hub cache as huggingface_hub lays it out: one model at two commits, named by the tags v1 and v2 and main."""
    folder = cache / "models--an-org--a-model"
    for commit, backbone in zip(COMMITS, ("svd", "ltx"), strict=True):
        shutil.copytree(tiny(backbone), folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    for reference, commit in (("v1", COMMITS[0]), ("v2", COMMITS[1]), ("main", COMMITS[1])):
        (folder / "refs" / reference).write_text(commit)
    return cache


@pytest.mark.parametrize(
    ("source", "revision", "backbone", "commit"),
    [
        (NAME, "v1", "svd", COMMITS[0]),
        (f"{NAME}@v1", None, "svd", COMMITS[0]),
        (f"{NAME}@v2", "v2", "ltx", COMMITS[1]),
        (NAME, COMMITS[0], "svd", COMMITS[0]),
        (NAME, None, "ltx", COMMITS[1]),
    ],
)
def test_a_cached_model_opens_offline_at_the_revision_asked_for(
    source: str, revision: str | None, backbone: str, commit: str, tiny: Callable[..., Path], tmp_path: Path
) -> None:
    cache = cached_repository(tmp_path, tiny)
    opened = open_pretrained(
        source, backbone=backbone, revision=revision, text="zeros", cache_dir=cache, local_files_only=True
    )
    assert opened.resolved_revision == commit
    folder = cache / "models--an-org--a-model" / "snapshots" / commit
    assert same_weights(opened.network, weights_of(folder, LAYOUTS[backbone].folder))


def test_a_model_that_is_not_cached_is_named_when_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=rf"{NAME} is not cached.*hf download {NAME}"):
        open_pretrained(NAME, backbone="svd", cache_dir=tmp_path, local_files_only=True)
    with pytest.raises(CheckpointError, match="at revision 'v1' is not cached"):
        open_pretrained(f"{NAME}@v1", backbone="svd", cache_dir=tmp_path, local_files_only=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # as HF_HUB_OFFLINE=1 sets it
    with pytest.raises(CheckpointError, match=rf"{NAME} is not cached.*HF_HUB_OFFLINE"):
        open_pretrained(NAME, backbone="svd", cache_dir=tmp_path)
    with pytest.raises(CheckpointError, match=f"{NAME} is not cached"):
        load_component(NAME, diffusers.AutoencoderTiny, cache_dir=tmp_path)


def test_what_is_neither_a_directory_nor_a_hub_id_is_refused(tmp_path: Path) -> None:
    for source in (tmp_path / "absent", "./absent/model", "model", "a/b/c"):
        with pytest.raises(CheckpointError, match="no such directory"):
            open_pretrained(source, backbone="svd")


def refusal(kind: type[Exception], status: int) -> Exception:
    """The hub's error as its client raises it; any object with a status, headers and a request does as a response."""
    return kind("refused", response=SimpleNamespace(status_code=status, headers={}, request=None))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(errors.GatedRepoError, 403), rf"{NAME} is gated: accept its licence.*HF_TOKEN"),
        (refusal(errors.HfHubHTTPError, 403), rf"{NAME} is gated"),
        (refusal(errors.HfHubHTTPError, 401), r"unless a private one.*log in"),
        (refusal(errors.RepositoryNotFoundError, 404), "no such repository"),
        (refusal(errors.RevisionNotFoundError, 404), "no revision 'v1'"),
        (OSError("No space left on device"), "No space left on device"),
    ],
)
def test_what_the_hub_refuses_is_explained(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def refuse(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match=message):
        open_pretrained(f"{NAME}@v1", backbone="cosmos", token="secret")
    assert (asked["name"], asked["revision"], asked["token"]) == (NAME, "v1", "secret")


@pytest.mark.parametrize(
    ("options", "wanted", "unwanted"),
    [
        ({}, ["transformer/a.safetensors", "vae/a.safetensors", "text_encoder/a.safetensors", "tokenizer/a"], ["a.pt"]),
        (
            {"text": "zeros"},
            ["transformer/config.json", "vae/a.safetensors"],
            ["text_encoder/config.json", "tokenizer/a"],
        ),
        ({"from_scratch": True}, ["vae/config.json", "scheduler/scheduler_config.json"], ["vae/a.safetensors"]),
    ],
)
def test_only_what_is_needed_is_downloaded(
    options: dict[str, Any], wanted: list[str], unwanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def stop(name: str, **given: Any) -> str:
        asked.update(given)
        raise refusal(errors.GatedRepoError, 403)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", stop)
    with pytest.raises(CheckpointError):
        open_pretrained(NAME, backbone="wan", **options)
    listing = [*wanted, *unwanted, "vae/a.fp16.safetensors", "transformer/a.bin"]
    patterns = {"allow_patterns": asked["allow_patterns"], "ignore_patterns": asked["ignore_patterns"]}
    assert list(huggingface_hub.utils.filter_repo_objects(listing, **patterns)) == wanted


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

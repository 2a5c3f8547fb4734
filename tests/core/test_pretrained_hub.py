"""Pretrained models by their names on the hub: the revision asked for, only what is needed, refusals explained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import huggingface_hub
import pytest
from huggingface_hub import errors

from egowm_core.errors import CheckpointError
from egowm_core.models.components import load_component
from egowm_core.models.pretrained import LAYOUTS, open_pretrained
from tests.core import tiny_sources
from tests.core.tiny_sources import NAME, same_weights, weights_of

tiny = tiny_sources.tiny

COMMITS = ("a" * 40, "b" * 40)


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

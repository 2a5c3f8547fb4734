"""A checkpoint is one self-contained directory: weights, configuration, embodiment, statistics, card, hashes.

``weights.safetensors``, ``config.yaml``, ``embodiment.yaml``, ``norm_stats.json``, ``README.md`` and ``SHA256SUMS`` (as
``sha256sum -c`` reads it); other files beside them, as exported graphs, are verified too where hashes of them are
recorded. Nothing is ever unpickled. Knows no model: weights are tensors by name.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from egowm_core.data.normalize import NormStats
from egowm_core.embodiment import Embodiment
from egowm_core.errors import CheckpointError, EgowmError

FILES = ("weights.safetensors", "config.yaml", "embodiment.yaml", "norm_stats.json", "README.md")
HASHES = "SHA256SUMS"
_EMBEDDED = "embedded:"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")


@dataclass(frozen=True)
class Checkpoint:
    """What the directory holds, verified."""

    weights: dict[str, Tensor]
    config: dict[str, Any]
    embodiment: Embodiment
    norm_stats: NormStats
    card: str


def save_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Write ``directory`` whole or not at all; an older checkpoint there is replaced."""
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = {name: value.detach().contiguous().cpu() for name, value in checkpoint.weights.items()}
    save_file(weights, str(partial / "weights.safetensors"))
    (partial / "config.yaml").write_text(yaml.safe_dump(checkpoint.config, sort_keys=False))
    (partial / "embodiment.yaml").write_text(checkpoint.embodiment.to_yaml())
    (partial / "norm_stats.json").write_text(checkpoint.norm_stats.to_json())
    (partial / "README.md").write_text(checkpoint.card)
    publish(partial, directory)


def publish(partial: Path, directory: Path) -> None:
    """Record hashes of all files of ``partial``, flush them, and make it ``directory``; what is there is replaced."""
    others = sorted(file.name for file in partial.iterdir() if file.name not in (*FILES, HASHES))
    names = (*FILES, *others)
    (partial / HASHES).write_text("".join(f"{sha256_of(partial / name)}  {name}\n" for name in names))
    for file in partial.iterdir():
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
        file.chmod(0o644)  # safetensors writes for its owner alone
    if directory.exists():
        old = directory.with_name(directory.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        directory.rename(old)
        partial.rename(directory)
        shutil.rmtree(old)
    else:
        partial.rename(directory)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and verify a checkpoint: a directory, ``embedded:NAME``, or a hub id ``org/name[@revision]``.

    Raises:
        CheckpointError: not found, a file missing, a hash that does not match, or contents that do not parse.
    """
    directory = resolve(path)
    verify(directory)
    try:
        config = yaml.safe_load((directory / "config.yaml").read_text())
        if not isinstance(config, dict):
            raise CheckpointError(f"{directory / 'config.yaml'}: expected a mapping, got {type(config).__name__}")
        return Checkpoint(
            weights=load_file(str(directory / "weights.safetensors")),
            config=config,
            embodiment=Embodiment.from_yaml((directory / "embodiment.yaml").read_text(), where=str(directory)),
            norm_stats=NormStats.from_json((directory / "norm_stats.json").read_text()),
            card=(directory / "README.md").read_text(),
        )
    except EgowmError:
        raise
    except Exception as error:  # whatever a parser raises on a bad file
        raise CheckpointError(f"{directory}: cannot be read ({error}); get the checkpoint again") from error


def resolve(path: str | Path, *, also: Sequence[str] = ()) -> Path:
    """The local directory that ``path`` names; a hub id is downloaded (or found in the local cache when offline).

    ``also``: patterns of file names to download beside those of every checkpoint.
    """
    text = str(path)
    if text.startswith(_EMBEDDED):
        root = Path(str(resources.files("egowm_core.embedded")))
        directory = root / text.removeprefix(_EMBEDDED)
        if not (directory / "config.yaml").is_file() or directory.parent != root:
            known = ", ".join(sorted(_EMBEDDED + item.parent.name for item in root.glob("*/config.yaml")))
            raise CheckpointError(f"no embedded checkpoint {text!r}; there are: {known or 'none'}")
        return directory
    if Path(text).is_dir():
        return Path(text)
    if not _HUB_ID.fullmatch(text) or text.startswith((".", "/")):
        raise CheckpointError(f"{text}: no such directory; expected a checkpoint directory, embedded:NAME or org/name")
    from huggingface_hub import snapshot_download

    repository, _, revision = text.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=[*FILES, HASHES, *also]))
    except Exception as error:
        raise CheckpointError(
            f"{text}: neither a directory here nor to be had from the hub ({error}); check the name, the network, or "
            "download it and give the directory"
        ) from error


def verify(directory: Path) -> None:
    """Compare every file with its recorded hash; those of every checkpoint must be there.

    Raises:
        CheckpointError: naming the file that is missing or altered.
    """
    hashes = directory / HASHES
    if not hashes.is_file():
        raise CheckpointError(f"{directory}: not a checkpoint ({HASHES} is missing)")
    recorded = recorded_hashes(directory)
    for name in FILES:
        if not (directory / name).is_file() or name not in recorded:
            raise CheckpointError(f"{directory}: {name} is missing; get the checkpoint again")
    for name, digest in recorded.items():
        file = directory / name
        if not file.is_file():
            continue  # not one of every checkpoint: who needs it says so
        found = sha256_of(file)
        if found != digest:
            raise CheckpointError(
                f"{file}: sha256 is {found[:12]}..., recorded {digest[:12]}...; the file was altered or "
                "damaged: get the checkpoint again"
            )


def recorded_hashes(directory: Path) -> dict[str, str]:
    """File name to recorded sha256; names that point out of the directory are left out."""
    lines = [line.split("  ", 1) for line in (directory / HASHES).read_text().splitlines() if "  " in line]
    return {name: digest for digest, name in lines if Path(name).name == name}


def sha256_of(file: Path) -> str:
    """The sha256 of a file's contents, as hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

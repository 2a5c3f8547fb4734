"""One stock diffusers module out of a directory in diffusers' layout: the right class, safetensors only, every weight.

Reads with the class's own ``from_pretrained``. Where accelerate, which that needs for some classes, is not installed,
the same files are read here. Knows no backbone and no pipeline.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from egowm_core.errors import CheckpointError
from egowm_core.models.hub import local_directory

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load_component(
    source: str | Path,
    kind: type[Any],
    *,
    subfolder: str = "",
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    from_scratch: bool = False,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Any:
    """The stock module of class ``kind`` in ``source`` (a directory or ``org/name[@revision]``), in evaluation mode.

    ``from_scratch`` reads the configuration alone and draws the weights from torch's global generator. ``dtype`` holds
    but for the layers that the class itself keeps in float32.

    Raises:
        CheckpointError: the folder, its configuration or its weights are missing, of another class or incomplete, or
            the hub said no (see :func:`egowm_core.models.hub.local_directory`).
    """
    inside = f"{subfolder}/" if subfolder else ""
    files = [f"{inside}config.json", *([] if from_scratch else [f"{inside}*.safetensors", f"{inside}*.index.json"])]
    root, _ = local_directory(
        source,
        files=files,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        token=token,
    )
    folder = root / subfolder
    config = component_config(folder, kind)
    try:
        if from_scratch:
            return _cast(kind.from_config(config), dtype).eval()
        require_safetensors(folder, _WEIGHTS)
        if find_spec("accelerate") is not None:
            module, report = kind.from_pretrained(
                folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
            missing = list(report["missing_keys"])
        else:
            module = kind.from_config(config)
            missing = _fill(module, folder)
            module = _cast(module, dtype).eval()
    except CheckpointError:
        raise
    except Exception as error:  # whatever a constructor or parser raises on files that do not fit
        raise CheckpointError(f"{folder}: {kind.__name__} cannot be made of it ({error}); get it again") from error
    if missing:
        raise CheckpointError(
            f"{folder}: the weights lack {len(missing)} of {kind.__name__}'s, such as {missing[0]!r}; they are of "
            "another model or cut short: get them again"
        )
    return module


def component_config(folder: Path, kind: type[Any]) -> dict[str, Any]:
    """The configuration in ``folder``, which must be one of ``kind``."""
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder.parent} has no folder {folder.name!r}; expected {kind.__name__} there, as diffusers saves it"
        )
    config = read_json(folder / "config.json", f"the configuration of {kind.__name__}")
    found = config.get("_class_name")
    if found != kind.__name__:
        raise CheckpointError(f"{folder} holds {found}; expected {kind.__name__}: give another model or backbone")
    return config


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON mapping; ``what`` says in errors what it should be."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}; expected {what}, as diffusers saves it")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error}); expected {what}: get it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}; expected {what}: get it again")
    return values


def require_safetensors(folder: Path, name: str) -> None:
    """Refuse a folder whose weights are not ``name`` (or its index), above all pickles."""
    if (folder / name).is_file() or (folder / f"{name}.index.json").is_file():
        return
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    found = f"; it holds {', '.join(pickles)}, but pickles are never loaded" if pickles else "; pickles do not count"
    raise CheckpointError(
        f"{folder} has no {name}{found}: get the model with safetensors weights, or save it so "
        "(save_pretrained(..., safe_serialization=True))"
    )


def _fill(module: nn.Module, folder: Path) -> list[str]:
    """Load every shard into ``module``; returns the names that none of them held."""
    index = folder / f"{_WEIGHTS}.index.json"
    names = {_WEIGHTS}
    if index.is_file():
        names = set(read_json(index, "an index of weights")["weight_map"].values())
    missing = set(module.state_dict())
    for name in sorted(names):
        weights = load_file(str(folder / name))
        missing -= set(weights)
        module.load_state_dict(weights, strict=False)
    return sorted(missing)


def _cast(module: Any, dtype: torch.dtype) -> Any:
    """To ``dtype``, but for what the class says must stay float32."""
    kept = getattr(module, "_keep_in_fp32_modules", None) or []
    for name, tensor in module.state_dict(keep_vars=True).items():  # not computed buffers, such as positions
        if tensor.is_floating_point() and not any(part in kept for part in name.split(".")):
            tensor.data = tensor.data.to(dtype)
    return module

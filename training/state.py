"""Resumable training state as safetensors plus JSON: no pickle, replaced atomically.

Random draws are functions of (seed, step), so the step number is all the random state there is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from egowm_core.errors import CheckpointError


def save_state(
    path: Path, *, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, ema: dict[str, Tensor] | None
) -> None:
    """Write everything needed to go on from ``step`` to the file ``path``."""
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in (ema or {}).items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
    tensors = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, str(partial), metadata={"step": json.dumps(step)})
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def load_state(
    path: Path, *, module: nn.Module, optimizer: torch.optim.Optimizer | None, ema: dict[str, Tensor] | None
) -> int:
    """Restore in place what :func:`save_state` wrote; returns the step to go on from (0 when there is no file).

    Raises:
        CheckpointError: the file belongs to another architecture or is damaged.
    """
    if not path.exists():
        return 0
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            step = int(json.loads(file.metadata()["step"]))
        module.load_state_dict({k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")})
    except Exception as error:
        raise CheckpointError(
            f"{path}: not a state of this configuration ({error}); remove it to start anew, or restore "
            "the configuration"
        ) from error
    if ema is not None:
        for name, value in ema.items():
            value.copy_(tensors[f"ema.{name}"])
    if optimizer is None:
        return step
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".", 2)
            state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step

"""Resumable training state as safetensors plus JSON: no pickle, replaced atomically.

Random draws are functions of (seed, step), so the step number is all the random state there is. Tensors that are
sharded over processes are stored whole: a state fits any number of processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from egowm_core.errors import CheckpointError

_DENOISER = "denoiser."


class TrainingState:
    """The tensors of a run: a module, its optimizer's moments and the running average of its weights."""

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer | None, average: WeightAverage | None
    ) -> None:
        self._module, self._optimizer, self._average = module, optimizer, average

    def save(self, path: Path, *, step: int, write: bool = True) -> None:
        """Write everything needed to go on from ``step``.

        Of a sharded module every process must call it, with ``write`` in one of them.
        """
        tensors: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, value in self._tensors():
            full = whole(value)
            if not write:
                continue
            kept = full.detach().contiguous().cpu()
            tensors[name] = kept.clone() if kept.data_ptr() in seen and kept.numel() else kept
            seen.add(tensors[name].data_ptr())
        if write:
            _write(path, tensors, step)

    def load(self, path: Path) -> int:
        """Restore in place what :meth:`save` wrote; returns the step to go on from (0 when there is no file).

        Raises:
            CheckpointError: the file belongs to another architecture or is damaged.
        """
        if not path.exists():
            return 0
        try:
            with safe_open(str(path), framework="pt") as file:
                step = int(json.loads(file.metadata()["step"]))
                names = set(file.keys())
                for name, value in self._stored_tensors():
                    place(file.get_tensor(name), value)
                    names.discard(name)
                if self._optimizer is not None:
                    names -= self._load_optimizer({n: file.get_tensor(n) for n in names if n.startswith("optimizer.")})
            unknown = sorted(name for name in names if name.startswith("module."))
            if unknown:
                raise KeyError(unknown[0])
        except Exception as error:
            raise CheckpointError(
                f"{path}: not a state of this configuration ({error}); remove it to start anew, or restore "
                "the configuration"
            ) from error
        return step

    def _stored_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self._module.state_dict().items():
            yield f"module.{name.removeprefix(_DENOISER)}", value
        for name, value in self._average.tensors.items() if self._average else ():
            yield f"ema.{name.removeprefix(_DENOISER)}", value

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._stored_tensors()
        parameters = dict(self._module.named_parameters())
        for name, slot, sharded in self._slots(parameters):
            assert self._optimizer is not None
            value = self._optimizer.state.get(parameters[name], {}).get(slot)
            if value is None:  # this process's shard has no elements and is never stepped
                value = torch.zeros_like(parameters[name]) if sharded else torch.zeros(())
            yield f"optimizer.{name.removeprefix(_DENOISER)}:{slot}", value

    def _slots(self, parameters: Mapping[str, nn.Parameter]) -> list[tuple[str, str, bool]]:
        """Parameters, what the optimizer keeps of each and whether in shards: as the first process has it, everywhere.

        Its shards are never empty.
        """
        if self._optimizer is None:
            return []
        found = [
            (name, slot, isinstance(value, DTensor))
            for name, owner in parameters.items()
            for slot, value in self._optimizer.state.get(owner, {}).items()
        ]
        if any(isinstance(parameter, DTensor) for parameter in parameters.values()):
            torch.distributed.broadcast_object_list(shared := [found])
            found = shared[0]
        return found

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> set[str]:
        assert self._optimizer is not None
        parameters = {name.removeprefix(_DENOISER): value for name, value in self._module.named_parameters()}
        for name, value in tensors.items():
            owner, slot = name.removeprefix("optimizer.").rsplit(":", 1)
            parameter = parameters[owner]
            own = value  # counters stay where the optimizer wants them, moments lie like their parameter
            if value.ndim:
                own = torch.empty_like(parameter, requires_grad=False)
                place(value, own)
            self._optimizer.state[parameter][slot] = own
        return set(tensors)


class WeightAverage:
    """The exponential moving average of what is trained in a module; what is frozen is its own average."""

    def __init__(self, module: nn.Module) -> None:
        self._live = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.tensors = {name: value.detach().clone() for name, value in self._live.items()}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """One step further towards the weights as they are."""
        for average, value in zip(self.tensors.values(), self._live.values(), strict=True):
            average.lerp_(value, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and weights; a second time brings both back, to the bit."""
        for average, value in zip(self.tensors.values(), self._live.values(), strict=True):
            kept = value.detach().clone()
            value.copy_(average)
            average.copy_(kept)


def whole(value: Tensor) -> Tensor:
    """All of a tensor, sharded or not; of a sharded one every process must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@torch.no_grad()
def place(value: Tensor, own: Tensor) -> None:
    """Copy all of a tensor into ``own``, which may be a shard of it.

    Raises:
        ValueError: another shape.
    """
    if value.shape != own.shape:
        raise ValueError(f"shape {tuple(value.shape)}, expected {tuple(own.shape)}")
    if isinstance(own, DTensor):
        value = distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
    own.copy_(value)


def _write(path: Path, tensors: dict[str, Tensor], step: int) -> None:
    partial = path.with_suffix(".partial")
    save_file(tensors, str(partial), metadata={"step": json.dumps(step)})
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

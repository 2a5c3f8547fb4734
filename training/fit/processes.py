"""The processes of a run, by accelerate: one on a CPU or GPU, or several that share or shard the weights.

What kind is accelerate's own configuration (`accelerate launch --config_file FILE -m training.train CONFIG`), or the
environment that torchrun sets. Knows no model and no data.
"""

from __future__ import annotations

import datetime
import logging
import os
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import (
    DistributedType,
    FullyShardedDataParallelPlugin,
    ProjectConfiguration,
    broadcast_object_list,
)
from torch import nn
from torch.distributed.fsdp import FSDPModule

from egowm_core.errors import ConfigError
from training.config import AUTO, TrainConfig
from training.fit.draws import Share
from training.fit.trackers import checked_tracker

_PATIENCE = datetime.timedelta(hours=24)  # others wait while one fits the autoencoder or encodes the dataset
_SUPPORTED = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
    DistributedType.MULTI_NPU,
    DistributedType.FSDP,
)


def start_processes(config: TrainConfig) -> Accelerator:
    """Join the other processes of this run, if there are any, and take hold of a device.

    Raises:
        ConfigError: a device that cannot be used, a tracker that is not installed, or a kind of training that exact
            resumption does not reach.
    """
    tracker = checked_tracker(config.tracker)
    _forget_last_run()
    cpu = _on_cpu(config.device)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if config.bf16 else None,
        gradient_accumulation_steps=config.gradient_accumulation,
        log_with=tracker,
        project_config=ProjectConfiguration(project_dir=config.out, logging_dir=str(Path(config.out) / "logs")),
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=len(config.sources) > 1),
            InitProcessGroupKwargs(timeout=_PATIENCE),
        ],
    )
    _check_kind(accelerator)
    if config.threads:
        torch.set_num_threads(config.threads)
    if not accelerator.is_main_process:
        logging.getLogger("egowm").setLevel(logging.WARNING)
    return accelerator


def share_of(accelerator: Accelerator) -> Share:
    """Which part of each batch is this process's."""
    return Share(accelerator.process_index, accelerator.num_processes, accelerator.gradient_accumulation_steps)


def check_batch(config: TrainConfig, accelerator: Accelerator) -> None:
    """That a step's batch can be dealt out evenly.

    Raises:
        ConfigError: it cannot.
    """
    size, processes = config.denoiser_run.batch_size, accelerator.num_processes
    passes = accelerator.gradient_accumulation_steps  # accelerate's own setting of it wins
    if passes < 1 or size < 1 or size % (processes * passes):
        raise ConfigError(
            f"denoiser_run.batch_size {size} (clips of one step, over all processes) cannot be dealt out to "
            f"{processes} processes in {passes} passes (gradient_accumulation); make it a multiple of "
            f"{processes * max(passes, 1)}"
        )


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether no process has all of the weights."""
    return bool(accelerator.distributed_type == DistributedType.FSDP)


def prepare(
    accelerator: Accelerator, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """``module`` as it is to be called from now on, and the optimizer that follows it."""
    wrapped, stepping = accelerator.prepare(module, optimizer)
    return wrapped, stepping


def forget_gathered(module: nn.Module) -> None:
    """Of sharded weights, drop what a pass without gradients left gathered: it may not be what the shards hold next."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def same_everywhere(accelerator: Accelerator, decision: bool) -> bool:
    """The first process's ``decision``, which hangs on its clock, made everybody's."""
    if accelerator.num_processes == 1:
        return decision
    return bool(broadcast_object_list([decision])[0])


def is_first_process() -> bool:
    """Whether this process of the program is the one that writes, before and after a run as well."""
    return int(os.environ.get("RANK", "0")) == 0


def leave_processes() -> None:
    """At the end of the program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _on_cpu(device: str) -> bool:
    """Whether ``device`` is the CPU, by name or for want of anything else; a GPU's number is made the current one.

    accelerate must be told: otherwise the processes of a CPU-only machine would each take themselves for the only one.
    """
    if device == AUTO:
        return not torch.accelerator.is_available()
    try:
        chosen = torch.device(device)
        rank = os.environ.get("LOCAL_RANK")
        if rank is not None and chosen.type != "cpu":  # of several processes, each has its own
            chosen = torch.device(chosen.type, int(rank))
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {device!r} cannot be used ({str(error).splitlines()[0]}); use cpu") from error
    if chosen.index is not None and chosen.type != "cpu":
        torch.accelerator.set_device_index(chosen.index)
    return chosen.type == "cpu"


def _forget_last_run() -> None:
    """accelerate keeps its state for the program's life; another run of the same program may want another precision."""
    GradientState._reset_state()
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())


def _check_kind(accelerator: Accelerator) -> None:
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" and accelerator.num_processes > 1:
        _shard_on_cpu(accelerator)
        if not accelerator.is_fsdp2:
            raise ConfigError("FSDP of version 1 flattens weights out of their shapes; set fsdp_version: 2")
        # It knows no buffers beside sharded weights; every process has built the whole model by then anyway.
        accelerator.state.fsdp_plugin.cpu_ram_efficient_loading = False
    if accelerator.distributed_type not in _SUPPORTED:
        raise ConfigError(
            f"distributed_type {accelerator.distributed_type.value} is not supported; use MULTI_GPU or FSDP (version 2)"
        )
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise ConfigError(f"mixed_precision {accelerator.mixed_precision} is not supported; use bf16 or no")


def _shard_on_cpu(accelerator: Accelerator) -> None:
    """Sharding as on GPUs: accelerate's configuration asks for it there only, PyTorch can do it on CPUs as well."""
    if accelerator.device.type != "cpu":
        return
    plugin = FullyShardedDataParallelPlugin()
    if accelerator.mixed_precision != "no":
        plugin.set_mixed_precision(accelerator.mixed_precision)
    accelerator.state.fsdp_plugin = plugin
    accelerator.state.distributed_type = DistributedType.FSDP
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP  # where the former is copied from

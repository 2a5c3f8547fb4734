"""Low-rank fine-tuning of a frozen backbone by the ``peft`` package: injected in place, merged when the run is done."""

from __future__ import annotations

import re

from torch import nn

from egowm_core.errors import ConfigError
from egowm_core.models.adapter import BackboneDenoiser

_LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2", "linear_1", "linear_2")
"""Of attention, feed-forward and timestep embeddings, as all the backbones name them."""


def add_lora(denoiser: BackboneDenoiser, *, rank: int) -> None:
    """Freeze the stock module and put trainable low-rank updates beside its linear layers.

    What is not stock (the action path, a context token) stays trainable.

    Raises:
        ConfigError: peft is not installed, or the backbone has none of the layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError(f"lora_rank {rank} needs the package peft ({error}); pip install 'egowm[train]'") from error
    linear = [name for name, module in denoiser.stock.named_modules() if isinstance(module, nn.Linear)]
    targets = [name for name in linear if name.endswith(_LAYERS)]
    if not targets:
        raise ConfigError(
            f"lora_rank {rank}: {type(denoiser.stock).__name__} has no layer named as in pretrained backbones; use 0"
        )
    denoiser.stock.requires_grad_(False)
    exactly = "|".join(re.escape(name) for name in targets)  # as a list, names would match as endings of others
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=exactly), denoiser.stock)


def merge_lora(denoiser: BackboneDenoiser) -> None:
    """Fold the updates into the weights; afterwards the module is a stock one again, state names included."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(denoiser.stock.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            denoiser.stock.set_submodule(name, module.get_base_layer())

"""How much arithmetic a training step is, and how much of the device's own measured ceiling a run reaches (MFU).

Counted on one pass whose gradients are thrown away: matrix products, convolutions and attention, forward and backward,
a multiplication and an addition as two. What gradient checkpointing computes a second time is left out, as the usual
definition of model FLOPs utilisation has it. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from egowm_core.bench.flops import matmul_ceiling

_CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"


def pass_flop(loss: Callable[[], Tensor], *, recomputed: bool) -> int:
    """FLOPs of one pass forward and backward; ``loss`` runs it forward. Leaves gradients behind: clear them.

    ``recomputed``: the backward pass repeats the forward one (gradient checkpointing).
    """
    with FlopCounterMode(display=False, custom_mapping=_cpu_attention()) as counter:
        value = loss()
        forward = counter.get_total_flops()
        value.backward()
        total = counter.get_total_flops()
    return int(total - forward if recomputed else total)


def device_ceiling(device: torch.device, *, bf16: bool) -> float:
    """FLOP/s that a matrix product reached on ``device`` just now, in the precision of the run."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # draws stay what they would be
        return matmul_ceiling(device, torch.bfloat16 if bf16 else torch.float32)


def _cpu_attention() -> dict[Any, Any]:
    """The CPU's fused attention, both ways, which the counter of the installed PyTorch may not know."""

    def forward(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    def backward(grad: Any, query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return int(sdpa_backward_flop_count(grad, query, key, value))

    counts = {_CPU_ATTENTION: forward, f"{_CPU_ATTENTION}_backward": backward}
    return {getattr(torch.ops.aten, name): count for name, count in counts.items() if hasattr(torch.ops.aten, name)}

"""Long futures of the published sizes: a causal form that streams, and an NWM-style peer with as many parameters.

Random weights, as in ``build.py``; an NWM-style model predicts one frame a call from four, whatever the horizon. Knows
no command line.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import nn

from egowm_core.bench.build import Parts, build_model, build_parts, model_around
from egowm_core.bench.configs import Setting
from egowm_core.bench.stages import RolloutInputs
from egowm_core.bench.timing import Percentiles, synchronise
from egowm_core.embodiment import Embodiment
from egowm_core.models.autoencoders import KLTemporalVideoAutoencoder
from egowm_core.models.registry import build_denoiser
from egowm_core.types import Frames
from egowm_core.world_model import WorldModel

_META = torch.device("meta")
_NWM_DEPTH, _NWM_HEAD_DIM = 28, 64  # of the CDiT-XL that the NWM paper reports
_TINY_NWM_DEPTH, _TINY_NWM_HEAD_DIM = 2, 16
_MOST_HEADS = 64


@dataclass(frozen=True)
class StreamTiming:
    """Of a stream once its cache is full: seconds a step, and how many camera frames a step gives."""

    step_s: Percentiles
    frames_per_step: int
    steps: int
    peak_bytes: int | None

    def metrics(self) -> dict[str, dict[str, float]]:
        """``{metric: {key: value}}``, as other rows here."""
        found = {
            "step": {"p50": self.step_s.p50, "p99": self.step_s.p99, "n": float(self.steps)},
            "frames_per_s": {
                "p50": self.frames_per_step / self.step_s.p50,
                "p99": self.frames_per_step / self.step_s.p99,
            },
        }
        if self.peak_bytes is not None:
            found["memory"] = {"peak_bytes": float(self.peak_bytes)}
        return found


def causal_model(setting: Setting, *, device: torch.device, dtype: torch.dtype) -> WorldModel:
    """The setting's model made causal, with a window as long as its horizon and context together."""
    parts = build_parts(setting, device=device, dtype=dtype)  # anew: a stock module is made causal in place
    return build_model(setting, parts, device=device, causal=True)


def time_stream(model: WorldModel, *, steps: int, num_denoising_steps: int) -> StreamTiming:
    """Stream until attention's window is full, then time ``steps`` steps, pictures on the processor included."""
    inputs = RolloutInputs.made_up(model, horizon=1)
    context = Frames(inputs.context[0], np.arange(inputs.context.shape[1], dtype=np.int64))
    state = None if inputs.state is None else inputs.state[0]
    frames: Iterator[Any] = model.stream(
        context, repeat(inputs.actions[0, 0]), state=state, num_denoising_steps=num_denoising_steps
    )
    for _ in range(model.denoiser.config.attention_window + 2):
        next(frames)
    synchronise(model.device)
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    took = []
    for _ in range(steps):
        begun = time.perf_counter()
        next(frames)
        took.append(time.perf_counter() - begun)
    peak = torch.cuda.max_memory_allocated(model.device) if model.device.type == "cuda" else None
    return StreamTiming(Percentiles.of(took), model.vae.temporal_factor, steps, peak)


def nwm_peer(setting: Setting, parts: Parts, *, device: torch.device, dtype: torch.dtype) -> tuple[WorldModel, int]:
    """An NWM-style model on SVD's autoencoder in ``parts``, with as many parameters as the denoiser there, or nearly.

    Its depth is the paper's; what is chosen is its width, in whole attention heads. Returns how many it has, too.
    """
    target = _count(parts.denoiser)
    reference = build_model(setting, parts, device=device)

    def count(heads: int) -> int:
        return _count(_nwm(setting, reference, heads, _META))

    above = max(2, 1 + bisect_left(range(1, _MOST_HEADS), target, key=count))
    heads = min((above - 1, above), key=lambda number: abs(count(number) - target))
    denoiser = nn.Module.to(_nwm(setting, reference, heads, device), device, dtype)
    autoencoder = KLTemporalVideoAutoencoder(parts.autoencoder)
    model = model_around(setting, autoencoder, denoiser, reference.embodiment, device=device)
    model.bf16 = dtype == torch.bfloat16  # by autocast; the weights are in it already
    return model, _count(denoiser)


def _nwm(setting: Setting, reference: WorldModel, heads: int, device: torch.device) -> Any:
    tiny = setting.size == "tiny"
    config = reference.denoiser.config
    values = {
        "backbone": "nwm",
        "latent_channels": config.latent_channels,
        "latent_height": config.latent_height,
        "latent_width": config.latent_width,
        "horizon": 1,
        "hidden_dim": heads * (_TINY_NWM_HEAD_DIM if tiny else _NWM_HEAD_DIM),
        "num_heads": heads,
        "depth": _TINY_NWM_DEPTH if tiny else _NWM_DEPTH,
    }
    embodiment: Embodiment = reference.embodiment
    with device:
        return build_denoiser(values, embodiment)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

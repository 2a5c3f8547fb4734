"""Compile a world model's networks with ``torch.compile``, in place and reversibly; or only spare them conversions.

Compiled are the forward passes of the stock denoiser and of the decoder, where the time goes; hooks inside them (the
action embedding) are compiled along. Samplers, preconditioning and the state dict stay as they are. Knows no
checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from egowm_core.errors import ConfigError
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.autoencoders import KLTemporalVideoAutoencoder
from egowm_core.models.frame_cache import CausalControl
from egowm_core.models.vae import FrameAutoencoder
from egowm_core.schema import nearest
from egowm_core.world_model import WorldModel

COMPILE_MODES = ("none", "default", "reduce-overhead", "max-autotune")
"""none: as it was. reduce-overhead: CUDA graphs, for short steps on a GPU. max-autotune: the same, and kernels tried
out one against another, which takes minutes the first time."""

_CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # layers without others inside, which autocast runs in bfloat16
_GRAPHS = ("reduce-overhead", "max-autotune")
_COMPILERS = ("g++", "clang++", "c++")
_FORMS = 64  # of one network: a causal one has five (beginning, filling and full memory) for each size of batch


def compile_world_model(model: WorldModel, mode: str, *, backend: str = "inductor") -> None:
    """Compile ``model``'s denoiser and, where it has no state, its decoder; ``mode`` is one of ``COMPILE_MODES``.

    Nothing is compiled before the first rollout, which then takes seconds to minutes; do one before the robot waits for
    it. Outputs agree with the eager model's up to rounding. Another mode replaces the one before, and ends the streams
    of a causal model, whose memory of past frames has its full length from the beginning while it is compiled.
    ``backend`` is one of ``torch.compiler.list_backends()``; others than inductor have the mode "default" alone.

    Raises:
        ConfigError: an unknown mode (the nearest name is given); an exported graph, which is compiled already; CUDA
            graphs for a model that overlaps; or, on a CPU, no C++ compiler.
    """
    if mode not in COMPILE_MODES:
        raise ConfigError(
            f"no compile mode {mode!r}{nearest(mode, COMPILE_MODES)}; there are: {', '.join(COMPILE_MODES)}"
        )
    denoiser = model.denoiser
    if not isinstance(denoiser, BackboneDenoiser):
        if mode == "none":
            return
        raise ConfigError(
            f"compile mode {mode!r}: {type(denoiser).__name__} is no torch module (an exported graph is compiled "
            "already); load the model with engine 'torch', or use mode 'none'"
        )
    if mode in _GRAPHS and model.overlap:
        raise ConfigError(
            f"compile mode {mode!r} shares memory between graphs one after another, and this model overlaps decoding "
            "with denoising; set its overlap to False, or use mode 'default'"
        )
    if mode != "none" and backend == "inductor":
        _require_compiler(model.device)
    model.graphs = mode in _GRAPHS
    if mode != "none":  # beyond the limit, by default 8 forms, the rest would silently run uncompiled
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, _FORMS)
    for network, control in _networks(model, denoiser):
        network.__dict__.pop("forward", None)  # the class's own forward shows again
        if control is not None:
            control.fix_shapes(None if mode == "none" else model.device)
        if mode != "none":
            network.__dict__["forward"] = _compiled(network.forward, mode, backend, control)


def cast_weights(model: WorldModel) -> bool:
    """Keep the weights of ``model``'s matrix products and convolutions in bfloat16, where it computes them in that.

    Autocast converts them anew for every evaluation otherwise, to the same numbers: outputs do not change, and weights
    take half the memory. For a model that only predicts: what is saved of it afterwards has these weights. Returns
    whether there was anything to do (a model in float32, or an exported graph, is left alone).
    """
    modules = [part for part in (model.denoiser, model.vae) if model.bf16 and isinstance(part, nn.Module)]
    for layer in (layer for part in modules for layer in part.modules()):
        if isinstance(layer, _CAST):
            layer.to(torch.bfloat16)
    return bool(modules)


def _networks(model: WorldModel, denoiser: BackboneDenoiser) -> list[tuple[nn.Module, CausalControl | None]]:
    """The stock denoiser, and decoders that are plain functions (Wan's carries its last frames from call to call); each
    with the memory of its streams, where it has one."""
    networks: list[tuple[nn.Module, CausalControl | None]] = [(denoiser.stock, denoiser.control)]
    if isinstance(model.vae, FrameAutoencoder):
        networks.append((model.vae.network.decoder, model.vae.control))
    if isinstance(model.vae, KLTemporalVideoAutoencoder):
        networks.append((model.vae.network.decoder, None))
        if model.vae.tiny_decoder is not None:
            networks.append((getattr(model.vae.tiny_decoder, "decoder", model.vae.tiny_decoder), None))
    return networks


def _compiled(
    forward: Callable[..., Any], mode: str, backend: str, control: CausalControl | None
) -> Callable[..., Any]:
    # Shapes do not change from rollout to rollout: general kernels would only be slower.
    compiled: Callable[..., Any] = torch.compile(forward, mode=mode, backend=backend, dynamic=False)
    if mode not in _GRAPHS:
        return compiled

    def call(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        # A replayed graph writes its output where the last one lies: guidance and chunked decoding keep both.
        output = _copied(compiled(*args, **kwargs))
        if control is not None:
            control.own_pending()
        return output

    return call


def _copied(output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(_copied(item) for item in output)
    return output.clone() if isinstance(output, Tensor) else output


def _require_compiler(device: torch.device) -> None:
    if device.type == "cpu" and not any(shutil.which(name) for name in _COMPILERS):
        raise ConfigError(
            f"torch.compile on a CPU needs a C++ compiler, and none of {', '.join(_COMPILERS)} is on the PATH: "
            "apt install g++, or use compile mode 'none'"
        )

"""Write a trained denoiser and a frame autoencoder as ONNX graphs, which ``onnx.py`` runs.

The graph of a denoiser is one evaluation: conditioning, preconditioning, the stock network and its hooks. The batch is
free, the number of frames is not. Of a causal denoiser it is one frame of a stream, whose memory of past frames goes in
and out as tensors. Knows no checkpoint directory and no command line.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from egowm_core.diffusion.denoiser import Context, per_frame
from egowm_core.errors import ConfigError
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.frame_cache import FrameCache
from egowm_core.models.onnx import DECODER, DENOISER, ENCODER
from egowm_core.models.onnx_graph import METADATA
from egowm_core.models.onnx_memory import NEW, Axes, TracedMemory
from egowm_core.models.vae import FrameAutoencoder

OPSET = 20
_BATCH, _PAST, _FRAMES = 2, 3, 5  # of traced examples; 0 and 1 would be taken as fixed
_LEAST_WINDOW = 6  # smaller ones are traced as if their memory were always full
_PROTOBUF_LIMIT = 2_000_000_000  # bytes; a larger graph keeps its weights in a file beside it


def export_denoiser(denoiser: BackboneDenoiser, directory: Path, *, opset: int = OPSET) -> None:
    """Write ``denoiser.onnx``: inputs named as by :func:`call_tensors`, output ``clean``.

    ``denoiser`` is on the processor, in float32 and in evaluation mode.

    Raises:
        ConfigError: onnxscript is not installed, the network cannot be traced, or a causal one keeps no cache.
    """
    config, control = denoiser.config, denoiser.control
    given = call_tensors(denoiser, *random_call(denoiser, batch_size=_BATCH, frames=1 if config.causal else 0))
    if not config.causal:
        _write(_Step(denoiser), given, "clean", directory / DENOISER, opset)
        return
    kind = type(denoiser).__name__
    if control is None or not control.can_cache:
        raise ConfigError(
            f"a causal {kind} keeps no memory of past frames, so there is no step of a stream to export; use the torch "
            "engine, or train a causal svd or cosmos"
        )
    if control.window < _LEAST_WINDOW:
        raise ConfigError(
            f"a causal model whose attention sees {control.window} frames cannot be exported, {_LEAST_WINDOW} are "
            "needed; use the torch engine, or train one with a larger window"
        )
    memory = TracedMemory(control, past=min(_PAST, control.window - 2))
    given["known"] = torch.zeros(_BATCH, 1, dtype=torch.bool)
    action = given.get("action", given["sigma"])
    memory.observe(
        lambda: denoiser.denoise_next(given["noisy"], given["sigma"], _context(given), action, FrameCache()), _BATCH
    )
    _write(_StreamStep(denoiser, memory), given, "clean", directory / DENOISER, opset, memory=memory)


def export_autoencoder(
    vae: nn.Module, directory: Path, *, cells: tuple[int, int], opset: int = OPSET
) -> tuple[str, ...]:
    """Write ``encoder.onnx`` and ``decoder.onnx`` for latents of ``cells`` (h, w); any number of frames.

    Only a :class:`FrameAutoencoder` has graphs. Of a pretrained backbone's autoencoder nothing is written, and a world
    model goes on using PyTorch for it. Returns the names of the files.

    Raises:
        ConfigError: onnxscript is not installed, or the network cannot be traced.
    """
    if not isinstance(vae, FrameAutoencoder):
        return ()
    frames: Axes = {"frames": {1: "frames"}, "latents": {1: "frames"}}
    pictures = torch.zeros(_BATCH, _FRAMES, 3, *(side * vae.downscale for side in cells))
    latents = torch.zeros(_BATCH, _FRAMES, vae.latent_channels, *cells)
    memory = None
    if vae.control is not None:
        memory = TracedMemory(vae.control, past=0)
        memory.observe(lambda: vae.decode(latents[:, :1]), _BATCH)
    _write(_Encode(vae), {"frames": pictures}, "latents", directory / ENCODER, opset, axes=frames)
    decode = _Decode(vae, memory)
    _write(decode, {"latents": latents}, "frames", directory / DECODER, opset, axes=frames, memory=memory)
    return ENCODER, DECODER


def random_call(
    denoiser: BackboneDenoiser, *, batch_size: int, frames: int = 0, seed: int = 0
) -> tuple[Tensor, Tensor, Context, Tensor]:
    """Arguments of ``denoise`` for ``frames`` latent frames (0: one chunk), with all conditioning that it takes.

    Every frame has another noise level, and one action in eight is dropped.
    """
    config = denoiser.config
    count = frames or config.horizon
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch_size, *shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(batch_size, *shape, generator=generator)

    frame = (config.latent_channels, config.latent_height, config.latent_width)
    sigma = 20.0 * 0.005 ** uniform(count)
    ticks = count * config.temporal_factor
    action_dim = denoiser.action_encoder.action_dim if denoiser.action_encoder is not None else 0
    context = Context(
        normal(config.context_frames, *frame),
        compensated=normal(count, *frame) if config.context_warp else None,
        visible=uniform(count, 2, *frame[1:]) if config.context_warp else None,
        state=normal(denoiser.state_encoder.state_dim) if denoiser.state_encoder is not None else None,
        action_known=uniform(ticks) > 0.125,
    )
    noisy = normal(count, *frame) + per_frame(sigma) * normal(count, *frame)
    return noisy, sigma, context, 2.0 * uniform(ticks, action_dim) - 1.0


def call_tensors(
    denoiser: BackboneDenoiser, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor
) -> dict[str, Tensor]:
    """The arguments of one call of ``denoise`` by the names of graph inputs, without what this denoiser ignores."""
    given = {"noisy": noisy, "sigma": sigma, "latents": context.latents}
    if denoiser.config.causal:
        given["latents"] = context.latents[:, -1:]
    named = {"compensated": context.compensated, "visible": context.visible, "state": context.state}
    given |= {name: value for name, value in named.items() if value is not None}
    if denoiser.action_encoder is not None and context.action_known is not None:
        given |= {"action": action, "action_known": context.action_known}
    return given


class _Step(nn.Module):
    """One evaluation of a denoiser, its arguments by name."""

    def __init__(self, denoiser: BackboneDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        # A passive model has no such input, and ignores the argument.
        action = given.get("action", given["sigma"])
        return (self.denoiser.denoise(given["noisy"], given["sigma"], _context(given), action),)


class _StreamStep(nn.Module):
    """One frame of a causal denoiser's stream, and what it adds to the memory."""

    def __init__(self, denoiser: BackboneDenoiser, memory: TracedMemory) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.memory = memory

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        noisy, sigma, known = given["noisy"], given["sigma"], given["known"]
        action = given.get("action", sigma)
        cache = FrameCache(num_frames=self.memory.past_frames(given))
        with self.memory.traced(given) as found:
            clean = self.denoiser.denoise_next(noisy, sigma, _context(given), action, cache, known=known)
        return clean, *found.values()


class _Encode(nn.Module):
    def __init__(self, vae: FrameAutoencoder) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return (self.vae.encode(given["frames"]),)


class _Decode(nn.Module):
    def __init__(self, vae: FrameAutoencoder, memory: TracedMemory | None) -> None:
        super().__init__()
        self.vae = vae
        self.memory = memory

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        if self.memory is None:
            return (self.vae.decode(given["latents"]),)
        with self.memory.traced(given) as found:
            frames = self.vae.decode(given["latents"])
        return frames, *found.values()


def _context(given: Mapping[str, Tensor]) -> Context:
    names = ("compensated", "visible", "state", "action_known")
    return Context(given["latents"], **{name: given.get(name) for name in names})


def _write(
    module: nn.Module,
    given: Mapping[str, Tensor],
    output: str,
    file: Path,
    opset: int,
    *,
    axes: Axes | None = None,
    memory: TracedMemory | None = None,
) -> None:
    """Trace ``module`` on the example ``given`` and write the graph, with the layouts of its memory."""
    example, others, layouts = dict(given), dict(axes or {}), []
    if memory is not None:
        layouts = list(memory.layouts.values())
        example |= memory.example(_BATCH)
        others |= memory.axes()
    free = {name: {0: "batch", **others.get(name, {})} for name in example}
    try:
        import onnx_ir.passes.common as passes
        import onnxscript  # noqa: F401  # what torch.onnx needs, and would miss later on
    except ImportError as error:
        raise ConfigError(f"export needs onnxscript ({error}); install it with: pip install 'egowm[onnx]'") from error
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it regrets packages that nothing here needs
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # In two steps: told that it is for ONNX, stock modules take other paths, and worse ones to trace.
            traced = torch.export.export(
                module.eval(),
                (example,),
                dynamic_shapes=({name: dict.fromkeys(axes, Dim.DYNAMIC) for name, axes in free.items()},),
                strict=False,
            )
            program = torch.onnx.export(
                traced,
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=list(example),
                output_names=[output, *(NEW + layout.name for layout in layouts)],
                dynamic_shapes=(free,),
            )
    except Exception as error:  # torch.export and torch.onnx have many
        reason = str(error.__cause__ or error).strip().splitlines()[:1]
        raise ConfigError(
            f"{file.name}: PyTorch {torch.__version__} cannot export this network at opset {opset} "
            f"({' '.join(reason)}); use the torch engine, or another opset"
        ) from error
    finally:
        log.setLevel(level)
    assert program is not None  # with dynamo
    model = program.model
    passes.ClearMetadataAndDocStringPass()(model)  # stack traces of this machine, mostly
    model.metadata_props[METADATA] = json.dumps({"states": [asdict(layout) for layout in layouts]})
    weights = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None
    )
    program.save(file, external_data=weights > _PROTOBUF_LIMIT)

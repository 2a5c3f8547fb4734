"""From a checkpoint to a world model that is ready to roll out. Knows files and devices, so that nothing else need."""

from __future__ import annotations

from pathlib import Path

import torch

from egowm_core.checkpoint import HASHES, Checkpoint, load_checkpoint, recorded_hashes, resolve
from egowm_core.errors import CheckpointError, ConfigError
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.onnx import DECODER, DENOISER, ENCODER, GRAPHS, OnnxAutoencoder, OnnxDenoiser
from egowm_core.models.onnx_graph import PROVIDERS, Graph
from egowm_core.models.registry import TrainedAutoencoder, build_autoencoder, build_denoiser, denoiser_config
from egowm_core.schema import nearest
from egowm_core.world_model import WorldModel

ENGINES = ("torch", *(f"onnx-{provider}" for provider in PROVIDERS))
"""What evaluates the networks: PyTorch, or onnxruntime on one of its execution providers."""


def load_world_model(
    path: str | Path, *, device: str = "cpu", bf16: bool | None = None, engine: str = "torch"
) -> WorldModel:
    """A checkpoint (directory, ``embedded:NAME`` or hub id) to a :class:`WorldModel` on ``device``.

    ``bf16`` runs networks in bfloat16; None chooses it where the processor has matrix units for it. ``engine`` is one
    of ``ENGINES``; exported graphs (``egowm-export``) are in float32 and run on as many threads as PyTorch, and
    ``device`` is then for what surrounds them.

    Raises:
        CheckpointError: see :func:`egowm_core.checkpoint.load_checkpoint`; weights that do not fit; graphs that are
            not there; or onnxruntime cannot run them so.
        ConfigError: an unknown engine, bfloat16 for an exported graph, or onnxruntime is not installed.
    """
    if engine == "torch":
        return build_world_model(load_checkpoint(path), device=device, bf16=bf16)
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}{nearest(engine, ENGINES)}; there are: {', '.join(ENGINES)}")
    if bf16:
        raise ConfigError(f"bf16 with engine {engine}: exported graphs are in float32; leave it out")
    directory = resolve(path, also=GRAPHS)
    checkpoint = load_checkpoint(directory)
    provider = engine.removeprefix("onnx-")
    denoiser_graph = _graph(directory, DENOISER, provider)
    encoder, decoder = (
        _graph(directory, name, provider) if name in recorded_hashes(directory) else None for name in (ENCODER, DECODER)
    )
    return WorldModel(
        vae=OnnxAutoencoder(checkpoint_autoencoder(checkpoint), encoder=encoder, decoder=decoder),
        denoiser=OnnxDenoiser(denoiser_config(checkpoint.config["denoiser"])[1], denoiser_graph),
        embodiment=checkpoint.embodiment,
        norm_stats=checkpoint.norm_stats,
        config=checkpoint.config,
        device=torch.device(device),
        bf16=False,
    )


def _graph(directory: Path, name: str, provider: str) -> Graph:
    if not (directory / name).is_file() or name not in recorded_hashes(directory):
        raise CheckpointError(
            f"{directory} has no {name} that {HASHES} lists; write one with: egowm-export {directory} OUT"
        )
    return Graph(directory / name, provider=provider)


def build_world_model(checkpoint: Checkpoint, *, device: str = "cpu", bf16: bool | None = None) -> WorldModel:
    """As :func:`load_world_model`, from a checkpoint that is already in memory."""
    vae = checkpoint_autoencoder(checkpoint)
    denoiser = checkpoint_denoiser(checkpoint)
    if bf16 is None:
        bf16 = has_bf16_matrix_units(device)
    return WorldModel(
        vae=vae,
        denoiser=denoiser,
        embodiment=checkpoint.embodiment,
        norm_stats=checkpoint.norm_stats,
        config=checkpoint.config,
        device=torch.device(device),
        bf16=bf16,
    )


def checkpoint_autoencoder(checkpoint: Checkpoint) -> TrainedAutoencoder:
    """The autoencoder of a checkpoint, weights and all, ready to use.

    Raises:
        CheckpointError: weights that do not fit.
    """
    vae = build_autoencoder(checkpoint.config["vae"])
    _fill(vae, checkpoint, "vae.")
    return vae.eval().requires_grad_(False)


def checkpoint_denoiser(checkpoint: Checkpoint) -> BackboneDenoiser:
    """The denoiser of a checkpoint, weights and all, ready to use.

    Raises:
        CheckpointError: weights that do not fit.
    """
    denoiser = build_denoiser(checkpoint.config["denoiser"], checkpoint.embodiment)
    _fill(denoiser, checkpoint, "denoiser.")
    return denoiser.eval().requires_grad_(False)


def _fill(module: torch.nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    weights = {k.removeprefix(prefix): v.float() for k, v in checkpoint.weights.items() if k.startswith(prefix)}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"weights do not fit the configuration ({error}); get the checkpoint again") from error


def has_bf16_matrix_units(device: str) -> bool:
    """Whether bfloat16 is the fast choice: CUDA devices that support it, CPUs with AMX."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported()) if hasattr(torch.cpu, "_is_amx_tile_supported") else False

"""`egowm-export CHECKPOINT OUT`: a checkpoint with its networks as ONNX graphs beside the weights.

OUT is a checkpoint like any other, for ``load_world_model(OUT, engine="onnx-cpu")``. What is written has been run:
every graph is compared with PyTorch on random inputs, in two batch sizes, and timed against it on as many threads.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egowm_core.checkpoint import FILES, load_checkpoint, publish, resolve
from egowm_core.diffusion.denoiser import Context, per_frame
from egowm_core.errors import CheckpointError, EgowmError
from egowm_core.loading import checkpoint_autoencoder, checkpoint_denoiser
from egowm_core.models.adapter import BackboneDenoiser, WorldDenoiser
from egowm_core.models.onnx import DENOISER, ENCODER, OnnxAutoencoder, OnnxDenoiser
from egowm_core.models.onnx_export import OPSET, export_autoencoder, export_denoiser, random_call
from egowm_core.models.onnx_graph import Graph
from egowm_core.models.registry import TrainedAutoencoder
from egowm_core.saving import check_replaceable

_TOLERANCE = 1e-3  # of the largest value; what rounding in another order makes of float32 is a hundred times less
_REPEATS = 10

Row = dict[str, float]


def export_checkpoint(
    checkpoint: str | Path,
    out: Path,
    *,
    batch_size: int = 1,
    opset: int = OPSET,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Row]:
    """Write ``out`` whole or not at all; ``say`` hears of each stage.

    Returns for each graph ``max_abs_error``, median ``eager_ms`` and ``onnxruntime_ms`` for ``frames`` frames at
    ``batch_size`` (of a causal denoiser: a stream of so many), ``speedup`` and ``bytes``.

    Raises:
        CheckpointError: no checkpoint, ``out`` holds something else, or a graph disagrees with PyTorch.
        ConfigError: a network that cannot be exported, or packages that are missing.
    """
    check_replaceable(out)
    source = resolve(checkpoint)
    loaded = load_checkpoint(source)
    denoiser, vae = checkpoint_denoiser(loaded), checkpoint_autoencoder(loaded)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name in FILES:
            shutil.copyfile(source / name, partial / name)
        rows: dict[str, Row] = {}
        say(f"{loaded.config['name']}: tracing the denoiser (may take minutes)")
        export_denoiser(denoiser, partial, opset=opset)
        rows["denoiser"] = _checked(DENOISER, _denoiser_pair(denoiser, partial), batch_size, say)
        say("tracing the autoencoder")
        cells = (denoiser.config.latent_height, denoiser.config.latent_width)
        names = export_autoencoder(vae, partial, cells=cells, opset=opset)
        if not names:
            say(f"{type(vae).__name__} has no graphs: it stays in PyTorch")
        for name in names:
            pair = _autoencoder_pair(name, vae, denoiser, partial)
            rows[Path(name).stem] = _checked(name, pair, batch_size, say)
        for name, row in rows.items():
            row["bytes"] = float(sum(file.stat().st_size for file in partial.glob(f"{name}.onnx*")))
        publish(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return rows


Pair = Callable[[int], tuple[Callable[[], Tensor], Callable[[], Tensor]]]
"""For a batch size: the same evaluation by PyTorch and by onnxruntime."""


def _denoiser_pair(denoiser: BackboneDenoiser, directory: Path) -> Pair:
    exported = OnnxDenoiser(denoiser.config, Graph(directory / DENOISER))

    def pair(batch_size: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        if not denoiser.config.causal:
            call = random_call(denoiser, batch_size=batch_size)
            return lambda: denoiser.denoise(*call), lambda: exported.denoise(*call)
        # More than a window, so that the stream forgets.
        call = random_call(denoiser, batch_size=batch_size, frames=denoiser.config.attention_window + 2)
        return lambda: _streamed(denoiser, *call), lambda: _streamed(exported, *call)

    return pair


def _streamed(denoiser: WorldDenoiser, noisy: Tensor, sigma: Tensor, context: Context, action: Tensor) -> Tensor:
    """One evaluation of each frame, with the frames before it as history."""
    ticks = denoiser.config.temporal_factor
    cache = denoiser.start_stream(context)
    estimates = []
    assert context.action_known is not None
    moves = zip(action.split(ticks, dim=1), context.action_known.split(ticks, dim=1), strict=True)
    for frame, level, (move, known) in zip(noisy.split(1, dim=1), sigma.split(1, dim=1), moves, strict=True):
        context = replace(context, action_known=known)
        estimates.append(denoiser.denoise_next(frame, level, context, move, cache))
        clean = frame / (1.0 + per_frame(level))
        denoiser.commit(clean, context, move, cache)
        context = replace(context, latents=clean)
    return torch.cat(estimates, dim=1)


def _autoencoder_pair(name: str, vae: TrainedAutoencoder, denoiser: BackboneDenoiser, directory: Path) -> Pair:
    graph = Graph(directory / name)
    exported = OnnxAutoencoder(vae, **{Path(name).stem: graph})
    config = denoiser.config
    generator = torch.Generator().manual_seed(0)

    def pair(batch_size: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        if name == ENCODER:
            sides = (config.latent_height * vae.downscale, config.latent_width * vae.downscale)
            frames = 2.0 * torch.rand(batch_size, config.context_frames, 3, *sides, generator=generator) - 1.0
            return lambda: vae.encode(frames), lambda: exported.encode(frames)
        cells = (config.latent_channels, config.latent_height, config.latent_width)
        latents = torch.randn(batch_size, config.horizon, *cells, generator=generator)
        return lambda: vae.decode(latents), lambda: exported.decode(latents)

    return pair


@torch.inference_mode()
def _checked(name: str, pair: Pair, batch_size: int, say: Callable[[str], None]) -> Row:
    """Compare, then time; the larger batch shows that the batch is free."""
    worst = 0.0
    for size in (batch_size + 1, batch_size):
        eager, exported = pair(size)
        expected, found = eager(), exported()
        error, scale = float((found - expected).abs().max()), max(1.0, float(expected.abs().max()))
        if not error <= _TOLERANCE * scale:
            raise CheckpointError(
                f"{name} differs from PyTorch by {error:.3g} where values reach {scale:.3g}, allowed are {_TOLERANCE} "
                "of that; try another --opset or versions of torch and onnxscript, or use the torch engine"
            )
        worst = max(worst, error)
    times: dict[str, list[float]] = {"eager": [], "onnxruntime": []}
    for _ in range(_REPEATS):  # in turns, so that other load on the machine meets both
        for label, evaluate in (("eager", eager), ("onnxruntime", exported)):
            begun = time.perf_counter()
            evaluate()
            times[label].append(time.perf_counter() - begun)
    eager_ms, onnxruntime_ms = (1e3 * float(np.median(times[label])) for label in ("eager", "onnxruntime"))
    frames, threads = expected.shape[1], torch.get_num_threads()
    say(
        f"{name}: max abs error {worst:.2g}; batch {batch_size}, {frames} frames, {threads} threads: "
        f"{eager_ms:.1f} ms by PyTorch, {onnxruntime_ms:.1f} ms by onnxruntime ({eager_ms / onnxruntime_ms:.2f}x)"
    )
    return {
        "max_abs_error": worst,
        "eager_ms": eager_ms,
        "onnxruntime_ms": onnxruntime_ms,
        "speedup": eager_ms / onnxruntime_ms,
        "frames": float(frames),
    }


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-export",
        description="Write a checkpoint with its networks as ONNX graphs beside the weights, compared with PyTorch.",
    )
    parser.add_argument("checkpoint", help="directory, embedded:NAME or hub id")
    parser.add_argument("out", type=Path, help="directory to write; a checkpoint that is there is replaced")
    parser.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="to compare and time at (default 1); graphs take any"
    )
    parser.add_argument("--opset", type=int, default=OPSET, help=f"ONNX operator set (default {OPSET})")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: PyTorch's choice)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.batch_size < 1:
        parser.error(f"--batch-size is {arguments.batch_size}; at least 1 is needed")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        rows = export_checkpoint(
            arguments.checkpoint,
            arguments.out,
            batch_size=arguments.batch_size,
            opset=arguments.opset,
            say=lambda line: print(line, flush=True),
        )
    except EgowmError as error:
        print(f"egowm-export: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: load it with engine='onnx-cpu', 'onnx-cuda' or 'onnx-tensorrt'")
    if arguments.json:
        figures = {
            "rows": rows,
            "batch_size": arguments.batch_size,
            "opset": arguments.opset,
            "threads": torch.get_num_threads(),
        }
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

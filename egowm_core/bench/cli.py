"""The command `egowm-bench`: of a checkpoint, or of a backbone of published size beside its stock pipeline."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from egowm_core.bench.compare import Choice, choices, compare, measure_choices, say
from egowm_core.bench.configs import BACKBONES, SIZES, setting
from egowm_core.bench.estimate import refuse_on_cpu
from egowm_core.bench.flops import matmul_ceiling
from egowm_core.bench.report import Row, header, line, write_json
from egowm_core.compiling import COMPILE_MODES, cast_weights
from egowm_core.errors import ConfigError, EgowmError
from egowm_core.loading import ENGINES, load_world_model
from egowm_core.models.conditioning import WARPS
from egowm_core.models.stock_autoencoder import StockAutoencoder
from egowm_core.schema import nearest

_CHECKPOINT = "embedded:base_3dof"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_EPILOG = """\
Each cell of a stage is median (99th percentile) in ms; TFLOP, TFLOP/s and % of ceiling are encode / denoise / decode.
The ceiling is what a large matrix product reaches in the same type on the same device, in the same run.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-bench",
        description="Time the stages of a rollout, and how near to the device's ceiling they run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", nargs="?", help=f"directory, hub id or embedded:NAME (default {_CHECKPOINT})")
    what = parser.add_argument_group("instead of a checkpoint")
    what.add_argument("--backbone", choices=BACKBONES, help="measure this one, with random weights")
    what.add_argument("--size", choices=SIZES, default="tiny", help="tiny for a CPU (default), real as published")
    what.add_argument("--against-stock", action="store_true", help="and its stock pipeline at the paper's setting")
    what.add_argument("--force", action="store_true", help="--size real on a CPU nonetheless")
    how = parser.add_argument_group("how")
    how.add_argument("--num-denoising-steps", type=counts, metavar="N,N", help="default 1,2,4,8 (--backbone: 1,2,4)")
    how.add_argument("--guidance-scale", type=float, metavar="W", help="default: the checkpoint's (--backbone: off)")
    how.add_argument("--warp", choices=WARPS, help="what geometry compensates (default: the checkpoint's)")
    how.add_argument("--horizon", type=int, default=0, help="frames (default: one chunk)")
    how.add_argument("--dtype", choices=_DTYPES, help="default: bfloat16 where it is fast")
    how.add_argument("--float32", action="store_const", const="float32", dest="dtype", help="short for --dtype float32")
    how.add_argument(
        "--compile",
        type=_modes,
        default=["none"],
        metavar="MODE,MODE",
        help=f"also compiled: {', '.join(COMPILE_MODES)}",
    )
    how.add_argument("--engine", choices=ENGINES, default="torch", help="what runs a checkpoint's denoiser")
    how.add_argument("--tiny-decoder", metavar="PATH", help="AutoencoderTiny (directory or hub id) to decode with")
    how.add_argument(
        "--cast-weights", action="store_true", help="at last, a checkpoint's rows again with weights kept in bfloat16"
    )
    how.add_argument(
        "--overlap", action="store_true", help="also with decoding beside denoising, of which long horizons gain"
    )
    how.add_argument("--repeats", type=_positive, default=20, help="measured runs of each row (default 20)")
    how.add_argument("--warm-up", type=int, default=3, help="runs before those (default 3; the stock pipeline: 1)")
    how.add_argument("--threads", type=int, default=0, help="CPU threads (0: PyTorch's choice)")
    how.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 1 where the model or the machine does not allow what was asked for."""
    arguments = build_parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    try:
        device = _device(arguments.device)
        measured, about = (_backbone if arguments.backbone else _checkpoint)(arguments, device)
        say(", ".join(f"{key} {value}" for key, value in about.items()))
        print(header(), flush=True)
        for row in measured:
            rows.append(row)
            print(line(row), flush=True)
    except EgowmError as error:
        print(f"egowm-bench: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        write_json(arguments.json, rows, about)
    return 0


def _checkpoint(arguments: argparse.Namespace, device: torch.device) -> tuple[Iterator[Row], dict[str, Any]]:
    if arguments.against_stock:
        raise ConfigError("--against-stock measures published backbones; add --backbone svd or cosmos")
    if arguments.dtype == "float16":
        raise ConfigError("a checkpoint runs in float32 or bfloat16; float16 can be measured with --backbone")
    path = arguments.checkpoint or _CHECKPOINT
    bf16 = None if arguments.dtype is None else arguments.dtype == "bfloat16"
    model = load_world_model(path, device=arguments.device, bf16=bf16, engine=arguments.engine)
    reference = None if arguments.engine == "torch" else load_world_model(path, bf16=False)  # to count operations in
    if arguments.tiny_decoder:
        if not isinstance(model.vae, StockAutoencoder):
            raise ConfigError(f"--tiny-decoder: {model.name} has an autoencoder of its own; leave the option out")
        model.vae.load_tiny_decoder(arguments.tiny_decoder)
    model.warp = arguments.warp or model.warp
    scale = model.plan.guidance_scale if arguments.guidance_scale is None else arguments.guidance_scale
    wanted = choices(
        arguments.num_denoising_steps or [1, 2, 4, 8],
        guidance_scales=[scale],
        compile_modes=arguments.compile,
        overlap=arguments.overlap,
    )
    horizon = arguments.horizon or model.horizon
    dtype = torch.bfloat16 if model.bf16 else torch.float32
    about = _about(arguments, device, dtype, horizon) | {"model": model.name, "engine": arguments.engine}

    def rows(prefix: str) -> Iterator[Row]:
        return measure_choices(
            {False: lambda: model},
            wanted,
            horizon=horizon,
            ceiling=about["ceiling_flop_per_s"],
            repeats=arguments.repeats,
            warm_up=arguments.warm_up,
            prefix=prefix,
            counting=reference,
        )

    def all_rows() -> Iterator[Row]:
        yield from rows("steps")
        if arguments.cast_weights and cast_weights(model):
            yield from rows("cast_steps")

    return all_rows(), about


def _backbone(arguments: argparse.Namespace, device: torch.device) -> tuple[Iterator[Row], dict[str, Any]]:
    for option, given in (
        ("CHECKPOINT", arguments.checkpoint),
        ("--horizon", arguments.horizon),
        ("--warp", arguments.warp),
        ("--engine", arguments.engine != "torch"),
        ("--cast-weights", arguments.cast_weights),
    ):
        if given:
            raise ConfigError(f"{option} does not go with --backbone, whose model is made up; leave one of them out")
    wanted_setting = setting(arguments.backbone, arguments.size)
    if device.type == "cpu" and not arguments.force:
        refuse_on_cpu(wanted_setting)
    dtype = _DTYPES[arguments.dtype or ("bfloat16" if device.type == "cuda" else "float32")]
    scales = [0.0, arguments.guidance_scale] if arguments.guidance_scale else [0.0]
    wanted: list[Choice] = choices(
        arguments.num_denoising_steps or [1, 2, 4],
        guidance_scales=scales,
        compile_modes=arguments.compile,
        tiny_decoder=bool(wanted_setting.tiny_decoder or arguments.tiny_decoder),
        overlap=arguments.overlap,
    )
    about = _about(arguments, device, dtype, wanted_setting.horizon) | {
        "backbone": wanted_setting.backbone,
        "size": wanted_setting.size,
        "stock_denoising_steps": wanted_setting.stock_denoising_steps,
    }
    rows = compare(
        wanted_setting,
        wanted,
        device=device,
        dtype=dtype,
        ceiling=about["ceiling_flop_per_s"],
        repeats=arguments.repeats,
        warm_up=arguments.warm_up,
        against_stock=arguments.against_stock,
        tiny_decoder=arguments.tiny_decoder,
    )
    return rows, about


def _about(arguments: argparse.Namespace, device: torch.device, dtype: torch.dtype, horizon: int) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "frames": horizon,
        "repeats": arguments.repeats,
        "ceiling_flop_per_s": matmul_ceiling(device, dtype),
        "torch": torch.__version__,
    }


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name!r} is no device; give cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name!r}: cpu and cuda can be measured")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {name!r}: this PyTorch sees no CUDA device; use --device cpu")
    return device


def counts(text: str) -> list[int]:
    """Whole numbers of at least 1, between commas; for argparse."""
    return [_positive(item) for item in text.split(",")]


def _positive(text: str) -> int:
    if not text.strip().isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _modes(text: str) -> list[str]:
    modes = text.split(",")
    for mode in modes:
        if mode not in COMPILE_MODES:
            raise argparse.ArgumentTypeError(
                f"{mode!r} is no compile mode{nearest(mode, COMPILE_MODES)}; there are: {', '.join(COMPILE_MODES)}"
            )
    return modes

"""`egowm-bench gpu OUT`: everything that is asked of a GPU in one go, section by section, and a page of what it says.

Sections: each backbone beside its stock pipeline at the paper's setting (``compare``), its causal form streaming, and a
long future beside an NWM-style model with as many parameters. Each is written to OUT as soon as it is measured and not
measured again; what it said goes to OUT/log.txt, what all say to OUT/page.md. ``--size tiny`` proves it on a CPU. Knows
how nothing is measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import torch

from egowm_core.bench.build import build_model, build_parts
from egowm_core.bench.cli import counts
from egowm_core.bench.compare import Choice, choices, compare, measure_choices, say
from egowm_core.bench.configs import BACKBONES, SIZES, Setting, setting
from egowm_core.bench.estimate import refuse_on_cpu
from egowm_core.bench.flops import matmul_ceiling
from egowm_core.bench.gpu_page import page
from egowm_core.bench.long_runs import causal_model, nwm_peer, time_stream
from egowm_core.bench.report import line
from egowm_core.compiling import compile_world_model
from egowm_core.errors import ConfigError, EgowmError
from egowm_core.files import read_json, write_text

SECTIONS = (*BACKBONES, *(f"stream_{name}" for name in BACKBONES), "long")
_HORIZON, _LONG_HORIZON = 16, 64  # frames; at the tiny size a quarter of that
_EXAMPLE = "example: egowm-bench gpu out/gpu --device cuda --size real     # goes on where it was interrupted"

_FAILURES = (EgowmError, RuntimeError)  # torch's too, as out of memory: other sections may do better

Rows = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Run:
    """How all sections are measured."""

    size: str
    device: torch.device
    dtype: torch.dtype
    repeats: int
    compile_modes: tuple[str, ...]
    ceiling: float
    steps: tuple[int, ...] = (4, 2, 1)  # denoising steps

    @property
    def long_steps(self) -> tuple[int, ...]:
        """Denoising steps where there are more frames: the most and the fewest."""
        return tuple(dict.fromkeys((max(self.steps), min(self.steps))))

    @property
    def horizon(self) -> int:
        """Frames of a prediction."""
        return _HORIZON if self.size == "real" else _HORIZON // 4

    @property
    def long_horizon(self) -> int:
        """Frames of a long one."""
        return _LONG_HORIZON if self.size == "real" else _LONG_HORIZON // 4

    def setting(self, backbone: str) -> Setting:
        """The backbone's, at this horizon."""
        return replace(setting(backbone, self.size), horizon=self.horizon)


def backbone_section(run: Run, backbone: str) -> Rows:
    """The stock pipeline, then ours by every choice of speed; each row is told as it comes."""
    chosen = run.setting(backbone)
    wanted = choices(
        run.steps,
        guidance_scales=(0.0, 1.0),
        compile_modes=run.compile_modes,
        tiny_decoder=bool(chosen.tiny_decoder),
    )
    rows: Rows = {}
    for row in compare(
        chosen,
        wanted,
        device=run.device,
        dtype=run.dtype,
        ceiling=run.ceiling,
        repeats=run.repeats,
        warm_up=min(3, run.repeats),
        against_stock=True,
    ):
        say(line(row))
        rows[row.name] = row.metrics()
    return rows


def stream_section(run: Run, backbone: str) -> Rows:
    """A causal model's stream with its cache, by denoising steps: eager, then compiled."""
    model = causal_model(run.setting(backbone), device=run.device, dtype=run.dtype)
    rows: Rows = {}
    for mode in ("none", *run.compile_modes):
        compile_world_model(model, mode)
        for count in run.long_steps:
            name = Choice(count, compile_mode=mode).name("stream")
            say(f"{backbone} {name}: measuring")
            rows[name] = time_stream(model, steps=5 * run.repeats, num_denoising_steps=count).metrics()
            say(f"{backbone} {name}: {rows[name]['frames_per_s']['p50']:.1f} frames/s")
    return rows


def long_section(run: Run) -> Rows:
    """Many frames from SVD's shape in chunks, and from an NWM-style model of as many parameters frame by frame; each
    one after another, and decoding beside denoising."""
    chosen = run.setting("svd")
    rows: Rows = {}
    parts = build_parts(chosen, device=run.device, dtype=run.dtype)
    peer, parameters = nwm_peer(chosen, parts, device=run.device, dtype=run.dtype)
    ours = build_model(chosen, parts, device=run.device)
    own = sum(parameter.numel() for parameter in parts.denoiser.parameters())
    for prefix, model, size in (("ours", ours, own), ("nwm", peer, parameters)):
        for row in measure_choices(
            {False: lambda model=model: model},  # type: ignore[misc]
            choices(run.long_steps, overlap=True),
            horizon=run.long_horizon,
            ceiling=run.ceiling,
            repeats=max(1, run.repeats // 4),
            warm_up=1,
            prefix=prefix,
        ):
            say(line(row))
            counts = {"parameters": {"count": float(size)}, "long_frames": {"count": float(run.long_horizon)}}
            rows[row.name] = row.metrics() | counts
    return rows


def section(run: Run, name: str) -> Rows:
    """The rows of one of ``SECTIONS``."""
    if name == "long":
        return long_section(run)
    return stream_section(run, name.removeprefix("stream_")) if "_" in name else backbone_section(run, name)


def measure(run: Run, out: Path, names: Sequence[str], *, make: Callable[[Run, str], Rows] = section) -> list[str]:
    """Measure what OUT does not hold yet; returns the sections that failed, each told in the log."""
    failed = []
    about = {
        "size": run.size,
        "device": torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else "cpu",
        "dtype": str(run.dtype).removeprefix("torch."),
        "frames": run.horizon,
        "long_frames": run.long_horizon,
        "repeats": run.repeats,
        "denoising_steps": list(run.steps),
        "torch": torch.__version__,
    }
    for name in names:
        file = out / f"{name}.json"
        if file.is_file() and (found := read_json(file)).get("about", {}).items() >= about.items():
            say(f"{name}: measured before, {len(found['rows'])} rows; delete {file} to measure it anew")
            continue
        say(f"{name}: begins")
        try:
            rows = make(run, name)
        except _FAILURES as error:
            say(f"{name}: failed: {type(error).__name__}: {error}")
            failed.append(name)
        else:
            write_text(file, json.dumps({"rows": rows, "about": about | {"ceiling_flop_per_s": run.ceiling}}, indent=1))
        gc.collect()
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
    return failed


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="egowm-bench gpu", description="Everything that is asked of a GPU, and a page of it.", epilog=_EXAMPLE
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="directory for figures, log and page")
    parser.add_argument("--size", choices=SIZES, default="real", help="real as published (default), tiny for a CPU")
    parser.add_argument("--device", default="cuda", help="cuda (default), cpu, cuda:1, ...")
    parser.add_argument("--sections", default=",".join(SECTIONS), help=f"of {','.join(SECTIONS)} (default: all)")
    parser.add_argument("--compile", default=None, metavar="MODE,MODE", help="default: default,reduce-overhead on cuda")
    parser.add_argument("--num-denoising-steps", type=counts, default=[4, 2, 1], metavar="N,N", help="default 4,2,1")
    parser.add_argument("--repeats", type=int, default=20, help="measured runs of a row (default 20)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 1 where a section failed."""
    arguments = build_parser().parse_args(argv)
    try:
        names = arguments.sections.split(",")
        if unknown := [name for name in names if name not in SECTIONS]:
            raise ConfigError(f"--sections {unknown[0]!r}: there are {', '.join(SECTIONS)}")
        if arguments.repeats < 1:
            raise ConfigError(f"--repeats {arguments.repeats}: expected 1 or more")
        run = _run(arguments)
        arguments.out.mkdir(parents=True, exist_ok=True)
        with (arguments.out / "log.txt").open("a", encoding="utf-8") as log, redirect_stderr(_Tee(sys.stderr, log)):
            failed = measure(run, arguments.out, names)
        files = {name: arguments.out / f"{name}.json" for name in SECTIONS}
        results = {name: read_json(file) for name, file in files.items() if file.is_file()}
        text = page(results)
        write_text(arguments.out / "page.md", text)
    except (EgowmError, OSError) as error:
        print(f"egowm-bench gpu: {error}", file=sys.stderr)
        return 1
    print(text)
    if failed:
        print(f"egowm-bench gpu: failed: {', '.join(failed)}; see {arguments.out / 'log.txt'}", file=sys.stderr)
    return 1 if failed else 0


class _Tee:
    """Text for two places."""

    def __init__(self, *places: TextIO) -> None:
        self._places = places

    def write(self, text: str) -> int:
        for place in self._places:
            place.write(text)
        return len(text)

    def flush(self) -> None:
        for place in self._places:
            place.flush()


def _run(arguments: argparse.Namespace) -> Run:
    try:
        device = torch.device(arguments.device)
    except RuntimeError as error:
        raise ConfigError(f"--device {arguments.device!r} is no device; give cuda, cpu or cuda:N") from error
    cuda = device.type == "cuda"
    if cuda and not torch.cuda.is_available():
        raise ConfigError(f"--device {arguments.device!r}: this PyTorch sees no CUDA device; --size tiny --device cpu")
    if not cuda:
        refuse_on_cpu(setting("svd", arguments.size))
    modes = ("default", "reduce-overhead") if cuda else ()
    if arguments.compile is not None:
        modes = tuple(mode for mode in arguments.compile.split(",") if mode != "none")
    dtype = torch.bfloat16 if cuda else torch.float32
    ceiling = matmul_ceiling(device, dtype)
    steps = tuple(arguments.num_denoising_steps)
    return Run(arguments.size, device, dtype, arguments.repeats, modes, ceiling, steps)

"""`egowm-bench gpu OUT`: everything that is asked of a GPU in one go, section by section, and a page of what it says.

Each row is written to OUT as soon as it is measured and not measured again; what was said goes to OUT/log.txt, what all
say to OUT/page.md. ``--size tiny`` proves it on a CPU. What is measured: ``gpu_sections.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, TextIO

import torch

from egowm_core.bench.cli import counts
from egowm_core.bench.compare import Failed, say
from egowm_core.bench.configs import SIZES, setting
from egowm_core.bench.estimate import refuse_on_cpu
from egowm_core.bench.flops import matmul_ceiling
from egowm_core.bench.gpu_page import page
from egowm_core.bench.gpu_sections import SECTIONS, Metrics, Rows, Run, free, section
from egowm_core.errors import ConfigError, EgowmError
from egowm_core.files import read_json, write_text

_EXAMPLE = "example: egowm-bench gpu out/gpu --device cuda --size real     # goes on where it was interrupted"

Make = Callable[[Run, str, Rows, Failed], Iterator[tuple[str, Metrics]]]


def measure(run: Run, out: Path, names: Sequence[str], *, make: Make = section) -> list[str]:
    """Measure what OUT does not hold yet, each row written as soon as it is there.

    Returns the sections in which something failed; each failure is told in the log and in the section's file, and is
    tried again next time.
    """
    about = {
        "size": run.size,
        "device": torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else "cpu",
        "dtype": str(run.dtype).removeprefix("torch."),
        "frames": run.horizon,
        "long_frames": run.long_horizon,
        "repeats": run.repeats,
        "denoising_steps": list(run.steps),
        "compile_modes": list(run.compile_modes),
        "torch": torch.__version__,
    }
    return [name for name in names if not _measure(run, out / f"{name}.json", name, about, make)]


def _measure(run: Run, file: Path, name: str, about: dict[str, Any], make: Make) -> bool:
    """Whether the section ``name`` is complete."""
    rows, failures = dict[str, Metrics](), dict[str, str]()
    if file.is_file() and (found := read_json(file)).get("about", {}).items() >= about.items():
        rows = dict(found["rows"])
        if found.get("complete"):
            say(f"{name}: measured before, {len(rows)} rows; delete {file} to measure it anew")
            return True

    def write(*, complete: bool) -> None:
        described = about | {"ceiling_flop_per_s": run.ceiling}
        found = {"rows": rows, "about": described, "complete": complete, "failed": failures}
        write_text(file, json.dumps(found, indent=1))

    def failed(row: str, error: Exception) -> None:
        lines = str(error).strip().splitlines()
        failures[row] = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
        say(f"{name}: {row} failed: {type(error).__name__}: {error}")
        free(run.device)

    say(f"{name}: begins" + (f"; {len(rows)} rows are there" if rows else ""))
    try:
        for row, metrics in make(run, name, dict(rows), failed):
            rows[row] = metrics
            write(complete=False)
    except Exception as error:  # drivers have many of their own; other sections may do better
        failed(name, error)
    write(complete=not failures)
    free(run.device)
    return not failures


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

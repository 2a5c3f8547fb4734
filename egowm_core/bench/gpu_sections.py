"""The sections of `egowm-bench gpu`: what is measured of each backbone, row by row.

A section yields its rows as they are measured, leaves out those that are known already, and goes on after one that
fails: time on a GPU is rare. Knows no file and no command line.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from egowm_core.bench.build import build_model, build_parts, with_tiny_decoder
from egowm_core.bench.compare import Failed, choices, compare, measure_choices, say
from egowm_core.bench.configs import BACKBONES, Setting, setting
from egowm_core.bench.long_runs import causal_model, nwm_peer, time_stream
from egowm_core.bench.report import line
from egowm_core.bench.timing import TOTAL
from egowm_core.compiling import compile_world_model

SECTIONS = (*BACKBONES, *(f"stream_{name}" for name in BACKBONES), "long")
_HORIZON, _LONG_HORIZON = 16, 64  # frames; at the tiny size a quarter of that

Metrics = Mapping[str, Mapping[str, float]]
Rows = Mapping[str, Metrics]


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

    @property
    def fewer_repeats(self) -> int:
        """Of what takes many times as long."""
        return max(1, self.repeats // 4)

    def setting(self, backbone: str) -> Setting:
        """The backbone's, at this horizon."""
        return replace(setting(backbone, self.size), horizon=self.horizon)


def section(run: Run, name: str, known: Rows, failed: Failed) -> Iterator[tuple[str, Metrics]]:
    """The rows of one of ``SECTIONS`` that are not ``known``."""
    if name == "long":
        return _long(run, known, failed)
    if "_" in name:
        return _stream(run, name.removeprefix("stream_"), known, failed)
    return _backbone(run, name, known, failed)


def _backbone(run: Run, backbone: str, known: Rows, failed: Failed) -> Iterator[tuple[str, Metrics]]:
    """The stock pipeline, then ours by every choice of speed."""
    chosen = run.setting(backbone)
    wanted = choices(
        run.steps,
        guidance_scales=(0.0, 1.0),
        compile_modes=run.compile_modes,
        tiny_decoder=bool(chosen.tiny_decoder),
    )
    for row in compare(
        chosen,
        wanted,
        device=run.device,
        dtype=run.dtype,
        ceiling=run.ceiling,
        repeats=run.repeats,
        warm_up=min(3, run.repeats),
        against_stock=True,
        stock_repeats=run.fewer_repeats,
        stock_total_s=known["stock"][TOTAL]["p50"] if "stock" in known else None,
        skip=known,
        failed=failed,
    ):
        say(line(row))
        yield row.name, row.metrics()


def _stream(run: Run, backbone: str, known: Rows, failed: Failed) -> Iterator[tuple[str, Metrics]]:
    """A causal model's stream with its cache, by denoising steps: eager, then compiled; then with a tiny decoder."""
    chosen = run.setting(backbone)
    model = causal_model(chosen, device=run.device, dtype=run.dtype)
    wanted = choices(run.long_steps, compile_modes=run.compile_modes, tiny_decoder=bool(chosen.tiny_decoder))
    for choice in wanted:
        name = choice.name("stream")
        if name in known:
            continue
        say(f"{backbone} {name}: measuring")
        try:
            measured = with_tiny_decoder(model, chosen) if choice.tiny_decoder else model
            compile_world_model(measured, choice.compile_mode)
            row = time_stream(measured, steps=5 * run.repeats, num_denoising_steps=choice.num_denoising_steps).metrics()
        except Exception as error:  # compilers and drivers have many of their own; other rows may do better
            failed(name, error)
            continue
        say(f"{backbone} {name}: {row['frames_per_s']['p50']:.1f} frames/s")
        yield name, row


def _long(run: Run, known: Rows, failed: Failed) -> Iterator[tuple[str, Metrics]]:
    """Many frames from SVD's shape in chunks, and from an NWM-style model of as many parameters frame by frame; each
    one after another, and decoding beside denoising."""
    chosen = run.setting("svd")
    parts = build_parts(chosen, device=run.device, dtype=run.dtype)
    peer, parameters = nwm_peer(chosen, parts, device=run.device, dtype=run.dtype)
    ours = build_model(chosen, parts, device=run.device)
    own = sum(parameter.numel() for parameter in parts.denoiser.parameters())
    for prefix, model, size in (("ours", ours, own), ("nwm", peer, parameters)):
        counts = {"parameters": {"count": float(size)}, "long_frames": {"count": float(run.long_horizon)}}
        for row in measure_choices(
            {False: lambda model=model: model},  # type: ignore[misc]
            choices(run.long_steps, overlap=True),
            horizon=run.long_horizon,
            ceiling=run.ceiling,
            repeats=run.fewer_repeats,
            warm_up=1,
            prefix=prefix,
            skip=known,
            failed=failed,
        ):
            say(line(row))
            yield row.name, row.metrics() | counts


def free(device: torch.device) -> None:
    """Give back what a section, or a row that failed, has left."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()

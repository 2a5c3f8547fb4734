"""The rows of a comparison: the stock pipeline at the paper's setting, and the world model by every choice of speed.

All on the same weights in one process: the stock pipeline first, while nothing is compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from egowm_core.bench.build import Parts, build_model, build_parts, with_tiny_decoder
from egowm_core.bench.configs import Setting
from egowm_core.bench.flops import count_flops
from egowm_core.bench.report import Row
from egowm_core.bench.stages import RolloutInputs, rollout_work
from egowm_core.bench.stock import stock_work
from egowm_core.bench.timing import TOTAL, Timing, Work, time_stages
from egowm_core.compiling import compile_world_model
from egowm_core.world_model import WorldModel

Failed = Callable[[str, Exception], None]
"""Told of a row that could not be measured."""


@dataclass(frozen=True)
class Choice:
    """One way to roll out faster or better."""

    num_denoising_steps: int
    guidance_scale: float = 0.0
    compile_mode: str = "none"
    tiny_decoder: bool = False
    overlap: bool = False

    def name(self, prefix: str) -> str:
        """``ours_4``, ``ours_4_guided_default_tiny_decoder``, ..."""
        parts = [f"{prefix}_{self.num_denoising_steps}"]
        parts += ["guided"] if self.guidance_scale else []
        parts += [self.compile_mode] if self.compile_mode != "none" else []
        parts += ["tiny_decoder"] if self.tiny_decoder else []
        parts += ["overlap"] if self.overlap else []
        return "_".join(parts)


def choices(
    steps: Sequence[int],
    *,
    guidance_scales: Sequence[float] = (0.0,),
    compile_modes: Sequence[str] = ("none",),
    tiny_decoder: bool = False,
    overlap: bool = False,
) -> list[Choice]:
    """Every number of denoising steps: eager with each guidance, then compiled and with a tiny decoder by the first,
    and eager with stages that overlap.

    Eager ones come first always: operations are counted in them.
    """
    decoders = (False, True) if tiny_decoder else (False,)
    found = [Choice(count, scale) for scale in guidance_scales for count in steps]
    for mode in dict.fromkeys(["none", *compile_modes]):
        found += [Choice(count, guidance_scales[0], mode, tiny) for tiny in decoders for count in steps]
    found += [Choice(count, guidance_scales[0], overlap=True) for count in steps if overlap]
    return list(dict.fromkeys(found))


def compare(
    setting: Setting,
    wanted: Sequence[Choice],
    *,
    device: torch.device,
    dtype: torch.dtype,
    ceiling: float,
    repeats: int,
    warm_up: int,
    against_stock: bool,
    tiny_decoder: str | None = None,
    stock_repeats: int = 0,
    stock_total_s: float | None = None,
    skip: Container[str] = (),
    failed: Failed | None = None,
) -> Iterator[Row]:
    """Build once, then yield a row as soon as it is measured.

    ``tiny_decoder``: directory or hub id of an AutoencoderTiny; None: random weights. ``stock_total_s``: the stock
    pipeline's median, where it is known; ``stock_repeats`` 0 for as many as the others. ``skip`` and ``failed`` as in
    :func:`measure_choices`.

    Raises:
        ConfigError: see :func:`~egowm_core.bench.build.with_tiny_decoder` and ``compile_world_model``.
    """
    say(f"building {setting.backbone} ({setting.size}) in {dtype} on {device}")
    parts = build_parts(setting, device=device, dtype=dtype)
    model = build_model(setting, parts, device=device)
    seconds = setting.horizon / model.embodiment.rate_hz
    if against_stock and stock_total_s is None:
        row = _stock_row(
            setting,
            parts,
            device=device,
            ceiling=ceiling,
            repeats=stock_repeats or repeats,
            warm_up=warm_up,
            seconds=seconds,
        )
        stock_total_s = row.timing.stages[TOTAL].p50
        yield replace(row, stock_total_s=stock_total_s)
    yield from measure_choices(
        {False: lambda: model, True: lambda: with_tiny_decoder(model, setting, tiny_decoder)},
        wanted,
        horizon=setting.horizon,
        ceiling=ceiling,
        repeats=repeats,
        warm_up=warm_up,
        prefix="ours",
        stock_total_s=stock_total_s,
        skip=skip,
        failed=failed,
    )


def measure_choices(
    models: dict[bool, Callable[[], WorldModel]],
    wanted: Sequence[Choice],
    *,
    horizon: int,
    ceiling: float,
    repeats: int,
    warm_up: int,
    prefix: str,
    stock_total_s: float | None = None,
    counting: WorldModel | None = None,
    skip: Container[str] = (),
    failed: Failed | None = None,
) -> Iterator[Row]:
    """A row for each choice, a compiled one after its eager twin. ``models``: without and with a tiny decoder.

    ``counting``: the model in which operations are counted, where the one that is measured is an exported graph.
    ``skip``: names of rows that are not wanted. ``failed`` is told of one that cannot be measured, and the next is
    tried; without it, the first error is the end.
    """
    ready: dict[bool, WorldModel] = {}
    counted: dict[Choice, dict[str, int]] = {}
    compiled = ("none", False)
    wanted = [choice for choice in wanted if choice.name(prefix) not in skip]
    try:
        for choice in wanted:
            name, twin = choice.name(prefix), replace(choice, compile_mode="none", overlap=False)
            try:
                if choice.tiny_decoder not in ready:
                    ready[choice.tiny_decoder] = models[choice.tiny_decoder]()
                model = ready[choice.tiny_decoder]
                if twin not in counted:
                    _all_eager(ready.values())  # they share the denoiser
                    compiled = ("none", False)
                    say(f"{name}: counting operations")
                    counted[twin] = count_flops(_work(counting or model, twin, horizon))
                if (how := (choice.compile_mode, choice.tiny_decoder)) != compiled:
                    _all_eager(ready.values())
                    compiled = ("none", False)  # should compiling fail
                    compile_world_model(model, choice.compile_mode)
                    compiled = how
                model.overlap = choice.overlap
                say(f"{name}: measuring" + ("; the first run compiles" if choice.compile_mode != "none" else ""))
                timing = time_stages(
                    _work(model, choice, horizon), device=model.device, repeats=repeats, warm_up=warm_up
                )
            except Exception as error:  # compilers and drivers have many of their own; other rows may do better
                if failed is None:
                    raise
                failed(name, error)
                continue
            yield Row(name, timing, counted[twin], ceiling, horizon / model.embodiment.rate_hz, stock_total_s)
    finally:
        _all_eager(ready.values())


def say(text: str) -> None:
    """Progress, where it does not disturb the table."""
    print(f"egowm-bench: {text}", file=sys.stderr, flush=True)


def _all_eager(models: Iterable[WorldModel]) -> None:
    for model in models:
        model.overlap = False
        compile_world_model(model, "none")


def _work(model: WorldModel, choice: Choice, horizon: int) -> Work:
    plan = replace(model.plan, num_denoising_steps=choice.num_denoising_steps, guidance_scale=choice.guidance_scale)
    return rollout_work(model, RolloutInputs.made_up(model, horizon=horizon), plan)


def _stock_row(
    setting: Setting, parts: Parts, *, device: torch.device, ceiling: float, repeats: int, warm_up: int, seconds: float
) -> Row:
    work = stock_work(setting, parts)
    say("stock: counting operations")
    flop = count_flops(work)
    say(f"stock: measuring {setting.stock_denoising_steps} denoising steps with guidance")
    timing: Timing = time_stages(work, device=device, repeats=repeats, warm_up=min(warm_up, 1))
    return Row("stock", timing, flop, ceiling, seconds)

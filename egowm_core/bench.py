"""`python -m egowm_core.bench CHECKPOINT`: where the time of a rollout goes, measured in one run.

Prints median and 99th percentile per stage for several numbers of denoising steps, and how many times faster than
real time a rollout is at the embodiment's own rate.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from egowm_core.errors import EgowmError
from egowm_core.world_model import WorldModel, load_world_model

STAGES = ("encode", "denoise", "decode", "total")


def measure(model: WorldModel, *, num_denoising_steps: int, horizon: int, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds per stage over ``repeats`` rollouts of ``horizon`` frames: {stage: {p50, p99}}, and real_time."""
    camera = model.embodiment.camera()
    rng = np.random.default_rng(0)
    context = rng.integers(0, 255, (1, model.context_frames, camera.height, camera.width, 3), dtype=np.uint8)
    low, high = 0.5 * model.embodiment.limits.T
    actions = rng.uniform(low, high, size=(1, horizon, model.embodiment.action_dim))
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for repeat in range(repeats + 2):
        timings = model.predict(context, actions, num_denoising_steps=num_denoising_steps).timings_s
        if repeat >= 2:  # the first ones build kernels
            for stage in STAGES:
                times[stage].append(timings[stage])
    rows = {
        stage: {"p50": float(np.median(series)), "p99": float(np.quantile(series, 0.99))}
        for stage, series in times.items()
    }
    rows["real_time"] = {"ratio": horizon / model.embodiment.rate_hz / rows["total"]["p50"]}
    return rows


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="egowm-bench", description="Time the stages of a rollout.")
    parser.add_argument("checkpoint", nargs="?", default="embedded:base_3dof")
    parser.add_argument("--horizon", type=int, default=0, help="frames (default: one chunk)")
    parser.add_argument("--num-denoising-steps", default="1,2,4,8", help="comma-separated (default 1,2,4,8)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: PyTorch's choice)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--float32", action="store_true", help="do not use bfloat16 even where it is fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        model = load_world_model(
            arguments.checkpoint, device=arguments.device, bf16=False if arguments.float32 else None
        )
    except EgowmError as error:
        print(f"egowm-bench: {error}", file=sys.stderr)
        return 1
    horizon = arguments.horizon or model.horizon
    precision = "bfloat16" if model.bf16 else "float32"
    print(f"{model.name}: {horizon} frames, {torch.get_num_threads()} threads, {precision}, median (p99) in ms")
    print("| denoising steps | " + " | ".join(STAGES) + " | times real time |\n|" + " --- |" * (len(STAGES) + 2))
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for steps in (int(item) for item in arguments.num_denoising_steps.split(",")):
        found = measure(model, num_denoising_steps=steps, horizon=horizon, repeats=arguments.repeats)
        rows[f"steps_{steps}"] = found
        cells = [f"{1e3 * found[stage]['p50']:.0f} ({1e3 * found[stage]['p99']:.0f})" for stage in STAGES]
        print(f"| {steps} | " + " | ".join(cells) + f" | {found['real_time']['ratio']:.1f} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

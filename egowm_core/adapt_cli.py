"""`egowm-adapt BACKBONE SOURCE OUT --embodiment NAME`: a pretrained video model into a checkpoint to train from."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from torch import nn

from egowm_core.adapt import RECIPES, adapt_backbone
from egowm_core.errors import ConfigError, EgowmError
from egowm_core.models.pretrained import LAYOUTS, TEXTS
from egowm_core.saving import STORED, check_replaceable, save_world_model
from egowm_core.world_model import WorldModel


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    examples = "\n".join(f"  {name:8}{layout.example}" for name, layout in LAYOUTS.items())
    parser = argparse.ArgumentParser(
        prog="egowm-adapt",
        description="Turn a passive pretrained video model into a world model of a robot, its actions still without "
        "effect, to be fine-tuned by egowm-train (denoiser_run.init_from).",
        epilog=f"what each backbone is known by on the hub:\n{examples}\n\n"
        "example: egowm-adapt svd stabilityai/stable-video-diffusion-img2vid checkpoints/svd --embodiment base_3dof "
        "--size 512x512",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("backbone", choices=list(RECIPES), metavar="BACKBONE", help=", ".join(RECIPES))
    parser.add_argument("source", help="hub id org/name[@revision], or a directory in diffusers' layout")
    parser.add_argument("out", type=Path, help="checkpoint directory to write")
    parser.add_argument("--embodiment", required=True, help="the robot: a built-in name, or a YAML file")
    parser.add_argument("--size", metavar="HxW", help="pixels that the model sees, in place of the embodiment's")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--horizon", type=int, default=8, help="camera frames a chunk (default 8)")
    parser.add_argument("--context-frames", type=int, default=1, help="camera frames given (default 1)")
    parser.add_argument("--causal", action="store_true", help="predict frame by frame (Vid2World)")
    parser.add_argument("--from-scratch", action="store_true", help="the architecture without its weights")
    parser.add_argument("--text", choices=TEXTS, help="tokens for no prompt (default: what the backbone expects)")
    parser.add_argument("--offline", action="store_true", help="use the hub's local cache alone")
    parser.add_argument(
        "--dtype",
        choices=list(STORED),
        default="float32",
        help="precision that weights are stored in (default float32)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        check_replaceable(arguments.out)  # before the long read
        model = adapt_backbone(
            arguments.backbone,
            arguments.embodiment,
            source=arguments.source,
            revision=arguments.revision,
            horizon=arguments.horizon,
            context_frames=arguments.context_frames,
            size=None if arguments.size is None else parse_size(arguments.size),
            from_scratch=arguments.from_scratch,
            text=arguments.text,
            causal=arguments.causal,
            dtype=STORED[arguments.dtype],
            local_files_only=arguments.offline,
            seed=arguments.seed,
        )
        figures = describe(model)
        save_world_model(model, arguments.out, card=adapted_card(model, figures), dtype=STORED[arguments.dtype])
    except EgowmError as error:
        print(f"egowm-adapt: {error}", file=sys.stderr)
        return 1
    print(summary(model, figures))
    print(f"wrote {arguments.out}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """``"480x640"`` -> (480, 640). Raises ConfigError."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise ConfigError(f"--size {text!r} is not HEIGHTxWIDTH in pixels; give for example 480x640")
    return int(height), int(width)


def describe(model: WorldModel) -> dict[str, Any]:
    """What was loaded, as figures: parameters, latents, lengths, source."""
    config, denoiser = model.denoiser.config, model.denoiser
    total = _parameters(denoiser)
    new = sum(_parameters(getattr(denoiser, name, None)) for name in ("action_encoder", "state_encoder"))
    return {
        "backbone": model.config["denoiser"]["backbone"],
        **model.config["pretrained"],
        "denoiser_parameters": total - new,
        "autoencoder_parameters": _parameters(model.vae),
        "action_parameters": new,
        "latents": [config.latent_channels, config.latent_height, config.latent_width],
        "temporal_factor": config.temporal_factor,
        "horizon": model.horizon,
        "context_frames": model.context_frames,
        "null_tokens": config.num_tokens,
    }


def summary(model: WorldModel, figures: dict[str, Any]) -> str:
    """The figures in words."""
    weights = "architecture of" if figures["from_scratch"] else "weights of"
    revision = f", revision {figures['revision']}" if figures["revision"] else ""
    channels, height, width = figures["latents"]
    factor = figures["temporal_factor"]
    camera = model.embodiment.camera()
    return "\n".join(
        [
            f"{figures['backbone']}: {weights} {figures['source']}{revision}",
            f"{_count(figures['denoiser_parameters'])} parameters in the denoiser, "
            f"{_count(figures['autoencoder_parameters'])} in the autoencoder, "
            f"{_count(figures['action_parameters'])} new ones for the {model.embodiment.action_dim} actions",
            f"latents {channels} x {height} x {width} of {camera.height} x {camera.width} pixels, one for "
            f"{'each frame' if factor == 1 else f'{factor} frames'}",
            f"{figures['context_frames']} context frame(s), {figures['horizon']} predicted a chunk"
            f"{', causal' if model.causal else ''}; {figures['null_tokens']} constant token(s)",
        ]
    )


def adapted_card(model: WorldModel, figures: dict[str, Any]) -> str:
    """The README of a checkpoint that is not trained yet."""
    lines = "\n".join(f"- {line}" for line in summary(model, figures).splitlines())
    return f"""# {model.name}

A pretrained video model with an action path for the embodiment `{model.embodiment.name}` that starts from zero: until
it is trained, its predictions ignore the actions. Start a training run from it (`denoiser_run.init_from`).

{lines}
- statistics in `norm_stats.json` are the embodiment's limits and scales, not measured (`count` is 0)

The licence of the pretrained weights is that of their source.
"""


def _parameters(module: object) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) if isinstance(module, nn.Module) else 0


def _count(number: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


if __name__ == "__main__":
    sys.exit(main())

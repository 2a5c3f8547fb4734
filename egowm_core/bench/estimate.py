"""What a setting costs before it is built: parameters and operations, counted on shapes alone (the meta device)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from egowm_core.bench.build import Parts, build_parts, build_tiny_decoder
from egowm_core.bench.configs import Setting
from egowm_core.bench.flops import count_flops, matmul_ceiling
from egowm_core.bench.timing import Mark
from egowm_core.errors import ConfigError
from egowm_core.models.cosmos import provide_padding_mask_resize

_META = torch.device("meta")
_LATENT_CELL = 8  # pixels, of both backbones
_TEMPORAL_FACTOR = 4  # of Cosmos' latents


@dataclass(frozen=True)
class Estimate:
    """Of one run of the stock pipeline, its denoising alone."""

    parameters: dict[str, int]  # by part
    pass_flop: int  # one evaluation of the denoiser
    stock_flop: int  # all of the stock pipeline's evaluations

    @property
    def total_parameters(self) -> int:
        """Of the parts that stand in memory together; the tiny decoder is one more choice."""
        return sum(count for name, count in self.parameters.items() if name != "tiny_decoder")


def estimate(setting: Setting) -> Estimate:
    """Count without memory for any weight.

    Raises:
        ConfigError: an image encoder is needed and transformers is not installed.
    """
    parts = build_parts(setting, device=_META, dtype=torch.float32)
    modules = {"denoiser": parts.denoiser, "autoencoder": parts.autoencoder, "image_encoder": parts.image_encoder}
    if setting.tiny_decoder:
        modules["tiny_decoder"] = build_tiny_decoder(setting, _META)
    counts = {name: _count(module) for name, module in modules.items() if module is not None}
    evaluation = _pass_flop(setting, parts)
    return Estimate(counts, evaluation, 2 * setting.stock_denoising_steps * evaluation)


def refuse_on_cpu(setting: Setting) -> None:
    """Say what the published size would cost on this CPU.

    Raises:
        ConfigError: always, unless the setting is a small one.
    """
    if setting.size != "real":
        return
    cost = estimate(setting)
    device = torch.device("cpu")
    minutes = cost.stock_flop / matmul_ceiling(device, torch.float32) / 60
    raise ConfigError(
        f"--size real on a CPU: {cost.total_parameters / 1e9:.2f} billion parameters, "
        f"{4 * cost.total_parameters / 1e9:.0f} GB in float32, and the stock pipeline's {cost.stock_flop / 1e12:.0f} "
        f"TFLOP of denoising take at least {minutes:.0f} minutes a run here; use --device cuda or --size tiny, or "
        "--force to do it nonetheless"
    )


@torch.no_grad()
def _pass_flop(setting: Setting, parts: Parts) -> int:
    """One evaluation of the stock denoiser, of all frames at once and without guidance."""
    cells = (setting.height // _LATENT_CELL, setting.width // _LATENT_CELL)
    channels = int(setting.stock["in_channels"])

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, device=_META)

    def evaluate(mark: Mark) -> None:
        mark("denoise")
        if setting.backbone == "svd":
            width = int(setting.stock["cross_attention_dim"])
            sample = empty(1, setting.horizon, channels, *cells)
            parts.denoiser(sample, empty(1), empty(1, setting.prompt_tokens, width), empty(1, 3))
            return
        provide_padding_mask_resize()
        frames = 1 + setting.horizon // _TEMPORAL_FACTOR
        parts.denoiser(
            empty(1, channels - 1, frames, *cells),
            empty(1, 1, frames, 1, 1),
            empty(1, setting.prompt_tokens, int(setting.stock["text_embed_dim"])),
            condition_mask=empty(1, 1, frames, *cells),
            padding_mask=empty(1, 1, *cells),
        )

    with _META:  # frequencies and indices that the modules make on the way
        return count_flops(evaluate)["denoise"]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

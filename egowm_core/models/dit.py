"""What the adapters of video diffusion transformers share: configuration, and whether a stock module fits it.

Transformers take every frame with a noise level of its own, the context frames among them at nearly none, so the
context enters as leading frames as it did in their pretraining. Knows no particular transformer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from egowm_core.errors import ConfigError
from egowm_core.models.adapter_config import AdapterConfig

_NEEDED = ("in_channels", "out_channels", "num_attention_heads", "attention_head_dim", "patch_size")
_LEAST_HEAD_DIM = 12  # two frequencies an axis


@dataclass(frozen=True)
class DiTConfig(AdapterConfig):
    """Architecture of a transformer made for egowm; a pretrained one brings its own (``stock``).

    The defaults of what is not architecture are those that a pretrained one needs: nothing beside its latents on the
    channel axis, and its own prediction target. One made from scratch may take more (``context_as_channels``,
    ``residual``, ``coordinates``, ``preconditioning: edm``).

    Raises:
        ConfigError: latents that patches do not divide, patches of more than one frame (then no level per frame), heads
            too small for positions, or a ``stock`` that is not whole.
    """

    context_as_channels: bool = False
    context_as_frames: bool = True
    coordinates: bool = False
    residual: bool = False
    context_token: bool = False
    num_attention_heads: int = 4
    attention_head_dim: int = 64
    num_layers: int = 6
    mlp_ratio: float = 4.0
    patch: int = 2  # latent cells per token side
    cross_attention_dim: int = 64  # of the tokens that are cross-attended

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stock and (missing := [name for name in _NEEDED if name not in self.stock]):
            raise ConfigError(
                f"denoiser: stock lacks {', '.join(missing)}; give the whole configuration of the stock transformer, "
                "as in its config.json"
            )
        if not self.stock and (self.attention_head_dim < _LEAST_HEAD_DIM or self.attention_head_dim % 2):
            raise ConfigError(
                f"denoiser: attention_head_dim is {self.attention_head_dim}; rotary positions need an even number "
                f"of at least {_LEAST_HEAD_DIM}"
            )
        time, *sides = self.patch_size
        if time != 1:
            raise ConfigError(
                f"denoiser: the stock transformer has patches of {time} frames; noise levels and actions per frame "
                "need patches of 1"
            )
        if any(extent % side for extent, side in zip((self.latent_height, self.latent_width), sides, strict=True)):
            raise ConfigError(
                f"denoiser: latents of {self.latent_height} x {self.latent_width} cells are not divisible by "
                f"patches of {sides[0]} x {sides[1]}; choose a patch that divides both"
            )

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Frames, rows and columns that one token stands for."""
        return stock_patch_size(self.stock) if self.stock else (1, self.patch, self.patch)

    @property
    def hidden_dim(self) -> int:
        """Width of the tokens inside."""
        return stock_hidden_dim(self.stock) if self.stock else self.num_attention_heads * self.attention_head_dim


def stock_patch_size(stock: Mapping[str, Any]) -> tuple[int, int, int]:
    """Frames, rows and columns that one token stands for, from the configuration of a stock transformer."""
    size = stock["patch_size"]
    if isinstance(size, int):
        return int(stock.get("patch_size_t", 1)), size, size
    return int(size[0]), int(size[1]), int(size[2])


def stock_hidden_dim(stock: Mapping[str, Any]) -> int:
    """Width of the tokens inside, from the configuration of a stock transformer; all name its factors alike."""
    return int(stock["num_attention_heads"]) * int(stock["attention_head_dim"])


def check_fit(
    name: str, config: DiTConfig, stock: Mapping[str, Any], *, mask_channels: int = 0, packed_cells: int = 1
) -> None:
    """That a transformer with the configuration ``stock`` is the one that ``config`` describes.

    Args:
        name: of the backbone, for errors.
        config: what the adapter goes by.
        stock: the module's own configuration.
        mask_channels: how many of its input channels are masks.
        packed_cells: latent cells whose channels it counts as one token's.

    Raises:
        ConfigError: what differs.
    """
    sizes = (stock_hidden_dim(stock), stock_patch_size(stock))
    if sizes != (config.hidden_dim, config.patch_size):
        raise ConfigError(
            f"{name}: the stock transformer has a width and patches of {sizes}, the configuration says "
            f"{(config.hidden_dim, config.patch_size)}; give the module's own configuration as `stock`"
        )
    given = stock["in_channels"]
    channels = (given // packed_cells - mask_channels, (stock["out_channels"] or given) // packed_cells)
    if channels != (config.input_channels, config.latent_channels):
        raise ConfigError(
            f"{name}: the stock transformer takes and gives {channels} channels a latent cell, the configuration says "
            f"{(config.input_channels, config.latent_channels)}; check latent_channels, and leave context_as_channels, "
            "coordinates and context_warp off for a pretrained one"
        )


def per_token(noise: Tensor, tokens_per_frame: int) -> Tensor:
    """(B,N) -> (B,N*R): each frame's value for each of its R tokens."""
    return noise[:, :, None].expand(-1, -1, tokens_per_frame).flatten(1)

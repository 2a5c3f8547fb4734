"""Adapter: Cosmos-Predict's transformer (stock ``CosmosTransformer3DModel``), as its video-to-world models use it.

Every frame has a noise level; context frames are marked by a mask channel. The action embedding is added to both
outputs of ``time_embed``: the modulation shared by all blocks and the embedding that each block projects. The causal
form is made by ``causal_attention.py``. Knows nothing of text encoders or guidance.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import diffusers.models.transformers.transformer_cosmos as stock_cosmos
from diffusers import CosmosTransformer3DModel
from torch import Tensor, nn
from torch.nn import functional

from egowm_core.errors import ConfigError
from egowm_core.models.action_encoder import ActionEncoder, StateEncoder
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.causal_attention import causalise_cosmos
from egowm_core.models.dit import DiTConfig, check_fit
from egowm_core.models.inject import EmbeddingOutputInjector

_MASK_CHANNELS = 1  # the condition mask, which stock ``in_channels`` counts
_MAX_FRAMES = 128  # of one pass; the table of positions ends there


@dataclass(frozen=True)
class CosmosConfig(DiTConfig):
    """See :class:`DiTConfig`; Cosmos-Predict2 predicts the flow and is told of t in 0..1."""

    preconditioning: str = "flow"
    adaln_lora_dim: int = 64  # rank of each block's own modulation

    @property
    def token_dim(self) -> int:
        if self.stock.get("use_crossattn_projection"):
            return int(self.stock["crossattn_proj_in_channels"])
        return int(self.stock.get("text_embed_dim", self.cross_attention_dim))


class CosmosDenoiser(BackboneDenoiser):
    """Cosmos' transformer behind the contract of :class:`egowm_core.diffusion.denoiser.Denoiser`.

    Raises:
        ConfigError: the stock module is not the one that the configuration describes, or cross-attends to images too.
    """

    config: CosmosConfig

    def __init__(
        self,
        config: CosmosConfig,
        action_encoder: ActionEncoder | None,
        state_encoder: StateEncoder | None = None,
        *,
        stock: CosmosTransformer3DModel | None = None,
    ) -> None:
        super().__init__(config, action_encoder, state_encoder)
        if stock is None:
            stock = CosmosTransformer3DModel.from_config(config.stock) if config.stock else _build(config)
        if stock.config.img_context_dim_in:
            raise ConfigError("cosmos: this transformer cross-attends to image embeddings too; use one that does not")
        check_fit("cosmos", config, stock.config, mask_channels=_MASK_CHANNELS)
        if stock.config.concat_padding_mask:
            provide_padding_mask_resize()
        self.transformer = stock
        if config.causal:
            self.control = causalise_cosmos(self.transformer, window=config.attention_window)
        self.injector = EmbeddingOutputInjector(self.transformer.time_embed)

    @property
    def stock(self) -> nn.Module:
        transformer: nn.Module = self.transformer
        return transformer

    @staticmethod
    def width(config: CosmosConfig) -> int:
        """The shared modulation (three times the hidden width) and the embedding itself."""
        return 4 * config.hidden_dim

    def network(self, inputs: Tensor, noise: Tensor, embedding: Tensor | None, tokens: Tensor, known: Tensor) -> Tensor:
        # No ``fps``: positions count latent frames, as in pretraining, whatever the robot's rate.
        dtype = self.transformer.dtype
        cells = inputs.shape[-2:]
        mask = known[:, None, :, None, None].expand(-1, 1, -1, *cells).to(dtype)
        padding = inputs.new_zeros(1, 1, *cells, dtype=dtype) if self.transformer.config.concat_padding_mask else None
        with self.injector.adding(embedding):
            predicted: Tensor = self.transformer(
                inputs.transpose(1, 2).to(dtype),
                noise[:, None, :, None, None],
                tokens.to(dtype),
                condition_mask=mask,
                padding_mask=padding,
                return_dict=False,
            )[0]
        return predicted.transpose(1, 2)


def _build(config: CosmosConfig) -> CosmosTransformer3DModel:
    transformer = CosmosTransformer3DModel(
        in_channels=config.input_channels + _MASK_CHANNELS,
        out_channels=config.latent_channels,
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        num_layers=config.num_layers,
        mlp_ratio=config.mlp_ratio,
        text_embed_dim=config.cross_attention_dim,
        adaln_lora_dim=config.adaln_lora_dim,
        max_size=(_MAX_FRAMES, config.latent_height, config.latent_width),
        patch_size=config.patch_size,
        rope_scale=(1.0, 1.0, 1.0),
        concat_padding_mask=False,
        extra_pos_embed_type=None,
    )
    nn.init.zeros_(transformer.proj_out.weight)
    return transformer


def provide_padding_mask_resize() -> bool:
    """Let the stock module resize its padding mask where torchvision is not installed; True if that was needed.

    With ``concat_padding_mask`` its forward calls one function of torchvision, by a name that is not defined without.
    Nearest-neighbour resizing is all that it asks for.
    """
    if hasattr(stock_cosmos, "transforms"):
        return False

    def resize(mask: Tensor, size: list[int], interpolation: str) -> Tensor:
        return functional.interpolate(mask, size, mode=interpolation)

    stock_cosmos.transforms = SimpleNamespace(
        functional=SimpleNamespace(resize=resize), InterpolationMode=SimpleNamespace(NEAREST="nearest")
    )
    return True

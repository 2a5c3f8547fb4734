"""Adapter: Wan's transformer (stock ``WanTransformer3DModel``), with a timestep per token as Wan 2.2 TI2V-5B has it.

Context frames are the first of the sequence, nearly noiseless; so every frame has a noise level. (The image-to-video
variants that take a mask and an image as further channels are another interface.) The action embedding is added to the
output of ``condition_embedder.time_embedder``, before its activation and projection, so that every modulation is one of
Z_t + Z_a. The causal form is made by ``causal_attention.py``. Knows nothing of text encoders or guidance.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from egowm_core.errors import ConfigError
from egowm_core.models.action_encoder import ActionEncoder, StateEncoder
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.causal_attention import causalise_wan
from egowm_core.models.dit import DiTConfig, check_fit, per_token
from egowm_core.models.inject import EmbeddingOutputInjector


@dataclass(frozen=True)
class WanConfig(DiTConfig):
    """See :class:`DiTConfig`; Wan predicts the flow and is told of t in 0..1000."""

    preconditioning: str = "flow_1000"

    @property
    def token_dim(self) -> int:
        return int(self.stock.get("text_dim", self.cross_attention_dim))


class WanDenoiser(BackboneDenoiser):
    """Wan's transformer behind the contract of :class:`egowm_core.diffusion.denoiser.Denoiser`.

    Raises:
        ConfigError: the stock module is not the one that the configuration describes, or cross-attends to images too.
    """

    config: WanConfig

    def __init__(
        self,
        config: WanConfig,
        action_encoder: ActionEncoder | None,
        state_encoder: StateEncoder | None = None,
        *,
        stock: WanTransformer3DModel | None = None,
    ) -> None:
        super().__init__(config, action_encoder, state_encoder)
        if stock is None:
            stock = WanTransformer3DModel.from_config(config.stock) if config.stock else _build(config)
        if stock.config.image_dim is not None or stock.config.added_kv_proj_dim is not None:
            raise ConfigError("wan: this transformer cross-attends to an image too; use one that does not (TI2V)")
        check_fit("wan", config, stock.config)
        self.transformer = stock
        if config.causal:
            self.control = causalise_wan(self.transformer, window=config.attention_window)
        self.injector = EmbeddingOutputInjector(self.transformer.condition_embedder.time_embedder)

    @property
    def stock(self) -> nn.Module:
        transformer: nn.Module = self.transformer
        return transformer

    @staticmethod
    def width(config: WanConfig) -> int:
        """Of the timestep embedding, which is the hidden width."""
        return config.hidden_dim

    def network(self, inputs: Tensor, noise: Tensor, embedding: Tensor | None, tokens: Tensor, known: Tensor) -> Tensor:
        dtype = self.transformer.dtype
        _, rows, columns = self.config.patch_size
        tokens_per_frame = (inputs.shape[-2] // rows) * (inputs.shape[-1] // columns)
        with self.injector.adding(embedding):
            predicted: Tensor = self.transformer(
                inputs.transpose(1, 2).to(dtype),
                per_token(noise, tokens_per_frame),
                tokens.to(dtype),
                return_dict=False,
            )[0]
        return predicted.transpose(1, 2)


def _build(config: WanConfig) -> WanTransformer3DModel:
    transformer = WanTransformer3DModel(
        patch_size=config.patch_size,
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        in_channels=config.input_channels,
        out_channels=config.latent_channels,
        text_dim=config.cross_attention_dim,
        ffn_dim=round(config.mlp_ratio * config.hidden_dim),
        num_layers=config.num_layers,
    )
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)
    return transformer

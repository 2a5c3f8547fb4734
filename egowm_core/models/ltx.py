"""Adapter: LTX-Video's transformer (stock ``LTXVideoTransformer3DModel``), with a timestep per token.

It takes the tokens of all frames as one flat sequence; packing and unpacking are here. Context frames are the first of
it, nearly noiseless. The action embedding is added to the output of ``time_embed.emb``, before its activation and
projection, so that every modulation is one of Z_t + Z_a. The causal form is made by ``causal_attention.py``. Knows
nothing of text encoders or guidance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from diffusers import LTXVideoTransformer3DModel
from torch import Tensor, nn
from torch.nn import functional

from egowm_core.models.action_encoder import ActionEncoder, StateEncoder
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.causal_attention import causalise_ltx
from egowm_core.models.dit import DiTConfig, check_fit, per_token
from egowm_core.models.inject import EmbeddingOutputInjector


@dataclass(frozen=True)
class LTXConfig(DiTConfig):
    """See :class:`DiTConfig`; LTX predicts the flow and is told of t in 0..1000.

    ``rope_scale``: seconds, rows and columns of pixels that positions of one latent cell are apart. The default is what
    published checkpoints were trained with (a VAE of 8 x 32 x 32 at 25 frames a second), and is best kept whatever the
    robot's rate: positions then count latent frames as in pretraining.
    """

    preconditioning: str = "flow_1000"
    rope_scale: list[float] = field(default_factory=lambda: [8 / 25, 32.0, 32.0])

    @property
    def token_dim(self) -> int:
        return int(self.stock.get("caption_channels", self.cross_attention_dim))


class LTXDenoiser(BackboneDenoiser):
    """LTX' transformer behind the contract of :class:`egowm_core.diffusion.denoiser.Denoiser`.

    Raises:
        ConfigError: the stock module is not the one that the configuration describes.
    """

    config: LTXConfig

    def __init__(
        self,
        config: LTXConfig,
        action_encoder: ActionEncoder | None,
        state_encoder: StateEncoder | None = None,
        *,
        stock: LTXVideoTransformer3DModel | None = None,
    ) -> None:
        super().__init__(config, action_encoder, state_encoder)
        if stock is None:
            stock = LTXVideoTransformer3DModel.from_config(config.stock) if config.stock else _build(config)
        check_fit("ltx", config, stock.config, packed_cells=config.patch_size[1] ** 2)
        self.transformer = stock
        if config.causal:
            self.control = causalise_ltx(self.transformer, window=config.attention_window)
        self.injector = EmbeddingOutputInjector(self.transformer.time_embed.emb)

    @property
    def stock(self) -> nn.Module:
        transformer: nn.Module = self.transformer
        return transformer

    @staticmethod
    def width(config: LTXConfig) -> int:
        """Of the timestep embedding, which is the hidden width."""
        return config.hidden_dim

    def network(self, inputs: Tensor, noise: Tensor, embedding: Tensor | None, tokens: Tensor, known: Tensor) -> Tensor:
        dtype = self.transformer.dtype
        batch, num_frames, _, height, width = inputs.shape
        patch = self.config.patch_size[1]
        rows, columns = height // patch, width // patch
        cells = functional.pixel_unshuffle(inputs.flatten(0, 1), patch).flatten(2).transpose(1, 2)
        with self.injector.adding(embedding):
            predicted: Tensor = self.transformer(
                cells.unflatten(0, (batch, num_frames)).flatten(1, 2).to(dtype),
                tokens.to(dtype),
                per_token(noise, rows * columns),
                encoder_attention_mask=tokens.new_ones(tokens.shape[:2]),
                num_frames=num_frames,
                height=rows,
                width=columns,
                rope_interpolation_scale=tuple(self.config.rope_scale),
                return_dict=False,
            )[0]
        frames = predicted.unflatten(1, (num_frames, rows, columns)).flatten(0, 1).permute(0, 3, 1, 2)
        latents: Tensor = functional.pixel_shuffle(frames, patch).unflatten(0, (batch, num_frames))
        return latents


def _build(config: LTXConfig) -> LTXVideoTransformer3DModel:
    cells = config.patch**2
    transformer = LTXVideoTransformer3DModel(
        in_channels=config.input_channels * cells,
        out_channels=config.latent_channels * cells,
        patch_size=config.patch,
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        cross_attention_dim=config.hidden_dim,
        num_layers=config.num_layers,
        caption_channels=config.cross_attention_dim,
    )
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)
    return transformer

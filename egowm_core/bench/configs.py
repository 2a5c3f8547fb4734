"""Sizes to measure: the published backbones at the setting of EgoWM (arXiv 2601.15284), and the same in small.

``real`` are the released architectures (stabilityai/stable-video-diffusion-img2vid and
nvidia/Cosmos-Predict2-2B-Video2World) with the paper's picture size, horizon and number of denoising steps. ``tiny``
has the same classes and switches, for tests on a CPU. Numbers only; ``build.py`` makes modules of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from egowm_core.errors import ConfigError
from egowm_core.schema import nearest

_SVD_SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "interpolation_type": "linear",
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
}
_COSMOS_SCHEDULER = {"use_karras_sigmas": True}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A backbone, how large, and how its stock pipeline is run."""

    backbone: str
    size: str
    height: int  # of the picture, pixels
    width: int
    horizon: int  # camera frames that are predicted
    stock: dict[str, Any]  # configuration of the stock denoiser
    autoencoder: dict[str, Any]  # and of the stock autoencoder
    scheduler: dict[str, Any]
    stock_denoising_steps: int  # of the stock pipeline, each evaluated with and without the condition
    stock_guidance_scale: float
    prompt_tokens: int  # that the denoiser cross-attends to
    image_encoder: dict[str, Any] = field(default_factory=dict)  # CLIP's vision tower, where the pipeline has one
    tiny_decoder: dict[str, Any] = field(default_factory=dict)  # AutoencoderTiny, where it fits


_SVD = Setting(
    backbone="svd",
    size="real",
    height=512,
    width=512,
    horizon=8,
    stock={
        "sample_size": 96,
        "in_channels": 8,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal",) * 3 + ("DownBlockSpatioTemporal",),
        "up_block_types": ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 3,
        "block_out_channels": (320, 640, 1280, 1280),
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 768,
        "layers_per_block": 2,
        "cross_attention_dim": 1024,
        "transformer_layers_per_block": 1,
        "num_attention_heads": (5, 10, 20, 20),
        "num_frames": 14,
    },
    autoencoder={
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 768,
        "scaling_factor": 0.18215,
        "force_upcast": True,
    },
    scheduler=_SVD_SCHEDULER,
    stock_denoising_steps=25,
    stock_guidance_scale=3.0,
    prompt_tokens=1,
    image_encoder={
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "projection_dim": 1024,
    },
    tiny_decoder={"latent_channels": 4},
)
_SVD_TINY = Setting(
    backbone="svd",
    size="tiny",
    height=64,
    width=64,
    horizon=4,
    stock={
        **_SVD.stock,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        "block_out_channels": (32, 64),
        "addition_time_embed_dim": 32,
        "projection_class_embeddings_input_dim": 96,
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "num_attention_heads": (2, 2),
        "num_frames": 4,
    },
    autoencoder={**_SVD.autoencoder, "block_out_channels": (32, 32, 32, 32), "layers_per_block": 1},
    scheduler=_SVD_SCHEDULER,
    stock_denoising_steps=3,
    stock_guidance_scale=3.0,
    prompt_tokens=1,
    image_encoder={
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 224,
        "patch_size": 32,
        "projection_dim": 32,
    },
    tiny_decoder={
        "latent_channels": 4,
        "encoder_block_out_channels": (8, 8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8, 8),
        "num_encoder_blocks": (1, 1, 1, 1),
        "num_decoder_blocks": (1, 1, 1, 1),
    },
)
_COSMOS = Setting(
    backbone="cosmos",
    size="real",
    height=480,
    width=640,
    horizon=16,
    stock={
        "in_channels": 17,  # latents and the condition mask
        "out_channels": 16,
        "num_attention_heads": 16,
        "attention_head_dim": 128,
        "num_layers": 28,
        "mlp_ratio": 4.0,
        "text_embed_dim": 1024,
        "adaln_lora_dim": 256,
        "max_size": (128, 240, 240),
        "patch_size": (1, 2, 2),
        "rope_scale": (1.0, 3.0, 3.0),
        "concat_padding_mask": True,
        "extra_pos_embed_type": None,
    },
    autoencoder={},  # diffusers' defaults are Wan 2.1's, which is Cosmos-Predict2's
    scheduler=_COSMOS_SCHEDULER,
    stock_denoising_steps=35,
    stock_guidance_scale=7.0,
    prompt_tokens=512,
)
_COSMOS_TINY = Setting(
    backbone="cosmos",
    size="tiny",
    height=64,
    width=64,
    horizon=4,
    stock={
        **_COSMOS.stock,
        "in_channels": 5,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "num_layers": 2,
        "text_embed_dim": 16,
        "adaln_lora_dim": 8,
        "max_size": (16, 32, 32),
    },
    autoencoder={
        "base_dim": 8,
        "z_dim": 4,
        "dim_mult": [1, 1, 1, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "latents_mean": [0.0, 0.0, 0.0, 0.0],
        "latents_std": [1.0, 1.0, 1.0, 1.0],
    },
    scheduler=_COSMOS_SCHEDULER,
    stock_denoising_steps=3,
    stock_guidance_scale=7.0,
    prompt_tokens=4,
)
_SETTINGS = {(item.backbone, item.size): item for item in (_SVD, _SVD_TINY, _COSMOS, _COSMOS_TINY)}
BACKBONES = ("svd", "cosmos")
SIZES = ("tiny", "real")


def setting(backbone: str, size: str) -> Setting:
    """The setting of this backbone and size.

    Raises:
        ConfigError: there is none; the nearest known name is given.
    """
    for what, value, known in (("backbone", backbone, BACKBONES), ("size", size, SIZES)):
        if value not in known:
            raise ConfigError(f"no {what} {value!r} to measure{nearest(value, known)}; there are: {', '.join(known)}")
    return _SETTINGS[backbone, size]

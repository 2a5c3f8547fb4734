"""Random-weight modules of a :class:`~egowm_core.bench.configs.Setting`, and the world model around them.

Latency does not depend on what weights say, so none are downloaded. The stock pipeline and the world model get the very
same modules. Knows no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    AutoencoderTiny,
    CosmosTransformer3DModel,
    UNetSpatioTemporalConditionModel,
)
from torch import nn

from egowm_core.bench.configs import Setting
from egowm_core.data.normalize import NormStats
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import ConfigError
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.autoencoders import KLTemporalVideoAutoencoder, WanVideoAutoencoder
from egowm_core.models.registry import build_denoiser
from egowm_core.models.stock_autoencoder import StockAutoencoder
from egowm_core.world_model import WorldModel

_EMBODIMENT = "base_3dof"
_CLASSES: dict[str, tuple[Any, Any]] = {
    "svd": (UNetSpatioTemporalConditionModel, AutoencoderKLTemporalDecoder),
    "cosmos": (CosmosTransformer3DModel, AutoencoderKLWan),
}


@dataclass(frozen=True)
class Parts:
    """Stock modules on a device, in evaluation mode."""

    denoiser: Any
    autoencoder: Any
    image_encoder: Any  # None where the pipeline has none


def build_parts(setting: Setting, *, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Parts:
    """The stock modules with random weights in ``dtype``, made on ``device`` ("meta": shapes alone).

    Raises:
        ConfigError: an image encoder is needed and transformers is not installed.
    """
    denoiser, autoencoder = _CLASSES[setting.backbone]
    if device.type != "meta":
        torch.manual_seed(seed)
    with device:
        modules = [denoiser(**setting.stock), autoencoder(**setting.autoencoder)]
        modules += [_image_encoder(setting.image_encoder)] if setting.image_encoder else []
    # With the device again: some parameters of stock modules are made on the CPU whatever the default is. And past the
    # ``to`` of diffusers, which warns of parts of other configurations that would have to stay in float32.
    modules = [nn.Module.to(module, device, dtype).eval().requires_grad_(False) for module in modules]
    return Parts(modules[0], modules[1], modules[2] if setting.image_encoder else None)


def build_model(setting: Setting, parts: Parts, *, device: torch.device, causal: bool = False) -> WorldModel:
    """The world model around the stock modules: an untrained action path, three action channels, no autocast.

    ``causal`` changes ``parts.denoiser`` in place.
    """
    robot = load_embodiment(_EMBODIMENT)
    embodiment = replace(robot, cameras=(replace(robot.camera(), height=setting.height, width=setting.width),))
    wrapper = WanVideoAutoencoder if setting.backbone == "cosmos" else KLTemporalVideoAutoencoder
    autoencoder = wrapper(parts.autoencoder)
    config = _denoiser_config(setting, autoencoder) | ({"causal": True} if causal else {})
    denoiser = build_denoiser(config, embodiment, stock=parts.denoiser)
    denoiser.null_tokens = torch.zeros(1, setting.prompt_tokens, denoiser.config.token_dim)
    return model_around(setting, autoencoder, denoiser, embodiment, device=device)


def model_around(
    setting: Setting,
    autoencoder: StockAutoencoder,
    denoiser: BackboneDenoiser,
    embodiment: Embodiment,
    *,
    device: torch.device,
) -> WorldModel:
    """A world model of these parts, sampled as this setting's are."""
    return WorldModel(
        vae=autoencoder,
        denoiser=denoiser,
        embodiment=embodiment,
        norm_stats=NormStats.from_actions(embodiment.limits.T, embodiment.channel_names),
        config={"name": f"{setting.backbone}-{setting.size}", "sampling": _sampling(setting)},
        device=device,
    )


def with_tiny_decoder(model: WorldModel, setting: Setting, source: str | None = None) -> WorldModel:
    """The same model with an AutoencoderTiny for a decoder: the one in ``source`` (directory or hub id), or random.

    Raises:
        ConfigError: this backbone's latents have no tiny decoder.
        CheckpointError: ``source`` cannot be read.
    """
    if not isinstance(model.vae, KLTemporalVideoAutoencoder):
        raise ConfigError(
            f"no tiny decoder for {setting.backbone}: its latents are {model.vae.temporal_factor} frames each; "
            "measure it with svd"
        )
    network = model.vae.network
    autoencoder = KLTemporalVideoAutoencoder(network)
    if source is None:
        decoder = build_tiny_decoder(setting, network.device)
    else:
        autoencoder.load_tiny_decoder(source)
        decoder = autoencoder.tiny_decoder
    tiny = nn.Module.to(decoder, network.device, network.dtype).eval()
    return WorldModel(
        vae=KLTemporalVideoAutoencoder(network, tiny_decoder=tiny),
        denoiser=model.denoiser,
        embodiment=model.embodiment,
        norm_stats=model.norm_stats,
        config=model.config,
        device=model.device,
    )


def build_tiny_decoder(setting: Setting, device: torch.device) -> nn.Module:
    """An AutoencoderTiny of this setting with random weights."""
    with device:
        decoder: nn.Module = AutoencoderTiny(**setting.tiny_decoder)
    return decoder


def _denoiser_config(setting: Setting, autoencoder: StockAutoencoder) -> dict[str, Any]:
    shared = {
        "backbone": setting.backbone,
        "stock": dict(setting.stock),
        "latent_channels": autoencoder.latent_channels,
        "latent_height": setting.height // autoencoder.downscale,
        "latent_width": setting.width // autoencoder.downscale,
        "horizon": setting.horizon // autoencoder.temporal_factor,
        "temporal_factor": autoencoder.temporal_factor,
        "residual": False,
        "coordinates": False,
        "context_token": False,
    }
    if setting.backbone == "svd":  # which conditions on latents that are not scaled, and predicts v
        return shared | {"preconditioning": "v", "context_scale": 1.0 / float(setting.autoencoder["scaling_factor"])}
    return shared


def _sampling(setting: Setting) -> dict[str, Any]:
    sigma_max = 700.0 if setting.backbone == "svd" else 80.0
    return {"sampler": "euler", "num_denoising_steps": 4, "sigma_min": 0.002, "sigma_max": sigma_max}


def _image_encoder(config: dict[str, Any]) -> nn.Module:
    try:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    except ImportError as error:
        raise ConfigError("the stock pipeline of svd needs transformers: pip install transformers") from error
    encoder: nn.Module = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    return encoder

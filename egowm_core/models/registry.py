"""Backbone names to their adapters: the one place that lists them. A new backbone is one file and one line here."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from typing import Any

from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from egowm_core.models.action_encoder import ActionEncoder, ActionEncoderConfig, StateEncoder
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.autoencoders import autoencoder_config, autoencoder_from_config
from egowm_core.models.stock_autoencoder import StockAutoencoder
from egowm_core.models.vae import FrameAutoencoder, vae_config_from_dict
from egowm_core.schema import nearest, read_fields

_ADAPTERS = {
    "svd": ("egowm_core.models.svd", "SVDConfig", "SVDDenoiser"),
    "cosmos": ("egowm_core.models.cosmos", "CosmosConfig", "CosmosDenoiser"),
    "wan": ("egowm_core.models.wan", "WanConfig", "WanDenoiser"),
    "ltx": ("egowm_core.models.ltx", "LTXConfig", "LTXDenoiser"),
    "nwm": ("egowm_core.models.nwm", "NWMConfig", "NWMDenoiser"),
}
BACKBONES = tuple(_ADAPTERS)

TrainedAutoencoder = FrameAutoencoder | StockAutoencoder


def backbone_classes(backbone: str) -> tuple[type[Any], type[Any]]:
    """The configuration and denoiser classes of a backbone; only its own module is imported.

    Raises:
        ConfigError: an unknown backbone; the nearest known name is given.
    """
    if backbone not in _ADAPTERS:
        raise ConfigError(f"unknown backbone {backbone!r}{nearest(backbone, BACKBONES)}; there are: {BACKBONES}")
    module, config, denoiser = _ADAPTERS[backbone]
    loaded = import_module(module)
    return getattr(loaded, config), getattr(loaded, denoiser)


def denoiser_config(config: dict[str, Any]) -> tuple[str, AdapterConfig]:
    """A configuration mapping (``backbone`` plus that backbone's fields) to the backbone's name and checked fields.

    Raises:
        ConfigError: an unknown backbone or field; the nearest known name is given.
    """
    values = dict(config)
    backbone = str(values.pop("backbone", "svd"))
    kind, _ = backbone_classes(backbone)
    fields: AdapterConfig = kind(**read_fields(kind, values, f"denoiser ({backbone})"))
    return backbone, fields


def build_denoiser(config: dict[str, Any], embodiment: Embodiment, *, stock: Any = None) -> BackboneDenoiser:
    """A denoiser with fresh weights, or around the given ``stock`` module, for the actions of ``embodiment``.

    Raises:
        ConfigError: an unknown backbone or field; the nearest known name is given.
    """
    backbone, fields = denoiser_config(config)
    _, kind = backbone_classes(backbone)
    if fields.passive:
        denoiser: BackboneDenoiser = kind(fields, None, None, stock=stock)
        return denoiser
    defaults: dict[str, Any] = {"temporal_downsample": fields.temporal_factor, "state_dim": len(embodiment.states)}
    defaults["motion"] = "tick" if fields.causal else "composed"
    action = ActionEncoderConfig(**read_fields(ActionEncoderConfig, {**defaults, **fields.action}, "denoiser.action"))
    width = kind.width(fields)
    encoder = ActionEncoder(
        action_dim=embodiment.action_dim,
        embedding_dim=width,
        scale=[float(scale) for scale in embodiment.scales],
        integrate_kind=embodiment.integrate,
        horizon=fields.camera_horizon,
        config=action,
    )
    state = StateEncoder(state_dim=action.state_dim, embedding_dim=width, config=action) if action.state_dim else None
    built: BackboneDenoiser = kind(fields, encoder, state, stock=stock)
    return built


def build_autoencoder(config: dict[str, Any]) -> TrainedAutoencoder:
    """Our frame autoencoder from its fields, or a stock one from its ``kind`` and ``config``; fresh weights.

    Raises:
        ConfigError: an unknown kind or field.
    """
    return autoencoder_from_config(config) if "kind" in config else FrameAutoencoder(vae_config_from_dict(config))


def autoencoder_fields(autoencoder: TrainedAutoencoder) -> dict[str, Any]:
    """What :func:`build_autoencoder` builds it from again."""
    return asdict(autoencoder.config) if isinstance(autoencoder, FrameAutoencoder) else autoencoder_config(autoencoder)

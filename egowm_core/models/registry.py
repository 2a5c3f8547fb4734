"""Backbone names to their builders: the one place that lists adapters."""

from __future__ import annotations

from typing import Any

from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from egowm_core.models.action_encoder import ActionEncoder
from egowm_core.models.svd import SVDConfig, SVDDenoiser, timestep_embedding_dim
from egowm_core.schema import nearest, read_fields

BACKBONES = ("svd",)


def build_denoiser(config: dict[str, Any], embodiment: Embodiment) -> SVDDenoiser:
    """A denoiser with fresh weights from a configuration mapping (``backbone`` plus that backbone's fields).

    Raises:
        ConfigError: an unknown backbone or field; the nearest known name is given.
    """
    values = dict(config)
    backbone = str(values.pop("backbone", "svd"))
    if backbone not in BACKBONES:
        raise ConfigError(f"unknown backbone {backbone!r}{nearest(backbone, BACKBONES)}; there are: {BACKBONES}")
    svd = SVDConfig(**read_fields(SVDConfig, values, f"denoiser ({backbone})"))
    encoder = ActionEncoder(
        action_dim=embodiment.action_dim,
        embedding_dim=timestep_embedding_dim(svd),
        scale=[float(scale) for scale in embodiment.scales],
        integrate_kind=embodiment.integrate,
        horizon=svd.horizon,
    )
    return SVDDenoiser(svd, encoder)

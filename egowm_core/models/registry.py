"""Backbone names to their builders: the one place that lists adapters."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import Any

from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from egowm_core.models.action_encoder import ActionEncoder
from egowm_core.models.svd import SVDConfig, SVDDenoiser, timestep_embedding_dim

BACKBONES = ("svd",)


def build_denoiser(config: dict[str, Any], embodiment: Embodiment) -> SVDDenoiser:
    """A denoiser with fresh weights from a configuration mapping (``backbone`` plus that backbone's fields).

    Raises:
        ConfigError: an unknown backbone or field; the nearest known name is given.
    """
    values = dict(config)
    backbone = str(values.pop("backbone", "svd"))
    check_name(backbone, BACKBONES, what="backbone")
    known = [item.name for item in fields(SVDConfig)]
    for name in values:
        check_name(name, known, what=f"field of backbone {backbone}")
    svd = SVDConfig(**values)
    encoder = ActionEncoder(
        action_dim=embodiment.action_dim,
        embedding_dim=timestep_embedding_dim(svd),
        scale=[float(scale) for scale in embodiment.scales],
        integrate_kind=embodiment.integrate,
        horizon=svd.horizon,
    )
    return SVDDenoiser(svd, encoder)


def check_name(name: str, known: list[str] | tuple[str, ...], *, what: str) -> None:
    """Refuse an unknown ``name``, offering the nearest known one."""
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
    raise ConfigError(f"unknown {what} {name!r}{hint}")

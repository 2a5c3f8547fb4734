"""Variants of one training run: a YAML with a common base, and for each variant what differs. Knows mappings only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egowm_core.errors import ConfigError
from egowm_core.latent_rollout import SamplingPlan
from egowm_core.schema import nearest, read_fields
from training.config import TrainConfig, read_yaml, train_config

_AUTOENCODER = "autoencoder"
_KEYS = ("base", "variants", "rows")


@dataclass(frozen=True)
class Row:
    """A row of the table: a variant's checkpoint, sampled its own way or with ``sampling`` settings changed."""

    name: str
    variant: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """``autoencoder`` is trained once and shared; each of ``variants`` comes after what it starts from."""

    autoencoder: TrainConfig
    variants: dict[str, TrainConfig]
    rows: tuple[Row, ...]


def load_comparison(path: Path, *, dataset: str | None = None, out: str | None = None) -> Comparison:
    """Read ``path``: ``base`` is a training configuration; each of ``variants`` is merged over it, key by key.

    ``denoiser_run.init_from: "@NAME"`` names another variant. ``rows`` lists what the table shows: a variant's name, or
    ``{name: ..., variant: ..., sampling: {...}}``; without it, every variant is a row.

    Raises:
        ConfigError: unknown keys or sampling settings, unknown or later variants.
    """
    values = read_yaml(path)
    if unknown := [key for key in values if key not in _KEYS]:
        raise ConfigError(f"{path} has an unknown key {unknown[0]!r}{nearest(unknown[0], _KEYS)}; known: {_KEYS}")
    base = {**values.get("base", {})}
    if dataset:
        base.pop("datasets", None)  # one dataset in place of whatever the configuration names
    base |= {key: value for key, value in (("dataset", dataset), ("out", out)) if value}
    root = Path(str(base.get("out", "")))
    shared = {**base, "name": _AUTOENCODER, "out": str(root / _AUTOENCODER)}
    autoencoder = train_config({**shared, "denoiser": _first_denoiser(values)}, f"{path}: base")
    variants: dict[str, TrainConfig] = {}
    for name, changes in (values.get("variants") or {}).items():
        merged = merge({**base, "autoencoder_from": str(root / _AUTOENCODER)}, changes or {})
        merged |= {"name": str(name), "out": str(root / str(name))}
        run = dict(merged.get("denoiser_run", {}))
        if str(run.get("init_from", "")).startswith("@"):
            parent = str(run["init_from"])[1:]
            if parent not in variants:
                raise ConfigError(
                    f"{path}: variant {name!r} starts from @{parent}{nearest(parent, variants)}, which is not an "
                    "earlier variant; list it before"
                )
            run["init_from"] = str(root / parent / "checkpoint")
            merged["denoiser_run"] = run
            merged["denoiser"] = merge(
                {**variants[parent].denoiser, "passive": False}, (changes or {}).get("denoiser", {})
            )
        variants[str(name)] = train_config(merged, f"{path}: variants.{name}")
    return Comparison(autoencoder, variants, _rows(values.get("rows"), variants, path))


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``changes`` over ``base``, mappings merged key by key."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _first_denoiser(values: dict[str, Any]) -> dict[str, Any]:
    for changes in (values.get("variants") or {}).values():
        return merge(values.get("base", {}).get("denoiser", {}), (changes or {}).get("denoiser", {}))
    return dict(values.get("base", {}).get("denoiser", {}))


def _rows(listed: Any, variants: dict[str, TrainConfig], path: Path) -> tuple[Row, ...]:
    rows = []
    for item in listed if listed is not None else list(variants):
        entry = read_fields(Row, {"name": item} if isinstance(item, str) else item, f"{path}: rows")
        row = Row(**{"variant": entry["name"], **entry})
        read_fields(SamplingPlan, row.sampling, f"{path}: row {row.name}: sampling")
        if row.variant not in variants:
            raise ConfigError(f"{path}: row {row.name!r}: no variant {row.variant!r}{nearest(row.variant, variants)}")
        rows.append(row)
    return tuple(rows)

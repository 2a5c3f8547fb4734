"""What the weights of a run depend on, kept in its directory: a run goes on only with the settings it began with.

Each stage has its own, written when it starts. What changes nothing but rounding or speed (devices, processes, passes,
workers, what is watched, how the model is sampled) is not among them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from egowm_core.errors import ConfigError, DataError
from egowm_core.files import read_json, write_text
from egowm_core.models.registry import TrainedAutoencoder
from training.config import TrainConfig
from training.fit.latents import encoder_digest
from training.fit.mixture import Mixture

RUN = "run.json"
_VERSION = 1
_FOREIGN = {  # what lies in directories that are not runs
    "meta/info.json": "a dataset",
    "dataset.json": "a dataset",
    "SHA256SUMS": "a checkpoint",
    "autoencoder.safetensors": "a run of an older version",
    "denoiser.safetensors": "a run of an older version",
}


def autoencoder_settings(config: TrainConfig, mixture: Mixture, *, precision: str) -> dict[str, Any]:
    """What the autoencoder's weights depend on, by dotted key."""
    return _flat(
        {**_common(config, mixture, precision), "vae": config.vae, "autoencoder_run": asdict(config.autoencoder_run)}
    )


def denoiser_settings(
    config: TrainConfig, mixture: Mixture, vae: TrainedAutoencoder, merged: dict[str, Any], *, precision: str
) -> dict[str, Any]:
    """What the denoiser's weights depend on; ``merged`` is its section over that of the checkpoint it starts from."""
    return _flat(
        {
            **_common(config, mixture, precision),
            "denoiser": merged,
            "denoiser_run": asdict(config.denoiser_run),
            **({} if config.student is None else {"student": asdict(config.student)}),
            "the autoencoder's weights": encoder_digest(vae),
        }
    )


def check_settings(directory: Path, stage: str, settings: dict[str, Any], *, begun: bool, write: bool) -> None:
    """See that ``stage`` may go on, or begin, in ``directory``, and keep its settings there if ``write``.

    Raises:
        ConfigError: the stage has ``begun`` with other settings, the first of which is named.
    """
    kept = _read(directory)
    settings = json.loads(json.dumps(settings))  # as they would be read back
    before = kept.get(stage)
    if begun and before is not None and before != settings:
        key = next(k for k in sorted({*before, *settings}) if before.get(k) != settings.get(k))
        raise ConfigError(
            f"{directory}: the {stage} was begun with {key} = {before.get(key, 'its default')!r}, now it is "
            f"{settings.get(key, 'its default')!r}; restore it, or name another directory with --out"
        )
    if write and before != settings:
        write_text(
            directory / RUN, json.dumps({**kept, "version": _VERSION, stage: settings}, indent=1, sort_keys=True)
        )


def check_directory(directory: Path) -> None:
    """See that a run in ``directory`` gets nobody else's files in its way.

    Raises:
        ConfigError: it is no directory, or holds something else.
    """
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"out: {directory} is a file; name a directory")
    if (directory / RUN).is_file():
        _read(directory)
        return
    for name, what in _FOREIGN.items():
        if (directory / name).exists():
            raise ConfigError(f"out: {directory} holds {what} ({name}); name another directory with --out")


def _read(directory: Path) -> dict[str, Any]:
    file = directory / RUN
    if not file.exists():
        return {}
    try:
        kept = read_json(file)
    except DataError as error:
        raise ConfigError(f"{error}; or name another directory with --out") from error
    if not isinstance(kept, dict) or kept.get("version") != _VERSION:
        raise ConfigError(f"{file} is not of this version of egowm-train; name another directory with --out")
    return kept


def _common(config: TrainConfig, mixture: Mixture, precision: str) -> dict[str, Any]:
    datasets = {
        f"the dataset {number} ({source.name})": f"{source.dataset.fingerprint()[:16]}, weight {share:.6g}"
        for number, (source, share) in enumerate(zip(mixture.sources, mixture.likelihood, strict=True), start=1)
    }
    return {
        "seed": config.seed,
        "bf16": precision == "bf16",
        "validation_episodes": config.validation_episodes,
        **datasets,
    }


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return flat

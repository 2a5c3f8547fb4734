"""That configuration, data and embodiment agree, and that there is room: all before the first step.

What opening the datasets or building the model finds out anyway is refused there. Knows no processes.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from egowm_core.data.state import state_names
from egowm_core.errors import ConfigError, DataError
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.camera_motion import moves_camera
from egowm_core.models.conditioning import camera_geometry
from egowm_core.models.registry import TrainedAutoencoder, build_denoiser
from training.config import TrainConfig
from training.dataset.layout import ACTION, STATE, fps
from training.fit.latents import store_bytes
from training.fit.loader import READY
from training.fit.mixture import Mixture, Source

log = logging.getLogger("egowm.train")

ABSURD = 3.0  # times its limits: what no robot does
_FEEBLE = 0.01  # of its scale: a channel that says nothing
_SHARED_MEMORY = Path("/dev/shm")


def check_sources(mixture: Mixture, fields: AdapterConfig, config: TrainConfig) -> None:
    """Data against embodiments, and embodiments against what the denoiser is told.

    Raises:
        DataError: columns, rate or values that the dataset's embodiment does not describe.
        ConfigError: settings that do not fit an embodiment.
    """
    for source in mixture.sources:
        _check_columns(source)
        _check_values(source)
        _check_settings(source, fields, config)


def check_latents(fields: AdapterConfig, vae: TrainedAutoencoder, mixture: Mixture) -> None:
    """That the denoiser is made for what the autoencoder makes of the datasets' pictures.

    Raises:
        ConfigError: it is not.
    """
    camera = mixture.sources[0].embodiment.camera()
    made = {
        "latent_channels": vae.latent_channels,
        "latent_height": camera.height // vae.downscale,
        "latent_width": camera.width // vae.downscale,
        "temporal_factor": vae.temporal_factor,
    }
    if wrong := {name: value for name, value in made.items() if getattr(fields, name) != value}:
        given = {name: getattr(fields, name) for name in wrong}
        raise ConfigError(
            f"denoiser: the autoencoder makes {wrong} of the dataset's {camera.height} x {camera.width} pixels, the "
            f"configuration says {given}; set these, or convert with the embodiment.yaml of the checkpoint in init_from"
        )


def check_denoiser(
    config: TrainConfig, merged: dict[str, Any], fields: AdapterConfig, vae: TrainedAutoencoder, mixture: Mixture
) -> int:
    """That the denoiser ``merged`` describes can be built and trained so, and how many parameters it has.

    Raises:
        ConfigError: it cannot.
    """
    run = config.denoiser_run
    check_latents(fields, vae, mixture)
    if set(run.warp_shares) != {"none"} and not (fields.context_warp and vae.temporal_factor == 1):
        raise ConfigError(
            f"denoiser_run.warp_shares {run.warp_shares} need denoiser.context_warp true and an autoencoder of single "
            "frames; leave warp_shares out"
        )
    if run.lora_rank and (not run.init_from or run.from_scratch):
        raise ConfigError(f"lora_rank {run.lora_rank} updates pretrained weights; name them by init_from, or use 0")
    if config.student is not None and fields.causal:
        raise ConfigError(
            f"student: {config.student.teacher} is causal, and its history stands at another noise level than the "
            "frame in the making; consistency tuning takes models of whole chunks"
        )
    if run.action_dropout and fields.passive:
        raise ConfigError(f"action_dropout {run.action_dropout}: a passive model has no actions to drop; set it to 0")
    with torch.device("meta"):  # shapes alone
        built = [build_denoiser(merged, embodiment) for embodiment in mixture.embodiments.values()]
    return sum(parameter.numel() for parameter in built[0].parameters())


def check_space(config: TrainConfig, mixture: Mixture, vae: TrainedAutoencoder, *, parameters: int) -> None:
    """That the disk has room for latents and for two states, since one is written beside the other.

    Raises:
        ConfigError: it has not.
    """
    out, latents = Path(config.out), Path(config.autoencoder_from or config.out)
    wanted = {out: 2 * 4 * parameters * 4 - _size(out, "denoiser.*")}  # weights, average, two moments; float32
    if vae.temporal_factor == 1 and config.store_latents:
        stores = sum(store_bytes(vae, source.training) for source in mixture.sources)
        wanted[latents] = wanted.get(latents, 0) + stores - _size(latents, "latents_*")
    for folder, size in wanted.items():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise ConfigError(
                f"{folder} has {free / 1e9:.1f} GB left, the run needs about {size / 1e9:.1f} GB for latents and "
                "state; make room, name another directory with --out, or set store_latents: false"
            )


def check_shared_memory(mixture: Mixture, *, workers: int, share: int) -> None:
    """That frames on their way from the workers fit into shared memory: ``share`` clips a step of this process.

    Raises:
        ConfigError: they do not; the first step would die of it.
    """
    if not workers or not _SHARED_MEMORY.is_dir():
        return
    source = mixture.sources[0]
    camera, data = source.embodiment.camera(), source.training
    size = share * (data.context + data.horizon) * camera.height * camera.width * 3 * workers * READY
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if size > free:
        raise ConfigError(
            f"workers {workers} keep {size / 1e6:.0f} MB of frames ready, {_SHARED_MEMORY} has {free / 1e6:.0f} MB; "
            "give the container more (--shm-size), or set workers lower"
        )


def check_writable(directory: Path) -> None:
    """Make the directory of a run.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: cannot make {directory} ({error.strerror}); name another with --out") from error
    if not os.access(directory, os.W_OK):
        raise ConfigError(f"out: {directory} cannot be written; name another directory with --out")


def _size(folder: Path, pattern: str) -> int:
    """Bytes of the files of this kind: they are there already, or will be replaced."""
    return sum(file.stat().st_size for file in folder.glob(pattern))


def _check_columns(source: Source) -> None:
    path, embodiment, features = source.dataset.path, source.embodiment, source.dataset.info.get("features", {})
    for column, expected in ((ACTION, embodiment.channel_names), (STATE, state_names(embodiment))):
        names = features.get(column, {}).get("names")
        if names != list(expected):
            raise DataError(
                f"{path}: column {column} holds {names}, its embodiment {embodiment.name!r} says {list(expected)}; "
                "convert the recordings again with this embodiment"
            )
    if source.dataset.info.get("fps") != fps(embodiment):
        raise DataError(
            f"{path}: recorded at {source.dataset.info.get('fps')} Hz, its embodiment {embodiment.name!r} ticks at "
            f"{embodiment.rate_hz:g} Hz; convert the recordings again with this embodiment"
        )


def _check_values(source: Source) -> None:
    """Actions in other units than the embodiment's would train without complaint, and predict nonsense."""
    path, embodiment, stats = source.dataset.path, source.embodiment, source.dataset.norm_stats
    if tuple(stats.channels) != embodiment.channel_names:
        raise DataError(
            f"{path}: norm_stats.json is of {list(stats.channels)}, the embodiment has "
            f"{list(embodiment.channel_names)}; convert the recordings again"
        )
    feeble = []
    for channel in embodiment.channels:
        found, limit = stats.channels[channel.name], max(map(abs, channel.limits))
        largest = max(abs(found.min), abs(found.max))
        if not np.isfinite(largest) or largest > ABSURD * limit:
            raise DataError(
                f"{path}: channel {channel.name!r} reaches {largest:g} {channel.unit}, its limits are "
                f"{channel.limits[0]:g}..{channel.limits[1]:g}; the units or the rate of the recordings are not those "
                f"of {embodiment.name!r}: correct its YAML and convert again"
            )
        if max(abs(found.q01), abs(found.q99)) < _FEEBLE * channel.scale:
            feeble.append(channel.name)
    if len(feeble) == len(embodiment.channels):
        raise DataError(
            f"{path}: no channel of {embodiment.name!r} moves by a hundredth of its scale; the robot stands still "
            "throughout, or its units are wrong: look at the report of egowm-convert"
        )
    if feeble:
        log.warning("%s: %s hardly move: a model cannot learn what they do", path, ", ".join(feeble))


def _check_settings(source: Source, fields: AdapterConfig, config: TrainConfig) -> None:
    embodiment, count = source.embodiment, len(source.embodiment.states)
    wanted = fields.action.get("state_dim", count)
    if not fields.passive and wanted not in (0, count):
        raise ConfigError(
            f"denoiser.action.state_dim is {wanted}, {embodiment.name!r} has {count} states; leave it out, or set "
            "it to 0 for a model without an initial state (Z_s)"
        )
    warps = {*config.denoiser_run.warp_shares, config.sampling.warp} - {"none"}
    if warps and not moves_camera(embodiment):
        raise ConfigError(
            f"denoiser_run.warp_shares {sorted(warps)} compensate how actions move the camera, which embodiment "
            f"{embodiment.name!r} doesn't say (moves_forward, turns_left, tilts_down); add it or leave them out"
        )
    if warps:
        camera_geometry(embodiment)

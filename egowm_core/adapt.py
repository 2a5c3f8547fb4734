"""A passive pretrained video model becomes a world model: its own context and noise conventions, actions at zero.

The adapted model predicts what the released one does, whatever the actions, until it is trained: the action path's last
layer starts from zero (EgoWM, arXiv 2601.15284). Knows no training and no files but the source's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from egowm_core.channels import Camera
from egowm_core.data.normalize import ChannelStats, NormStats
from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import ConfigError
from egowm_core.loading import has_bf16_matrix_units
from egowm_core.models.autoencoders import KLTemporalVideoAutoencoder
from egowm_core.models.dit import stock_patch_size
from egowm_core.models.pretrained import LAYOUTS, Pretrained, open_pretrained
from egowm_core.models.registry import autoencoder_fields, build_denoiser
from egowm_core.schema import nearest
from egowm_core.world_model import WorldModel


@dataclass(frozen=True)
class Recipe:
    """How a released backbone takes its context and its noise (adapter fields), and how it is sampled."""

    fields: Mapping[str, Any]
    sampling: Mapping[str, Any]


_AS_FRAMES = {"context_as_channels": False, "context_as_frames": True}
_AS_CHANNELS = {"context_as_channels": True, "context_as_frames": False}
_PLAIN = {"coordinates": False, "residual": False, "context_token": False, "sigma_data": 1.0}
# Wan's and LTX' schedules are even in t = sigma / (1 + sigma) and then shifted: sigma is multiplied by the shift (5 for
# Wan, 1.6 to 3.2 for LTX by clip size). Karras' levels over this range put about half of the steps above sigma 5, as a
# shift of 5 does, so Cosmos' kind of schedule serves all three transformers.
_FLOW_SAMPLING = {"schedule": "karras", "sigma_min": 0.02, "sigma_max": 80.0}

RECIPES: dict[str, Recipe] = {
    "svd": Recipe(
        {**_PLAIN, **_AS_CHANNELS, "preconditioning": "v"},
        {"schedule": "karras", "num_denoising_steps": 25, "sigma_min": 0.002, "sigma_max": 700.0},
    ),
    "cosmos": Recipe(
        {**_PLAIN, **_AS_FRAMES, "preconditioning": "flow", "history_sigma": 1e-4},
        {"schedule": "karras", "num_denoising_steps": 35, "sigma_min": 0.002, "sigma_max": 80.0},
    ),
    "wan": Recipe(
        {**_PLAIN, **_AS_FRAMES, "preconditioning": "flow_1000", "history_sigma": 0.0},
        {**_FLOW_SAMPLING, "num_denoising_steps": 40},
    ),
    "ltx": Recipe(
        {**_PLAIN, **_AS_FRAMES, "preconditioning": "flow_1000", "history_sigma": 0.0},
        {**_FLOW_SAMPLING, "num_denoising_steps": 40},
    ),
}
"""By backbone, as in the pipelines that they were released with."""


def adapt_backbone(
    backbone: str,
    embodiment: Embodiment | str,
    *,
    source: str | Path | None = None,
    revision: str | None = None,
    horizon: int = 8,
    context_frames: int = 1,
    size: tuple[int, int] | None = None,
    from_scratch: bool = False,
    text: str | None = None,
    causal: bool = False,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    local_files_only: bool = False,
    seed: int = 0,
    **denoiser_fields: Any,
) -> WorldModel:
    """The pretrained ``backbone`` in ``source`` as a world model of ``embodiment`` that is ready to be trained.

    Args:
        backbone: one of ``RECIPES``.
        embodiment: the robot, or the name or YAML path of one.
        source: a hub id ``org/name[@revision]`` or a directory in diffusers' layout.
        revision: branch, tag or commit on the hub.
        horizon: camera frames that a chunk predicts, a multiple of the autoencoder's temporal factor.
        context_frames: camera frames that a rollout is given: 1, or more by multiples of that factor.
        size: (height, width) in pixels that the model sees, in place of the embodiment's first camera's.
        from_scratch: keep the architecture and the autoencoder, draw the denoiser's weights (the ablation).
        text: where the tokens for no prompt come from, see :func:`open_pretrained`.
        causal: predict frame by frame (Vid2World); ``transfer`` and ``window`` are further fields.
        device: where the model is put.
        dtype: the precision that the pretrained weights are rounded to. They are computed with as float32, or by
            autocast: see :func:`egowm_core.loading.load_world_model`.
        local_files_only: look at the hub's local cache alone.
        seed: of what is drawn: the action path, and the denoiser from scratch.
        **denoiser_fields: further fields of the adapter's configuration, such as ``action``.

    The model's statistics of actions are placeholders, see :func:`expected_stats`.

    Raises:
        ConfigError: no source, sizes that do not fit the backbone, or fields that it does not have.
        CheckpointError: the source cannot be used, see :func:`open_pretrained`.
    """
    robot = embodiment if isinstance(embodiment, Embodiment) else load_embodiment(embodiment)
    if size is not None:
        robot = robot.with_camera_size(*size)
    camera = robot.camera()
    if backbone not in RECIPES:
        raise ConfigError(
            f"backbone {backbone!r} has no pretrained form{nearest(backbone, RECIPES)}; there are: {', '.join(RECIPES)}"
        )
    if source is None:
        examples = ", ".join(f"{name}: {layout.example}" for name, layout in LAYOUTS.items())
        raise ConfigError(
            f"adapt_backbone({backbone!r}, ...) needs source, a hub id or a directory in diffusers' layout ({examples}"
            "); small models from scratch are made by egowm-train, see training/configs"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        opened = open_pretrained(
            source,
            backbone=backbone,
            revision=revision,
            dtype=dtype,
            from_scratch=from_scratch,
            autoencoder_from_scratch=False,
            text=text,
            local_files_only=local_files_only,
        )
        fields = _fields(opened, camera, horizon, context_frames)
        if fixed := [name for name in denoiser_fields if name in fields]:
            raise ConfigError(f"{fixed[0]} follows from the source ({fields[fixed[0]]!r}); leave it out")
        config = {"backbone": backbone, **RECIPES[backbone].fields, **fields, "causal": causal, **denoiser_fields}
        denoiser = build_denoiser(config, robot, stock=opened.network.float())
    _check_channels(opened, denoiser.config.input_channels)
    if denoiser.config.causal or not denoiser.config.context_token:
        denoiser.null_tokens.copy_(opened.null_tokens)
    origin = Path(source).name if Path(source).is_dir() else str(source).partition("@")[0]  # never a machine's path
    return WorldModel(
        vae=opened.autoencoder.float(),
        denoiser=denoiser,
        embodiment=robot,
        norm_stats=expected_stats(robot),
        config={
            "format": 1,
            "name": f"{backbone}_{robot.name}",
            "pretrained": {"source": origin, "revision": opened.resolved_revision, "from_scratch": from_scratch},
            "vae": autoencoder_fields(opened.autoencoder),
            "denoiser": config,
            "sampling": {"sampler": "euler", **RECIPES[backbone].sampling},
        },
        device=torch.device(device),
        bf16=has_bf16_matrix_units(device),
    )


def expected_stats(embodiment: Embodiment) -> NormStats:
    """Statistics for a model that no data was seen for: the embodiment's limits and scales, and a ``count`` of 0."""
    channels = {
        channel.name: ChannelStats(
            mean=0.0,
            std=channel.scale,
            min=channel.limits[0],
            max=channel.limits[1],
            q01=channel.limits[0],
            q99=channel.limits[1],
        )
        for channel in embodiment.channels
    }
    return NormStats(channels, count=0)


def _fields(opened: Pretrained, camera: Camera, horizon: int, context_frames: int) -> dict[str, Any]:
    """Configuration fields that follow from the source, the camera and the lengths asked for."""
    vae = opened.autoencoder
    factor, stock = vae.temporal_factor, _plain_config(opened.network)
    if horizon < 1 or horizon % factor or context_frames < 1 or (context_frames - 1) % factor:
        raise ConfigError(
            f"horizon {horizon} and context_frames {context_frames} are camera frames; a latent of {opened.backbone} "
            f"stands for {factor}, so give a horizon that is a multiple of {factor} and context_frames 1 + n * {factor}"
        )
    cells = _cells_per_side(opened.backbone, stock)
    multiple = vae.downscale * cells
    if camera.height % multiple or camera.width % multiple:
        raise ConfigError(
            f"camera {camera.name!r} is seen at {camera.height} x {camera.width} pixels; {opened.backbone} needs "
            f"multiples of {multiple} ({vae.downscale} pixels a latent cell, {cells} cells a side at its coarsest):"
            " give another size, or an embodiment whose camera has one"
        )
    fields = {
        "latent_channels": vae.latent_channels,
        "latent_height": camera.height // vae.downscale,
        "latent_width": camera.width // vae.downscale,
        "temporal_factor": factor,
        "horizon": horizon // factor,
        "context_frames": 1 + (context_frames - 1) // factor,
        "num_tokens": opened.null_tokens.shape[1],
        "stock": stock,
    }
    if isinstance(vae, KLTemporalVideoAutoencoder):  # SVD's context latents are the network's own, not scaled
        fields["context_scale"] = 1.0 / vae.scaling_factor
    return fields


def _cells_per_side(backbone: str, stock: Mapping[str, Any]) -> int:
    """Latent cells that the network's coarsest level takes together: halvings of a UNet, patches of a transformer."""
    if backbone == "svd":
        return 1 << (len(stock["block_out_channels"]) - 1)
    return stock_patch_size(stock)[1]


def _check_channels(opened: Pretrained, input_channels: int) -> None:
    """Transformers are checked by their adapters; SVD's input also holds the context."""
    network: Any = opened.network
    given = int(network.config["in_channels"])
    if opened.backbone == "svd" and given != input_channels:
        raise ConfigError(
            f"svd: the UNet takes {given} channels, this model would give it {input_channels}; it was made for one "
            "context frame beside the noisy ones: use context_frames 1, or causal for more"
        )


def _plain_config(network: Any) -> dict[str, Any]:
    """The stock module's configuration in types that YAML has; nothing of where it was read from."""
    return {key: _plain(value) for key, value in network.config.items() if not key.startswith("_")}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

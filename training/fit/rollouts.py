"""Pictures of held-out clips during training: what was observed, above what the model predicts as it will be sampled.

The world model's own sampler, settings and decoder, a chunk of a few clips. Every process computes the same (sharded
weights need all of them); one writes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from accelerate import Accelerator

from egowm_core.latent_rollout import SamplingPlan
from egowm_core.models.adapter import BackboneDenoiser
from egowm_core.models.adapter_config import AdapterConfig
from egowm_core.models.registry import TrainedAutoencoder
from egowm_core.types import ImageArray
from egowm_core.world_model import WorldModel
from training.config import TrainConfig
from training.fit.mixture import Mixture, Source
from training.fit.trackers import log_picture

FOLDER = "validation"
_QUALITY = 90  # of the JPEG


class _Called:
    """The denoiser that a world model is given: not a module, so that it stays as the optimizer knows it.

    Its methods run where the weights are whole, under the name of an embodiment.
    """

    def __init__(self, denoiser: BackboneDenoiser, called: Callable[..., Any], embodiment: str) -> None:
        self._denoiser, self._called, self._embodiment = denoiser, called, embodiment

    @property
    def config(self) -> AdapterConfig:
        return self._denoiser.config

    @property
    def can_cache(self) -> bool:
        return self._denoiser.can_cache

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in ("denoise", "start_stream", "denoise_next", "commit"):
            raise AttributeError(name)
        return lambda *arguments, **options: self._called(name, self._embodiment, *arguments, **options)


class Rollouts:
    """``validation/step_000500.jpg``, ...: the same clips each time, one after another down the picture."""

    def __init__(
        self,
        config: TrainConfig,
        vae: TrainedAutoencoder,
        denoiser: BackboneDenoiser,
        called: Callable[..., Any],
        mixture: Mixture,
        directory: Path,
    ) -> None:
        self._config, self._vae, self._denoiser, self._called = config, vae, denoiser, called
        self._mixture, self._directory = mixture, directory / FOLDER

    def save(self, step: int, accelerator: Accelerator, *, write: bool) -> None:
        """Predict, and if ``write`` keep the pictures and show them to the trackers."""
        for label, source in self._mixture.labelled.items():
            picture = self._picture(source, accelerator)
            if not write:
                continue
            self._directory.mkdir(exist_ok=True)
            name = f"{label}_step_{step:06d}" if label else f"step_{step:06d}"
            write_jpeg(self._directory / f"{name}.jpg", picture)
            log_picture(accelerator, f"validation/{label or 'rollout'}", picture, step=step)

    def _picture(self, source: Source, accelerator: Accelerator) -> ImageArray:
        data = source.validation
        numbers = np.linspace(0, len(data) - 1, min(self._config.watch.rollout_clips, len(data))).astype(np.int64)
        clips = data.batch(numbers)
        images = clips.images.numpy()
        first = data.index[numbers, 1] + data.context - 1
        actions = [
            data.episodes[e].actions[f : f + data.horizon] for e, f in zip(data.index[numbers, 0], first, strict=True)
        ]
        states = None
        if data.states is not None:
            states = np.stack([data.episodes[e].states[f] for e, f in zip(data.index[numbers, 0], first, strict=True)])
        model = self._world_model(source, accelerator)
        predicted = model.predict(
            images[:, : data.context],
            np.stack(actions),
            state=states if self._conditioned(source) else None,
            seed=self._config.seed,
        ).images
        rows = []
        for observed, future in zip(images, predicted, strict=True):
            context = observed[data.context - 1 : data.context]
            rows += [
                strip(np.concatenate([context, observed[data.context :]])),
                strip(np.concatenate([context, future])),
            ]
        return np.concatenate(rows)

    def _world_model(self, source: Source, accelerator: Accelerator) -> WorldModel:
        sampling = self._config.sampling
        plan = {name: getattr(sampling, name) for name in SamplingPlan.__dataclass_fields__}
        return WorldModel(
            vae=self._vae,
            denoiser=_Called(self._denoiser, self._called, source.name),
            embodiment=source.embodiment,
            norm_stats=source.dataset.norm_stats,
            config={"name": self._config.name, "sampling": {**plan, "warp": sampling.warp}},
            device=accelerator.device,
            bf16=accelerator.mixed_precision == "bf16",
        )

    def _conditioned(self, source: Source) -> bool:
        """Whether the model takes the initial state (Z_s)."""
        return bool(source.embodiment.states) and self._denoiser.config.action.get("state_dim") != 0


def strip(frames: ImageArray) -> ImageArray:
    """Frames (N,H,W,3) side by side with a black line around each, (H+2,N*(W+2),3)."""
    return np.concatenate([np.pad(frame, ((1, 1), (1, 1), (0, 0))) for frame in frames], axis=1)


def write_jpeg(path: Path, picture: ImageArray) -> None:
    """Write ``picture`` (H,W,3) RGB whole or not at all."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    partial = path.with_suffix(".partial")
    partial.write_bytes(data.tobytes())
    partial.replace(path)

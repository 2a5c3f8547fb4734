"""The world model: context frames and actions in, predicted frames out, chunk by chunk.

A rollout longer than one chunk goes on from its own predictions; it never sees a recorded future. Knows no robot
middleware, no training and no file but the checkpoint it is loaded from.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egowm_core.checkpoint import Checkpoint, load_checkpoint
from egowm_core.data.normalize import NormStats, normalize
from egowm_core.data.preprocess import Preprocess
from egowm_core.diffusion.samplers import SAMPLERS
from egowm_core.diffusion.sigmas import karras_sigmas
from egowm_core.embodiment import Embodiment
from egowm_core.errors import CheckpointError, RolloutError
from egowm_core.models.conditioning import WARPS, encode_context
from egowm_core.models.registry import build_denoiser
from egowm_core.models.svd import SVDDenoiser
from egowm_core.models.vae import FrameAutoencoder, to_uint8, vae_config_from_dict
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSequence, Frames, ImageArray, Rollout


@dataclass(frozen=True)
class Prediction:
    """Predicted ``images`` (B,T,H,W,3) uint8 and seconds spent per stage."""

    images: ImageArray
    timings_s: dict[str, float]


class WorldModel:
    """An embodiment's predictor. Not thread-safe: one rollout at a time."""

    def __init__(
        self,
        *,
        vae: FrameAutoencoder,
        denoiser: SVDDenoiser,
        embodiment: Embodiment,
        norm_stats: NormStats,
        config: dict[str, Any],
        device: torch.device,
        bf16: bool = False,
    ) -> None:
        self.vae = vae.to(device).eval().requires_grad_(False)
        self.denoiser = denoiser.to(device).eval().requires_grad_(False)
        self.embodiment = embodiment
        self.norm_stats = norm_stats
        self.config = config
        self.device = device
        self.bf16 = bf16
        sampling = config["sampling"]
        self._sampler = SAMPLERS[sampling["sampler"]]
        self._sigma_range = (float(sampling["sigma_min"]), float(sampling["sigma_max"]))
        self.num_denoising_steps = int(sampling["num_denoising_steps"])
        self.warp = str(sampling.get("warp", "none"))
        self.preprocess = Preprocess.for_camera(embodiment.camera())

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def context_frames(self) -> int:
        """K, how many frames a rollout is given."""
        return self.denoiser.config.context_frames

    @property
    def horizon(self) -> int:
        """T, how many frames one chunk predicts."""
        return self.denoiser.config.horizon

    def rollout(
        self, context: Frames, actions: ActionSequence, *, seed: int = 0, num_denoising_steps: int | None = None
    ) -> Rollout:
        """Predict one frame per action, from the newest ``context_frames`` frames of ``context``.

        Frame i is stamped with the time it predicts: the last context stamp plus i + 1 periods of the embodiment.

        Raises:
            RolloutError: too few or wrongly sized context frames, or no actions.
            EmbodimentError: actions of the wrong width, not finite or outside their limits.
        """
        values = self.embodiment.validate_actions(actions.values)
        if len(context) < self.context_frames:
            raise RolloutError(f"{len(context)} context frames given, {self.name} needs {self.context_frames}")
        images = context.images[-self.context_frames :]
        prediction = self.predict(images[None], values[None], seed=seed, num_denoising_steps=num_denoising_steps)
        last_ns = int(context.stamps_ns[-1])
        period_ns = NANOSECONDS_PER_SECOND / self.embodiment.rate_hz
        stamps_ns = last_ns + np.round(period_ns * np.arange(1, len(values) + 1)).astype(np.int64)
        return Rollout(
            frames=Frames(prediction.images[0], stamps_ns),
            actions=ActionSequence(values, actions.source),
            context_stamp_ns=last_ns,
            num_denoising_steps=num_denoising_steps or self.num_denoising_steps,
            seed=seed,
            timings_s=prediction.timings_s,
        )

    @torch.inference_mode()
    def predict(
        self,
        context: NDArray[np.uint8],
        actions: NDArray[np.floating],
        *,
        seed: int = 0,
        num_denoising_steps: int | None = None,
        warp: str | None = None,
        embedded_actions: NDArray[np.floating] | None = None,
    ) -> Prediction:
        """Array-level rollout of a batch: ``context`` (B,K,H,W,3) uint8, ``actions`` (B,T,D) in units, any T >= 1.

        ``warp`` overrides what geometry compensates (see ``conditioning.WARPS``): with 'none', actions reach the model
        through the embedding alone. ``embedded_actions`` (B,T,D) go to the embedding in place of ``actions``.

        Raises:
            RolloutError: shapes that do not fit.
        """
        camera = self.embodiment.camera()
        expected = (self.context_frames, camera.height, camera.width, 3)
        if context.shape[1:] != expected:
            raise RolloutError(
                f"context is (B,{', '.join(map(str, expected))}), got {context.shape}; preprocess frames first"
            )
        if actions.ndim != 3 or len(actions) != len(context) or actions.shape[1] < 1:
            raise RolloutError(f"actions are (B,T,D) with B = {len(context)} and T >= 1, got {actions.shape}")
        warp = warp or self.warp
        if warp not in WARPS or (warp != "none" and not self.denoiser.config.context_warp):
            raise RolloutError(
                f"warp {warp!r}: {self.name} takes {WARPS if self.denoiser.config.context_warp else 'none'}"
            )
        started = time.perf_counter()
        timings = {"encode": 0.0, "denoise": 0.0, "decode": 0.0}
        generator = torch.Generator().manual_seed(seed)
        steps = num_denoising_steps or self.num_denoising_steps
        images = torch.from_numpy(np.array(context)).to(self.device)  # a copy: recordings are read-only
        moves = self._chunks(actions)
        embedded = moves if embedded_actions is None else self._chunks(embedded_actions)
        predicted: list[Tensor] = []
        latents: Tensor | None = None
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            for chunk, shown in zip(moves, embedded, strict=True):
                frames, latents = self._predict_chunk(images, latents, chunk, shown, steps, generator, warp, timings)
                predicted.append(frames)
                images = torch.cat([images, frames], dim=1)[:, -self.context_frames :]
        timings["total"] = time.perf_counter() - started
        return Prediction(torch.cat(predicted, dim=1)[:, : actions.shape[1]].cpu().numpy(), timings)

    def _chunks(self, actions: NDArray[np.floating]) -> list[Tensor]:
        """Normalised actions cut into whole chunks; the last is filled with standing still, and cut off afterwards."""
        normalised = torch.from_numpy(normalize(actions, self.embodiment)).to(self.device)
        missing = -normalised.shape[1] % self.horizon
        padded = torch.nn.functional.pad(normalised, (0, 0, 0, missing))
        return list(padded.split(self.horizon, dim=1))

    def _predict_chunk(
        self,
        images: Tensor,
        latents: Tensor | None,
        actions: Tensor,
        embedded: Tensor,
        steps: int,
        generator: torch.Generator,
        warp: str,
        timings: dict[str, float],
    ) -> tuple[Tensor, Tensor]:
        """One chunk: uint8 frames (B,T,H,W,3) and the latents (B,K,C,h,w) that the next chunk starts from."""
        begun = time.perf_counter()
        known = encode_context(
            self.vae,
            images,
            actions,
            embodiment=self.embodiment,
            warps=[warp] * len(images),
            latents=latents,
        )
        encoded = time.perf_counter()
        sigmas = karras_sigmas(steps, sigma_min=self._sigma_range[0], sigma_max=self._sigma_range[1])
        shape = (len(images), actions.shape[1], *known.latents.shape[2:])
        noise = torch.randn(shape, generator=generator).to(self.device) * sigmas[0]
        future = self._sampler(lambda noisy, sigma: self.denoiser.denoise(noisy, sigma, known, embedded), noise, sigmas)
        denoised = time.perf_counter()
        frames = to_uint8(self.vae.decode(future))
        timings["encode"] += encoded - begun
        timings["denoise"] += denoised - encoded
        timings["decode"] += time.perf_counter() - denoised
        return frames, torch.cat([known.latents, future], dim=1)[:, -self.context_frames :]


def load_world_model(path: str | Path, *, device: str = "cpu", bf16: bool | None = None) -> WorldModel:
    """A checkpoint (directory, ``embedded:NAME`` or hub id) to a :class:`WorldModel` on ``device``.

    ``bf16`` runs networks in bfloat16; None chooses it where the processor has matrix units for it.

    Raises:
        CheckpointError: see :func:`egowm_core.checkpoint.load_checkpoint`; or weights that do not fit.
    """
    return build_world_model(load_checkpoint(path), device=device, bf16=bf16)


def build_world_model(checkpoint: Checkpoint, *, device: str = "cpu", bf16: bool | None = None) -> WorldModel:
    """As :func:`load_world_model`, from a checkpoint that is already in memory."""
    try:
        vae = FrameAutoencoder(vae_config_from_dict(checkpoint.config["vae"]))
        denoiser = build_denoiser(checkpoint.config["denoiser"], checkpoint.embodiment)
        for name, module in (("vae", vae), ("denoiser", denoiser)):
            prefix = f"{name}."
            weights = {k.removeprefix(prefix): v.float() for k, v in checkpoint.weights.items() if k.startswith(prefix)}
            module.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"weights do not fit the configuration ({error}); get the checkpoint again") from error
    if bf16 is None:
        bf16 = has_bf16_matrix_units(device)
    return WorldModel(
        vae=vae,
        denoiser=denoiser,
        embodiment=checkpoint.embodiment,
        norm_stats=checkpoint.norm_stats,
        config=checkpoint.config,
        device=torch.device(device),
        bf16=bf16,
    )


def has_bf16_matrix_units(device: str) -> bool:
    """Whether bfloat16 is the fast choice: CUDA devices that support it, CPUs with AMX."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported()) if hasattr(torch.cpu, "_is_amx_tile_supported") else False

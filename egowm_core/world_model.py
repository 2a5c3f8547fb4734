"""The world model: context frames and actions in, predicted frames out, chunk by chunk or (causal models) as a stream.

A rollout longer than one chunk goes on from its own predictions; it never sees a recorded future. Knows no robot
middleware, no training and no file (``loading.py`` does). Longer than most files here: it is one class, and its three
ways of predicting (rollout, batch, stream) share their steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egowm_core.data.normalize import NormStats, denormalize, normalize
from egowm_core.data.preprocess import Preprocess
from egowm_core.data.state import integrate_state, normalize_state
from egowm_core.diffusion.denoiser import Context
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError, RolloutError
from egowm_core.latent_rollout import LatentStream, SamplingPlan, sample_chunk
from egowm_core.models.adapter import WorldDenoiser
from egowm_core.models.autoencoders import VideoAutoencoder
from egowm_core.models.conditioning import WARPS, encode_context
from egowm_core.models.vae import to_uint8
from egowm_core.streaming import FrameDecoder
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSequence, FloatArray, Frames, ImageArray, Rollout


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
        vae: VideoAutoencoder,
        denoiser: WorldDenoiser,
        embodiment: Embodiment,
        norm_stats: NormStats,
        config: dict[str, Any],
        device: torch.device,
        bf16: bool = False,
    ) -> None:
        for module in (vae, denoiser):
            if isinstance(module, torch.nn.Module):
                module.to(device).eval().requires_grad_(False)
        self.vae = vae
        self.denoiser = denoiser
        self.embodiment = embodiment
        self.norm_stats = norm_stats
        self.config = config
        self.device = device
        self.bf16 = bf16
        self.plan = SamplingPlan.from_config(config["sampling"])
        self.warp = str(config["sampling"].get("warp", "none"))
        self.preprocess = Preprocess.for_camera(embodiment.camera())
        if denoiser.config.temporal_factor != vae.temporal_factor:
            raise ConfigError(
                f"the denoiser counts {denoiser.config.temporal_factor} frames a latent, the autoencoder "
                f"{vae.temporal_factor}; set denoiser.temporal_factor to the autoencoder's"
            )

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def num_denoising_steps(self) -> int:
        """How many denoising steps a rollout takes unless told otherwise."""
        return self.plan.num_denoising_steps

    @property
    def context_frames(self) -> int:
        """K, how many camera frames a rollout is given."""
        return self.denoiser.config.camera_context_frames

    @property
    def horizon(self) -> int:
        """T, how many camera frames one chunk predicts."""
        return self.denoiser.config.camera_horizon

    @property
    def causal(self) -> bool:
        """Whether :meth:`stream` is possible."""
        return self.denoiser.config.causal

    def rollout(
        self,
        context: Frames,
        actions: ActionSequence,
        *,
        state: FloatArray | None = None,
        seed: int = 0,
        num_denoising_steps: int | None = None,
    ) -> Rollout:
        """Predict one frame per action, from the newest ``context_frames`` frames of ``context``.

        Frame i is stamped with the time it predicts: the last context stamp plus i + 1 periods of the embodiment.
        ``state`` (S,): the robot's state at the last context frame, in units, for models that are conditioned on it.

        Raises:
            RolloutError: too few or wrongly sized context frames, or no actions.
            EmbodimentError: actions of the wrong width, not finite or outside their limits.
        """
        values = self.embodiment.validate_actions(actions.values)
        if len(context) < self.context_frames:
            raise RolloutError(f"{len(context)} context frames given, {self.name} needs {self.context_frames}")
        images = context.images[-self.context_frames :]
        prediction = self.predict(
            images[None],
            values[None],
            state=None if state is None else state[None],
            seed=seed,
            num_denoising_steps=num_denoising_steps,
        )
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

    def stream(
        self,
        context: Frames,
        action_source: Iterable[FloatArray],
        *,
        state: FloatArray | None = None,
        seed: int = 0,
        num_denoising_steps: int | None = None,
        cache: bool = True,
    ) -> Iterator[Rollout]:
        """A causal model's future frame by frame, as long as ``action_source`` gives actions (D,): no horizon.

        Each action is taken when the frame it leads to is asked for, so a source may look at the frames before. Where
        the autoencoder puts n frames into a latent, n actions are taken and n frames come at a time (a last group that
        is not whole is not predicted). With ``cache`` a frame costs the same however long the stream; without, see
        :class:`LatentStream`.

        Raises:
            ConfigError: the model is not causal, or keeps no cache.
            RolloutError, EmbodimentError: as :meth:`rollout`.
        """
        if len(context) < self.context_frames:
            raise RolloutError(f"{len(context)} context frames given, {self.name} needs {self.context_frames}")
        plan = self._plan(num_denoising_steps)
        images = torch.from_numpy(np.array(context.images[-self.context_frames :]))[None].to(self.device)
        known = self._context(images, None, "none", state=None if state is None else state[None])
        with self._running():
            stream = self._latent_stream(known, plan, cache=cache)
            decoder = FrameDecoder(self.vae, known.latents)
        generator = torch.Generator().manual_seed(seed)
        start_ns, period_ns = int(context.stamps_ns[-1]), NANOSECONDS_PER_SECOND / self.embodiment.rate_hz
        done = 0
        for values in _groups(action_source, self.vae.temporal_factor):
            begun = self._now()
            moves = self.embodiment.validate_actions(values)
            with self._running():
                latents = stream.step(self._normalised(moves[None]), self._noise(known, 1, generator))
                denoised = self._now()
                images_next = to_uint8(decoder.next(latents))[0].cpu().numpy()
            ended = self._now()
            stamps_ns = start_ns + np.round(period_ns * np.arange(done + 1, done + len(moves) + 1)).astype(np.int64)
            done += len(moves)
            yield Rollout(
                frames=Frames(images_next, stamps_ns),
                actions=ActionSequence(moves),
                context_stamp_ns=start_ns,
                num_denoising_steps=plan.num_denoising_steps,
                seed=seed,
                timings_s={"denoise": denoised - begun, "decode": ended - denoised, "total": ended - begun},
            )

    @torch.inference_mode()
    def predict(
        self,
        context: NDArray[np.uint8],
        actions: NDArray[np.floating],
        *,
        state: NDArray[np.floating] | None = None,
        seed: int = 0,
        num_denoising_steps: int | None = None,
        plan: SamplingPlan | None = None,
        warp: str | None = None,
        embedded_actions: NDArray[np.floating] | None = None,
    ) -> Prediction:
        """Array-level rollout of a batch: ``context`` (B,>=K,H,W,3) uint8, ``actions`` (B,T,D) in units, any T >= 1.

        ``state`` (B,S) in units, see :meth:`rollout`. ``plan`` replaces the checkpoint's way of sampling altogether.
        ``warp`` overrides what geometry compensates (see ``conditioning.WARPS``): with 'none', actions reach the model
        through the embedding alone. ``embedded_actions`` (B,T,D) go to the embedding in place of ``actions``.

        Raises:
            RolloutError: shapes that do not fit.
        """
        camera = self.embodiment.camera()
        expected = (self.context_frames, camera.height, camera.width, 3)
        context = context[:, -self.context_frames :] if context.ndim == 5 else context
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
        started = self._now()
        timings = {"encode": 0.0, "denoise": 0.0, "decode": 0.0}
        generator = torch.Generator().manual_seed(seed)
        plan = plan or self._plan(num_denoising_steps)
        images = torch.from_numpy(np.array(context)).to(self.device)  # a copy: recordings are read-only
        moves = self._chunks(actions)
        embedded = moves if embedded_actions is None else self._chunks(embedded_actions)
        with self._running():
            rollout = self._predict_stream if self.causal else self._predict_chunks
            predicted = rollout(images, moves, embedded, plan, generator, warp, state, timings)
        timings["total"] = self._now() - started
        return Prediction(predicted[:, : actions.shape[1]].cpu().numpy(), timings)

    @contextmanager
    def _running(self) -> Iterator[None]:
        """No gradients, and the precision that was chosen; never held over a ``yield`` to the caller."""
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            yield

    def _now(self) -> float:
        """Seconds; what was asked of a GPU so far is done by then."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _normalised(self, actions: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(normalize(actions, self.embodiment)).to(self.device)

    def _plan(self, num_denoising_steps: int | None) -> SamplingPlan:
        return replace(self.plan, num_denoising_steps=num_denoising_steps) if num_denoising_steps else self.plan

    def _chunks(self, actions: NDArray[np.floating]) -> list[Tensor]:
        """Normalised actions cut into whole chunks; the last is filled with standing still, and cut off afterwards."""
        normalised = self._normalised(actions)
        missing = -normalised.shape[1] % self.horizon
        padded = torch.nn.functional.pad(normalised, (0, 0, 0, missing))
        return list(padded.split(self.horizon, dim=1))

    def _context(
        self,
        images: Tensor,
        actions: Tensor | None,
        warp: str,
        *,
        state: NDArray[np.floating] | None = None,
        latents: Tensor | None = None,
    ) -> Context:
        warps, given = [warp] * len(images), None
        if state is not None:
            given = torch.from_numpy(normalize_state(state, self.embodiment)).to(self.device)
        with self._running():
            known = encode_context(
                self.vae, images, actions, embodiment=self.embodiment, warps=warps, latents=latents, state=given
            )
        return known if given is None else replace(known, state=given)

    def _noise(self, known: Context, count: int, generator: torch.Generator) -> Tensor:
        """Unit noise (B,count,C,h,w)."""
        shape = (len(known.latents), count, *known.latents.shape[2:])
        return torch.randn(shape, generator=generator).to(self.device)

    def _predict_chunks(
        self,
        images: Tensor,
        moves: list[Tensor],
        embedded: list[Tensor],
        plan: SamplingPlan,
        generator: torch.Generator,
        warp: str,
        state: NDArray[np.floating] | None,
        timings: dict[str, float],
    ) -> Tensor:
        """uint8 frames (B,T,H,W,3), each chunk from the newest frames before it."""
        predicted: list[Tensor] = []
        latents: Tensor | None = None
        for chunk, shown in zip(moves, embedded, strict=True):
            begun = self._now()
            known = self._context(images, chunk, warp, state=state, latents=latents)
            encoded = self._now()
            noise = self._noise(known, self.denoiser.config.horizon, generator)
            future = sample_chunk(self.denoiser, known, shown, noise, plan)
            denoised = self._now()
            predicted.append(to_uint8(self.vae.decode(future, context=known.latents)))
            timings["encode"] += encoded - begun
            timings["denoise"] += denoised - encoded
            timings["decode"] += self._now() - denoised
            images = torch.cat([images, predicted[-1]], dim=1)[:, -self.context_frames :]
            if self.vae.temporal_factor == 1:  # otherwise a clip's first latent is unlike the later ones: encode anew
                latents = torch.cat([known.latents, future], dim=1)[:, -self.denoiser.config.context_frames :]
            if state is not None:  # where the actions lead, not what was recorded
                state = integrate_state(state, denormalize(chunk.cpu().numpy(), self.embodiment), self.embodiment)
        return torch.cat(predicted, dim=1)

    def _predict_stream(
        self,
        images: Tensor,
        moves: list[Tensor],
        embedded: list[Tensor],
        plan: SamplingPlan,
        generator: torch.Generator,
        warp: str,
        state: NDArray[np.floating] | None,
        timings: dict[str, float],
    ) -> Tensor:
        """uint8 frames (B,T,H,W,3) of a causal model, frame after frame."""
        begun = self._now()
        known = self._context(images, moves[0], warp, state=state)
        encoded = self._now()
        timings["encode"] += encoded - begun
        stream = self._latent_stream(known, plan, cache=True)
        decoder = FrameDecoder(self.vae, known.latents)
        predicted: list[Tensor] = []
        factor = self.vae.temporal_factor
        for shown in embedded:
            begun = self._now()
            steps = [stream.step(action, self._noise(known, 1, generator)) for action in shown.split(factor, dim=1)]
            denoised = self._now()
            predicted.append(to_uint8(decoder.next(torch.cat(steps, dim=1))))
            timings["denoise"] += denoised - begun
            timings["decode"] += self._now() - denoised
        return torch.cat(predicted, dim=1)

    def _latent_stream(self, known: Context, plan: SamplingPlan, *, cache: bool) -> LatentStream:
        """Cached where the backbone can; otherwise twice the attention window is evaluated for every frame."""
        if cache and self.denoiser.can_cache:
            return LatentStream(self.denoiser, known, plan)
        return LatentStream(self.denoiser, known, plan, cache=False, history=2 * self.denoiser.config.attention_window)


def _groups(actions: Iterable[FloatArray], size: int) -> Iterator[FloatArray]:
    """``size`` actions (D,) at a time, as (size,D), each taken when its group is asked for."""
    source = iter(actions)
    while len(group := list(islice(source, size))) == size:
        yield np.stack([np.asarray(action, np.float32) for action in group])

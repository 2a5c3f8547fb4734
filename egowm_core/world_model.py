"""The world model: context frames and actions in, predicted frames out, chunk by chunk or (causal models) as a stream.

A rollout longer than one chunk goes on from its own predictions; it never sees a recorded future. Knows no robot
middleware, no training and no file (``loading.py`` does). The steps that its ways of predicting share are in
``rolling.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from egowm_core.data.normalize import NormStats
from egowm_core.data.preprocess import Preprocess
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError, RolloutError
from egowm_core.lane import SameLane
from egowm_core.latent_rollout import SamplingPlan
from egowm_core.models.adapter import WorldDenoiser
from egowm_core.models.autoencoders import VideoAutoencoder
from egowm_core.models.conditioning import WARPS
from egowm_core.models.vae import to_uint8
from egowm_core.rolling import Course, PredictedChunk, RollingModel
from egowm_core.stopping import Stop, never
from egowm_core.streaming import FrameDecoder
from egowm_core.types import NANOSECONDS_PER_SECOND, ActionSequence, FloatArray, Frames, ImageArray, Rollout


@dataclass(frozen=True)
class Prediction:
    """Predicted ``images`` (B,T,H,W,3) uint8 and seconds spent per stage."""

    images: ImageArray
    timings_s: dict[str, float]


class WorldModel(RollingModel):
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
        started = self._now()
        chunks = list(
            self.predict_chunks(
                context,
                actions,
                state=state,
                seed=seed,
                plan=plan or self._plan(num_denoising_steps),
                warp=warp,
                embedded_actions=embedded_actions,
                ahead=True,
            )
        )
        timings = {stage: sum(chunk.timings_s[stage] for chunk in chunks) for stage in chunks[0].timings_s}
        images = chunks[0].images if len(chunks) == 1 else np.concatenate([chunk.images for chunk in chunks], axis=1)
        timings["total"] = self._now() - started
        return Prediction(images, timings)

    def predict_chunks(
        self,
        context: NDArray[np.uint8],
        actions: NDArray[np.floating],
        *,
        state: NDArray[np.floating] | None = None,
        seed: int = 0,
        plan: SamplingPlan | None = None,
        warp: str | None = None,
        embedded_actions: NDArray[np.floating] | None = None,
        alternatives: bool = False,
        by_frame: bool = False,
        ahead: bool = False,
        stop: Stop = never,
    ) -> Iterator[PredictedChunk]:
        """As :meth:`predict`, but each chunk is handed over as soon as it is decoded; nothing is done ahead of that.

        Unless ``ahead``, in a model that is told to :attr:`overlap`: then the next chunk is under way by then.

        ``alternatives``: the rows of ``actions`` (N,T,D) are alternatives of one situation: ``context`` is
        (1,>=K,H,W,3), ``state`` (1,S), and all have the noise that a batch of one would have. ``by_frame``: a causal
        model's frames one by one (as many as a latent stands for). ``stop`` is asked before every denoising step.

        Raises:
            RolloutError: shapes that do not fit, at once.
            Stopped: from the iterator, once ``stop()`` is true; the model can be used again at once.
        """
        camera = self.embodiment.camera()
        expected = (self.context_frames, camera.height, camera.width, 3)
        context = context[:, -self.context_frames :] if context.ndim == 5 else context
        if context.shape[1:] != expected:
            raise RolloutError(
                f"context is (B,{', '.join(map(str, expected))}), got {context.shape}; preprocess frames first"
            )
        batch = len(actions) if alternatives else len(context)
        if actions.ndim != 3 or len(actions) != batch or actions.shape[1] < 1:
            raise RolloutError(f"actions are (B,T,D) with B = {batch} and T >= 1, got {actions.shape}")
        if alternatives and (len(context) != 1 or not batch):
            raise RolloutError(
                f"alternatives share one context and there is at least one, got {len(context)} contexts and {batch}"
                " alternatives; predict different situations without `alternatives`"
            )
        warp = warp or self.warp
        if warp not in WARPS or (warp != "none" and not self.denoiser.config.context_warp):
            raise RolloutError(
                f"warp {warp!r}: {self.name} takes {WARPS if self.denoiser.config.context_warp else 'none'}"
            )
        size = self.vae.temporal_factor if by_frame and self.causal else self.horizon
        moves = self._parts(actions, size)
        course = Course(
            images=torch.from_numpy(np.array(context)).to(self.device),  # a copy: recordings are read-only
            moves=moves,
            embedded=moves if embedded_actions is None else self._parts(embedded_actions, size),
            plan=plan or self.plan,
            noise=torch.Generator().manual_seed(seed),
            warp=warp,
            state=state,
            alternatives=alternatives,
            stop=stop,
            lane=self._lane if ahead else SameLane(),
        )
        return _cut(self._roll(course), actions.shape[1])

    def _plan(self, num_denoising_steps: int | None) -> SamplingPlan:
        return replace(self.plan, num_denoising_steps=num_denoising_steps) if num_denoising_steps else self.plan


def _cut(chunks: Iterator[PredictedChunk], length: int) -> Iterator[PredictedChunk]:
    """Without the frames of what the last chunk was filled up with."""
    for chunk in chunks:
        yield replace(chunk, images=chunk.images[:, : length - chunk.first_frame])


def _groups(actions: Iterable[FloatArray], size: int) -> Iterator[FloatArray]:
    """``size`` actions (D,) at a time, as (size,D), each taken when its group is asked for."""
    source = iter(actions)
    while len(group := list(islice(source, size))) == size:
        yield np.stack([np.asarray(action, np.float32) for action in group])

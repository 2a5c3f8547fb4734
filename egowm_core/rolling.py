"""How pictures and actions become predicted pictures, chunk by chunk or frame by frame: the steps of a world model.

Every way of predicting (rollout, batch, alternatives, stream) is made of these, so that they can't differ. Nothing here
holds gradients, precision or inference mode over a ``yield``. Knows tensors of whole batches; no stamps, no checks of
what it is given.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egowm_core.data.normalize import denormalize, normalize
from egowm_core.data.state import integrate_state, normalize_state
from egowm_core.diffusion.denoiser import Context
from egowm_core.embodiment import Embodiment
from egowm_core.errors import ConfigError
from egowm_core.lane import Lane, SameLane, Work, lane_beside, one_behind
from egowm_core.latent_rollout import LatentStream, SamplingPlan, sample_chunk
from egowm_core.models.adapter import WorldDenoiser
from egowm_core.models.autoencoders import VideoAutoencoder
from egowm_core.models.conditioning import encode_context
from egowm_core.models.vae import to_uint8, to_unit_range
from egowm_core.stopping import Stop, never, refuse_stopped
from egowm_core.streaming import FrameDecoder
from egowm_core.types import ImageArray


@dataclass(frozen=True)
class PredictedChunk:
    """``images`` (B,n,H,W,3) uint8, the frames from index ``first_frame`` (from 0) on, and seconds spent per stage."""

    images: ImageArray
    first_frame: int
    timings_s: dict[str, float]


@dataclass(frozen=True)
class Course:
    """What a batch is rolled out with. ``images`` (B,K,H,W,3) uint8, or (1,K,H,W,3) for alternatives of one situation.

    ``moves`` and ``embedded`` are normalised actions (B,n,D), part by part: geometry goes by the former, the network is
    told the latter. ``state`` (B,S) or (1,S) in units. Alternatives share their context and their ``noise``.
    """

    images: Tensor
    moves: list[Tensor]
    embedded: list[Tensor]
    plan: SamplingPlan
    noise: torch.Generator
    warp: str
    state: NDArray[np.floating] | None = None
    alternatives: bool = False
    stop: Stop = never
    lane: Lane = field(default_factory=SameLane)

    @property
    def batch(self) -> int:
        """B."""
        return len(self.moves[0])


class PendingChunk:
    """A chunk whose pictures are being decoded in a lane."""

    def __init__(self, lane: Lane, decode: Work, *, first_frame: int, timings_s: dict[str, float]) -> None:
        begun = time.perf_counter()
        self._result = lane.submit(decode)
        self._first_frame, self._timings_s = first_frame, timings_s
        self._submitted_s = time.perf_counter() - begun
        self._done: PredictedChunk | None = None

    def done(self) -> PredictedChunk:
        """Wait for it. Seconds of decoding are those that nothing else was done in."""
        if self._done is None:
            begun = time.perf_counter()
            images = self._result().numpy()
            decode_s = self._submitted_s + time.perf_counter() - begun
            self._done = PredictedChunk(images, self._first_frame, {**self._timings_s, "decode": decode_s})
        return self._done

    def wait(self) -> None:
        """Until it is done or has failed."""
        with suppress(Exception):  # whoever asks for the chunk is told; here another failure is under way already
            self._result()


class RollingModel:
    """The parts of a world model, and the steps that they take together."""

    vae: VideoAutoencoder
    denoiser: WorldDenoiser
    embodiment: Embodiment
    device: torch.device
    bf16: bool
    graphs = False
    """Whether its networks run as CUDA graphs (``compiling.py`` says so)."""
    _lane: Lane = SameLane()

    @property
    def overlap(self) -> bool:
        """Whether :meth:`WorldModel.predict` decodes a part of a rollout while the next is denoised; at first not.

        On a CPU in a thread: worth it with cores to spare beside PyTorch's own threads. On a GPU in a stream. Pictures
        are the same. Nothing overlaps where the next part starts from the pictures of the last: where geometry
        compensates, and between the chunks of a temporal autoencoder.
        """
        return self._lane.parallel

    @overlap.setter
    def overlap(self, wanted: bool) -> None:
        """Raises ConfigError where the networks run as CUDA graphs, whose memory is shared in turn."""
        if wanted and self.graphs:
            raise ConfigError(
                "CUDA graphs share their memory one after another, so nothing can overlap; compile with mode 'default' "
                "or 'none' instead"
            )
        if wanted != self.overlap:
            self._lane = lane_beside(self.device) if wanted else SameLane()

    @property
    def context_frames(self) -> int:
        """K, how many camera frames a rollout is given."""
        return self.denoiser.config.camera_context_frames

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

    def _parts(self, actions: NDArray[np.floating], size: int) -> list[Tensor]:
        """Normalised actions in parts of ``size`` ticks; the last is filled with standing still, cut off later."""
        normalised = self._normalised(actions)
        missing = -normalised.shape[1] % size
        padded = torch.nn.functional.pad(normalised, (0, 0, 0, missing))
        return list(padded.split(size, dim=1))

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

    def _noise(self, known: Context, count: int, generator: torch.Generator, *, shared: bool = False) -> Tensor:
        """Unit noise (B,count,C,h,w); ``shared``: the same for all of the batch, as a batch of one would have it."""
        batch, _, *rest = known.latents.shape
        noise = torch.randn((1 if shared else batch, count, *rest), generator=generator)
        return noise.expand(batch, *noise.shape[1:]).contiguous().to(self.device)

    def _start(self, course: Course) -> tuple[Tensor, Tensor | None, NDArray[np.floating] | None]:
        """Context images, their latents where they are known already, and states, all for the whole batch."""
        if not course.alternatives:
            return course.images, None, course.state
        latents = self.vae.encode(to_unit_range(course.images))  # once, however many alternatives there are
        return (
            course.images.expand(course.batch, *course.images.shape[1:]),
            latents.expand(course.batch, *latents.shape[1:]).contiguous(),
            None if course.state is None else np.repeat(course.state, course.batch, axis=0),
        )

    def _roll(self, course: Course) -> Iterator[PredictedChunk]:
        """Part by part, each as soon as it is there. Raises Stopped before a denoising step, see ``Course.stop``."""
        begun = self._roll_frames(course) if self.denoiser.config.causal else self._roll_chunks(course)
        for chunk in one_behind(begun) if course.lane.parallel else begun:
            yield chunk.done()

    def _needs_pictures(self, course: Course) -> bool:
        """Whether a chunk is predicted from the pictures of the one before, not from its latents alone."""
        return course.warp != "none" or self.vae.temporal_factor != 1

    def _roll_chunks(self, course: Course) -> Iterator[PendingChunk]:
        """Each chunk from the newest frames before it."""
        chained = self._needs_pictures(course)
        lane = SameLane() if chained else course.lane
        now = time.perf_counter if lane.parallel else self._now
        images, latents, state, begun, first = course.images, None, course.state, now(), 0
        for number, (moves, shown) in enumerate(zip(course.moves, course.embedded, strict=True)):
            refuse_stopped(course.stop)
            with self._running():
                if number == 0:
                    images, latents, state = self._start(course)
                known = self._context(images, moves, course.warp, state=state, latents=latents)
                encoded = now()
                noise = self._noise(known, self.denoiser.config.horizon, course.noise, shared=course.alternatives)
                future = sample_chunk(self.denoiser, known, shown, noise, course.plan, stop=course.stop)
                timings = {"encode": encoded - begun, "denoise": now() - encoded}
                decoded = partial(self._decoded, partial(self.vae.decode, future, context=known.latents))
                pending = PendingChunk(lane, decoded, first_frame=first, timings_s=timings)
                if chained:
                    newest = torch.from_numpy(pending.done().images[:, -self.context_frames :]).to(self.device)
                    images = torch.cat([images, newest], dim=1)[:, -self.context_frames :]
                if self.vae.temporal_factor == 1:  # otherwise a clip's first latent is unlike the later: encode anew
                    latents = torch.cat([known.latents, future], dim=1)[:, -self.denoiser.config.context_frames :]
                else:
                    latents = None
                if state is not None:  # where the actions lead, not what was recorded
                    state = integrate_state(state, denormalize(moves.cpu().numpy(), self.embodiment), self.embodiment)
            yield pending
            first, begun = first + future.shape[1] * self.vae.temporal_factor, now()

    def _roll_frames(self, course: Course) -> Iterator[PendingChunk]:
        """A causal model's frames, one after another, handed over part by part."""
        lane, factor = course.lane, self.vae.temporal_factor
        now = time.perf_counter if lane.parallel else self._now
        first, begun = 0, now()
        refuse_stopped(course.stop)
        with self._running():
            images, latents, state = self._start(course)
            known = self._context(images, course.moves[0], course.warp, state=state, latents=latents)
            encode_s = now() - begun
            stream = self._latent_stream(known, course.plan, cache=True, stop=course.stop)
        decoder = FrameDecoder(self.vae, known.latents)
        for shown in course.embedded:
            with self._running():
                begun = now()
                steps = [
                    stream.step(action, self._noise(known, 1, course.noise, shared=course.alternatives))
                    for action in shown.split(factor, dim=1)
                ]
                timings = {"encode": encode_s, "denoise": now() - begun}
                decoded = partial(self._decoded, partial(decoder.next, torch.cat(steps, dim=1)))
                pending = PendingChunk(lane, decoded, first_frame=first, timings_s=timings)
            yield pending
            first, encode_s = first + shown.shape[1], 0.0

    def _decoded(self, decode: Work) -> Tensor:
        """Pictures (B,n,H,W,3) uint8, whatever thread this is."""
        with self._running():
            return to_uint8(decode())

    def _latent_stream(self, known: Context, plan: SamplingPlan, *, cache: bool, stop: Stop = never) -> LatentStream:
        """Cached where the backbone can; otherwise twice the attention window is evaluated for every frame."""
        if cache and self.denoiser.can_cache:
            return LatentStream(self.denoiser, known, plan, stop=stop)
        history = 2 * self.denoiser.config.attention_window
        return LatentStream(self.denoiser, known, plan, cache=False, history=history, stop=stop)

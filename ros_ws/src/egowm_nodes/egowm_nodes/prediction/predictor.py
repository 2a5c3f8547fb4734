"""A loaded world model as the node uses it: fitted to the robot and the tick rate, warmed up, one request at a time.

Knows no ROS. Not thread-safe, as the model isn't.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from egowm_core.embodiment import load_embodiment
from egowm_core.errors import CheckpointError, ConfigError, EmbodimentError, NotFiniteError
from egowm_core.types import ActionSequence, FloatArray, Frames, Rollout, StampArray
from egowm_nodes.prediction.quick_start import lean_import

if TYPE_CHECKING:
    from egowm_core.world_model import WorldModel


@dataclass(frozen=True)
class Request:
    """One prediction to make. ``observed_stamps_ns`` (T,) are known in hindsight only; steady times in s.

    ``state`` (S,) was measured at the last context frame; for embodiments with states. ``frame_id`` is the camera's.
    """

    context: Frames
    actions: ActionSequence
    observed_stamps_ns: StampArray | None = None
    arrived_s: float | None = None  # when the newest context picture came
    offered_s: float = 0.0
    state: FloatArray | None = None
    frame_id: str = ""


def fit_to_rate(model: WorldModel, tick_rate_hz: float) -> bool:
    """Let ``model`` tick at another rate than it was trained for; whether that is so.

    Its limits and scales stay per tick, since that is what it has learned: slower ticks see faster motion.
    """
    if tick_rate_hz in (0.0, model.embodiment.rate_hz):
        return False
    model.embodiment = replace(model.embodiment, rate_hz=tick_rate_hz)
    return True


def refuse_not_finite(model: WorldModel) -> None:
    """Let ``model`` raise NotFiniteError where latents or decoded frames are not finite; as uint8 it would not show."""
    for name in ("decode", "decode_next"):
        if (stock := getattr(model.vae, name, None)) is not None:
            setattr(model.vae, name, _finite(stock))


def _finite(decode: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def checked(latents: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        frames = decode(latents, *args, **options)
        for what, values in (("latents", latents), ("frames", frames)):
            if not bool(torch.isfinite(values).all()):
                raise NotFiniteError(
                    f"the predicted {what} are not finite: expected numbers; check the checkpoint, the precision it"
                    " runs at and the state that it was given"
                )
        return frames

    return checked


class Predictor:
    """Loads a checkpoint and predicts ``horizon`` frames a request (0: one chunk).

    Args:
        checkpoint: directory, ``embedded:NAME`` or hub id.
        embodiment: the robot at hand (built-in name or YAML path) that the checkpoint must fit; empty: any.
        engine: what evaluates the networks, see :func:`egowm_core.loading.load_world_model`.
        tick_rate_hz: 0 for the rate the checkpoint was trained for.
        num_threads: of torch and OpenCV in this process; 0 leaves them alone.
        compile_mode: see :func:`egowm_core.compiling.compile_world_model`; no CUDA graphs, which belong to the thread
            that recorded them (in some versions of PyTorch another one fails), and a node warms up in another than it
            predicts in.
        overlap: see :attr:`egowm_core.world_model.WorldModel.overlap`.

    Raises:
        CheckpointError: not to be had, altered, or it doesn't run on ``device``.
        EmbodimentError: made for another robot.
        ConfigError: no such embodiment or engine, or nothing to compile with.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        embodiment: str = "",
        device: str = "cpu",
        engine: str = "torch",
        horizon: int = 0,
        tick_rate_hz: float = 0.0,
        num_threads: int = 0,
        compile_mode: str = "none",
        overlap: bool = False,
    ) -> None:
        if num_threads:
            torch.set_num_threads(num_threads)
            cv2.setNumThreads(num_threads)
        if not checkpoint:
            raise ConfigError("parameter checkpoint is empty; give a directory, embedded:NAME or a hub id")
        robot = load_embodiment(embodiment) if embodiment else None
        loading = lean_import("egowm_core.loading")  # at the first configuration; diffusers is most of a restart
        try:
            self.model: WorldModel = loading.load_world_model(checkpoint, device=device, engine=engine)
        except (RuntimeError, AssertionError) as error:  # from torch: no such device, or not enough memory
            raise CheckpointError(f"{checkpoint} does not load on device {device!r}: {error}") from error
        if robot is not None and (differences := robot.differences(self.model.embodiment)):
            raise EmbodimentError(
                f"{checkpoint} is not for the robot that parameter embodiment names ({embodiment}):"
                f" {'; '.join(differences)}; give the checkpoint or the embodiment that fits"
            )
        refuse_not_finite(self.model)
        compiling = lean_import("egowm_core.compiling")
        compiling.cast_weights(self.model)  # what only predicts need not do it every time
        if compile_mode != "none":
            compiling.compile_world_model(self.model, compile_mode)
        self.model.overlap = overlap
        self.native_rate_hz = self.model.embodiment.rate_hz
        self.foreign_rate = fit_to_rate(self.model, tick_rate_hz)
        self.horizon = horizon or self.model.horizon

    def warm_up(self) -> float:
        """Predict once from a grey picture standing still; returns the seconds that a second prediction takes."""
        camera = self.model.embodiment.camera()
        count = self.model.context_frames
        grey = np.full((count, camera.height, camera.width, 3), 127, np.uint8)
        still = np.clip(0.0, *self.model.embodiment.limits.T).astype(np.float32)
        request = Request(
            Frames(grey, np.arange(count, dtype=np.int64)),
            ActionSequence(np.repeat(still[None], self.horizon, axis=0)),
            state=np.zeros(len(self.model.embodiment.states), np.float32),
        )
        self.predict(request)
        return self.predict(request).timings_s["total"]

    def predict(self, request: Request, *, seed: int = 0, num_denoising_steps: int = 0) -> Rollout:
        """The rollout of a request; in hindsight its frames bear the stamps of the frames then observed.

        Raises:
            RolloutError, EmbodimentError: as ``WorldModel.rollout``.
            NotFiniteError: the model computed what is no number.
        """
        rollout = self.model.rollout(
            request.context,
            request.actions,
            state=request.state if self.model.embodiment.states else None,
            seed=seed,
            num_denoising_steps=num_denoising_steps or None,
        )
        if request.observed_stamps_ns is None:
            return rollout
        return replace(rollout, frames=Frames(rollout.frames.images, request.observed_stamps_ns))

"""A goal of ``imagine`` from its message: looked at, sizes first, before anything of it is copied or computed.

Knows embodiments and messages' fields (duck-typed); no node, no model and no context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from egowm_core.data.images import decode_image
from egowm_core.data.preprocess import Preprocess
from egowm_core.embodiment import Embodiment
from egowm_core.errors import DataError, EmbodimentError
from egowm_core.types import FloatArray, ImageArray
from egowm_nodes import conversions
from egowm_nodes.guards.actions import ActionGuard

MOST_BYTES = 128 << 20  # of a result's frames
MOST_STEPS = 256
MOST_SIDE = 4096  # px of a goal image
_MOST_ROWS = 4096  # of a candidate; those beyond the horizon are ignored
_MOST_CHANNELS = 256
_ASPECT_TOLERANCE = 0.01
_RATE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Limits:
    """The most ``candidates`` and frames (``horizon``) of a goal; ``model_horizon`` where the goal doesn't say."""

    candidates: int
    horizon: int
    model_horizon: int


@dataclass(frozen=True)
class ImagineGoal:
    """``candidates`` (N,T,D) in units, fit for the model; ``picture`` (H,W,3) uint8 as the model sees, or None.

    ``num_denoising_steps`` 0: as the node does.
    """

    candidates: FloatArray
    picture: ImageArray | None
    num_denoising_steps: int
    seed: int


def read_goal(
    request: Any,
    embodiment: Embodiment,
    limits: Limits,
    *,
    guard: ActionGuard,
    picture_size: tuple[int, int] | None = None,
) -> ImagineGoal:
    """An egowm_msgs/Imagine goal, checked.

    Stamps of the candidates don't matter: they start at the newest observed frame. Rows beyond the horizon are ignored.
    ``picture_size`` is that of the live camera's pictures: a goal image may have their aspect or the model camera's.

    Raises:
        DataError: too many candidates, rows or bytes; none; a horizon without rows; a goal image that is none.
        EmbodimentError: a candidate of another robot or rate, not finite or beyond its limits.
    """
    count, steps = len(request.candidates), int(request.num_denoising_steps)
    if not 1 <= count <= limits.candidates:
        raise DataError(
            f"the goal has {count} candidates; expected 1..{limits.candidates}: split them over several goals, or raise"
            " imagine_candidates"
        )
    horizon = int(request.horizon) or limits.model_horizon
    if horizon > limits.horizon:
        raise DataError(
            f"the goal has a horizon of {horizon} frames; expected at most {limits.horizon}: ask for less, or raise"
            " imagine_horizon"
        )
    if steps > MOST_STEPS:
        raise DataError(f"the goal has num_denoising_steps {steps}; expected 0 (the node's) to {MOST_STEPS}")
    camera = embodiment.camera()
    size = count * horizon * camera.height * camera.width * 3
    if size > MOST_BYTES:
        raise DataError(
            f"{count} candidates of {horizon} frames make {size >> 20} MB of pictures; expected at most"
            f" {MOST_BYTES >> 20}: give fewer candidates, or a shorter horizon"
        )
    rows = [_rows(index, message, embodiment, horizon, guard) for index, message in enumerate(request.candidates)]
    return ImagineGoal(
        candidates=np.stack(rows),
        picture=_picture(request.goal_image, embodiment, picture_size),
        num_denoising_steps=steps,
        seed=int(request.seed),
    )


def _rows(index: int, message: Any, embodiment: Embodiment, horizon: int, guard: ActionGuard) -> FloatArray:
    """(horizon,D) of one candidate."""
    which = f"candidate {index}"
    width = len(message.channels)
    if width > _MOST_CHANNELS or len(message.data) > _MOST_ROWS * max(width, 1):
        raise DataError(
            f"{which} has {len(message.data)} values for {width} channels; expected at most {_MOST_CHANNELS} channels"
            f" and {_MOST_ROWS} rows"
        )
    channels = tuple(str(name) for name in message.channels)
    if channels != embodiment.channel_names:
        shown = str(list(channels[: embodiment.action_dim + 1]))[:400]
        raise EmbodimentError(
            f"{which} has channels {shown}; expected {list(embodiment.channel_names)} in this order, of"
            f" {embodiment.name}"
        )
    rate_hz = float(message.rate_hz)
    if not math.isclose(rate_hz, embodiment.rate_hz, rel_tol=_RATE_TOLERANCE):
        raise EmbodimentError(
            f"{which} has {rate_hz:g} rows a second; expected the model's {embodiment.rate_hz:g}: resample it and fill"
            " in rate_hz"
        )
    try:
        values = conversions.action_values(message)
        if len(values) < horizon:
            raise DataError(
                f"it has {len(values)} rows; expected one for each of {horizon} frames: give as many, or a shorter"
                " horizon"
            )
        return guard.check(values[:horizon])
    except DataError as error:
        raise DataError(f"{which}: {error}") from error
    except EmbodimentError as error:
        raise EmbodimentError(f"{which}: {error}") from error


def _picture(message: Any, embodiment: Embodiment, picture_size: tuple[int, int] | None) -> ImageArray | None:
    """What the goal should look like, as the model sees; None where the goal gives no picture."""
    if not message.width:
        return None
    height, width = int(message.height), int(message.width)
    if not (0 < height <= MOST_SIDE and width <= MOST_SIDE):
        raise DataError(f"the goal image has {height}x{width} pixels; expected sides of 1 to {MOST_SIDE}: scale it")
    camera = embodiment.camera()
    fits = [(camera.height, camera.width)] + ([picture_size] if picture_size else [])
    if all(abs(width * high / (height * wide) - 1) > _ASPECT_TOLERANCE for high, wide in fits):
        wanted = " or ".join(f"{wide}:{high}" for high, wide in dict.fromkeys(fits))
        raise DataError(
            f"the goal image has {height}x{width} pixels; expected the camera's aspect, width to height {wanted}: give"
            " a picture of this camera, uncropped"
        )
    try:
        return Preprocess.for_camera(camera)(decode_image(message))
    except DataError as error:
        raise DataError(f"goal image: {error}") from error

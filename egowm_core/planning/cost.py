"""How far pictures are from a goal picture: the cost that planning lowers and that ``imagine`` ranks by.

``structure`` is our own and needs no download: each cell of one picture looks for the cell of the other that is most
like it, both ways, and the mean of what still differs is the cost (bidirectional similarity: Simakov et al., CVPR
2008). Cells are oriented gradients normalised by their neighbourhood (Dalal and Triggs, CVPR 2005) and colours, and
they know only roughly where in the picture they are: what is seen in both pictures but elsewhere counts little, what is
seen in one alone counts most. So the cost still falls towards the goal where the pictures overlap in part, where
differences of pixels point nowhere, and blur and small shifts hardly matter. ``mse`` is that plain baseline; ``lpips``
and ``dreamsim`` take the packages of their authors where they and their weights are (see ``egowm_core.metrics``), as
Bar et al. (NWM, arXiv 2412.03572) plan by.

Knows no model, no actions and no robot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.errors import ConfigError, ScoreError
from egowm_core.schema import nearest
from egowm_core.types import FloatArray, ImageArray

if TYPE_CHECKING:
    from egowm_core.metrics import FrameMetric

COST_KINDS = ("structure", "mse", "lpips", "dreamsim")
_PIXELS = 32 * 24  # of the picture that cells are taken of, in the goal's aspect
_CELL = 2  # px between two cells, which overlap
_ORIENTATIONS = 8  # over half a turn
_FLAT = 0.02  # gradient (of a full scale of 1) below which a place has no structure
_COLOR_WEIGHT, _PLACE_WEIGHT = 3.0, 0.7  # beside gradients of length 1: colours in 0..1, places in widths
_CONTRAST_SIGMA = 1.5  # cells, the neighbourhood whose contrast gradients are divided by
_ASPECT_TOLERANCE = 0.02
_LEAST, _MOST = 16, 4096  # px of a side

Array = NDArray[np.float32]


class GoalCost(Protocol):
    """A distance of pictures from one goal picture. Lower is nearer; 0 is the goal itself."""

    kind: str

    def __call__(self, images: ImageArray) -> FloatArray:
        """(N,) float32 cost of videos (N,T,H,W,3) uint8: that of each one's last frame, where its actions end.

        Raises:
            ScoreError: no such videos, or of another aspect than the goal.
        """

    def over_time(self, images: ImageArray) -> FloatArray:
        """(N,T) float32, the cost of every frame. Raises ScoreError as a call does."""


def goal_cost(
    goal: ImageArray, kind: str = "structure", *, weights_dir: Path | None = None, device: str = "cpu"
) -> GoalCost:
    """The cost of kind ``kind`` (one of ``COST_KINDS``) to ``goal`` (H,W,3) uint8 RGB.

    Pictures of another size than the goal's are brought to its size first. ``weights_dir`` and ``device`` are for the
    kinds that have a network.

    Raises:
        ConfigError: an unknown kind.
        ScoreError: the goal is no picture, or a network or its weights are not here.
    """
    if kind not in COST_KINDS:
        raise ConfigError(f"cost {kind!r}{nearest(kind, COST_KINDS)}; there are: {', '.join(COST_KINDS)}")
    if goal.ndim != 3 or goal.shape[-1] != 3 or goal.dtype != np.uint8:
        raise ScoreError(f"a goal is (H,W,3) uint8 RGB, got {goal.shape} {goal.dtype}; decode it first")
    if not _LEAST <= min(goal.shape[:2]) <= max(goal.shape[:2]) <= _MOST:
        raise ScoreError(f"the goal has {goal.shape[0]}x{goal.shape[1]} pixels; expected sides of {_LEAST} to {_MOST}")
    if kind == "structure":
        return _StructureCost(goal)
    if kind == "mse":
        return _FrameCost(goal, kind, _mean_squared)
    from egowm_core.metrics import load_metric  # networks: not for who only wants the others

    return _FrameCost(goal, kind, cast("FrameMetric", load_metric(kind, weights_dir=weights_dir, device=device)))


class _FrameCost:
    """A metric of pairs of frames, against the one goal."""

    def __init__(
        self, goal: ImageArray, kind: str, metric: FrameMetric | Callable[[ImageArray, ImageArray], FloatArray]
    ):
        self.kind, self._goal, self._metric = kind, np.array(goal), metric

    def __call__(self, images: ImageArray) -> FloatArray:
        return self.over_time(_checked(images, self._goal)[:, -1:])[:, 0]

    def over_time(self, images: ImageArray) -> FloatArray:
        images = _checked(images, self._goal)
        frames = np.stack([_resized(frame, self._goal.shape[1], self._goal.shape[0]) for frame in _flat(images)])
        costs = self._metric(frames, np.broadcast_to(self._goal, frames.shape))
        return np.asarray(costs, np.float32).reshape(images.shape[:2])


class _StructureCost:
    """Bidirectional nearest cells; 0 for the goal itself."""

    kind = "structure"

    def __init__(self, goal: ImageArray) -> None:
        self._goal = np.array(goal)
        scale = math.sqrt(_PIXELS / (goal.shape[0] * goal.shape[1]))
        self._size = (max(4 * _CELL, round(goal.shape[1] * scale)), max(4 * _CELL, round(goal.shape[0] * scale)))
        self._cells = _cells(_resized(goal, *self._size))

    def __call__(self, images: ImageArray) -> FloatArray:
        return self.over_time(_checked(images, self._goal)[:, -1:])[:, 0]

    def over_time(self, images: ImageArray) -> FloatArray:
        images = _checked(images, self._goal)
        costs = [self._cost(_cells(_resized(frame, *self._size))) for frame in _flat(images)]
        return np.array(costs, np.float32).reshape(images.shape[:2])

    def _cost(self, cells: Array) -> float:
        apart = _squares(cells)[:, None] + _squares(self._cells)[None] - 2 * cells @ self._cells.T
        apart = np.maximum(apart, 0)  # rounding
        return float((apart.min(axis=0).mean() + apart.min(axis=1).mean()) / 2)


def _cells(picture: ImageArray) -> Array:
    """(n,O+5) of a small picture (h,w,3): gradients by orientation, at most of length 1, colours, place."""
    values = picture.astype(np.float32) / 255
    soft = cv2.GaussianBlur(values, (0, 0), 0.7)
    dx = cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    dy = cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    strongest = np.argmax(dx * dx + dy * dy, axis=2)[..., None]  # of the three colours, as in the paper
    dx, dy = (np.take_along_axis(each, strongest, axis=2)[..., 0] for each in (dx, dy))
    turn = np.mod(np.arctan2(dy, dx) / np.pi, 1.0) * _ORIENTATIONS  # a line's two sides are alike
    between = np.abs(
        np.mod(turn[..., None] - np.arange(_ORIENTATIONS) + _ORIENTATIONS / 2, _ORIENTATIONS) - _ORIENTATIONS / 2
    )
    votes = np.hypot(dx, dy)[..., None] * np.maximum(1 - between, 0)  # shared by the two orientations beside it
    gradients, colors = _pooled(votes), _pooled(values)
    energy = (gradients * gradients).sum(axis=2)
    contrast = np.sqrt(np.maximum(energy, cv2.GaussianBlur(energy, (0, 0), _CONTRAST_SIGMA)))
    gradients = gradients / np.maximum(contrast, _FLAT)[..., None]
    rows, columns = np.mgrid[: energy.shape[0], : energy.shape[1]] / energy.shape[1]
    places = np.stack([columns, rows], axis=-1)
    cells = np.concatenate([gradients, _COLOR_WEIGHT * colors, _PLACE_WEIGHT * places], axis=-1)
    return cells.reshape(-1, cells.shape[-1]).astype(np.float32)


def _pooled(values: NDArray[np.floating]) -> Array:
    """Weighted means of overlapping cells (h/2,w/2,n) of (h,w,n)."""
    return np.asarray(cv2.GaussianBlur(values, (0, 0), _CELL)[_CELL // 2 :: _CELL, _CELL // 2 :: _CELL])


def _squares(cells: Array) -> Array:
    return np.asarray((cells * cells).sum(axis=1))


def _mean_squared(predicted: ImageArray, observed: ImageArray) -> FloatArray:
    error = predicted.astype(np.float32) - observed.astype(np.float32)
    return np.asarray((error * error).mean(axis=(1, 2, 3)) / 255.0**2, np.float32)


def _flat(images: ImageArray) -> ImageArray:
    return images.reshape(-1, *images.shape[2:])


def _resized(image: ImageArray, width: int, height: int) -> ImageArray:
    if image.shape[:2] == (height, width):
        return image
    method = cv2.INTER_AREA if image.shape[0] > height else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def _checked(images: ImageArray, goal: ImageArray) -> ImageArray:
    if images.ndim != 5 or images.shape[-1] != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise ScoreError(f"predicted videos are (N,T,H,W,3) uint8 and not empty, got {images.shape} {images.dtype}")
    height, width = images.shape[2:4]
    if abs(width / height * goal.shape[0] / goal.shape[1] - 1) > _ASPECT_TOLERANCE:
        raise ScoreError(
            f"predicted frames of {height}x{width} have another aspect than the goal of"
            f" {goal.shape[0]}x{goal.shape[1]}; preprocess the goal as the model's frames"
        )
    return images

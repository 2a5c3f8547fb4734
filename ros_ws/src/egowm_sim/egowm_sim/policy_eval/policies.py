"""Policies of clearly different skill for driving a base to a goal picture. They know pictures and actions alone.

The able one servos on the picture: where the middle of the goal picture is found in what is seen now, and how much
smaller it is there, says how to turn and how far to go. The others are made worse on purpose, each in a way of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from egowm_core.policy import Policy
from egowm_core.types import FloatArray, ImageArray
from egowm_sim import camera

MOST_FORWARD_M, MOST_TURN_RAD = 0.12, 0.12  # a tick; the base itself can do a little more
_DEPTH_M = 1.8  # assumed of what fills a picture: a step of d m enlarges it by _DEPTH_M / (_DEPTH_M - d)
_SCALES = np.exp(np.linspace(-0.36, 0.6, 17))  # of the goal picture against what is seen now
_PATCH = (0.1, 0.8, 0.31, 0.69)  # top, bottom, left, right of the goal picture's part that is looked for
_SOFT_PX, _LOCAL_PX = 1.0, 7.0  # of pictures 128 px wide
_CLOSE = 0.03  # rad, or of the scale's logarithm: nearer than this counts as there


def register(frame: ImageArray, goal: ImageArray) -> tuple[float, float]:
    """How far to turn (rad, left positive) and by how much the picture must grow (logarithm) to look like the goal.

    Both pictures are (H,W,3) uint8 of one size. The middle of the goal is looked for at every place and size, by
    normalised correlation of pictures freed from their local brightness and contrast.
    """
    here, there = _flattened(frame), _flattened(goal)
    height, width = there.shape
    top, bottom, left, right = (round(s * n) for s, n in zip(_PATCH, (height, height, width, width), strict=True))
    horizon = height / 2 - camera.focal_px(width) * math.tan(camera.PITCH_RAD)  # what stays while things grow
    best, turn, growth = -math.inf, 0.0, 0.0
    for scale in _SCALES.tolist():
        patch = cv2.resize(
            there[top:bottom, left:right], None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA
        )
        row = round(horizon + (top - horizon) / scale)
        low, high = max(row - 3, 0), min(row + patch.shape[0] + 3, height)
        if high - low < patch.shape[0] or patch.shape[1] > width:
            continue
        found = cv2.matchTemplate(here[low:high], patch, cv2.TM_CCOEFF_NORMED)
        _, value, _, (column, _) = cv2.minMaxLoc(found)
        if value > best:
            aside = width / 2 - (column + patch.shape[1] / 2)  # px that the goal's middle lies left of ours
            best, turn, growth = value, math.atan(aside / camera.focal_px(width)), math.log(scale)
    return turn, growth


def _flattened(image: ImageArray) -> NDArray[np.float32]:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    unit = image.shape[1] / 128
    soft = cv2.GaussianBlur(gray, (0, 0), _SOFT_PX * unit)
    local = soft - cv2.GaussianBlur(soft, (0, 0), _LOCAL_PX * unit)
    contrast = np.sqrt(cv2.GaussianBlur(local * local, (0, 0), _LOCAL_PX * unit))
    return np.asarray(local / (contrast + 4.0), np.float32)


@dataclass(frozen=True)
class Servo:
    """Turns and drives by ``register``; ``turn_gain`` and ``drive_gain`` of 1 take out what is left in about 2 ticks.

    ``noise``: sigma of what is added to each action, as a share of the most that one may be. ``lost``: the share of
    ticks at which the goal isn't recognised and the policy stands still.
    """

    turn_gain: float = 1.0
    drive_gain: float = 1.0
    noise: float = 0.0
    lost: float = 0.0

    def __call__(self, frame: ImageArray, goal: ImageArray | None, generator: np.random.Generator) -> FloatArray:
        """The next action (3,): dx (m), dy (m), dyaw (rad)."""
        shaken, drawn = generator.normal(0, 1, 2), generator.random()
        if goal is None or drawn < self.lost:
            return np.zeros(3, np.float32)
        turn, growth = register(frame, goal)
        forward = _DEPTH_M * (1 - math.exp(-growth)) if abs(growth) > _CLOSE else 0.0
        forward *= max(0.0, math.cos(min(3 * abs(turn), math.pi / 2)))  # first turn, then go
        turn = turn if abs(turn) > _CLOSE else 0.0
        return _action(
            0.5 * self.drive_gain * forward + self.noise * MOST_FORWARD_M * shaken[0],
            0.5 * self.turn_gain * turn + self.noise * MOST_TURN_RAD * shaken[1],
        )


def ahead(frame: ImageArray, goal: ImageArray | None, generator: np.random.Generator) -> FloatArray:
    """Straight on, whatever is seen."""
    return _action(0.5 * MOST_FORWARD_M, 0.0)


def at_random(frame: ImageArray, goal: ImageArray | None, generator: np.random.Generator) -> FloatArray:
    """Any action, forward as often as not."""
    return _action(*(generator.uniform(-1, 1, 2) * (MOST_FORWARD_M, MOST_TURN_RAD)))


def _action(forward: float, turn: float) -> FloatArray:
    return np.array(
        [
            np.clip(forward, -MOST_FORWARD_M, MOST_FORWARD_M),
            0.0,
            np.clip(turn, -MOST_TURN_RAD, MOST_TURN_RAD),
        ],
        np.float32,
    )


POLICIES: Mapping[str, Callable[[], Policy]] = MappingProxyType({
    "servo": Servo,
    "servo_noisy": lambda: Servo(noise=1.0, lost=0.35),
    "servo_drunk": lambda: Servo(noise=1.6, lost=0.6),
    "ahead": lambda: ahead,
    "random": lambda: at_random,
    "wrong_way": lambda: Servo(turn_gain=-1.0),
})  # fmt: skip
"""By name, from the most able on as their makers think; the figures say what is true."""

"""Motion values and images of one made-up drive, fed in the order of their stamps, for tests of motion sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from egowm_core.data.motion import Motion
from egowm_core.data.sync import Tick, TickSynchronizer
from egowm_core.embodiment import Embodiment

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND
FRAME = np.zeros((2, 2, 3), np.uint8)


def at(seconds: float) -> int:
    return BASE + round(seconds * SECOND)


def drive(
    robot: Embodiment,
    values: Callable[[float], object],
    *,
    seconds: float = 4.0,
    hz: float = 50.0,
    topic: str = "/motion",
    more: list[tuple[float, str, object]] | None = None,
    **options: float,
) -> tuple[list[Tick], TickSynchronizer, Motion]:
    """Images at four times the model's rate and motion ``values`` at ``hz``, in the order of their stamps."""
    sync = TickSynchronizer.for_embodiment(robot, **options)
    motion = Motion(robot, sync)
    count = round(seconds * 4 * robot.rate_hz)
    events: list[tuple[float, str, object]] = [(i / (4 * robot.rate_hz), "image", None) for i in range(count)]
    events += [(i / hz, topic, values(i / hz)) for i in range(round(seconds * hz) + 1)]
    ticks = []
    for when, name, value in sorted(events + (more or []), key=lambda event: event[0]):
        ticks += sync.add_image(at(when), FRAME) if name == "image" else motion.add(at(when), value, topic=name)
    motion.finish()
    sync.finish()
    return ticks, sync, motion


def pairs(ticks: list[Tick]) -> Iterator[tuple[float, float, np.ndarray]]:
    for before, tick in pairwise(ticks):
        assert tick.action_from_previous is not None
        assert tick.action_from_previous.dtype == tick.state.dtype == np.float32
        yield (before.stamp_ns - BASE) / SECOND, (tick.stamp_ns - BASE) / SECOND, tick.action_from_previous

"""Short clips of the simulator with true masks, for tests of the score; skipped where the simulator is not there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest

from egowm_core.scs import choose_ids, masks_of


@dataclass(frozen=True)
class Clip:
    """``images`` (T+1,96,128,3), ``masks`` (N,96,128) of the first one, and whether each is ``static``."""

    images: np.ndarray
    masks: np.ndarray
    static: tuple[bool, ...]


@lru_cache(maxsize=4)
def simulated_clips(seeds: range, *, clips: int, people: int = 0, frames: int = 8) -> tuple[Clip, ...]:
    """``clips`` of each room of ``seeds``: ``frames`` after the first, at 4 a second, driven about."""
    pytest.importorskip("mujoco")
    driver = pytest.importorskip("egowm_sim.driver")
    faulty, faults = pytest.importorskip("egowm_sim.faulty"), pytest.importorskip("egowm_sim.faults")
    backend = pytest.importorskip("egowm_sim.backend")
    out = []
    for seed in seeds:
        plan = [faults.parse_fault(f"people:{people}@1-600")] if people else []
        with faulty.FaultySimulation(seed=seed, height=96, width=128, faults=plan) as simulation:
            wandering = driver.WanderingDriver(simulation.room.floor_map, seed=seed)

            def advance(seconds, simulation=simulation, wandering=wandering):
                for _ in range(round(seconds / driver.CONTROL_PERIOD_S)):
                    pose = simulation.pose()
                    simulation.step(*wandering.command(pose.x, pose.y, pose.yaw), driver.CONTROL_PERIOD_S)

            try:
                simulation.open_camera()
            except backend.SimulationError as error:
                pytest.skip(f"no rendering here: {error}")
            advance(4.0)
            for _ in range(clips):
                segmentation = simulation.truth().segmentation
                ids = choose_ids(segmentation)
                static = tuple(bool(simulation.room.structures[number]["static"]) for number in ids)
                images = []
                for _ in range(frames + 1):
                    images.append(simulation.observe().image)
                    advance(0.25)
                out.append(Clip(np.stack(images), masks_of(segmentation, ids), static))
                advance(1.0)
    return tuple(out)

"""What the planner knows of the base that it drives: limits as a search wants them, and plans as velocities over time.

Pure functions and values; knows no node and no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from egowm_core.embodiment import Embodiment, load_embodiment
from egowm_core.errors import ConfigError
from egowm_core.planning import Cem
from egowm_core.types import FloatArray
from egowm_nodes.planning.params import PlannerParams


def load_base(p: PlannerParams) -> Embodiment:
    """This base, at the rate of the model's ticks. Raises EmbodimentError where it cannot be read."""
    robot = load_embodiment(p.embodiment)
    return replace(robot, rate_hz=p.tick_rate_hz) if p.tick_rate_hz else robot


def make_search(robot: Embodiment, p: PlannerParams) -> Cem:
    """The search over this base's actions: dx, dy, dyaw per tick, dy none.

    Raises:
        ConfigError: no planar base whose actions are motions per tick.
    """
    if robot.integrate != "se2" or any(channel.kind != "delta" for channel in robot.channels):
        raise ConfigError(
            f"embodiment {robot.name} moves by {', '.join(robot.channel_names)}; the planner drives planar bases whose"
            " actions are motions per tick (integrate: se2), such as base_3dof"
        )
    tick_s = 1 / robot.rate_hz
    able = np.array([[-p.max_reverse_mps, p.max_speed_mps], [0, 0], [-p.max_turn_radps, p.max_turn_radps]]) * tick_s
    limits = np.stack([np.maximum(able[:, 0], robot.limits[:, 0]), np.minimum(able[:, 1], robot.limits[:, 1])], axis=1)
    change = np.array([p.max_acceleration, 1.0, p.max_turn_acceleration]) * tick_s**2
    return Cem(
        robot,
        p.horizon,
        num_candidates=p.candidates,
        num_elites=p.elites,
        num_iterations=p.iterations,
        num_knots=p.knots,
        limits=limits,
        max_change=change,
    )


@dataclass(frozen=True)
class Drive:
    """``rows`` (n,3) of motion, one after another every ``tick_s``, from steady time ``start_s`` on."""

    rows: FloatArray
    tick_s: float
    start_s: float

    def velocity(self, now_s: float) -> NDArray[np.float64] | None:
        """(3,) forward and sideways m/s and turn rad/s at a time; None once it is over."""
        number = int((now_s - self.start_s) / self.tick_s)
        if not 0 <= number < len(self.rows):
            return None
        return np.asarray(self.rows[number], np.float64) / self.tick_s

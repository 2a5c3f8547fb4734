"""The parameters of the planner node, as they stand in ``config/planner.yaml``."""

from __future__ import annotations

from dataclasses import dataclass

from egowm_core.errors import ConfigError
from egowm_nodes.runtime.image_input import TRANSPORTS
from egowm_nodes.runtime.params import Change, param

_UNCONFIGURED, _INACTIVE = Change.UNCONFIGURED, Change.INACTIVE


@dataclass(frozen=True, kw_only=True)
class PlannerParams:
    """See each description; ``ros2 param describe`` shows them, too."""

    auto_start: bool = param(
        False, "configure and activate without being told by a lifecycle manager", change=Change.START
    )
    embodiment: str = param(
        "base_3dof",
        "this robot, a planar base (built-in name or YAML path), as the world model's",
        change=_UNCONFIGURED,
    )
    server: str = param(
        "world_model", "name of the world model's node, relative to the namespace", change=_UNCONFIGURED
    )
    tick_rate_hz: float = param(
        0.0,
        "rate of the model's ticks where the world model was given another, 0 for the embodiment's",
        low=0.0,
        high=100.0,
        change=_UNCONFIGURED,
    )
    goal_file: str = param("", "a picture to drive to at once; empty: wait for goal_image", change=_INACTIVE)
    image_transport: str = param(
        "both", "image, image/compressed, or whichever of both delivers", choices=TRANSPORTS, change=_INACTIVE
    )
    input_timeout_s: float = param(
        2.0, "no picture for so long: stop, and say so", low=0.1, high=3600.0, change=_INACTIVE
    )
    candidates: int = param(16, "action sequences imagined at once", low=2, high=64, change=_UNCONFIGURED)
    elites: int = param(
        4, "the best of them, which the next ones are drawn around", low=1, high=64, change=_UNCONFIGURED
    )
    iterations: int = param(2, "times that candidates are drawn for one plan", low=1, high=16, change=_UNCONFIGURED)
    knots: int = param(2, "free actions of a candidate; the others lie between", low=1, high=64, change=_UNCONFIGURED)
    horizon: int = param(8, "ticks that a plan looks ahead", low=1, high=64, change=_UNCONFIGURED)
    execute: int = param(4, "ticks of a plan that are driven before the next", low=1, high=64, change=_UNCONFIGURED)
    max_speed_mps: float = param(0.4, "fastest forwards", low=0.01, high=5.0, change=_UNCONFIGURED)
    max_reverse_mps: float = param(
        0.0, "fastest backwards: nothing looks there", low=0.0, high=5.0, change=_UNCONFIGURED
    )
    max_turn_radps: float = param(0.6, "fastest turn", low=0.01, high=5.0, change=_UNCONFIGURED)
    max_acceleration: float = param(0.8, "m/s^2, as the base can", low=0.01, high=50.0, change=_UNCONFIGURED)
    max_turn_acceleration: float = param(1.5, "rad/s^2, as the base can", low=0.01, high=50.0, change=_UNCONFIGURED)
    reached_below: float = param(
        0.05,
        "cost of what is seen at which the goal is reached; 0 is the very picture",
        low=0.0,
        high=10.0,
        change=_UNCONFIGURED,
    )
    least_gain: float = param(
        0.01, "share by which a plan must beat standing still to be driven", low=0.0, high=0.99, change=_UNCONFIGURED
    )
    settle: int = param(
        3, "plans in a row that stand still and end the way; 0 never", low=0, high=1000, change=_UNCONFIGURED
    )
    rise: float = param(
        0.5,
        "how far above its lowest the cost of what is seen may lie, as a share",
        low=0.0,
        high=100.0,
        change=_UNCONFIGURED,
    )
    patience: int = param(
        3, "times in a row that it lies above that and end the way; 0 never", low=0, high=1000, change=_UNCONFIGURED
    )
    imagine_timeout_s: float = param(30.0, "no answer of the world model for so long", low=0.1, high=3600.0)
    imagine_silence_s: float = param(10.0, "not one more frame of an answer for so long", low=0.1, high=3600.0)
    pause_s: float = param(0.4, "standing still before a plan is made of what is seen", low=0.0, high=60.0)
    seed: int = param(0, "of what is drawn", low=0, high=2**31 - 1, change=_INACTIVE)
    cmd_vel_stamped: bool = param(False, "cmd_vel is a TwistStamped", change=_UNCONFIGURED)
    marker_lifetime_s: float = param(10.0, "~/candidates vanish after so long", low=0.1, high=600.0)

    def __post_init__(self) -> None:
        for name, most, what in (
            ("elites", self.candidates, "candidates"), ("knots", self.horizon, "horizon"),
            ("execute", self.horizon, "horizon"),
        ):  # fmt: skip
            if getattr(self, name) > most:
                raise ConfigError(
                    f"parameter {name} is {getattr(self, name)}; expected at most {what}, which is {most}"
                )

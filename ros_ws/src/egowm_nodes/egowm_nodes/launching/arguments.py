"""What a launch can be told: the modes, and the arguments of each with the parameters and remappings that they set.

A mode is named as its launch file is: ``base`` and ``humanoid`` are real robots, ``sim`` and ``sim_humanoid`` simulated
ones, ``replay`` is a recording, ``monitor_only`` watches a world model that runs elsewhere. Knows nodes by name alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from egowm_core.errors import ConfigError

BASE, HUMANOID, SIM, SIM_HUMANOID = "base", "humanoid", "sim", "sim_humanoid"
REPLAY, MONITOR_ONLY = "replay", "monitor_only"
MODES = (BASE, HUMANOID, SIM, SIM_HUMANOID, REPLAY, MONITOR_ONLY)
REAL, SIMULATED = (BASE, HUMANOID, MONITOR_ONLY), (SIM, SIM_HUMANOID)
PREDICTING = tuple(mode for mode in MODES if mode != MONITOR_ONLY)
DRIVABLE = (BASE, SIM)  # planar bases, which the planner can drive
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, kw_only=True)
class Argument:
    """A launch argument: sets ``parameters`` (node, parameter) to a ``kind``, or remaps ``remaps`` (node, topic).

    Empty means: as the parameter files say. A remap to T takes T/compressed along for T's compressed twin. One that
    ``starts`` a node is a yes or no, by default no; where it is yes, other arguments are as it ``implies``.
    """

    name: str
    description: str
    modes: tuple[str, ...] = MODES
    kind: type = str
    parameters: tuple[tuple[str, str], ...] = ()
    remaps: tuple[tuple[str, str], ...] = ()
    starts: str = ""
    implies: tuple[tuple[str, str], ...] = ()

    @property
    def default(self) -> str:
        """What it is where nothing is given."""
        return "false" if self.starts else ""

    @property
    def unset(self) -> str:
        """In words: what an empty value means."""
        if self.starts:
            return "false"
        return f"{self.remaps[0][1]}, in the namespace" if self.remaps else "as the parameter file says"

    @property
    def nodes(self) -> frozenset[str]:
        """Whom it concerns."""
        return frozenset(node for node, _ in (*self.parameters, *self.remaps))


ARGUMENTS = (
    Argument(
        name="checkpoint", description="the world model: a checkpoint directory or embedded:NAME", modes=PREDICTING,
        parameters=(("world_model", "checkpoint"),),
    ),
    Argument(
        name="embodiment", description="this robot: a built-in embodiment or a YAML path",
        parameters=(
            ("world_model", "embodiment"), ("drift_monitor", "embodiment"), ("replay", "embodiment"),
            ("planner", "embodiment"),
        ),
    ),
    Argument(
        name="baseline",
        description="what drift takes for usual: learn, a drift_baseline.json or a checkpoint that has one",
        parameters=(("drift_monitor", "baseline"),),
    ),
    Argument(
        name="device", description="where the model runs: cpu, cuda, ...", modes=PREDICTING,
        parameters=(("world_model", "device"),),
    ),
    Argument(
        name="num_threads", description="compute threads of the model; 0 leaves torch's own choice", modes=PREDICTING,
        kind=int, parameters=(("world_model", "num_threads"),),
    ),
    Argument(
        name="tick_rate_hz", description="rate of the model's ticks, where the camera is slower than the embodiment's",
        modes=PREDICTING, kind=float, parameters=(("world_model", "tick_rate_hz"), ("planner", "tick_rate_hz")),
    ),
    Argument(
        name="image_lag_s", description="how late the camera's stamps are against odometry", modes=PREDICTING,
        kind=float, parameters=(("world_model", "image_lag_s"),),
    ),
    Argument(
        name="seed", description="picks the simulated room and the start", modes=SIMULATED, kind=int,
        parameters=(("sim_robot", "seed"), ("sim_humanoid", "seed")),
    ),
    Argument(
        name="drive", modes=(SIM,),
        description="who drives the simulated robot: auto wanders, cmd_vel obeys the topic, as with planner:=true",
        parameters=(("sim_robot", "drive"),),
    ),
    Argument(
        name="drive", description="who moves the simulated humanoid: auto does, topic obeys the topics",
        modes=(SIM_HUMANOID,), parameters=(("sim_humanoid", "drive"),),
    ),
    Argument(
        name="planner", description="start the planner, too: it drives the base to goal pictures", modes=DRIVABLE,
        kind=bool, starts="planner", implies=(("drive", "cmd_vel"),),
    ),
    Argument(
        name="goal_file", description="with planner:=true, a picture to drive to at once", modes=DRIVABLE,
        parameters=(("planner", "goal_file"),),
    ),
    Argument(
        name="faults", description="what goes wrong in the simulator: KIND[:SEVERITY]@START[-END] ... in seconds",
        modes=(SIM,), parameters=(("sim_robot", "faults"),),
    ),
    Argument(
        name="bag", description="the recording to play", modes=(REPLAY,), parameters=(("replay", "bag"),)
    ),
    Argument(
        name="rate", description="speed of the recording, 1 is real time", modes=(REPLAY,), kind=float,
        parameters=(("replay", "rate"),),
    ),
    Argument(
        name="loop", description="start the recording over at its end", modes=(REPLAY,), kind=bool,
        parameters=(("replay", "loop"),),
    ),
    Argument(
        name="restamp", description="shift the recorded stamps to now", modes=(REPLAY,), kind=bool,
        parameters=(("replay", "restamp"),),
    ),
    Argument(
        name="recorded_image", description="the recorded image topic, where several could be meant", modes=(REPLAY,),
        parameters=(("replay", "image_topic"),),
    ),
    Argument(
        name="recorded_odom", description="the recorded motion's topics, with commas, where several could be meant",
        modes=(REPLAY,), parameters=(("replay", "odom_topic"),),
    ),
    Argument(
        name="recorded_plan", description="recorded joint commands to play as plans on joint_trajectory",
        modes=(REPLAY,), parameters=(("replay", "plan_topic"),),
    ),
    Argument(
        name="image_topic", description="the robot's image topic (its /compressed twin comes along)", modes=REAL,
        remaps=(("world_model", "image"), ("drift_monitor", "image"), ("planner", "image")),
    ),
    Argument(
        name="camera_info_topic", description="the robot's camera_info topic", modes=(BASE, HUMANOID),
        remaps=(("world_model", "camera_info"),),
    ),
    Argument(
        name="odom_topic", description="the robot's wheel odometry topic", modes=(BASE, HUMANOID),
        remaps=(("world_model", "odom"),),
    ),
    Argument(
        name="joint_states_topic", description="the robot's joint states topic", modes=(HUMANOID,),
        remaps=(("world_model", "joint_states"),),
    ),
    Argument(
        name="cmd_vel_topic", description="the robot's velocity command topic", modes=(BASE, HUMANOID),
        remaps=(("world_model", "cmd_vel"), ("planner", "cmd_vel")),
    ),
    Argument(
        name="plan_topic", description="the planned path (nav_msgs/Path)", modes=(BASE, HUMANOID),
        remaps=(("world_model", "plan"),),
    ),
    Argument(
        name="joint_trajectory_topic", description="the planned joint trajectory", modes=(HUMANOID,),
        remaps=(("world_model", "joint_trajectory"),),
    ),
    Argument(
        name="rollouts_topic", description="the rollouts of the world model that runs elsewhere",
        modes=(MONITOR_ONLY,), remaps=(("drift_monitor", "rollouts"),),
    ),
)  # fmt: skip


def truth(name: str, text: str) -> bool:
    """What the text of a yes-or-no argument means. Raises ConfigError for any other text."""
    if text.lower() not in _TRUE + _FALSE:
        raise ConfigError(f"argument {name} is {text!r}; expected true or false")
    return text.lower() in _TRUE


def remap(topic: str, target: str) -> list[tuple[str, str]]:
    """The remappings of ``topic`` to ``target``: a picture's compressed twin comes along."""
    if topic != "image":
        return [(topic, target)]
    raw = target.removesuffix("/compressed")
    return [(topic, raw), (f"{topic}/compressed", f"{raw}/compressed")]


def convert(argument: Argument, value: Any) -> Any:
    """A value as the argument's kind. Raises ConfigError for one that is none."""
    text = str(value).strip()
    if argument.kind is bool:
        return truth(argument.name, text)
    try:
        return argument.kind(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}[argument.kind]
        raise ConfigError(f"argument {argument.name} is {text!r}; expected {kind}") from None

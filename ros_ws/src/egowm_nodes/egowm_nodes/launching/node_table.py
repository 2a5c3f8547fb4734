"""The table of nodes: what the launch files and the demo start, with which parameters and remappings.

One row per node. ``plan`` turns a mode and its arguments into the nodes to run; a launch file makes launch actions of
it, the demo makes processes, so both run the same thing. A mode is named as its launch file is: ``base`` and
``humanoid`` are real robots, ``sim`` and ``sim_humanoid`` simulated ones, ``replay`` is a recording, ``monitor_only``
watches a world model that runs elsewhere. Knows no rclpy, no launch and no process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egowm_core.errors import ConfigError

BASE, HUMANOID, SIM, SIM_HUMANOID = "base", "humanoid", "sim", "sim_humanoid"
REPLAY, MONITOR_ONLY = "replay", "monitor_only"
MODES = (BASE, HUMANOID, SIM, SIM_HUMANOID, REPLAY, MONITOR_ONLY)
REAL, SIMULATED = (BASE, HUMANOID, MONITOR_ONLY), (SIM, SIM_HUMANOID)
PREDICTING = tuple(mode for mode in MODES if mode != MONITOR_ONLY)
CONFIG_DIR = Path(__file__).parents[1] / "config"
MODE_CONFIGS = {HUMANOID: "humanoid.yaml", SIM_HUMANOID: "humanoid.yaml"}  # over the nodes' own parameter files
FASTDDS_PROFILE = CONFIG_DIR / "fastdds.xml"
FASTDDS_SMALL_PROFILE = CONFIG_DIR / "fastdds_small.xml"
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, kw_only=True)
class NodeEntry:
    """A node. ``executable`` is what colcon installs, ``module`` what ``python -m`` runs where nothing is installed.

    ``config`` is its default parameter file in ``CONFIG_DIR``; ``remappings`` hold in every mode.
    """

    name: str
    package: str
    executable: str
    module: str
    lifecycle: bool
    config: str
    modes: tuple[str, ...]
    remappings: tuple[tuple[str, str], ...] = ()

    @property
    def config_path(self) -> Path:
        """The default parameter file."""
        return CONFIG_DIR / self.config


@dataclass(frozen=True, kw_only=True)
class Argument:
    """A launch argument: sets ``parameters`` (node, parameter) to a ``kind``, or remaps ``remaps`` (node, topic).

    Empty means: as the parameter files say. A remap to T takes T/compressed along for T's compressed twin.
    """

    name: str
    description: str
    modes: tuple[str, ...] = MODES
    kind: type = str
    parameters: tuple[tuple[str, str], ...] = ()
    remaps: tuple[tuple[str, str], ...] = ()

    @property
    def unset(self) -> str:
        """In words: what an empty value means."""
        return f"{self.remaps[0][1]}, in the namespace" if self.remaps else "as the parameter file says"


@dataclass(frozen=True, kw_only=True)
class NodeRun:
    """A node to start: parameter files first, then ``parameters`` on top of them."""

    entry: NodeEntry
    parameter_files: tuple[Path, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()


NODES = (
    NodeEntry(
        name="sim_robot", package="egowm_sim", executable="sim_robot", module="egowm_sim.node", lifecycle=False,
        config="sim_robot.yaml", modes=(SIM,),
    ),
    NodeEntry(
        name="sim_humanoid", package="egowm_sim", executable="sim_humanoid", module="egowm_sim.humanoid_node",
        lifecycle=False, config="sim_humanoid.yaml", modes=(SIM_HUMANOID,),
    ),
    NodeEntry(
        name="replay", package="egowm_nodes", executable="replay", module="egowm_nodes.replay_node", lifecycle=False,
        config="replay.yaml", modes=(REPLAY,),
    ),
    NodeEntry(
        name="world_model", package="egowm_nodes", executable="world_model", module="egowm_nodes.world_model_node",
        lifecycle=True, config="world_model.yaml", modes=PREDICTING,
    ),
    NodeEntry(
        name="drift_monitor", package="egowm_nodes", executable="drift_monitor",
        module="egowm_nodes.drift_monitor_node", lifecycle=True, config="drift_monitor.yaml", modes=MODES,
        remappings=(("rollouts", "world_model/rollout"),),
    ),
)  # fmt: skip

ARGUMENTS = (
    Argument(
        name="checkpoint", description="the world model: a checkpoint directory or embedded:NAME", modes=PREDICTING,
        parameters=(("world_model", "checkpoint"),),
    ),
    Argument(
        name="embodiment", description="this robot: a built-in embodiment or a YAML path",
        parameters=(("world_model", "embodiment"), ("drift_monitor", "embodiment"), ("replay", "embodiment")),
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
        modes=PREDICTING, kind=float, parameters=(("world_model", "tick_rate_hz"),),
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
        name="drive", description="who drives the simulated robot: auto wanders, cmd_vel obeys the topic",
        modes=(SIM,), parameters=(("sim_robot", "drive"),),
    ),
    Argument(
        name="drive", description="who moves the simulated humanoid: auto does, topic obeys the topics",
        modes=(SIM_HUMANOID,), parameters=(("sim_humanoid", "drive"),),
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
        remaps=(("world_model", "image"), ("drift_monitor", "image")),
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
        remaps=(("world_model", "cmd_vel"),),
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


def nodes(mode: str) -> tuple[NodeEntry, ...]:
    """The nodes of a mode, in starting order. Raises ConfigError for an unknown mode."""
    if mode not in MODES:
        raise ConfigError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    return tuple(entry for entry in NODES if mode in entry.modes)


def arguments(mode: str) -> tuple[Argument, ...]:
    """The arguments that a mode takes. Raises ConfigError for an unknown mode."""
    nodes(mode)
    return tuple(argument for argument in ARGUMENTS if mode in argument.modes)


def plan(
    mode: str,
    values: Mapping[str, Any],
    *,
    params_file: str | Path | None = None,
    without: Collection[str] = (),
) -> tuple[NodeRun, ...]:
    """The nodes of ``mode`` with what ``values`` (argument name to text or value; "" and None mean unset) ask for.

    ``params_file`` is a parameter file of the user's, over the defaults and under the arguments. Nodes named in
    ``without`` are left out. Raises ConfigError for an unknown mode or argument, a value of the wrong kind, or a
    missing parameter file.
    """
    entries = tuple(entry for entry in nodes(mode) if entry.name not in without)
    known = {argument.name: argument for argument in arguments(mode)}
    parameters: dict[str, dict[str, Any]] = {entry.name: {} for entry in entries}
    remappings = {entry.name: list(entry.remappings) for entry in entries}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{name!r} is no argument of {mode}; it takes {', '.join(known)}")
        if value is None or value == "":
            continue
        argument = known[name]
        for node, parameter in argument.parameters:
            if node in parameters:
                parameters[node][parameter] = _convert(argument, value)
        for node, topic in argument.remaps:
            if node in remappings:
                # an argument replaces the table's own remapping of the same topic
                remappings[node] = [pair for pair in remappings[node] if pair[0] != topic]
                remappings[node] += _remap(topic, str(value))
    files = (CONFIG_DIR / MODE_CONFIGS[mode],) if mode in MODE_CONFIGS else ()
    if params_file:
        files = (*files, Path(params_file))
        if not files[-1].is_file():
            raise ConfigError(f"params_file {params_file} does not exist; give a ROS parameter YAML file")
    return tuple(
        NodeRun(
            entry=entry,
            parameter_files=(entry.config_path, *files),
            parameters=parameters[entry.name],
            remappings=tuple(remappings[entry.name]),
        )
        for entry in entries
    )


def truth(name: str, text: str) -> bool:
    """What the text of a yes-or-no argument means. Raises ConfigError for any other text."""
    if text.lower() not in _TRUE + _FALSE:
        raise ConfigError(f"argument {name} is {text!r}; expected true or false")
    return text.lower() in _TRUE


def _remap(topic: str, target: str) -> list[tuple[str, str]]:
    if topic != "image":
        return [(topic, target)]
    raw = target.removesuffix("/compressed")
    return [(topic, raw), (f"{topic}/compressed", f"{raw}/compressed")]


def _convert(argument: Argument, value: Any) -> Any:
    text = str(value).strip()
    if argument.kind is bool:
        return truth(argument.name, text)
    try:
        return argument.kind(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}[argument.kind]
        raise ConfigError(f"argument {argument.name} is {text!r}; expected {kind}") from None

"""The table of nodes: what the launch files and the demo start, with which parameters and remappings.

One row per node. ``plan`` turns a mode and its arguments (``arguments``) into the nodes to run; a launch file makes
launch actions of it, the demo makes processes, so both run the same thing. Knows no rclpy, no launch and no process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egowm_core.errors import ConfigError
from egowm_nodes.launching.arguments import (
    ARGUMENTS,
    BASE,
    DRIVABLE,
    HUMANOID,
    MODES,
    MONITOR_ONLY,
    PREDICTING,
    REPLAY,
    SIM,
    SIM_HUMANOID,
    Argument,
    convert,
    remap,
    truth,
)

__all__ = [
    "BASE",
    "CONFIG_DIR",
    "DRIVABLE",
    "FASTDDS_PROFILE",
    "FASTDDS_SMALL_PROFILE",
    "HUMANOID",
    "MODES",
    "MODE_CONFIGS",
    "MONITOR_ONLY",
    "NODES",
    "REPLAY",
    "SIM",
    "SIM_HUMANOID",
    "Argument",
    "NodeEntry",
    "NodeRun",
    "arguments",
    "nodes",
    "plan",
]

CONFIG_DIR = Path(__file__).parents[1] / "config"
MODE_CONFIGS = {HUMANOID: "humanoid.yaml", SIM_HUMANOID: "humanoid.yaml"}  # over the nodes' own parameter files
FASTDDS_PROFILE = CONFIG_DIR / "fastdds.xml"
FASTDDS_SMALL_PROFILE = CONFIG_DIR / "fastdds_small.xml"


@dataclass(frozen=True, kw_only=True)
class NodeEntry:
    """A node. ``executable`` is what colcon installs, ``module`` what ``python -m`` runs where nothing is installed.

    ``config`` is its default parameter file in ``CONFIG_DIR``; ``remappings`` hold in every mode. One that is
    ``opt_in`` runs where an argument that ``starts`` it says so; then all get its ``shared_config``, over their own.
    """

    name: str
    package: str
    executable: str
    module: str
    lifecycle: bool
    config: str
    modes: tuple[str, ...]
    remappings: tuple[tuple[str, str], ...] = ()
    opt_in: bool = False
    shared_config: str = ""

    @property
    def config_path(self) -> Path:
        """The default parameter file."""
        return CONFIG_DIR / self.config


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
    NodeEntry(
        name="planner", package="egowm_nodes", executable="planner", module="egowm_nodes.planner_node", lifecycle=True,
        config="planner.yaml", modes=DRIVABLE, opt_in=True, shared_config="planning.yaml",
    ),
)  # fmt: skip


def nodes(mode: str) -> tuple[NodeEntry, ...]:
    """The nodes of a mode, in starting order, opt-in ones too. Raises ConfigError for an unknown mode."""
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
    ``without`` are left out, opt-in ones unless asked for. Raises ConfigError for an unknown mode or argument, a value
    of the wrong kind, values that contradict each other, or a missing parameter file.
    """
    known = {argument.name: argument for argument in arguments(mode)}
    if strange := [name for name in values if name not in known]:
        raise ConfigError(f"{strange[0]!r} is no argument of {mode}; it takes {', '.join(known)}")
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    asked = {known[name].starts for name in given if known[name].starts and truth(name, str(given[name]))}
    entries = tuple(
        entry for entry in nodes(mode) if entry.name not in without and (not entry.opt_in or entry.name in asked)
    )
    given |= _implied(given, known, {entry.name for entry in entries})
    parameters: dict[str, dict[str, Any]] = {entry.name: {} for entry in entries}
    remappings = {entry.name: list(entry.remappings) for entry in entries}
    for name, value in given.items():
        argument = known[name]
        for node, parameter in argument.parameters:
            if node in parameters:
                parameters[node][parameter] = convert(argument, value)
        for node, topic in argument.remaps:
            if node in remappings:
                # an argument replaces the table's own remapping of the same topic
                remappings[node] = [pair for pair in remappings[node] if pair[0] != topic]
                remappings[node] += remap(topic, str(value))
    names = [MODE_CONFIGS.get(mode, ""), *(entry.shared_config for entry in entries)]
    files = [CONFIG_DIR / name for name in names if name]
    if params_file:
        files.append(Path(params_file))
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


def _implied(given: Mapping[str, Any], known: Mapping[str, Argument], running: Collection[str]) -> dict[str, str]:
    """The values that opt-in nodes bring along. Raises ConfigError where others were given, or none of them runs."""
    opt_in = {entry.name for entry in NODES if entry.opt_in}
    implied: dict[str, str] = {}
    for name, value in given.items():
        argument = known[name]
        if argument.nodes and argument.nodes <= opt_in - set(running):
            starting = next(each.name for each in known.values() if each.starts in argument.nodes)
            raise ConfigError(f"{name} is for a node that was not asked for; give {starting}:=true, too")
        for other, wanted in argument.implies if argument.starts in running else ():
            if other in known and given.get(other, wanted) != wanted:
                raise ConfigError(
                    f"{name}:={value} and {other}:={given[other]} contradict each other; leave one out, or give"
                    f" {other}:={wanted}"
                )
            implied |= {other: wanted} if other in known else {}
    return implied

"""The node table as launch actions: the standard form (LifecycleNode, respawn, arguments) of what ``plan`` says.

Lifecycle nodes configure and activate themselves (their parameter ``auto_start``), so that one that was killed and
respawned comes back active, whoever watches it. Imports launch, so only launch files import it. Knows no node in
particular; what accompanies the nodes is in ``extras``.
"""

from __future__ import annotations

import os
from typing import Any

from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

import launch
from egowm_core.errors import ConfigError
from egowm_nodes.launching import extras as launch_extras
from egowm_nodes.launching import fastdds, node_table
from egowm_nodes.launching.extras import Settings
from egowm_nodes.launching.node_table import NodeRun

GENERAL = (
    ("namespace", "", "namespace of all nodes and their topics"),
    ("params_file", "", "ROS parameter YAML over the nodes' own defaults"),
    ("autostart", "true", "the lifecycle nodes configure and activate themselves; false: a lifecycle manager does"),
    ("respawn", "true", "start a node again that ended by itself"),
    ("respawn_delay_s", "0.2", "how long to wait before that"),
    ("drift_monitor", "true", "start the drift monitor, too; false where it runs elsewhere (monitor_only.launch.py)"),
    ("use_sim_time", "false", "nodes take their time from /clock"),
    ("log_level", "info", "of the nodes: debug, info, warn, error"),
    ("private_tf", "true", "in a namespace, /tf and /tf_static are NAMESPACE/tf and NAMESPACE/tf_static"),
    ("fastdds_profile", "true", "use the Fast DDS profile with shared memory enough for pictures, unless one is set"),
    ("enclaves", "", "SROS 2: what the nodes' enclaves begin with, such as /egowm; empty: none (docs/security.md)"),
    *launch_extras.ARGUMENTS,
)
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


def describe(mode: str) -> launch.LaunchDescription:
    """The launch description of a mode of the node table. Raises ConfigError for an unknown mode."""
    rows = [
        *general(mode),
        *(
            (argument.name, argument.default, f"{argument.description}; empty: {argument.unset}")
            for argument in node_table.arguments(mode)
        ),
    ]
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in rows]
    return launch.LaunchDescription([*declared, OpaqueFunction(function=_start, args=[mode])])


def general(mode: str) -> tuple[tuple[str, str, str], ...]:
    """Name, default and description of the arguments of ``mode`` that belong to no node in particular."""
    nothing_left = mode == node_table.MONITOR_ONLY  # without the drift monitor
    return tuple(row for row in GENERAL if not (nothing_left and row[0] == "drift_monitor"))


def _start(context: launch.LaunchContext, mode: str) -> list[Any]:
    settings = Settings(context, mode)
    values = {argument.name: settings.text(argument.name) for argument in node_table.arguments(mode)}
    without = () if mode == node_table.MONITOR_ONLY or settings.true("drift_monitor") else ("drift_monitor",)
    actions: list[Any] = []
    if settings.true("fastdds_profile"):
        variables, remark = fastdds.profile(os.environ)
        actions += [SetEnvironmentVariable(name, value) for name, value in variables.items()]
        actions += [LogInfo(msg=remark)] if remark else []
    for run in node_table.plan(mode, values, params_file=settings.text("params_file"), without=without):
        node = _node(run, settings)
        actions.append(node)
        if run.entry.name == node_table.REPLAY:
            ending = OnProcessExit(target_action=node, on_exit=[Shutdown(reason="the recording has ended")])
            actions.append(RegisterEventHandler(ending))
    return [*actions, *launch_extras.actions(settings)]


def _node(run: NodeRun, settings: Settings) -> Any:
    level = settings.text("log_level")
    if level not in LOG_LEVELS:
        raise ConfigError(f"argument log_level is {level!r}; expected one of {', '.join(LOG_LEVELS)}")
    parameters: dict[str, Any] = {
        # said to be text: launch takes it for YAML else, and a folder named 7 for a number
        name: ParameterValue(value, value_type=str) if isinstance(value, str) else value
        for name, value in run.parameters.items()
    }
    if settings.true("use_sim_time"):
        parameters["use_sim_time"] = True
    if run.entry.lifecycle:
        parameters["auto_start"] = settings.true("autostart")
    prefix = settings.text("enclaves").rstrip("/")
    enclave = ["--enclave", f"{prefix}/{run.entry.name}"] if prefix else []
    respawn = settings.true("respawn") and run.entry.name != node_table.REPLAY  # a recording's end is an end
    return (LifecycleNode if run.entry.lifecycle else Node)(
        package=run.entry.package,
        executable=run.entry.executable,
        name=run.entry.name,
        namespace=settings.text("namespace"),
        parameters=[*(str(path) for path in run.parameter_files), parameters],
        remappings=[*run.remappings, *settings.tf_remappings()],
        ros_arguments=["--log-level", level, *enclave],
        respawn=respawn,
        respawn_delay=settings.seconds("respawn_delay_s"),
        output="screen",
        emulate_tty=True,
    )

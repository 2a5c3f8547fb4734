"""The node table as launch actions: the standard form (LifecycleNode, transitions, arguments) of what ``plan`` says.

Imports launch, so only launch files import it. Knows no node in particular.
"""

from __future__ import annotations

import os
from typing import Any

import lifecycle_msgs.msg
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.substitutions import FindPackageShare

import launch
from egowm_nodes import node_table
from egowm_nodes.node_table import NodeRun

GENERAL = (
    ("namespace", "", "namespace of all nodes and their topics"),
    ("params_file", "", "ROS parameter YAML over the nodes' own defaults"),
    ("autostart", "true", "configure and activate the lifecycle nodes; false leaves that to a lifecycle manager"),
    ("fastdds_profile", "true", "use the Fast DDS profile with shared memory enough for pictures, unless one is set"),
    (
        "rviz",
        "false",
        "start rviz2 with the camera, the prediction, the strip, the overlay and the drift of the minute",
    ),
    ("aggregator", "false", "start diagnostic_aggregator's node, which sorts /diagnostics into /diagnostics_agg"),
)
PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def describe(mode: str) -> launch.LaunchDescription:
    """The launch description of a mode of the node table."""
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in GENERAL]
    declared += [
        DeclareLaunchArgument(
            argument.name, default_value="", description=f"{argument.description}; empty: as the parameter file says"
        )
        for argument in node_table.arguments(mode)
    ]
    layout = PathJoinSubstitution([FindPackageShare("egowm_bringup"), "rviz", "base.rviz"])
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", layout],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    aggregator = Node(
        package="diagnostic_aggregator",
        executable="aggregator_node",
        parameters=[PathJoinSubstitution([FindPackageShare("egowm_bringup"), "config", "diagnostics.yaml"])],
        condition=IfCondition(LaunchConfiguration("aggregator")),
    )
    return launch.LaunchDescription([*declared, OpaqueFunction(function=_start, args=[mode]), rviz, aggregator])


def _start(context: launch.LaunchContext, mode: str) -> list[Any]:
    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    values = {argument.name: value(argument.name) for argument in node_table.arguments(mode)}
    actions: list[Any] = []
    if _true(value("fastdds_profile")) and not os.environ.get(PROFILE_VARIABLE):
        actions.append(SetEnvironmentVariable(PROFILE_VARIABLE, str(node_table.FASTDDS_PROFILE)))
    for run in node_table.plan(mode, values, params_file=value("params_file")):
        if run.entry.lifecycle:
            node = _node(LifecycleNode, run, value("namespace"))
            actions += [node, *(_transitions(node) if _true(value("autostart")) else [])]
        else:
            node = _node(Node, run, value("namespace"))
            actions.append(node)
        if run.entry.name == "replay":
            ending = OnProcessExit(target_action=node, on_exit=[Shutdown(reason="the recording has ended")])
            actions.append(RegisterEventHandler(ending))
    return actions


def _true(text: str) -> bool:
    return text.strip().lower() in ("true", "yes", "on", "1")


def _node(kind: type[Any], run: NodeRun, namespace: str) -> Any:
    return kind(
        package=run.entry.package,
        executable=run.entry.executable,
        name=run.entry.name,
        namespace=namespace,
        parameters=[*(str(path) for path in run.parameter_files), run.parameters],
        remappings=list(run.remappings),
        output="screen",
        emulate_tty=True,
    )


def _transitions(node: LifecycleNode) -> list[Any]:
    """Configure the node now, and activate it as soon as it is configured."""

    def change(transition: int) -> EmitEvent:
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    activate = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change(lifecycle_msgs.msg.Transition.TRANSITION_ACTIVATE)],
    )
    return [RegisterEventHandler(activate), change(lifecycle_msgs.msg.Transition.TRANSITION_CONFIGURE)]

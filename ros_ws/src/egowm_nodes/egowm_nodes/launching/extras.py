"""What accompanies the nodes of a launch: RViz, the dashboard and the diagnostics aggregator, each on request.

Also ``Settings``, the values of a launch's arguments. Imports launch, so only launch files get here. Knows neither the
nodes nor their parameters.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml
from launch.actions import ExecuteProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

import launch
from egowm_core.errors import ConfigError
from egowm_nodes.launching import node_table
from egowm_nodes.launching.arguments import truth

ARGUMENTS = (
    ("rviz", "false", "start rviz2 with the camera, the predictions, the overlay, the markers and the drift"),
    ("rviz_config", "", "another RViz layout; empty: the one that fits the robot"),
    ("dashboard", "false", "start the text dashboard in a terminal of its own"),
    ("terminal", "x-terminal-emulator -e", "how to open a terminal for the dashboard"),
    ("aggregator", "false", "start diagnostic_aggregator's node, which sorts /diagnostics into diagnostics_agg"),
)
LAYOUTS = {node_table.HUMANOID: "humanoid.rviz", node_table.SIM_HUMANOID: "humanoid.rviz"}
LAYOUT = "base.rviz"
TF_TOPICS = ("tf", "tf_static")


class Settings:
    """A launch's arguments as what they mean, and the namespace that the nodes end up in."""

    def __init__(self, context: launch.LaunchContext, mode: str) -> None:
        self._context = context
        self.mode = mode

    def text(self, name: str) -> str:
        """An argument's value."""
        return str(LaunchConfiguration(name).perform(self._context)).strip()

    def true(self, name: str) -> bool:
        """An argument that is true or false. Raises ConfigError for anything else."""
        return truth(name, self.text(name))

    def seconds(self, name: str) -> float:
        """An argument that is a time in seconds. Raises ConfigError for anything else."""
        try:
            value = float(self.text(name))
        except ValueError:
            value = -1.0
        if not 0 <= value < 3600:
            raise ConfigError(f"argument {name} is {self.text(name)!r}; expected seconds, 0 or more")
        return value

    @property
    def namespace(self) -> str:
        """The whole namespace without slashes at its ends: what an including launch file pushed, then the argument."""
        pushed = str(self._context.launch_configurations.get("ros_namespace", ""))
        given = self.text("namespace")
        return given.strip("/") if given.startswith("/") else f"{pushed}/{given}".strip("/")

    def tf_remappings(self) -> list[tuple[str, str]]:
        """In a namespace transforms are the robot's own, as frames of several robots have the same names."""
        if not self.namespace or not self.true("private_tf"):
            return []
        return [(f"/{topic}", topic) for topic in TF_TOPICS]


def actions(settings: Settings) -> list[Any]:
    """The actions for what was asked for."""
    made = []
    if settings.true("rviz"):
        made.append(_rviz(settings))
    if settings.true("dashboard"):
        made.append(dashboard(settings.namespace, settings.text("terminal")))
    if settings.true("aggregator"):
        made.append(_aggregator(settings))
    return made


def dashboard(namespace: str, terminal: str) -> ExecuteProcess:
    """The text dashboard of the robot in ``namespace``, of all robots where that is empty. Takes no ROS arguments."""
    executable = ExecutableInPackage(package="egowm_nodes", executable="dashboard")
    return ExecuteProcess(cmd=[*shlex.split(terminal), executable, *(["--namespace", namespace] if namespace else [])])


def dashboard_on_request(context: launch.LaunchContext) -> list[Any]:
    """The dashboard of all robots, where the argument ``dashboard`` is true: for launch files of several robots."""
    settings = Settings(context, "")
    return [dashboard("", settings.text("terminal"))] if settings.true("dashboard") else []


def aggregator_parameters(config: Path, namespace: str) -> dict[str, Any]:
    """The aggregator's parameters of ``config`` for one robot: statuses of other namespaces aren't its own.

    Raises ConfigError when the file isn't an aggregator's configuration.
    """
    try:
        parameters: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))["/**"]["ros__parameters"]
        analyzers = [value for value in parameters.values() if isinstance(value, dict)]
        for analyzer in analyzers:
            names = analyzer.pop("contains")
            analyzer["startswith"] = [f"{namespace}/{name}".lstrip("/") for name in names]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{config} is no configuration of diagnostic_aggregator: {error!r}; install it anew"
        ) from error
    parameters["path"] = f"{parameters.get('path', 'egowm')}/{namespace}".rstrip("/")
    return parameters


def _share() -> Path:
    return Path(FindPackageShare.find("egowm_bringup"))


def _rviz(settings: Settings) -> Node:
    layout = settings.text("rviz_config") or str(_share() / "rviz" / LAYOUTS.get(settings.mode, LAYOUT))
    if not Path(layout).is_file():
        raise ConfigError(f"rviz_config {layout} does not exist; give an RViz layout or leave rviz_config out")
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=settings.text("namespace"),
        arguments=["-d", layout],
        remappings=settings.tf_remappings(),
    )


def _aggregator(settings: Settings) -> Node:
    """Its output is remapped: relative, so each robot in a namespace has a tree of its own."""
    return Node(
        package="diagnostic_aggregator",
        executable="aggregator_node",
        namespace=settings.text("namespace"),
        parameters=[aggregator_parameters(_share() / "config" / "diagnostics.yaml", settings.namespace)],
        remappings=[(f"/{name}", name) for name in ("diagnostics_agg", "diagnostics_toplevel_state")],
    )

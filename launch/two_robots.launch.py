"""Two simulated robots on one machine, a mobile base and a humanoid, each in a namespace of its own.

    ros2 launch egowm_bringup two_robots.launch.py aggregator:=true

It is also how to include these launch files into one of your own: a group around each keeps their arguments apart.
Arguments of theirs that are not set here (``device:=cuda``, ``log_level:=debug``, ...) reach both robots.
"""

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir

from egowm_nodes.launching.extras import dashboard_on_request
from launch import LaunchDescription

ARGUMENTS = (
    ("base_namespace", "base", "namespace of the mobile base"),
    ("humanoid_namespace", "humanoid", "namespace of the humanoid"),
    ("seed", "7", "picks the simulated rooms"),
    ("aggregator", "false", "a diagnostic_aggregator for each robot, on NAMESPACE/diagnostics_agg"),
    ("rviz", "false", "an RViz for each robot"),
    ("dashboard", "false", "one text dashboard of both robots, in a terminal of its own"),
    ("terminal", "x-terminal-emulator -e", "how to open a terminal for the dashboard"),
)


def generate_launch_description() -> LaunchDescription:
    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    robots = [_robot("sim.launch.py", "base_namespace"), _robot("sim_humanoid.launch.py", "humanoid_namespace")]
    return LaunchDescription([*declared, *robots, OpaqueFunction(function=dashboard_on_request)])


def _robot(file: str, namespace: str) -> GroupAction:
    source = PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), file]))
    arguments = {"namespace": LaunchConfiguration(namespace), "dashboard": "false"}
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=arguments.items())])

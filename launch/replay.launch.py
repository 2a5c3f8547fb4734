"""A recording in real time through the world model and the drift monitor; ends when the recording does.

    ros2 launch egowm_bringup replay.launch.py bag:=PATH

``--show-args`` lists all arguments. The nodes, their parameters and remappings: egowm_nodes/launching/node_table.py.
"""

from egowm_nodes.launching.actions import describe
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return describe("replay")

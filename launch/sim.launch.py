"""A simulated robot that drives itself, the world model and the drift monitor.

    ros2 launch egowm_bringup sim.launch.py seed:=7

With ``planner:=true goal_file:=PICTURE`` it drives to where the picture was taken.
``--show-args`` lists all arguments. The nodes, their parameters and remappings: egowm_nodes/launching/node_table.py.
"""

from egowm_nodes.launching.actions import describe
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return describe("sim")

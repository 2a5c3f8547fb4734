"""The world model and the drift monitor on a mobile base.

    ros2 launch egowm_bringup base.launch.py image_topic:=/camera/image_raw odom_topic:=/wheel/odom checkpoint:=PATH

With ``planner:=true goal_file:=PICTURE`` it drives to where the picture was taken.
``--show-args`` lists all arguments. The nodes, their parameters and remappings: egowm_nodes/launching/node_table.py.
"""

from egowm_nodes.launching.actions import describe
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return describe("base")

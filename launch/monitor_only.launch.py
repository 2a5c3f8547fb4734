"""The drift monitor alone, of a world model that runs elsewhere (there with drift_monitor:=false).

    ros2 launch egowm_bringup monitor_only.launch.py rollouts_topic:=/world_model/rollout image_topic:=/camera/image_raw

``--show-args`` lists all arguments. The nodes, their parameters and remappings: egowm_nodes/launching/node_table.py.
"""

from egowm_nodes.launching.actions import describe
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return describe("monitor_only")

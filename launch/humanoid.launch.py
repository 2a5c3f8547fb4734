"""The world model and the drift monitor on a humanoid: joint states in, joint trajectories as plans.

    ros2 launch egowm_bringup humanoid.launch.py image_topic:=/head/image_raw joint_states_topic:=/joint_states

``--show-args`` lists all arguments. The nodes, their parameters and remappings: egowm_nodes/launching/node_table.py.
"""

from egowm_nodes.launching.actions import describe
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return describe("humanoid")

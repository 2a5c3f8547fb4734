"""A humanoid of 25 degrees of freedom at a table with things to move, in the rooms of the mobile base."""

from egowm_sim.humanoid.body import JOINT_NAMES, JOINTS
from egowm_sim.humanoid.operator import HumanoidCommand, HumanoidOperator
from egowm_sim.humanoid.simulation import HumanoidSimulation, JointReading

__all__ = ["JOINTS", "JOINT_NAMES", "HumanoidCommand", "HumanoidOperator", "HumanoidSimulation", "JointReading"]

"""Acting on imagined futures: how far a predicted picture is from a goal picture, and the search for better actions.

``cost`` measures, ``cem`` searches, ``receding`` drives step by step, ``imagined`` lets a world model evaluate. Knows
no ROS and no simulator; whoever plans says how candidates are evaluated. ``imagined`` is imported on its own, as it
alone needs a model.
"""

from egowm_core.planning.cem import Cem, Evaluate, Plan, PlanningError
from egowm_core.planning.cost import COST_KINDS, GoalCost, goal_cost
from egowm_core.planning.receding import Progress, RecedingHorizon, Step

__all__ = [
    "COST_KINDS",
    "Cem",
    "Evaluate",
    "GoalCost",
    "Plan",
    "PlanningError",
    "Progress",
    "RecedingHorizon",
    "Step",
    "goal_cost",
]

"""Watching whether the world still agrees with the model: evidence from comparisons, what is usual, states and causes.

Works on arrays, rollouts and stamps: knows no model, no ROS and no file format but its own baseline.
"""

from egowm_core.drift.baseline import FILE as BASELINE_FILE
from egowm_core.drift.baseline import BaselineLearner, DriftBaseline, load_baseline
from egowm_core.drift.comparison import Comparison, compare, due_ns, tolerance_ns
from egowm_core.drift.detector import DriftDetector, DriftLimits
from egowm_core.drift.evidence import Evidence, Judgement, drift_tracker, judge_comparison
from egowm_core.drift.states import Cause, DriftReport, DriftState

__all__ = [
    "BASELINE_FILE",
    "BaselineLearner",
    "Cause",
    "Comparison",
    "DriftBaseline",
    "DriftDetector",
    "DriftLimits",
    "DriftReport",
    "DriftState",
    "Evidence",
    "Judgement",
    "compare",
    "drift_tracker",
    "due_ns",
    "judge_comparison",
    "load_baseline",
    "tolerance_ns",
]

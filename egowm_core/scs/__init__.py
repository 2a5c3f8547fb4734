"""The Structural Consistency Score: choose structures, track them, compare, watch for drift.

Works on arrays alone: knows no model, no ROS and no file format.
"""

from egowm_core.scs.companions import psnr, ssim
from egowm_core.scs.drift import Baseline, DriftDetector, DriftLimits, DriftReport, DriftState
from egowm_core.scs.overlay import draw_overlay
from egowm_core.scs.score import ScoredTracks, frame_scs, horizon_scs, score, scs_at, track_and_score
from egowm_core.scs.structures import choose_ids, masks_of, propose_structures, structures_from_masks
from egowm_core.scs.tracking import DenseFlowTracker, Tracker

__all__ = [
    "Baseline",
    "DenseFlowTracker",
    "DriftDetector",
    "DriftLimits",
    "DriftReport",
    "DriftState",
    "ScoredTracks",
    "Tracker",
    "choose_ids",
    "draw_overlay",
    "frame_scs",
    "horizon_scs",
    "masks_of",
    "propose_structures",
    "psnr",
    "score",
    "scs_at",
    "ssim",
    "structures_from_masks",
    "track_and_score",
]

"""The Structural Consistency Score: choose structures, track them, compare.

Works on arrays alone: knows no model, no ROS and no file format.
"""

from egowm_core.scs.confidence import Interval, bootstrap_difference, bootstrap_mean, bootstrap_scs
from egowm_core.scs.overlay import draw_overlay
from egowm_core.scs.passive import Excluded, PassiveConfig, Reason, Selection, select_passive
from egowm_core.scs.points import CallablePoints, DenseFlowPoints, LucasKanadePoints, PointTracker, PointTracks
from egowm_core.scs.score import (
    DEFAULT_HORIZONS,
    ScoredTracks,
    frame_scs,
    horizon_scs,
    masks_iou,
    score,
    scs_at,
    track_and_score,
)
from egowm_core.scs.structures import choose_ids, masks_of, propose_structures, structures_from_masks
from egowm_core.scs.trackers import tracker_for
from egowm_core.scs.tracking import DenseFlowTracker, Tracker
from egowm_core.scs.trimming import Trim, left_view, left_view_by_points, trimmed

__all__ = [
    "DEFAULT_HORIZONS",
    "CallablePoints",
    "DenseFlowPoints",
    "DenseFlowTracker",
    "Excluded",
    "Interval",
    "LucasKanadePoints",
    "PassiveConfig",
    "PointTracker",
    "PointTracks",
    "Reason",
    "ScoredTracks",
    "Selection",
    "Tracker",
    "Trim",
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_scs",
    "choose_ids",
    "draw_overlay",
    "frame_scs",
    "horizon_scs",
    "left_view",
    "left_view_by_points",
    "masks_iou",
    "masks_of",
    "propose_structures",
    "score",
    "scs_at",
    "select_passive",
    "structures_from_masks",
    "track_and_score",
    "tracker_for",
    "trimmed",
]

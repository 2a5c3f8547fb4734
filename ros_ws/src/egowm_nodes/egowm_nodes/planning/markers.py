"""Candidates as markers for RViz and Foxglove: each one's way over the floor, coloured by its cost, the best one thick.

They stand in the base's frame as it was when the plan was made (REP-103 axes, m). Pure functions; knows no node.
"""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from egowm_core.geometry import se2_integrate
from egowm_core.planning import Plan
from egowm_core.types import FloatArray
from egowm_nodes import conversions

CANDIDATES, BEST = "candidates", "best"  # namespaces: they can be switched off one by one
MOST = 256  # candidates shown: the best ones
WIDTH_M, BEST_WIDTH_M = 0.015, 0.05
ABOVE_FLOOR_M = 0.03  # else the floor's grid hides the lines
_NEAR, _BETWEEN, _FAR = (74, 170, 104), (230, 160, 50), (214, 69, 65)  # RGB by cost: the best, the middle, the worst


def candidate_markers(plan: Plan, *, stamp_ns: int, frame_id: str, lifetime_s: float) -> MarkerArray:
    """All candidates of a planar base's ``plan`` as lines from green (lowest cost) to red, and what is followed."""
    order = np.argsort(plan.costs, kind="stable")[:MOST]
    markers = [Marker(header=conversions.header(stamp_ns, frame_id), action=Marker.DELETEALL)]
    for number, (index, color) in enumerate(zip(order.tolist(), colors_of(plan.costs[order]), strict=True)):
        markers.append(_line(CANDIDATES, number, plan.candidates[index], color, WIDTH_M))
    markers.append(_line(BEST, 0, plan.actions, _rgba(np.array(_NEAR)), BEST_WIDTH_M))
    whole = int(lifetime_s)
    for marker in markers[1:]:
        marker.header = conversions.header(stamp_ns, frame_id)
        marker.lifetime = Duration(sec=whole, nanosec=round((lifetime_s - whole) * 1e9))
    return MarkerArray(markers=markers)


def colors_of(costs: FloatArray) -> list[ColorRGBA]:
    """By place between the lowest and the highest finite cost; what is not finite counts as the highest."""
    finite = costs[np.isfinite(costs)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    share = np.where(np.isfinite(costs), (costs - low) / max(high - low, 1e-9), 1.0)
    stops = np.array([_NEAR, _BETWEEN, _FAR], np.float64)
    return [
        _rgba(np.array([np.interp(value, (0.0, 0.5, 1.0), stops[:, channel]) for channel in range(3)]))
        for value in share
    ]


def _line(namespace: str, number: int, rows: FloatArray, color: ColorRGBA, width_m: float) -> Marker:
    places = np.concatenate([np.zeros((1, 3)), se2_integrate(rows)])
    marker = Marker(ns=namespace, id=number, type=Marker.LINE_STRIP, action=Marker.ADD, pose=Pose(), color=color)
    marker.scale = Vector3(x=width_m, y=0.0, z=0.0)
    marker.points = [Point(x=float(x), y=float(y), z=ABOVE_FLOOR_M) for x, y, _ in places]
    return marker


def _rgba(rgb: NDArray[np.floating]) -> ColorRGBA:
    red, green, blue = (float(value) / 255 for value in rgb)
    return ColorRGBA(r=red, g=green, b=blue, a=0.9)

"""Markers for RViz and Foxglove: where the robot means to go, coloured by how far predictions can be trusted.

The path is integrated from a rollout's actions and stands in the robot's base frame as it was at the context frame
(header: that stamp, that frame; REP-103 axes, m). Pure functions; knows no node, no transform and no camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from egowm_core.drift import DriftReport, DriftState
from egowm_core.embodiment import Embodiment
from egowm_core.geometry import se2_integrate
from egowm_core.types import FloatArray, Rollout
from egowm_nodes import conversions
from egowm_nodes.drift.status import verdict
from egowm_nodes.pictures import STATE_COLORS

PATH, FRAMES, STATE = "path", "frames", "state"  # namespaces: they can be switched off one by one
ALPHA = 0.95
WIDTH_M, DOT_M, TEXT_M = 0.04, 0.08, 0.18
ABOVE_FLOOR_M = 0.03  # else the floor's grid hides the line
_TRUSTED, _LOST = 0.95, 0.6  # SCS as a share of what is usual: green from, red below
_TEXT_CHARS = 160
_BASE_SPEED, _BASE_TURN = "linear_velocity", "angular_velocity"


def base_path(rollout: Rollout, embodiment: Embodiment) -> NDArray[np.float64] | None:
    """(T+1,3) x, y, z in m from the base at the context frame on: there, and after each action; None where unknown.

    Known for planar and spatial motion and for robots with the channels linear_velocity and angular_velocity; arms
    alone move no base. A path that is not finite is unknown, too.
    """
    values = np.asarray(rollout.actions.values[: len(rollout.frames)], np.float64)
    if embodiment.integrate == "se2":
        steps = se2_integrate(values)
        points = np.column_stack([steps[:, :2], np.zeros(len(steps))])
    elif embodiment.integrate == "se3":
        points = _spatial(values)
    else:
        named = {(channel.source or channel.name).lower(): i for i, channel in enumerate(embodiment.channels)}
        if _BASE_SPEED not in named or _BASE_TURN not in named:
            return None
        stamps = np.concatenate([[rollout.context_stamp_ns], rollout.frames.stamps_ns])
        points = _driven(values[:, named[_BASE_SPEED]], values[:, named[_BASE_TURN]], np.diff(stamps) * 1e-9)
    path = np.concatenate([np.zeros((1, 3)), points])
    return path if np.all(np.isfinite(path)) else None


def trust(report: DriftReport, num_frames: int) -> FloatArray:
    """(T,) SCS as a share of what is usual, or of 100 where that isn't known, of frames 1..T; NaN without scores.

    Between the horizons that were scored it is interpolated, outside of them the nearest holds.
    """
    usual = {horizon: level for horizon, level in report.baseline_scs.items() if level > 0}  # False for NaN
    scored = sorted((horizon, scs) for horizon, scs in report.scs.items() if math.isfinite(scs))
    shares = {horizon: scs / usual.get(horizon, 100.0) for horizon, scs in scored}
    if not shares:
        return np.full(num_frames, np.nan, np.float32)
    return np.interp(np.arange(1, num_frames + 1), list(shares), list(shares.values())).astype(np.float32)


def color_of(share: float, state: DriftState) -> ColorRGBA:
    """Grey while nothing is known; the state's own colour in WARN, ERROR and STALE; else from red to green."""
    if state in (DriftState.WARN, DriftState.ERROR, DriftState.STALE):
        return _rgba(STATE_COLORS[state.value])
    if not math.isfinite(share):
        return _rgba(STATE_COLORS[DriftState.UNDEFINED.value])
    stops = [STATE_COLORS[name] for name in ("ERROR", "WARN", "OK")]
    at = np.linspace(_LOST, _TRUSTED, len(stops))
    return _rgba([float(np.interp(share, at, [stop[i] for stop in stops])) for i in range(3)])


def path_markers(
    rollout: Rollout, embodiment: Embodiment, report: DriftReport, *, frame_id: str, lifetime_s: float
) -> MarkerArray:
    """The path as a line and a dot for every predicted frame; empty where ``base_path`` is unknown."""
    points = base_path(rollout, embodiment)
    if points is None:
        return MarkerArray()
    shares = trust(report, len(points) - 1)
    colors = [color_of(float(share), report.state) for share in shares]
    places = [Point(x=float(x), y=float(y), z=float(z) + ABOVE_FLOOR_M) for x, y, z in points]
    stamp_ns = rollout.context_stamp_ns
    line = _marker(PATH, Marker.LINE_STRIP, stamp_ns, frame_id, lifetime_s, scale=(WIDTH_M, 0.0, 0.0))
    line.points, line.colors = places, [colors[0], *colors]
    dots = _marker(FRAMES, Marker.SPHERE_LIST, stamp_ns, frame_id, lifetime_s, scale=(DOT_M, DOT_M, DOT_M))
    dots.points, dots.colors = places[1:], colors
    return MarkerArray(markers=[line, dots])


def state_marker(
    embodiment: Embodiment, report: DriftReport, *, stamp_ns: int, frame_id: str, lifetime_s: float
) -> Marker:
    """State, cause, reason and scores as a text above the robot that faces the viewer."""
    height_m = embodiment.cameras[0].height_m if embodiment.cameras else None
    text = _marker(STATE, Marker.TEXT_VIEW_FACING, stamp_ns, frame_id, lifetime_s, scale=(0.0, 0.0, TEXT_M))
    text.pose.position.z = (1.5 if height_m is None else height_m) + 0.5
    text.color = color_of(math.nan, report.state)
    if report.state is DriftState.OK:
        text.color = _rgba(STATE_COLORS[DriftState.OK.value])
    text.text = "\n".join(_lines(report))
    return text


def _lines(report: DriftReport) -> Sequence[str]:
    scores = ", ".join(f"{scs:.0f} at {h}" for h, scs in sorted(report.scs.items()) if math.isfinite(scs))
    lines = [verdict(report)]
    if scores:
        lines.append(f"SCS {scores}")
    if report.state is not DriftState.OK and report.reason:
        lines.append(report.reason)
    return [line if len(line) <= _TEXT_CHARS else f"{line[: _TEXT_CHARS - 3]}..." for line in lines]


def _marker(
    namespace: str, kind: int, stamp_ns: int, frame_id: str, lifetime_s: float, *, scale: tuple[float, float, float]
) -> Marker:
    seconds = int(lifetime_s)
    marker = Marker(
        header=conversions.header(stamp_ns, frame_id), ns=namespace, id=0, type=kind, action=Marker.ADD, pose=Pose()
    )
    marker.scale = Vector3(x=scale[0], y=scale[1], z=scale[2])
    marker.color = _rgba((255, 255, 255))  # where points have colours of their own, these count
    marker.lifetime = Duration(sec=seconds, nanosec=round((lifetime_s - seconds) * 1e9))
    return marker


def _driven(speed: NDArray[np.float64], turn: NDArray[np.float64], dt_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Forward speed and yaw rate held over each step: arcs, whose chords are these deltas."""
    angle = turn * dt_s
    chord = speed * dt_s * np.sinc(angle / (2 * np.pi))
    steps = se2_integrate(np.stack([chord * np.cos(angle / 2), chord * np.sin(angle / 2), angle], axis=-1))
    return np.column_stack([steps[:, :2], np.zeros(len(steps))])


def _spatial(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Translation and rotation vector per step, in the frame before the step, to places."""
    rotation, place, places = np.eye(3), np.zeros(3), []
    for row in values:
        place = place + rotation @ row[:3]
        places.append(place)
        rotation = rotation @ cv2.Rodrigues(row[3:6])[0]
    return np.stack(places)


def _rgba(rgb: Sequence[float]) -> ColorRGBA:
    red, green, blue = (float(value) / 255.0 for value in rgb)
    return ColorRGBA(r=red, g=green, b=blue, a=ALPHA)

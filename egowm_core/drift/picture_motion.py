"""What a picture's motion says in four numbers: shift, growth and turn, fitted robustly to dense flow.

Four numbers are enough to tell a robot that turns from one that stands still, at any depth and in any scene; what they
leave over is parallax and things that move by themselves. Knows flow fields; no action, no model and no score.
"""

from __future__ import annotations

import numpy as np

from egowm_core.scs.tracking import BoolArray
from egowm_core.types import FloatArray

MOTION_NAMES = ("right", "down", "growth", "turn")
_STRIDE = 4  # every fourth row and column is enough for four unknowns
_ITERATIONS = 4
_LEAST_POINTS = 24
_LEAST_SCALE_PX = 0.3  # residuals smaller than the flow's own error are all alike


def similarity_motion(flow: FloatArray, seen: BoolArray) -> FloatArray:
    """(4,) px of the shift right and down at the picture's centre, and of growth and clockwise turn at its side edges.

    ``flow`` (H,W,2) is the motion of each pixel from the frame before to this one, x and y in px, ``seen`` (H,W) where
    it is known. Fitted by iteratively reweighted least squares (Cauchy weights). NaN where too little is seen.
    """
    height, width = seen.shape
    y, x = np.mgrid[0:height:_STRIDE, 0:width:_STRIDE]
    known = seen[::_STRIDE, ::_STRIDE].ravel()
    if np.count_nonzero(known) < _LEAST_POINTS:
        return np.full(4, np.nan, np.float32)
    half = width / 2
    u = ((x - (width - 1) / 2) / half).ravel()[known]
    v = ((y - (height - 1) / 2) / half).ravel()[known]
    moved = flow[::_STRIDE, ::_STRIDE].reshape(-1, 2)[known].astype(np.float64)
    one, zero = np.ones_like(u), np.zeros_like(u)
    design = np.concatenate([np.stack([one, zero, u, -v], axis=1), np.stack([zero, one, v, u], axis=1)])
    target = np.concatenate([moved[:, 0], moved[:, 1]])
    weights = np.ones(len(u))
    fitted = np.zeros(4)
    for _ in range(_ITERATIONS):
        weighted = design * np.tile(weights, 2)[:, None]
        fitted = np.linalg.lstsq(weighted.T @ design, weighted.T @ target, rcond=None)[0]
        error = (design @ fitted - target).reshape(2, -1)
        distance = np.hypot(error[0], error[1])
        scale = max(_LEAST_SCALE_PX, 1.5 * float(np.median(distance)))
        weights = 1.0 / (1.0 + np.square(distance / scale))
    return fitted.astype(np.float32)


def similarity_flow(motion: FloatArray, height: int, width: int) -> FloatArray:
    """The flow (H,W,2) in px that ``similarity_motion`` would fit exactly with ``motion`` (4,)."""
    half = width / 2
    u = ((np.arange(width) - (width - 1) / 2) / half)[None, :]
    v = ((np.arange(height) - (height - 1) / 2) / half)[:, None]
    right, down, growth, turn = (float(value) for value in motion)
    across = right + growth * u - turn * v
    along = down + growth * v + turn * u
    return np.stack([across, along], axis=-1).astype(np.float32)

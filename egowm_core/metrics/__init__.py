"""Metrics beside the SCS: of pixels, of motion masks, of perception, and of sets of pictures or videos.

Works on arrays alone: knows no model, no ROS and no video file. Those that need a network take it from the package of
their authors and weights that are here already; ``available`` says what is missing. What concerns networks is loaded on
first use: a node that compares pixels doesn't wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from egowm_core.metrics.frechet import FeatureSums, frechet_distance
from egowm_core.metrics.physics_iq import PhysicsIQ, motion_masks, physics_iq
from egowm_core.metrics.pixels import mse, psnr, ssim

if TYPE_CHECKING:
    from egowm_core.metrics.catalogue import (
        FRAME_METRICS,
        LOWER_IS_BETTER,
        METRICS,
        SET_METRICS,
        available,
        load_metric,
    )
    from egowm_core.metrics.distribution import SetMetric
    from egowm_core.metrics.perceptual import FrameMetric
    from egowm_core.metrics.weights import Missing

_CATALOGUE = ("FRAME_METRICS", "LOWER_IS_BETTER", "METRICS", "SET_METRICS", "available", "load_metric")
_WHERE = dict.fromkeys(_CATALOGUE, "catalogue") | {
    "FrameMetric": "perceptual",
    "Missing": "weights",
    "SetMetric": "distribution",
}

__all__ = [
    "FRAME_METRICS",
    "LOWER_IS_BETTER",
    "METRICS",
    "SET_METRICS",
    "FeatureSums",
    "FrameMetric",
    "Missing",
    "PhysicsIQ",
    "SetMetric",
    "available",
    "frechet_distance",
    "load_metric",
    "motion_masks",
    "mse",
    "physics_iq",
    "psnr",
    "ssim",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
